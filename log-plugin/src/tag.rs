//! The `tag` option: a template in Go's language over the container. Checked, not yet rendered:
//! a tag that Docker's own drivers would refuse is refused here too.

/// What a tag may name: Docker's methods, then the fields of the container.
const FIELDS: &[&str] = &[
    "ID",
    "FullID",
    "Name",
    "Command",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "Hostname",
    "DaemonName",
    "Config",
    "ContainerID",
    "ContainerName",
    "ContainerEntrypoint",
    "ContainerArgs",
    "ContainerImageID",
    "ContainerImageName",
    "ContainerCreated",
    "ContainerEnv",
    "ContainerLabels",
    "LogPath",
    "ExtraAttributes",
];

/// Go's functions and Docker's.
const FUNCTIONS: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery", "json", "split", "join", "title", "lower",
    "upper", "pad", "truncate", "true", "false", "nil",
];

/// Whether `template` is one that Docker's drivers would take.
pub(crate) fn is_valid(template: &str) -> bool {
    check(template).is_some()
}

/// What opens a block that `end` closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    If,
    /// `range` and `with`: the dot is no longer the container.
    Dot,
}

fn check(template: &str) -> Option<()> {
    let mut blocks = Vec::new();
    let mut rest = template;
    while let Some((_, action)) = rest.split_once("{{") {
        let body = action.strip_prefix("- ").unwrap_or(action);
        rest = if let Some(comment) = body.strip_prefix("/*") {
            let (_, after) = comment.split_once("*/")?;
            after.strip_prefix(" -").unwrap_or(after).strip_prefix("}}")?
        } else {
            let (tokens, after) = lex(body)?;
            check_action(&tokens, &mut blocks)?;
            after
        };
    }
    blocks.is_empty().then_some(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    /// A function or a keyword.
    Word(&'t str),
    /// `.Name` where it stands alone: a field of the dot.
    Field(&'t str),
    /// A literal, a variable, the dot alone, a field of something else.
    Operand,
    Open,
    Close,
    Pipe,
    /// `=`, `:=` and `,`.
    Other,
}

/// The tokens of an action and what follows it.
fn lex(mut text: &str) -> Option<(Vec<Token<'_>>, &str)> {
    let mut tokens = Vec::new();
    let mut apart = true;
    loop {
        let trimmed = text.trim_start();
        apart |= trimmed.len() < text.len();
        if let Some(after) = trimmed.strip_prefix("}}") {
            return Some((tokens, after));
        }
        if apart && let Some(after) = trimmed.strip_prefix("-}}") {
            return Some((tokens, after));
        }
        let length = match trimmed.chars().next()? {
            quote @ ('"' | '`' | '\'') => quoted(trimmed, quote)?,
            first if first == '.' || first == '$' || first.is_alphanumeric() || first == '_' => {
                name_length(trimmed)
            }
            '-' | '+' if trimmed[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                1 + name_length(&trimmed[1..])
            }
            ':' => trimmed.starts_with(":=").then_some(2)?,
            '(' | ')' | '|' | '=' | ',' => 1,
            _ => return None,
        };
        let (token, after) = trimmed.split_at(length);
        tokens.push(match token.as_bytes()[0] {
            b'(' => Token::Open,
            b')' => Token::Close,
            b'|' => Token::Pipe,
            b'=' | b':' | b',' => Token::Other,
            b'.' if apart && token.len() > 1 && !token.as_bytes()[1].is_ascii_digit() => {
                Token::Field(token[1..].split('.').next()?)
            }
            first if first.is_ascii_alphabetic() || first == b'_' => Token::Word(token),
            _ => Token::Operand,
        });
        apart = matches!(tokens.last(), Some(Token::Open | Token::Pipe | Token::Other));
        text = after;
    }
}

/// The length of a name, a chain of fields, a variable or a number.
fn name_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && !matches!(c, '.' | '$' | '_')).unwrap_or(text.len())
}

/// The length of a quoted literal; in all but raw ones a backslash takes the next character.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            '\n' if quote != '`' => return None,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn check_action(tokens: &[Token<'_>], blocks: &mut Vec<Block>) -> Option<()> {
    let pipeline = match tokens.split_first()? {
        (Token::Word("end"), []) => return blocks.pop().map(drop),
        (Token::Word("else"), []) => return blocks.last().map(drop),
        (Token::Word("else"), [Token::Word("if"), pipeline @ ..]) => {
            blocks.last()?;
            pipeline
        }
        (Token::Word("if"), pipeline) => {
            blocks.push(Block::If);
            pipeline
        }
        (Token::Word("range" | "with"), pipeline) => {
            check_pipeline(pipeline, blocks)?;
            blocks.push(Block::Dot);
            return Some(());
        }
        _ => tokens,
    };
    check_pipeline(pipeline, blocks)
}

fn check_pipeline(tokens: &[Token<'_>], blocks: &[Block]) -> Option<()> {
    let of_container = !blocks.contains(&Block::Dot);
    let mut depth = 0_usize;
    let mut complete = false;
    for token in tokens {
        match *token {
            Token::Word(word) if !FUNCTIONS.contains(&word) => return None,
            Token::Field(field) if of_container && !FIELDS.contains(&field) => return None,
            Token::Word(_) | Token::Field(_) | Token::Operand => complete = true,
            Token::Open => (depth, complete) = (depth + 1, false),
            Token::Close => depth = depth.checked_sub(1).filter(|_| complete)?,
            Token::Pipe | Token::Other if complete => complete = false,
            Token::Pipe | Token::Other => return None,
        }
    }
    (depth == 0 && complete).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_templates_are_taken() {
        for good in [
            "",
            "plain",
            "{{.ID}}",
            "{{.ImageName}}/{{.Name}}/{{.ID}}",
            "{{ .Name | upper }}",
            "{{- .Name -}}",
            "{{/* said */}}x{{- /* said */ -}}",
            "{{if .Name}}{{.Name}}{{else if .ID}}b{{else}}c{{end}}",
            "{{with .ContainerLabels}}{{.anything}}{{end}}",
            "{{range $k, $v := .ContainerLabels}}{{$k}}={{$v}}{{end}}",
            "{{index .ContainerLabels \"a}}b\"}}",
            "{{printf \"%s-%d\" .Name 7}}{{truncate .FullID 12}}{{pad .Name -1 2}}",
            "{{join (split .Name \"-\") `_`}}",
            "{{.ContainerCreated.Year}}{{(index .ContainerArgs 0)}}{{true}}{{.}}",
            "a } b }} c",
        ] {
            assert!(is_valid(good), "{good}");
        }
    }

    #[test]
    fn what_does_not_parse_or_names_nothing_is_refused() {
        for bad in [
            "{{.Name",
            "{{.Name}",
            "{{}}",
            "{{.Nickname}}",
            "{{.Name | shout}}",
            "{{if .Name}}x",
            "x{{end}}",
            "{{else}}",
            "{{(.Name}}",
            "{{.Name)}}",
            "{{.Name |}}",
            "{{| upper}}",
            "{{\"a}}",
            "{{.Name ! }}",
            "{{/* said }}",
            "{{template \"x\"}}",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}

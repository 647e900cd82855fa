//! Templates into text and actions, actions into tokens.

use super::TemplateError;

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As it is.
    Text(String),
    /// What stands between the braces.
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A function or a keyword.
    Word(String),
    /// `.A.B` as its names; none for the dot alone.
    Field(Vec<String>),
    /// `$x.A.B` as its name and those behind it.
    Variable(String, Vec<String>),
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    Comma,
    Text(String),
    Number(i64),
    Open,
    Close,
    Pipe,
}

/// Cuts a template into its parts.
pub(super) fn parts(template: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let (mut rest, mut trim) = (template, false);
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let text = if trim { text.trim_start() } else { text };
        let body = action.map(|action| action.strip_prefix("- ").ok_or(action));
        let text = if matches!(body, Some(Ok(_))) { text.trim_end() } else { text };
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let Some(body) = body else { return Ok(parts) };
        let body = body.unwrap_or_else(|body| body);
        (rest, trim) = if let Some(comment) = body.strip_prefix("/*") {
            skip_comment(comment)?
        } else {
            let mut tokens = Vec::new();
            let end = tokenize(body, &mut tokens)?;
            parts.push(Part::Action(tokens));
            end
        };
    }
}

fn skip_comment(comment: &str) -> Result<(&str, bool), TemplateError> {
    const OPEN: TemplateError = TemplateError::Syntax("a comment without its end");
    let (_, after) = comment.split_once("*/").ok_or(OPEN)?;
    match after.strip_prefix("}}") {
        Some(rest) => Ok((rest, false)),
        None => after.strip_prefix(" -}}").map(|rest| (rest, true)).ok_or(OPEN),
    }
}

/// Reads the tokens of an action; gives what follows it, and whether white space goes there.
fn tokenize<'t>(
    mut text: &'t str,
    tokens: &mut Vec<Token>,
) -> Result<(&'t str, bool), TemplateError> {
    loop {
        let trimmed = text.trim_start();
        let apart = trimmed.len() < text.len();
        if let Some(after) = trimmed.strip_prefix("}}") {
            return Ok((after, false));
        }
        if apart && let Some(after) = trimmed.strip_prefix("-}}") {
            return Ok((after, true));
        }
        let first = trimmed.chars().next().ok_or(TemplateError::Syntax("an action without end"))?;
        let (token, after) = match first {
            '(' => (Token::Open, &trimmed[1..]),
            ')' => (Token::Close, &trimmed[1..]),
            '|' => (Token::Pipe, &trimmed[1..]),
            '"' => quoted(&trimmed[1..])?,
            '`' => {
                let (raw, after) =
                    trimmed[1..].split_once('`').ok_or(TemplateError::Syntax("an open quote"))?;
                (Token::Text(raw.to_owned()), after)
            }
            '$' => {
                let (variable, after) = name(&trimmed[1..]);
                let (path, after) = names(after);
                (Token::Variable(variable.to_owned(), path), after)
            }
            ':' => {
                let after = trimmed.strip_prefix(":=");
                (Token::Declare, after.ok_or(TemplateError::Syntax("a `:` without `=`"))?)
            }
            '=' => (Token::Assign, &trimmed[1..]),
            ',' => (Token::Comma, &trimmed[1..]),
            '-' | '+' | '0'..='9' => number(trimmed)?,
            '.' => field(trimmed),
            letter if letter.is_alphabetic() || letter == '_' => {
                let (word, after) = name(trimmed);
                (Token::Word(word.to_owned()), after)
            }
            _ => return Err(TemplateError::Syntax("a character that means nothing")),
        };
        tokens.push(token);
        text = after;
    }
}

fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn field(text: &str) -> (Token, &str) {
    let (path, after) = names(text);
    // The dot alone has no name.
    let after = if path.is_empty() { &text[1..] } else { after };
    (Token::Field(path), after)
}

/// The names behind each dot.
fn names(mut text: &str) -> (Vec<String>, &str) {
    let mut names = Vec::new();
    while let Some(after) = text.strip_prefix('.') {
        let (name, after) = name(after);
        if name.is_empty() {
            break;
        }
        names.push(name.to_owned());
        text = after;
    }
    (names, text)
}

fn number(text: &str) -> Result<(Token, &str), TemplateError> {
    let digits = text.trim_start_matches(['-', '+']);
    let end = text.len() - digits.len()
        + digits.find(|c: char| !c.is_alphanumeric() && c != '.').unwrap_or(digits.len());
    let (number, after) = text.split_at(end);
    let value = number.parse().map_err(|_| TemplateError::NotBuilt(number.to_owned()))?;
    Ok((Token::Number(value), after))
}

/// A string up to its closing quote.
fn quoted(text: &str) -> Result<(Token, &str), TemplateError> {
    const OPEN: TemplateError = TemplateError::Syntax("an open quote");
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Token::Text(out), &text[at + 1..])),
            '\n' => return Err(OPEN),
            '\\' => match letters.next().ok_or(OPEN)?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                same @ ('\\' | '"') => out.push(same),
                other => return Err(TemplateError::NotBuilt(format!("\\{other}"))),
            },
            letter => out.push(letter),
        }
    }
    Err(OPEN)
}

//! Templates over a container in Go's language, as Docker's drivers take them for `tag`.
//!
//! Built: text, fields, pipelines, parentheses, Docker's functions, Go's own that make sense for a
//! name, comments, trimming, variables, `if`, `with` and `range` with `else`. Absent, and refused
//! where a sink would need them: `break`, `continue`, templates in templates, the escaping
//! functions. Errors in what is built are those of
//! Go; where Go would fail while rendering, so does [`Template::render`].

mod function;
mod lexer;
mod parser;
mod value;

use std::cell::Cell;

use crate::container::Container;

use self::parser::{Expression, Node, Operand, Range};
use self::value::Value;

/// A template that can be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<Node>,
}

/// Most bytes that one rendering works on, and what a step counts besides: far more than the longest
/// environment, and done in a moment.
const MOST: usize = 16 << 20;
const STEP: usize = 64;

/// Why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is none.
    #[error("not a template: {0}")]
    Syntax(&'static str),
    /// The language has it, this program has not.
    #[error("`{0}` in templates is not built yet")]
    NotBuilt(String),
    /// It would take too long, or too much memory.
    #[error("a template may work on 16 MiB of text in all")]
    TooMuch,
    /// No such field or function.
    #[error("templates have no `{0}`")]
    Unknown(String),
    /// A function cannot work on what it is given.
    #[error("`{function}` in a template takes {expected}")]
    Argument {
        /// The function.
        function: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parser::parse(text).map(|nodes| Self { nodes })
    }

    /// The template's text for `container`.
    pub fn render(&self, container: &Container) -> Result<String, TemplateError> {
        let left = Cell::new(MOST);
        let mut scope = Scope { container, dot: Value::Root, variables: Vec::new(), left };
        let mut out = String::new();
        render(&self.nodes, &mut scope, &mut out)?;
        Ok(out)
    }
}

/// What a name means where it stands.
struct Scope<'a> {
    container: &'a Container,
    dot: Value,
    variables: Vec<(String, Value)>,
    /// Bytes that may still be worked on.
    left: Cell<usize>,
}

impl Scope<'_> {
    /// Notes one step and what it works on: blocks in blocks and values made of values would take any
    /// time and memory.
    fn spend(&self, bytes: usize) -> Result<(), TemplateError> {
        let left = self.left.get().checked_sub(bytes.saturating_add(STEP));
        self.left.set(left.ok_or(TemplateError::TooMuch)?);
        Ok(())
    }

    /// Renders `nodes` with `variables` more and, if there is one, another `dot`; what is declared
    /// within ends with them.
    fn within(
        &mut self,
        variables: impl IntoIterator<Item = (String, Value)>,
        dot: Option<Value>,
        nodes: &[Node],
        out: &mut String,
    ) -> Result<(), TemplateError> {
        self.spend(self.dot.size())?;
        let (count, before) = (self.variables.len(), self.dot.clone());
        self.variables.extend(variables);
        self.dot = dot.unwrap_or(before.clone());
        let rendered = render(nodes, self, out);
        self.variables.truncate(count);
        self.dot = before;
        rendered
    }

    /// The variable `name`; without one the container.
    fn variable(&self, name: &str) -> Option<&Value> {
        let mut newest = self.variables.iter().rev();
        newest.find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

fn render(nodes: &[Node], scope: &mut Scope<'_>, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => {
                scope.spend(text.len())?;
                out.push_str(text);
            }
            Node::Action(expression) => match evaluate(expression, scope)? {
                Value::Root => return Err(TemplateError::NotBuilt("the dot alone".to_owned())),
                value => out.push_str(&value.printed()),
            },
            Node::Declare(name, expression) => {
                let value = evaluate(expression, scope)?;
                scope.variables.push((name.clone(), value));
            }
            Node::Set(name, expression) => {
                let value = evaluate(expression, scope)?;
                let own = scope.variables.iter_mut().rev().find(|(own, _)| own == name);
                own.ok_or(TemplateError::Syntax("a variable that was not declared"))?.1 = value;
            }
            Node::Branch(branch) => {
                let value = evaluate(&branch.condition, scope)?;
                let variable = branch.variable.iter().map(|name| (name.clone(), value.clone()));
                let variable: Vec<_> = variable.collect();
                if value.is_true() {
                    let dot = branch.moves_dot.then_some(value);
                    scope.within(variable, dot, &branch.then, out)?;
                } else {
                    scope.within(variable, None, &branch.otherwise, out)?;
                }
            }
            Node::Range(range) => repeat(range, scope, out)?,
        }
    }
    Ok(())
}

/// Renders the body of `range` for each element of a list or, by their keys, of a map.
fn repeat(range: &Range, scope: &mut Scope<'_>, out: &mut String) -> Result<(), TemplateError> {
    let elements: Vec<(Value, Value)> = match evaluate(&range.over, scope)? {
        Value::List(list) => {
            (0..).map(Value::Number).zip(list.into_iter().map(Value::Text)).collect()
        }
        Value::Map(map) => {
            map.into_iter().map(|(key, value)| (Value::Text(key), Value::Text(value))).collect()
        }
        _ => {
            let (function, expected) = ("range".to_owned(), "a list or a map");
            return Err(TemplateError::Argument { function, expected });
        }
    };
    if elements.is_empty() {
        return scope.within([], None, &range.otherwise, out);
    }
    for (key, value) in elements {
        let named =
            |name: &Option<String>, value: &Value| name.clone().map(|own| (own, value.clone()));
        let variables = named(&range.key, &key).into_iter().chain(named(&range.value, &value));
        let variables: Vec<_> = variables.collect();
        scope.within(variables, Some(value), &range.each, out)?;
    }
    Ok(())
}

/// The value of a pipeline: each stage's last argument is the value of the one before.
fn evaluate(pipeline: &Expression, scope: &Scope<'_>) -> Result<Value, TemplateError> {
    let mut piped: Option<Value> = None;
    for stage in &pipeline.stages {
        scope.spend(0)?;
        let (first, rest) = stage.split_first().ok_or(TemplateError::Syntax("an empty action"))?;
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(operand_value(operand, scope)?);
        }
        arguments.extend(piped.take());
        piped = Some(match first {
            Operand::Function(name) => {
                let made = function::call(name, arguments)?;
                scope.spend(made.size())?;
                made
            }
            operand if arguments.is_empty() => operand_value(operand, scope)?,
            _ => return Err(TemplateError::Syntax("arguments of what is no function")),
        });
    }
    piped.ok_or(TemplateError::Syntax("an empty action"))
}

fn operand_value(operand: &Operand, scope: &Scope<'_>) -> Result<Value, TemplateError> {
    let value = match operand {
        Operand::Literal(value) => Ok(value.clone()),
        Operand::Field(path) => field(&scope.dot, path, scope.container),
        Operand::Variable(name, path) => {
            field(scope.variable(name).unwrap_or(&Value::Root), path, scope.container)
        }
        Operand::Function(name) => function::call(name, Vec::new()),
        Operand::Nested(pipeline) => evaluate(pipeline, scope),
    }?;
    scope.spend(value.size())?;
    Ok(value)
}

/// What `path` leads to from `value` on: fields of the container, keys of maps.
fn field(value: &Value, path: &[String], container: &Container) -> Result<Value, TemplateError> {
    let unknown = || TemplateError::Unknown(path.join("."));
    path.iter().try_fold(value.clone(), |value, name| match value {
        Value::Root => Value::of_container(name, container).ok_or_else(unknown)?,
        value => value.key(name).ok_or_else(unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn container() -> Container {
        Container {
            id: "0123456789abcdef0123".to_owned(),
            name: "/web_1".to_owned(),
            entrypoint: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), "true".to_owned()],
            image_id: "sha256:0a1b2c3d4e5f".to_owned(),
            image_name: "shop/web:2".to_owned(),
            environment: vec!["A=1".to_owned(), "B=x=y".to_owned()],
            labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
            daemon_name: "docker".to_owned(),
            ..Container::default()
        }
    }

    fn render(text: &str) -> Result<String, TemplateError> {
        Template::parse(text)?.render(&container())
    }

    /// Expected values are what Go's text/template with Docker's functions gives.
    #[test]
    fn templates_give_what_go_gives() {
        for (template, expected) in [
            ("", ""),
            ("plain } text", "plain } text"),
            ("{{.ID}}/{{.FullID}}", "0123456789ab/0123456789abcdef0123"),
            ("{{.Name}} {{.ImageID}} {{.ImageName}}", "web_1 sha256:0a1b2 shop/web:2"),
            ("{{.Command}}|{{.DaemonName}}|{{.ContainerName}}", "sh -c true|docker|/web_1"),
            ("{{ .Name | upper }}{{lower \"AB\"}}", "WEB_1ab"),
            ("{{title \"web one\"}}{{truncate .FullID 4}}{{truncate \"ab\" 9}}", "Web One0123ab"),
            ("{{pad .Name 1 2}}|{{pad \"\" 1 2}}", " web_1  |"),
            ("{{join (split .Name \"_\") `-`}}", "web-1"),
            ("{{index .ContainerLabels \"team\"}}{{index .ContainerLabels \"none\"}}", "blue"),
            ("{{.ContainerLabels.team}} {{.ContainerLabels.none}}", "blue <no value>"),
            ("{{index .ContainerArgs 1}}{{len .ContainerEnv}}", "true2"),
            ("{{printf \"%s-%d%%\" .Name 7}}", "web_1-7%"),
            ("{{print .Name 1 2 \"x\"}}", "web_11 2x"),
            ("{{if .Name}}a{{else}}b{{end}}{{if .LogPath}}c{{end}}", "a"),
            ("{{if eq .Name \"x\"}}a{{else if eq .Name \"y\" \"web_1\"}}b{{else}}c{{end}}", "b"),
            ("{{if and .Name (not .LogPath)}}yes{{end}}{{or \"\" \"z\"}}", "yesz"),
            ("a {{- .Name -}} b{{/* said */}}c", "aweb_1bc"),
            ("a{{- /* said */ -}} b", "ab"),
            ("{{json .ContainerLabels}}{{json .Name}}", "{\"team\":\"blue\"}\"web_1\""),
            ("{{range .ContainerArgs}}<{{.}}>{{else}}none{{end}}", "<-c><true>"),
            ("{{range $i, $e := .ContainerEnv}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=x=y"),
            ("{{range $k, $v := .ContainerLabels}}{{$k}}:{{$v}}{{end}}", "team:blue"),
            ("{{range .Config}}a{{else}}{{.Name}}{{end}}", "web_1"),
            (
                "{{with .ContainerLabels.team}}{{.}}{{$.Name}}{{end}}{{with .LogPath}}b{{else}}c{{end}}",
                "blueweb_1c",
            ),
            ("{{with $x := .Name}}{{$x}}{{upper .}}{{end}}", "web_1WEB_1"),
            ("{{$x := .Name}}{{if eq $x \"web_1\"}}{{$x = \"y\"}}{{end}}{{$x}}", "y"),
            ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
            ("{{$c := .}}{{$c.Name}}{{with .ContainerLabels}}{{.team}}{{end}}", "web_1blue"),
            ("{{if $n := len .ContainerArgs}}{{$n}}{{else}}{{$n}}{{end}}", "2"),
            ("{{.ContainerArgs}} {{.ContainerLabels}}", "[-c true] map[team:blue]"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    /// Whoever names a template names it for all: the memory and the time are the plugin's.
    #[test]
    fn a_template_that_would_take_all_there_is_is_refused() {
        let environment = (0..200).map(|n| format!("VARIABLE_{n}={}", "x".repeat(100))).collect();
        let container = Container { environment, ..container() };
        let nested = |each: &str| {
            let open = "{{range $.ContainerEnv}}".repeat(8);
            format!("{open}{each}{}", "{{end}}".repeat(8))
        };
        let doubled = "{{$x = print $x $x}}".repeat(40);
        let joined = "{{$x = join (split $x \"\") $x}}".repeat(8);
        for template in [
            nested("x"),
            nested(""),
            format!("{{{{$x := .Name}}}}{doubled}"),
            format!("{{{{$x := printf \"%s\" .ContainerEnv}}}}{joined}"),
        ] {
            let begun = std::time::Instant::now();
            let rendered = Template::parse(&template).unwrap().render(&container);
            let refused =
                matches!(rendered, Err(TemplateError::TooMuch | TemplateError::Argument { .. }));
            assert!(refused, "{template}");
            assert!(begun.elapsed().as_secs() < 5, "{template}");
        }
        let all = "{{range .ContainerEnv}}{{.}}{{range $.ContainerEnv}}{{end}}{{end}}";
        assert!(Template::parse(all).unwrap().render(&container).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let syntax = |text| matches!(render(text), Err(TemplateError::Syntax(_)));
        for bad in [
            "{{.Name",
            "{{}}",
            "{{if .Name}}x",
            "x{{end}}",
            "{{else}}",
            "{{(.Name}}",
            "{{\"a}}",
            "{{$x}}",
            "{{$x = 1}}",
            "{{if true}}{{$x := 1}}{{end}}{{$x}}",
            "{{range .Config}}",
            "{{with .Name}}a{{else if .Name}}b{{end}}",
            "{{print $x := 1}}",
            "{{:}}",
        ] {
            assert!(syntax(bad), "{bad}: {:?}", render(bad));
        }
        for bad in
            ["{{.Nickname}}", "{{.Name | shout}}", "{{with .Name}}{{.ID}}{{end}}", "{{$.Nickname}}"]
        {
            assert!(matches!(render(bad), Err(TemplateError::Unknown(_))), "{bad}");
        }
        for absent in ["{{range .Config}}{{break}}{{end}}", "{{.}}", "{{$}}", "{{html .Name}}"] {
            assert!(matches!(render(absent), Err(TemplateError::NotBuilt(_))), "{absent}");
        }
        for bad in [
            "{{range .Name}}{{end}}",
            "{{truncate .Name}}",
            "{{index .Name 1}}",
            "{{join .Name \"\"}}",
        ] {
            assert!(matches!(render(bad), Err(TemplateError::Argument { .. })), "{bad}");
        }
    }
}

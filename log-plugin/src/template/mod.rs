//! Templates over a container in Go's language, as Docker's drivers take them for `tag`.
//!
//! Built: text, fields, pipelines, parentheses, Docker's functions, Go's own that make sense for a
//! name, comments, trimming, and `if` with `else`. Absent, and refused where a sink would need
//! them: variables, `range`, `with`, the escaping functions. Errors in what is built are those of
//! Go; where Go would fail while rendering, so does [`Template::render`].

mod function;
mod lexer;
mod parser;
mod value;

use crate::container::Container;

use self::parser::{Expression, Node, Operand};
use self::value::Value;

/// A template that can be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<Node>,
}

/// Why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is none.
    #[error("not a template: {0}")]
    Syntax(&'static str),
    /// The language has it, this program has not.
    #[error("`{0}` in templates is not built yet")]
    NotBuilt(String),
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
        let mut out = String::new();
        render(&self.nodes, container, &mut out)?;
        Ok(out)
    }
}

fn render(nodes: &[Node], container: &Container, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Action(expression) => out.push_str(&evaluate(expression, container)?.printed()),
            Node::If { condition, then, otherwise } => {
                let holds = evaluate(condition, container)?.is_true();
                render(if holds { then } else { otherwise }, container, out)?;
            }
        }
    }
    Ok(())
}

/// The value of a pipeline: each stage's last argument is the value of the one before.
fn evaluate(pipeline: &Expression, container: &Container) -> Result<Value, TemplateError> {
    let mut piped: Option<Value> = None;
    for stage in &pipeline.stages {
        let (first, rest) = stage.split_first().ok_or(TemplateError::Syntax("an empty action"))?;
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(operand_value(operand, container)?);
        }
        arguments.extend(piped.take());
        piped = Some(match first {
            Operand::Function(name) => function::call(name, arguments)?,
            operand if arguments.is_empty() => operand_value(operand, container)?,
            _ => return Err(TemplateError::Syntax("arguments of what is no function")),
        });
    }
    piped.ok_or(TemplateError::Syntax("an empty action"))
}

fn operand_value(operand: &Operand, container: &Container) -> Result<Value, TemplateError> {
    match operand {
        Operand::Literal(value) => Ok(value.clone()),
        Operand::Field(path) => field(path, container),
        Operand::Function(name) => function::call(name, Vec::new()),
        Operand::Nested(pipeline) => evaluate(pipeline, container),
    }
}

/// A field of the container, or a key in one of its maps.
fn field(path: &[String], container: &Container) -> Result<Value, TemplateError> {
    let unknown = || TemplateError::Unknown(path.join("."));
    let (first, rest) = path.split_first().ok_or_else(unknown)?;
    let value = Value::of_container(first, container).ok_or_else(unknown)??;
    rest.iter().try_fold(value, |value, key| value.key(key).ok_or_else(unknown))
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
            ("{{.ContainerArgs}} {{.ContainerLabels}}", "[-c true] map[team:blue]"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let syntax = |text| matches!(render(text), Err(TemplateError::Syntax(_)));
        for bad in
            ["{{.Name", "{{}}", "{{if .Name}}x", "x{{end}}", "{{else}}", "{{(.Name}}", "{{\"a}}"]
        {
            assert!(syntax(bad), "{bad}: {:?}", render(bad));
        }
        for bad in ["{{.Nickname}}", "{{.Name | shout}}"] {
            assert!(matches!(render(bad), Err(TemplateError::Unknown(_))), "{bad}");
        }
        for absent in ["{{range .ContainerEnv}}{{end}}", "{{$x := .Name}}", "{{html .Name}}"] {
            assert!(matches!(render(absent), Err(TemplateError::NotBuilt(_))), "{absent}");
        }
        for bad in ["{{truncate .Name}}", "{{index .Name 1}}", "{{join .Name \"\"}}"] {
            assert!(matches!(render(bad), Err(TemplateError::Argument { .. })), "{bad}");
        }
    }
}

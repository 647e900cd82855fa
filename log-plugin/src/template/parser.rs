//! Tokens into nodes.

use super::TemplateError;
use super::function;
use super::lexer::{Part, Token, parts};
use super::value::Value;
use crate::container::Container;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    Action(Expression),
    If { condition: Expression, then: Vec<Node>, otherwise: Vec<Node> },
}

/// A pipeline: each stage a function with its arguments, or one operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) stages: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Literal(Value),
    Field(Vec<String>),
    Function(String),
    Nested(Expression),
}

/// Deepest nesting of blocks and parentheses.
const DEEPEST: usize = 32;

pub(super) fn parse(template: &str) -> Result<Vec<Node>, TemplateError> {
    let parts = parts(template)?;
    let mut rest = parts.as_slice();
    match block(&mut rest, 0)? {
        (nodes, None) => Ok(nodes),
        (_, Some(_)) => Err(TemplateError::Syntax("`end` or `else` of no block")),
    }
}

/// What ended a block: `end`, `else`, or `else if` with its condition.
enum Ending<'t> {
    End,
    Else,
    ElseIf(&'t [Token]),
}

/// The nodes up to the end of a block, or of the template.
fn block<'t>(
    rest: &mut &'t [Part],
    depth: usize,
) -> Result<(Vec<Node>, Option<Ending<'t>>), TemplateError> {
    if depth > DEEPEST {
        return Err(TemplateError::Syntax("too many blocks in each other"));
    }
    let mut nodes = Vec::new();
    while let Some((part, after)) = rest.split_first() {
        *rest = after;
        let tokens = match part {
            Part::Text(text) => {
                nodes.push(Node::Text(text.clone()));
                continue;
            }
            Part::Action(tokens) => tokens.as_slice(),
        };
        let (word, others) = match tokens.split_first() {
            Some((Token::Word(word), others)) => (word.as_str(), others),
            _ => ("", tokens),
        };
        match (word, others) {
            ("end", []) => return Ok((nodes, Some(Ending::End))),
            ("else", []) => return Ok((nodes, Some(Ending::Else))),
            ("else", [Token::Word(word), condition @ ..]) if word == "if" => {
                return Ok((nodes, Some(Ending::ElseIf(condition))));
            }
            ("if", condition) => nodes.push(conditional(condition, rest, depth)?),
            ("range" | "with" | "define" | "block" | "template" | "break" | "continue", _) => {
                return Err(TemplateError::NotBuilt(word.to_owned()));
            }
            _ => nodes.push(Node::Action(expression(tokens)?)),
        }
    }
    Ok((nodes, None))
}

fn conditional(
    condition: &[Token],
    rest: &mut &[Part],
    depth: usize,
) -> Result<Node, TemplateError> {
    const OPEN: TemplateError = TemplateError::Syntax("`if` without `end`");
    let condition = expression(condition)?;
    let (then, ending) = block(rest, depth + 1)?;
    let otherwise = match ending.ok_or(OPEN)? {
        Ending::End => Vec::new(),
        Ending::Else => match block(rest, depth + 1)? {
            (nodes, Some(Ending::End)) => nodes,
            _ => return Err(OPEN),
        },
        Ending::ElseIf(condition) => vec![conditional(condition, rest, depth + 1)?],
    };
    Ok(Node::If { condition, then, otherwise })
}

fn expression(tokens: &[Token]) -> Result<Expression, TemplateError> {
    let mut rest = tokens;
    let parsed = pipeline(&mut rest, 0)?;
    if rest.is_empty() { Ok(parsed) } else { Err(TemplateError::Syntax("a `)` too many")) }
}

/// A pipeline up to a closing parenthesis, which is left, or the end.
fn pipeline(rest: &mut &[Token], depth: usize) -> Result<Expression, TemplateError> {
    if depth > DEEPEST {
        return Err(TemplateError::Syntax("too many parentheses in each other"));
    }
    let mut stages = vec![Vec::new()];
    while let Some((token, after)) = rest.split_first() {
        if *token == Token::Close {
            break;
        }
        *rest = after;
        let operand = match token {
            Token::Pipe => {
                stages.push(Vec::new());
                continue;
            }
            Token::Open => {
                let nested = pipeline(rest, depth + 1)?;
                let Some((Token::Close, after)) = rest.split_first() else {
                    return Err(TemplateError::Syntax("a `)` is missing"));
                };
                *rest = after;
                Operand::Nested(nested)
            }
            Token::Word(word) => match word.as_str() {
                "true" | "false" => Operand::Literal(Value::Bool(word == "true")),
                "nil" => Operand::Literal(Value::None),
                _ => Operand::Function(function::known(word)?.to_owned()),
            },
            Token::Field(path) => {
                if Value::of_container(&path[0], &Container::default()).is_none() {
                    return Err(TemplateError::Unknown(path.join(".")));
                }
                Operand::Field(path.clone())
            }
            Token::Text(text) => Operand::Literal(Value::Text(text.clone())),
            Token::Number(number) => Operand::Literal(Value::Number(*number)),
            Token::Close => break,
        };
        stages.last_mut().ok_or(TemplateError::Syntax("an empty action"))?.push(operand);
    }
    if stages.iter().any(Vec::is_empty) {
        return Err(TemplateError::Syntax("an empty action"));
    }
    Ok(Expression { stages })
}

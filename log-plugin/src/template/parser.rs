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
    /// A variable gets a value: a new one, or one that there is.
    Set(String, Expression),
    Declare(String, Expression),
    /// `if`, or `with`, which makes the value the dot; either may name it.
    Branch(Branch),
    Range(Range),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) variable: Option<String>,
    pub(super) condition: Expression,
    pub(super) moves_dot: bool,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// For the place or the key, where there are two, and for what is there.
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) over: Expression,
    pub(super) each: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// A pipeline: each stage a function with its arguments, or one operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) stages: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Literal(Value),
    /// Of the dot, which it is without a name.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Nested(Expression),
}

/// Deepest nesting of blocks and parentheses.
const DEEPEST: usize = 32;

pub(super) fn parse(template: &str) -> Result<Vec<Node>, TemplateError> {
    let parts = parts(template)?;
    let mut rest = parts.as_slice();
    let scope = Scope { variables: Vec::new(), rooted: true };
    match block(&mut rest, scope, 0)? {
        (nodes, None) => Ok(nodes),
        (_, Some(_)) => Err(TemplateError::Syntax("`end` or `else` of no block")),
    }
}

/// What is known where an action stands.
#[derive(Debug, Clone)]
struct Scope {
    variables: Vec<String>,
    /// The dot is the container.
    rooted: bool,
}

impl Scope {
    /// The same with `variables` that a block's head declares.
    fn with<'n>(&self, variables: impl IntoIterator<Item = &'n String>) -> Self {
        let mut inner = self.clone();
        inner.variables.extend(variables.into_iter().cloned());
        inner
    }

    fn knows(&self, variable: &str) -> Result<(), TemplateError> {
        let known = variable.is_empty() || self.variables.iter().any(|own| own == variable);
        if known { Ok(()) } else { Err(TemplateError::Syntax("a variable that was not declared")) }
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
    mut scope: Scope,
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
            ("if", head) => nodes.push(branch(head, rest, &scope, false, depth)?),
            ("with", head) => nodes.push(branch(head, rest, &scope, true, depth)?),
            ("range", head) => nodes.push(range(head, rest, &scope, depth)?),
            ("define" | "block" | "template" | "break" | "continue", _) => {
                return Err(TemplateError::NotBuilt(word.to_owned()));
            }
            _ => nodes.push(action(tokens, &mut scope)?),
        }
    }
    Ok((nodes, None))
}

/// A value to be shown, or one for a variable.
fn action(tokens: &[Token], scope: &mut Scope) -> Result<Node, TemplateError> {
    Ok(match tokens {
        [Token::Variable(name, path), Token::Declare, value @ ..] if path.is_empty() => {
            let value = expression(value, scope)?;
            scope.variables.push(name.clone());
            Node::Declare(name.clone(), value)
        }
        [Token::Variable(name, path), Token::Assign, value @ ..] if path.is_empty() => {
            scope.knows(name)?;
            Node::Set(name.clone(), expression(value, scope)?)
        }
        _ => Node::Action(expression(tokens, scope)?),
    })
}

fn branch(
    head: &[Token],
    rest: &mut &[Part],
    scope: &Scope,
    moves_dot: bool,
    depth: usize,
) -> Result<Node, TemplateError> {
    let (variable, condition) = match head {
        [Token::Variable(name, path), Token::Declare, value @ ..] if path.is_empty() => {
            (Some(name.clone()), value)
        }
        value => (None, value),
    };
    let condition = expression(condition, scope)?;
    let outer = scope.with(&variable);
    let inner = Scope { rooted: outer.rooted && !moves_dot, ..outer.clone() };
    let (then, ending) = block(rest, inner, depth + 1)?;
    let otherwise = match ending.ok_or(OPEN)? {
        Ending::ElseIf(condition) if !moves_dot => {
            vec![branch(condition, rest, &outer, false, depth + 1)?]
        }
        ending => otherwise(&ending, rest, outer, depth)?,
    };
    Ok(Node::Branch(Branch { variable, condition, moves_dot, then, otherwise }))
}

fn range(
    head: &[Token],
    rest: &mut &[Part],
    scope: &Scope,
    depth: usize,
) -> Result<Node, TemplateError> {
    let (key, value, over) = match head {
        [
            Token::Variable(key, _),
            Token::Comma,
            Token::Variable(value, _),
            Token::Declare,
            over @ ..,
        ] => (Some(key.clone()), Some(value.clone()), over),
        [Token::Variable(value, _), Token::Declare, over @ ..] => (None, Some(value.clone()), over),
        over => (None, None, over),
    };
    let over = expression(over, scope)?;
    let inner = Scope { rooted: false, ..scope.with(key.iter().chain(&value)) };
    let (each, ending) = block(rest, inner, depth + 1)?;
    let otherwise = otherwise(&ending.ok_or(OPEN)?, rest, scope.clone(), depth)?;
    Ok(Node::Range(Range { key, value, over, each, otherwise }))
}

const OPEN: TemplateError = TemplateError::Syntax("a block without `end`");

/// What stands after an `else`, up to the block's end.
fn otherwise(
    ending: &Ending<'_>,
    rest: &mut &[Part],
    scope: Scope,
    depth: usize,
) -> Result<Vec<Node>, TemplateError> {
    match ending {
        Ending::End => Ok(Vec::new()),
        Ending::Else => match block(rest, scope, depth + 1)? {
            (nodes, Some(Ending::End)) => Ok(nodes),
            _ => Err(OPEN),
        },
        Ending::ElseIf(_) => Err(TemplateError::Syntax("`else if` of what is no `if`")),
    }
}

fn expression(tokens: &[Token], scope: &Scope) -> Result<Expression, TemplateError> {
    let mut rest = tokens;
    let parsed = pipeline(&mut rest, scope, 0)?;
    if rest.is_empty() { Ok(parsed) } else { Err(TemplateError::Syntax("a `)` too many")) }
}

/// A pipeline up to a closing parenthesis, which is left, or the end.
fn pipeline(rest: &mut &[Token], scope: &Scope, depth: usize) -> Result<Expression, TemplateError> {
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
                let nested = pipeline(rest, scope, depth + 1)?;
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
                let known = |name| Value::of_container(name, &Container::default()).is_some();
                if scope.rooted && path.first().is_some_and(|name| !known(name)) {
                    return Err(TemplateError::Unknown(path.join(".")));
                }
                Operand::Field(path.clone())
            }
            Token::Variable(name, path) => {
                scope.knows(name)?;
                Operand::Variable(name.clone(), path.clone())
            }
            Token::Declare | Token::Assign | Token::Comma => {
                return Err(TemplateError::Syntax("a variable gets its value elsewhere"));
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

//! The functions of templates: Docker's, and of Go's own those that make sense for a name.

use super::TemplateError;
use super::value::Value;

const BUILT: &[&str] = &[
    "and", "eq", "index", "json", "join", "len", "lower", "ne", "not", "or", "pad", "print",
    "printf", "split", "title", "truncate", "upper",
];

/// Those that Go has and that are absent here.
const ABSENT: &[&str] =
    &["call", "ge", "gt", "html", "js", "le", "lt", "println", "slice", "urlquery"];

/// Most bytes that go between the parts of a list in all.
const LONGEST_JOINED: usize = 1 << 20;

/// The function called `word`.
pub(super) fn known(word: &str) -> Result<&str, TemplateError> {
    if ABSENT.contains(&word) {
        return Err(TemplateError::NotBuilt(word.to_owned()));
    }
    if BUILT.contains(&word) { Ok(word) } else { Err(TemplateError::Unknown(word.to_owned())) }
}

/// What `function` makes of `arguments`.
pub(super) fn call(function: &str, arguments: Vec<Value>) -> Result<Value, TemplateError> {
    use Value::{Bool, List, Number, Text};
    let wrong = |expected| TemplateError::Argument { function: function.to_owned(), expected };
    match (function, arguments.as_slice()) {
        ("lower", [Text(text)]) => Ok(Text(text.to_lowercase())),
        ("upper", [Text(text)]) => Ok(Text(text.to_uppercase())),
        ("title", [Text(text)]) => Ok(Text(title(text))),
        ("lower" | "upper" | "title", _) => Err(wrong("a text")),
        ("split", [Text(text), Text(at)]) => Ok(List(split(text, at))),
        ("split", _) => Err(wrong("a text and what to split it at")),
        ("join", [List(list), Text(between)])
            if list.len().saturating_mul(between.len()) <= LONGEST_JOINED =>
        {
            Ok(Text(list.join(between)))
        }
        ("join", _) => Err(wrong("a list and what goes between")),
        ("truncate", [Text(text), Number(length)]) => Ok(Text(truncate(text, *length))),
        ("truncate", _) => Err(wrong("a text and a length")),
        ("pad", [Text(text), Number(before), Number(after)]) => {
            pad(text, *before, *after).map(Text).ok_or_else(|| wrong("lengths from 0 to 1000"))
        }
        ("pad", _) => Err(wrong("a text and two lengths")),
        ("json", [value]) => json(value).map(Text).ok_or_else(|| wrong("a value")),
        ("json", _) => Err(wrong("a value")),
        ("index", [Value::Map(map), Text(key)]) => {
            Ok(Text(map.get(key).cloned().unwrap_or_default()))
        }
        ("index", [List(list), Number(at)]) => usize::try_from(*at)
            .ok()
            .and_then(|at| list.get(at))
            .map(|found| Text(found.clone()))
            .ok_or_else(|| wrong("a place within the list")),
        ("index", _) => Err(wrong("a map and a key, or a list and a place")),
        ("len", [value]) => length(value).map(Number).ok_or_else(|| wrong("a text, list or map")),
        ("not", [value]) => Ok(Bool(!value.is_true())),
        ("len" | "not", _) => Err(wrong("one value")),
        ("eq", [first, others @ ..]) if !others.is_empty() => Ok(Bool(others.contains(first))),
        ("ne", [first, second]) => Ok(Bool(first != second)),
        ("eq" | "ne", _) => Err(wrong("two values")),
        ("print", values) => Ok(Text(print(values))),
        ("printf", [Text(format), values @ ..]) => {
            printf(format, values).map(Text).ok_or_else(|| wrong("%s, %v, %d and %% with values"))
        }
        ("printf", _) => Err(wrong("a format")),
        ("and" | "or", []) => Err(wrong("values")),
        ("and" | "or", _) => {
            let decides = function == "or";
            let last = arguments.len() - 1;
            let chosen = arguments.iter().position(|value| value.is_true() == decides);
            arguments.into_iter().nth(chosen.unwrap_or(last)).ok_or_else(|| wrong("values"))
        }
        _ => Err(TemplateError::Unknown(function.to_owned())),
    }
}

/// Every word with a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for letter in text.chars() {
        if within {
            out.push(letter);
        } else {
            out.extend(letter.to_uppercase());
        }
        within = letter.is_alphanumeric() || matches!(letter, '_' | '\'');
    }
    out
}

fn split(text: &str, at: &str) -> Vec<String> {
    if at.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(at).map(str::to_owned).collect()
}

/// At most so many bytes; where Docker would cut a character in two, this cuts before it.
fn truncate(text: &str, length: i64) -> String {
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let end = (0..=length).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

fn pad(text: &str, before: i64, after: i64) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let spaces = |count: i64| {
        let count = usize::try_from(count).ok().filter(|&count| count <= 1000)?;
        Some(" ".repeat(count))
    };
    Some(format!("{}{text}{}", spaces(before)?, spaces(after)?))
}

fn json(value: &Value) -> Option<String> {
    match value {
        Value::None => Some("null".to_owned()),
        Value::Root => None,
        Value::Bool(value) => serde_json::to_string(value).ok(),
        Value::Number(value) => serde_json::to_string(value).ok(),
        Value::Text(text) => serde_json::to_string(text).ok(),
        Value::List(list) => serde_json::to_string(list).ok(),
        Value::Map(map) => serde_json::to_string(map).ok(),
    }
}

fn length(value: &Value) -> Option<i64> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::None | Value::Root | Value::Bool(_) | Value::Number(_) => return None,
    };
    i64::try_from(length).ok()
}

/// Values one after another, with a space between two of which neither is a text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && !text(value) && !text(&values[at - 1]) {
            out.push(' ');
        }
        out.push_str(&value.printed());
    }
    out
}

fn printf(format: &str, values: &[Value]) -> Option<String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match (letters.next()?, values.as_slice().first()) {
            ('%', _) => out.push('%'),
            ('s', Some(value @ (Value::Text(_) | Value::List(_))))
            | ('d', Some(value @ Value::Number(_)))
            | ('v', Some(value)) => {
                out.push_str(&value.printed());
                values.next();
            }
            _ => return None,
        }
    }
    values.next().is_none().then_some(out)
}

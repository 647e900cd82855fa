//! Labels and variables of a container as structured data of RFC 5424.

use std::collections::BTreeMap;

use crate::options::structured::{LONGEST, is_of_name};

/// The element called `id` with `fields`; none without any.
pub(in crate::sink) fn element(id: &str, fields: &BTreeMap<String, String>) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    let mut element = format!("[{id}");
    for (name, value) in fields {
        element.push(' ');
        let name = name.chars().take(LONGEST);
        element.extend(name.map(|letter| if is_of_name(letter) { letter } else { '_' }));
        element.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '"' | '\\' | ']' => element.extend(['\\', letter]),
                // A newline would end the message.
                letter if letter.is_control() => element.push(' '),
                letter => element.push(letter),
            }
        }
        element.push('"');
    }
    element.push(']');
    Some(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_names_fit() {
        let fields = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        assert_eq!(element("a@1", &fields(&[])), None);
        assert_eq!(
            element("a@1", &fields(&[("team", "a \"b\" [c] \\d\n\u{fc}"), ("x=y z", "")])).unwrap(),
            r#"[a@1 team="a \"b\" [c\] \\d "#.to_owned() + "\u{fc}\" x_y_z=\"\"]"
        );
        let long = element("a@1", &fields(&[(&"n".repeat(40), "v")])).unwrap();
        assert_eq!(long, format!("[a@1 {}=\"v\"]", "n".repeat(32)));
    }
}

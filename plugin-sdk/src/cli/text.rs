//! Answers as text: tables, outlines, sizes.

use serde_json::Value;

/// Between two columns.
const GAP: usize = 3;

/// Columns with headings, as wide as their widest cell.
pub fn table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| visible(&cell)));
    let rows: Vec<_> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default() + GAP
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A line for each name and value, with the values below each other.
pub fn fields<'a>(lines: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let lines: Vec<_> = lines.into_iter().collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1 + GAP;
    let line = |(name, value): (&str, String)| {
        format!("{:width$}{}", format!("{name}:"), visible(&value)).trim_end().to_owned() + "\n"
    };
    lines.into_iter().map(line).collect()
}

/// `text` with what would move a terminal's cursor, or break a line, as its escape: labels and names out of
/// volumes and images may be anything.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_command(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Whether a terminal does something at `letter` instead of showing it: moves, or turns the order of what
/// comes around.
fn is_command(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON as indented lines `key: value`, a `-` before each item of a list.
pub fn outline(value: &Value) -> String {
    let mut text = String::new();
    lines(&mut text, value, 0);
    text
}

fn lines(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                text.push_str(&indent);
                text.push_str(&visible(key));
                text.push(':');
                below(text, value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&indent);
                text.push('-');
                below(text, item, depth);
            }
        }
        scalar => {
            text.push_str(&indent);
            text.push_str(&word(scalar));
            text.push('\n');
        }
    }
}

/// What stands behind a key or a dash.
fn below(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if fields.is_empty() => text.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => text.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            text.push('\n');
            lines(text, value, depth + 1);
        }
        scalar => {
            text.push(' ');
            text.push_str(&word(scalar));
            text.push('\n');
        }
    }
}

/// A scalar without quotes, where it cannot be taken for anything else or break its line.
fn word(scalar: &Value) -> String {
    match scalar {
        Value::String(text) if !text.is_empty() && !text.contains(is_command) => text.clone(),
        // Of what a terminal acts on JSON escapes only some.
        other => visible(&other.to_string()),
    }
}

/// A size in bytes for people: `512 B`, `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    // In tenths of the unit, in whole numbers, rounded down: a disk is never shown freer than it is.
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    match unit {
        "B" => format!("{count} B"),
        _ if tenths < 1000 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        _ => format!("{} {unit}", tenths / 10),
    }
}

/// A span of time for people, in its largest unit, rounded down: `5s`, `3h`, `12d`.
pub fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size);
    let (size, unit) = unit.unwrap_or((1, 's'));
    format!("{}{unit}", seconds / size)
}

/// `key=value` pairs on one line.
pub fn pairs<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let pair = |(key, value): (K, V)| format!("{}={}", key.as_ref(), value.as_ref());
    pairs.into_iter().map(pair).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows =
            [["appdb", "ok", ""], ["b", "degraded", "x=1"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            table(["NAME", "STATE", "LABELS"], rows),
            "NAME    STATE      LABELS\nappdb   ok\nb       degraded   x=1\n"
        );
    }

    #[test]
    fn nothing_of_others_reaches_the_terminal_as_a_command() {
        let rows = [["a\nb", "\u{1b}[2Jü\u{9b}"].map(str::to_owned)];
        assert_eq!(table(["NAME", "LABELS"], rows), "NAME   LABELS\na\\nb   \\u{1b}[2Jü\\u{9b}\n");
        assert_eq!(fields([("error", "a\r\nb".to_owned())]), "error:   a\\r\\nb\n");
    }

    #[test]
    fn an_outline_shows_every_value() {
        let value = json!({
            "name": "appdb", "empty": {}, "none": [], "blank": "", "count": 1,
            "roles": {"data": {"used": null}}, "list": ["a", {"b": true}],
        });
        // In the order of the keys.
        assert_eq!(
            outline(&value),
            "blank: \"\"\ncount: 1\nempty: {}\nlist:\n  - a\n  -\n    b: true\nname: appdb\nnone: []\n\
             roles:\n  data:\n    used: null\n"
        );
        assert_eq!(outline(&json!("a\nb")), "\"a\\nb\"\n");
        for (said, shown) in
            [("a\u{9b}2J", "a\\u{9b}2J"), ("a\u{7f}", "a\\u{7f}"), ("\u{202e}a", "\\u{202e}a")]
        {
            assert_eq!(outline(&json!(said)), format!("\"{shown}\"\n"));
        }
    }

    #[test]
    fn sizes_have_three_digits_or_so() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((100 << 20) + 1, "100 MiB"),
            (1023 << 20, "1023 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn an_age_is_in_its_largest_unit() {
        for (seconds, shown) in
            [(-5, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86_399, "23h"), (864_000, "10d")]
        {
            assert_eq!(age(seconds), shown);
        }
    }

    #[test]
    fn pairs_are_on_one_line() {
        let labels = std::collections::BTreeMap::from([("a", "1"), ("b", "2")]);
        assert_eq!(pairs(&labels), "a=1 b=2");
    }
}

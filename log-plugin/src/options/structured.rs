//! Names in the structured data of RFC 5424.

/// Most characters of one.
pub(crate) const LONGEST: usize = 32;

/// Whether a name may hold `letter`.
pub(crate) fn is_of_name(letter: char) -> bool {
    letter.is_ascii_graphic() && !matches!(letter, '=' | ']' | '"')
}

/// Whether `text` may be the id of an element that is not registered: `NAME@NUMBER`.
pub(super) fn is_id(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let good = |(name, enterprise): (&str, &str)| {
        !name.is_empty() && name.chars().all(is_of_name) && enterprise.split('.').all(number)
    };
    text.len() <= LONGEST && text.split_once('@').is_some_and(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_private_enterprises() {
        for id in ["pglog@32473", "a@1.2.3", "x.y-z@0"] {
            assert!(is_id(id), "{id}");
        }
        let long = format!("{}@1", "x".repeat(31));
        for id in ["", "origin", "@1", "a@", "a@b", "a@1.", "a b@1", "a=@1", "a]@1", "a\"@1", &long]
        {
            assert!(!is_id(id), "{id}");
        }
    }
}

//! An error with all its causes in one line, for logs and for Status.

use std::error::Error;

/// The words of `error` and of each of its causes, joined by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("write the record")]
    struct Write(#[source] std::io::Error);

    #[test]
    fn every_cause_is_told_once() {
        let error = Write(std::io::Error::other("the disk is gone"));
        assert_eq!(chain(&error), "write the record: the disk is gone");
    }
}

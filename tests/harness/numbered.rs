//! Numbered lines: what is missing, doubled or out of order shows by itself.

use std::fmt::Write;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};

/// A Perl program that prints the lines 1, 2, 3, ..., some 50,000 a second, up to its argument or
/// until it gets SIGUSR1: then it says on stderr how far it came.
pub const SLOWLY: &str = r#"
    $| = 1;
    my ($n, $end) = (0, $ARGV[0]);
    $SIG{USR1} = sub { $end = $n };
    while ($n < $end) {
        print ++$n, "\n";
        select(undef, undef, undef, 0.01) if $n % 600 == 0;
    }
    print STDERR "$n\n" if $n < $ARGV[0];
"#;

/// The lines of `numbers`, each with `before` in front.
pub fn lines(before: &str, numbers: RangeInclusive<usize>) -> String {
    numbers.fold(String::new(), |mut text, number| {
        // Writing into a string does not fail.
        writeln!(text, "{before}{number}").ok();
        text
    })
}

/// Fails unless `bytes` are the lines 1 to `count`.
pub fn check(bytes: &[u8], count: usize) -> Result<()> {
    let (first, last) = range(bytes)?;
    ensure!(first == 1, "the first line is {first}");
    ensure!(last == count, "the last line is {last} instead of {count}");
    Ok(())
}

/// First and last number of lines that are numbered without a gap.
pub fn range(bytes: &[u8]) -> Result<(usize, usize)> {
    let text = std::str::from_utf8(bytes)?;
    ensure!(text.ends_with('\n'), "no whole last line");
    let mut lines = text.lines();
    let first: usize = lines.next().context("no line")?.parse()?;
    let mut last = first;
    for line in lines {
        ensure!(line == (last + 1).to_string(), "{line:?} follows {last}");
        last += 1;
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_gaps() {
        assert_eq!(lines("", 7..=9), "7\n8\n9\n");
        assert_eq!(range(b"7\n8\n9\n").unwrap(), (7, 9));
        assert!(range(b"7\n9\n").is_err());
        assert!(range(b"7\n7\n").is_err());
        assert!(range(b"7\n8").is_err());
        assert!(check(b"1\n2\n", 3).is_err());
    }
}

//! Numbered lines: what is missing, doubled or out of order shows by itself.

use std::fmt::Write;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};

/// A Perl program that prints the lines 1, 2, 3, ..., some 50,000 a second, up to its argument or
/// until it gets a signal: then it says on stderr how far it came. The second argument names the
/// signal (USR1), the third how many lines it prints between two pauses of 10 ms (600).
pub const SLOWLY: &str = r#"
    $| = 1;
    my ($n, $end) = (0, $ARGV[0]);
    my ($signal, $burst) = ($ARGV[1] // "USR1", $ARGV[2] // 600);
    $SIG{$signal} = sub { $end = $n };
    while ($n < $end) {
        print ++$n, "\n";
        select(undef, undef, undef, 0.01) if $n % $burst == 0;
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

/// One run of a program that begins with line 1 whenever it is started.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Its last number.
    pub last: usize,
    /// How many numbers before it are missing.
    pub missing: usize,
    /// In how many places.
    pub gaps: usize,
}

/// The runs that `bytes` are the lines of; doubled lines and such that are out of order are errors.
pub fn runs(bytes: &[u8]) -> Result<Vec<Run>> {
    let text = std::str::from_utf8(bytes)?;
    ensure!(text.is_empty() || text.ends_with('\n'), "no whole last line");
    let mut runs: Vec<Run> = Vec::new();
    for line in text.lines() {
        let number: usize = line.parse().with_context(|| format!("the line {line:?}"))?;
        match runs.last_mut() {
            Some(run) if number != 1 => {
                ensure!(number > run.last, "{number} follows {}", run.last);
                let missing = number - run.last - 1;
                run.missing += missing;
                run.gaps += usize::from(missing > 0);
                run.last = number;
            }
            _ => {
                ensure!(number == 1, "{number} is the first line");
                runs.push(Run { last: 1, missing: 0, gaps: 0 });
            }
        }
    }
    Ok(runs)
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

    #[test]
    fn counts_each_run() {
        let run = |last, missing, gaps| Run { last, missing, gaps };
        assert!(runs(b"").unwrap().is_empty());
        assert_eq!(runs(b"1\n2\n1\n1\n2\n").unwrap(), [run(2, 0, 0), run(1, 0, 0), run(2, 0, 0)]);
        assert_eq!(runs(b"1\n4\n5\n7\n").unwrap(), [run(7, 3, 2)]);
        for bad in ["2\n", "1\n3\n2\n", "1\n2\n2\n", "1\n2", "1\nx\n"] {
            assert!(runs(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}

//! A bar that shows on a terminal how far something is.

use std::io::{self, Write};

use super::text;

/// Characters between its ends.
const WIDTH: u64 = 30;

/// See the module. It goes away when it is dropped.
#[derive(Debug, Default)]
pub struct Bar {
    drawn: bool,
}

impl Bar {
    /// Shows `done` bytes of `total`, where that is known.
    pub fn draw(&mut self, done: u64, total: Option<u64>) -> io::Result<()> {
        self.drawn = true;
        let mut stderr = io::stderr();
        // To the line's beginning, and what was there away.
        write!(stderr, "\r\x1b[K{}", line(done, total))?;
        stderr.flush()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn {
            // Nobody is left to be told.
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

fn line(done: u64, total: Option<u64>) -> String {
    let Some(total) = total.filter(|total| *total > 0) else { return text::bytes(done) };
    let done = done.min(total);
    let part = |of: u64| u128::from(done) * u128::from(of) / u128::from(total);
    let full = usize::try_from(part(WIDTH)).unwrap_or_default();
    let width = usize::try_from(WIDTH).unwrap_or_default();
    let bar = format!("{:<width$}", "#".repeat(full));
    format!("[{bar}] {:>3} %, {} of {}", part(100), text::bytes(done), text::bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_as_it_is_done() {
        let dots = |count: usize| format!("{:<30}", "#".repeat(count));
        for (done, full, said) in [
            (0, 0, "  0 %, 0 B of 2.0 KiB"),
            (1024, 15, " 50 %, 1.0 KiB of 2.0 KiB"),
            // More than there was when it was counted.
            (4096, 30, "100 %, 2.0 KiB of 2.0 KiB"),
        ] {
            assert_eq!(line(done, Some(2048)), format!("[{}] {said}", dots(full)));
        }
        assert_eq!(line(u64::MAX, Some(u64::MAX)).matches('#').count(), 30);
    }

    #[test]
    fn what_is_not_counted_has_no_bar() {
        assert_eq!(line(1024, None), "1.0 KiB");
        assert_eq!(line(0, Some(0)), "0 B");
    }
}

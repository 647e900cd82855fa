//! Steps at which a test ends the process, makes it fail or holds it up. In a program that is built
//! without the feature `failpoints`, as all that ship are, a step is nothing.
//!
//! A step is called `OPERATION.WHAT-IS-DONE`, in the words of what has just been done: whoever is
//! killed there has done that and nothing after it. The file that [`arm`] names says what happens:
//! one line, `STEP kill`, `STEP full` or `STEP wait`. It is taken away when its step is reached, so
//! that the next process passes. `wait` says so by a file `reached` beside it, and goes on when that
//! is removed. (The crate `fail` knows neither such a file nor an end without unwinding.)

use std::io;
use std::path::PathBuf;

/// Steps are looked up in the file at `path` from here on; the first call counts.
pub fn arm(path: PathBuf) {
    #[cfg(feature = "failpoints")]
    armed::arm(path);
    #[cfg(not(feature = "failpoints"))]
    drop(path);
}

/// The process has come to `step`. An error is what a full disk would have said there.
#[inline]
pub fn reach(step: &'static str) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    return armed::reach(step);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = step;
        Ok(())
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::fs::{self, File};
    use std::io;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::thread;
    use std::time::Duration;

    static FILE: OnceLock<PathBuf> = OnceLock::new();

    pub(super) fn arm(path: PathBuf) {
        FILE.get_or_init(|| path);
    }

    pub(super) fn reach(step: &str) -> io::Result<()> {
        let Some(file) = FILE.get() else { return Ok(()) };
        let Ok(line) = fs::read_to_string(file) else { return Ok(()) };
        let Some((_, action)) = line.trim().split_once(' ').filter(|(at, _)| *at == step) else {
            return Ok(());
        };
        // Whoever was first has it; it must not be met again by the process that comes after.
        if fs::remove_file(file).is_err() {
            return Ok(());
        }
        tracing::info!(step, action, "a failpoint");
        match action {
            "kill" => Err(crate::sys::kill_this_process()),
            "full" => Err(io::ErrorKind::StorageFull.into()),
            "wait" => {
                let reached = file.with_file_name("reached");
                File::create(&reached)?;
                while reached.exists() {
                    thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            }
            other => Err(io::Error::other(format!("no failpoint does {other}"))),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// One test, since the file is one for the process.
        #[test]
        fn a_step_does_once_what_the_file_says() {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("failpoint");
            reach("a.done").unwrap();
            arm(file.clone());
            reach("a.done").unwrap();
            crate::durable::write(&file, b"a.done full\n").unwrap();
            reach("a.other").unwrap();
            assert_eq!(reach("a.done").unwrap_err().kind(), io::ErrorKind::StorageFull);
            reach("a.done").unwrap();
            crate::durable::write(&file, b"a.done wait").unwrap();
            let waits = thread::spawn(|| reach("a.done"));
            let reached = dir.path().join("reached");
            while !reached.exists() {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(!waits.is_finished());
            fs::remove_file(reached).unwrap();
            waits.join().unwrap().unwrap();
            crate::durable::write(&file, b"a.done dance").unwrap();
            assert!(reach("a.done").unwrap_err().to_string().contains("dance"));
        }
    }
}

#[cfg(all(test, not(feature = "failpoints")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_step_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("failpoint");
        crate::durable::write(&file, b"a.done full").unwrap();
        arm(file.clone());
        reach("a.done").unwrap();
        assert!(file.exists());
    }
}

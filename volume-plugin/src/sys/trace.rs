//! Stopping the threads of other processes by ptrace. The calling thread becomes their tracer: when it
//! ends, however that is, the kernel lets them go, and what somebody else had stopped stays so.
//!
//! No stop is waited for by wait(2), which would take with it the signal that a thread was about to get:
//! [`is_stopped`] looks. Needs `CAP_SYS_PTRACE`.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;

/// What became of a thread that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It will stop.
    Stops,
    /// It has ended.
    Ended,
    /// Another process traces it, this one.
    Traced(u32),
}

/// Tells `thread`, of another process, to stop for as long as the calling thread lives.
pub fn stop(thread: u32) -> io::Result<Told> {
    let target = Pid::from_raw(i32::try_from(thread).map_err(io::Error::other)?);
    let seized = ptrace::seize(target, Options::empty());
    match seized.and_then(|()| ptrace::interrupt(target)) {
        Ok(()) => Ok(Told::Stops),
        Err(Errno::ESRCH) => Ok(Told::Ended),
        Err(Errno::EPERM) => match refusal(thread) {
            Some(told) => Ok(told),
            None => Err(Errno::EPERM.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Whether `thread` does nothing any more: it is stopped or has ended.
pub fn is_stopped(thread: u32) -> bool {
    state(thread).is_none_or(|state| "TtZX".contains(state))
}

/// Why the kernel lets nobody trace it, if that can be told.
fn refusal(thread: u32) -> Option<Told> {
    let Some(state) = state(thread) else { return Some(Told::Ended) };
    if "ZX".contains(state) {
        return Some(Told::Ended);
    }
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    tracer.trim().parse().ok().filter(|tracer| *tracer != 0).map(Told::Traced)
}

/// Its state as `/proc` has it; none where it is gone.
fn state(thread: u32) -> Option<char> {
    let stat = fs::read(format!("/proc/{thread}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    String::from_utf8_lossy(&stat).rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        #[expect(clippy::disallowed_methods, reason = "it runs beside the test")]
        fn new() -> Self {
            Self(Command::new("sleep").arg("60").spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn soon(condition: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !condition() {
            if begun.elapsed() > Duration::from_secs(10) {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    #[test]
    fn a_thread_is_stopped_as_long_as_its_tracer_lives() {
        let sleeper = Sleeper::new();
        let pid = sleeper.0.id();
        assert!(!is_stopped(pid));
        thread::spawn(move || {
            assert_eq!(stop(pid).unwrap(), Told::Stops);
            assert!(soon(|| is_stopped(pid)));
            let other = thread::spawn(move || stop(pid).unwrap()).join().unwrap();
            assert!(matches!(other, Told::Traced(_)), "{other:?}");
        })
        .join()
        .unwrap();
        assert!(soon(|| !is_stopped(pid)));
    }

    #[test]
    fn one_that_has_ended_is_stopped() {
        let mut sleeper = Sleeper::new();
        let pid = sleeper.0.id();
        sleeper.0.kill().unwrap();
        assert!(soon(|| is_stopped(pid)));
        assert_eq!(stop(pid).unwrap(), Told::Ended);
        sleeper.0.wait().unwrap();
        assert_eq!(stop(pid).unwrap(), Told::Ended);
        assert!(is_stopped(pid));
        std::mem::forget(sleeper);
    }

    #[test]
    fn a_thread_of_one_s_own_cannot_be_stopped() {
        assert_eq!(stop(std::process::id()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}

//! System calls; the only place of this crate that may use nix.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one and returns it. dockerd hands down the
/// limit of its own unit, 1024 in some packages.
pub fn raise_open_files() -> std::io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Ends this process as `kill -9` does: nothing is unwound, flushed or undone. Gives what kept it.
#[cfg(feature = "failpoints")]
pub(crate) fn kill_this_process() -> std::io::Error {
    use nix::sys::signal::{Signal, raise};
    raise(Signal::SIGKILL).err().map_or_else(|| std::io::ErrorKind::Other.into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
    }
}

//! Waiting for a state, and holding a step to its time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const PAUSE: Duration = Duration::from_millis(50);

/// Tries `condition` until it gives a value; after `limit` its last error is the failure.
///
/// The condition must be a level (something that stays true), not an edge that could be missed.
pub fn eventually<T>(limit: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| format!("still not so after {limit:?}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Runs `step` and fails when it took longer than `limit`, although it succeeded.
pub fn within<T>(limit: Duration, what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let value = step()?;
    let took = start.elapsed();
    ensure!(took <= limit, "{what} took {took:?}, more than {limit:?}");
    Ok(value)
}

//! Work that may hang, on a thread that nobody waits for.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

/// See the module. The thread ends after this, unless its work hangs.
#[derive(Debug)]
pub(super) struct Background(SyncSender<()>);

impl Background {
    /// Starts the thread, which does `work` whenever it is asked to.
    pub(super) fn start(name: &'static str, work: impl Fn() + Send + 'static) -> Self {
        let (sender, requests) = sync_channel(1);
        let run = move || requests.into_iter().for_each(|()| work());
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
            tracing::error!(name, %error, "a thread of the guard cannot be started");
        }
        Self(sender)
    }

    /// Has the work done once from its beginning. Waits for nothing: if the work hangs, so does
    /// what is asked for.
    pub(super) fn ask(&self) {
        match self.0.try_send(()) {
            // A full one has not begun with what was asked before.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!("a thread of the guard is gone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn work_that_hangs_is_not_waited_for_and_done_once_more_afterwards() {
        let ((begins, begun), (go, goes)) = (channel(), channel::<()>());
        let background = Background::start("test", move || {
            begins.send(()).unwrap();
            goes.recv().ok();
        });
        let limit = Duration::from_secs(30);
        background.ask();
        begun.recv_timeout(limit).unwrap();
        for _ in 0..3 {
            background.ask();
        }
        go.send(()).unwrap();
        begun.recv_timeout(limit).unwrap();
        go.send(()).unwrap();
        drop((background, go));
        assert!(begun.recv().is_err(), "what was asked for twice is done once, and it ends");
    }
}

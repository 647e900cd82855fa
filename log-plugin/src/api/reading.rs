//! One `docker logs`: a task that feeds an answer until the log, the client or the process ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::frame::LogEntry;
use crate::history::{Chunk, History};
use crate::journal::Journal;

/// Chunks that may wait for the client.
const AHEAD: usize = 2;

/// How long a follower may be idle before it gets an entry that dockerd drops: only with a frame
/// does dockerd notice that its own client has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Begins to send `history`; the answer's head can go out at once.
pub(super) fn begin(
    journal: Arc<Journal>,
    history: History,
    follow: bool,
    shutdown: CancellationToken,
    readers: &TaskTracker,
) -> Receiver<Bytes> {
    let (answer, chunks) = mpsc::channel(AHEAD);
    readers.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = answer.closed() => {}
            () = feed(&journal, history, follow, &answer) => {}
        }
    });
    chunks
}

async fn feed(journal: &Journal, mut history: History, follow: bool, answer: &Sender<Bytes>) {
    let mut changes = journal.subscribe();
    let mut sought = false;
    loop {
        // Both asked before reading: what comes meanwhile is seen in the next round.
        drop(changes.borrow_and_update());
        let live = journal.is_live();
        let read = tokio::task::spawn_blocking(move || {
            if !sought {
                history.seek()?;
            }
            history.read().map(|chunk| (history, chunk))
        });
        let chunk = match read.await {
            Ok(Ok((read, chunk))) => {
                history = read;
                chunk
            }
            Ok(Err(error)) => return tracing::error!(%error, "a log cannot be read"),
            Err(error) => return tracing::error!(%error, "reading a log panicked"),
        };
        sought = true;
        match chunk {
            Chunk::Frames(frames) => {
                if answer.send(frames.into()).await.is_err() {
                    return;
                }
            }
            Chunk::End => return,
            Chunk::Idle if !follow || !live => return,
            Chunk::Idle => {
                while let Err(_elapsed) = tokio::time::timeout(KEEP_ALIVE, changes.changed()).await
                {
                    if answer.send(keep_alive()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn keep_alive() -> Bytes {
    let time_nano = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let mut frame = Vec::new();
    LogEntry { time_nano, ..LogEntry::default() }.frame_into(&mut frame);
    frame.into()
}

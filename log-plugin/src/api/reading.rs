//! One `docker logs`: a task that feeds an answer until the log, the client or the process ends.
//! Only the end of the log is a clean end of the answer.

use std::io;
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
) -> Receiver<io::Result<Bytes>> {
    let (answer, chunks) = mpsc::channel(AHEAD);
    readers.spawn(async move {
        let ended = tokio::select! {
            () = shutdown.cancelled() => Err(io::Error::other("the plugin ends")),
            () = answer.closed() => Ok(()),
            fed = feed(&journal, history, follow, &answer) => fed,
        };
        if let Err(error) = ended {
            // Nobody to tell when the client went at the same time.
            drop(answer.send(Err(error)).await);
        }
    });
    chunks
}

async fn feed(
    journal: &Journal,
    mut history: History,
    follow: bool,
    answer: &Sender<io::Result<Bytes>>,
) -> io::Result<()> {
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
            Ok(Err(error)) => {
                tracing::error!(%error, "a log cannot be read");
                return Err(error);
            }
            Err(error) => {
                tracing::error!(%error, "reading a log panicked");
                return Err(error.into());
            }
        };
        sought = true;
        match chunk {
            Chunk::Frames(frames) => {
                if answer.send(Ok(frames.into())).await.is_err() {
                    return Ok(());
                }
            }
            Chunk::End => return Ok(()),
            Chunk::Idle if !follow || !live => return Ok(()),
            Chunk::Idle => {
                while let Err(_elapsed) = tokio::time::timeout(KEEP_ALIVE, changes.changed()).await
                {
                    if answer.send(Ok(keep_alive())).await.is_err() {
                        return Ok(());
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

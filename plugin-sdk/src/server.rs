//! The server on the plugin socket.
//!
//! One task a connection, and one task a call that outlives its connection: a client that goes
//! away must not cancel a half-done mkfs or mount. A panic in a call becomes an `Err` answer. At
//! shutdown no new connection is taken and running calls have [`DRAIN`] to end, since dockerd
//! kills the process 10 s after its SIGTERM.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::durable;
use crate::router::{Body, Outcome, Refusal, Router};

/// Longest request body taken, in bytes. The largest real one is StartLogging's, which carries
/// the container's environment.
pub const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// How long running calls may take to end after the shutdown began.
pub const DRAIN: Duration = Duration::from_secs(7);

/// A socket that is being listened on.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

/// A server that cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen on {}", path.display())]
pub struct BindError {
    path: PathBuf,
    source: io::Error,
}

impl Server {
    /// Listens on `path`, in place of a socket that a killed predecessor left there. From here
    /// on connections are accepted by the kernel, so bind before anything that takes time.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let listen = || {
            if let Some(parent) = path.parent() {
                durable::create_dir(parent, 0o755)?;
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            UnixListener::bind(path)
        };
        listen()
            .map(|listener| Self { listener, path: path.to_owned() })
            .map_err(|source| BindError { path: path.to_owned(), source })
    }

    /// Serves until `shutdown` is cancelled and what runs then has ended or [`DRAIN`] is over.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let router = Arc::new(router);
        let calls = TaskTracker::new();
        let connections = TaskTracker::new();
        let graceful = GracefulShutdown::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, most likely; others may end meanwhile.
                        tracing::warn!(%error, "accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (router, calls) = (Arc::clone(&router), calls.clone());
            let service = service_fn(move |request| answer(request, router.clone(), calls.clone()));
            let connection = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            connections.spawn(async move {
                // dockerd probes by connecting and closing; a client that goes is no news.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection");
                }
            });
        }
        drop(std::fs::remove_file(&self.path));
        calls.close();
        connections.close();
        let drain = async {
            calls.wait().await;
            graceful.shutdown().await;
            connections.wait().await;
        };
        if tokio::time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!(calls = calls.len(), "calls still running at the end of the drain");
        }
    }
}

/// A call chose to close the connection instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("hung up")]
struct HungUp;

async fn answer(
    request: Request<Incoming>,
    router: Arc<Router>,
    calls: TaskTracker,
) -> Result<Response<Body>, HungUp> {
    let path = request.uri().path().to_owned();
    let Some(handler) = router.find(&path).cloned() else {
        let refusal = Refusal::new(format!("this plugin has no call {path}"));
        return Outcome::refused(StatusCode::NOT_FOUND, &refusal).response.ok_or(HungUp);
    };
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err(refusal) => {
            return Outcome::refused(StatusCode::BAD_REQUEST, &refusal).response.ok_or(HungUp);
        }
    };
    let (deliver, delivered) = oneshot::channel();
    calls.spawn(run(calls.clone(), path, move || handler(body), deliver));
    delivered.await.unwrap_or_else(|_| panicked().response).ok_or(HungUp)
}

/// Runs one call to its end, whoever still waits for it.
async fn run<F>(
    calls: TaskTracker,
    path: String,
    start: impl FnOnce() -> F + Send + 'static,
    deliver: oneshot::Sender<Option<Response<Body>>>,
) where
    F: Future<Output = Outcome> + Send + 'static,
{
    let outcome = match calls.spawn(async move { start().await }).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(call = path, %error, "a call panicked");
            panicked()
        }
    };
    let Outcome { response, undo } = outcome;
    if deliver.send(response).is_err() {
        tracing::warn!(
            call = path,
            undo = undo.is_some(),
            "the caller did not wait for the answer"
        );
        if let Some(undo) = undo {
            undo.await;
        }
    }
}

fn panicked() -> Outcome {
    let refusal = Refusal::new("internal error: the call panicked; the plugin's log has the place");
    Outcome::refused(StatusCode::INTERNAL_SERVER_ERROR, &refusal)
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            Err(Refusal::new(format!("request body: {error} (limit {BODY_LIMIT} bytes)")))
        }
    }
}

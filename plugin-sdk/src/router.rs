//! From a path to a handler, and from its outcome to Docker's JSON.
//!
//! dockerd takes only status 200 as an answer; an error is `{"Err": "..."}` with 200, which the
//! user sees word for word. A streamed answer is the exception: there an error must not be 200,
//! or dockerd reads the JSON as the first frame and allocates what its length seems to be.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::chain::chain;
use crate::wire;

/// Content type of every JSON answer; dockerd ignores it.
const DOCKER_JSON: &str = "application/vnd.docker.plugins.v1.2+json";

/// Body of an answer.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Handler = Arc<dyn Fn(Bytes) -> Running + Send + Sync>;

/// Run when the caller had gone before the answer could be handed over: dockerd neither cancels
/// nor undoes what it no longer waits for, and sends no Unmount after a failed Mount.
pub type Undo = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why a call was not done, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    words: String,
    manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answer,
    HangUp,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), manner: Manner::Answer }
    }

    /// No answer at all: the connection is closed, and the words go to the log. For the calls of
    /// which dockerd takes any error for a fact, such as Get, when the truth is not known: it
    /// then calls again, and in the end fails without forgetting anything.
    pub fn hang_up(words: impl Into<String>) -> Self {
        Self { words: words.into(), manner: Manner::HangUp }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Renders an error with its whole chain of causes, joined by `: `.
impl<E: Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::new(chain(&error))
    }
}

/// What a handler came to.
pub(crate) struct Outcome {
    /// None to hang up.
    pub(crate) response: Option<Response<Body>>,
    pub(crate) undo: Option<Undo>,
}

impl Outcome {
    pub(crate) fn refused(status: StatusCode, refusal: &Refusal) -> Self {
        #[derive(Serialize)]
        struct Err<'a> {
            #[serde(rename = "Err")]
            err: &'a str,
        }
        let response = match refusal.manner {
            Manner::Answer => Some(json(status, &Err { err: &refusal.words })),
            Manner::HangUp => {
                tracing::warn!(reason = refusal.words, "hung up instead of answering");
                None
            }
        };
        Self { response, undo: None }
    }

    fn answered(response: Response<Body>, undo: Option<Undo>) -> Self {
        Self { response: Some(response), undo }
    }
}

/// The calls a plugin answers.
#[derive(Clone)]
pub struct Router {
    handlers: HashMap<&'static str, Handler>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Router {
    /// A router that answers `/Plugin.Activate` with `implements`, such as `["VolumeDriver"]`.
    /// dockerd sends it to plugins found by their socket, never to managed ones.
    pub fn new(implements: &'static [&'static str]) -> Self {
        #[derive(Serialize)]
        struct Implements {
            #[serde(rename = "Implements")]
            implements: &'static [&'static str],
        }
        Self { handlers: HashMap::new() }
            .call("/Plugin.Activate", move |_: serde_json::Value| async move {
                Ok(Implements { implements })
            })
    }

    /// JSON in, JSON out. Every answer has at least the field `Err`'s absence: a unit answer is
    /// sent as `{}`, never empty.
    #[must_use]
    pub fn call<Req, Res, F, Fut>(self, path: &'static str, handler: F) -> Self
    where
        Req: DeserializeOwned,
        Res: Serialize + 'static,
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res, Refusal>> + Send + 'static,
    {
        self.answer(path, handler, |answer| (answer, None))
    }

    /// As [`Router::call`], with what to do if nobody took the answer.
    #[must_use]
    pub fn call_with_undo<Req, Res, F, Fut>(self, path: &'static str, handler: F) -> Self
    where
        Req: DeserializeOwned,
        Res: Serialize + 'static,
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(Res, Undo), Refusal>> + Send + 'static,
    {
        self.answer(path, handler, |(answer, undo)| (answer, Some(undo)))
    }

    /// JSON in, a stream of bytes out, whose head is sent at once and which ends when the
    /// sending side is dropped. An error breaks the answer off, which dockerd tells its user: a
    /// clean end would pass for all there is. When the client goes, the receiver is dropped: the
    /// sender learns it by `closed()` or a failing `send`.
    #[must_use]
    pub fn stream<Req, F, Fut>(self, path: &'static str, handler: F) -> Self
    where
        Req: DeserializeOwned,
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<mpsc::Receiver<io::Result<Bytes>>, Refusal>> + Send + 'static,
    {
        self.insert(path, move |body| {
            let running = parse(path, &body).map(&handler);
            Box::pin(async move {
                match settle(running).await {
                    Ok(chunks) => Outcome::answered(streamed(chunks), None),
                    Err(refusal) => Outcome::refused(StatusCode::INTERNAL_SERVER_ERROR, &refusal),
                }
            })
        })
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Handler> {
        self.handlers.get(path)
    }

    /// JSON in; `split` says which part of the outcome is the answer.
    fn answer<Req, Out, Res, F, Fut>(
        self,
        path: &'static str,
        handler: F,
        split: fn(Out) -> (Res, Option<Undo>),
    ) -> Self
    where
        Req: DeserializeOwned,
        Out: 'static,
        Res: Serialize + 'static,
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
    {
        self.insert(path, move |body| {
            let running = parse(path, &body).map(&handler);
            Box::pin(async move {
                match settle(running).await.map(split) {
                    Ok((answer, undo)) => Outcome::answered(json(StatusCode::OK, &answer), undo),
                    Err(refusal) => Outcome::refused(StatusCode::OK, &refusal),
                }
            })
        })
    }

    fn insert(
        mut self,
        path: &'static str,
        handler: impl Fn(Bytes) -> Running + Send + Sync + 'static,
    ) -> Self {
        let replaced = self.handlers.insert(path, Arc::new(handler));
        debug_assert!(replaced.is_none(), "{path} is routed twice");
        self
    }
}

fn parse<Req: DeserializeOwned>(path: &str, body: &[u8]) -> Result<Req, Refusal> {
    wire::parse(body).map_err(|error| {
        Refusal::new(format!("the body of {path} is not what Docker sends: {error}"))
    })
}

async fn settle<T>(
    running: Result<impl Future<Output = Result<T, Refusal>>, Refusal>,
) -> Result<T, Refusal> {
    running?.await
}

fn json<T: Serialize>(status: StatusCode, answer: &T) -> Response<Body> {
    let (status, bytes) = match serde_json::to_vec(answer) {
        // `()` is `null`, which dockerd would take; `{}` is what other clients expect.
        Ok(bytes) if bytes == b"null" => (status, b"{}".to_vec()),
        Ok(bytes) => (status, bytes),
        Err(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, br#"{"Err":"answer not representable"}"#.to_vec())
        }
    };
    respond(status, DOCKER_JSON, BoxBody::new(Full::from(bytes).map_err(|never| match never {})))
}

fn streamed(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Response<Body> {
    respond(StatusCode::OK, "application/octet-stream", BoxBody::new(stream::Chunks(chunks)))
}

fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    // dockerd opens a connection per call and, before 29.4, never closes an idle one.
    headers.insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
    response
}

mod stream {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use hyper::body::{Body, Frame};
    use tokio::sync::mpsc;

    /// A body of the chunks that a channel brings.
    pub(super) struct Chunks(pub(super) mpsc::Receiver<io::Result<Bytes>>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            self.0.poll_recv(context).map(|chunk| chunk.map(|bytes| bytes.map(Frame::data)))
        }
    }
}

//! A client of a plugin socket: what dockerd does, for tests and for tools on the host.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyperlocal::{UnixClientExt, UnixConnector};

/// Calls on one plugin socket.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<UnixConnector, Full<Bytes>>,
    socket: PathBuf,
}

/// A call that had no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request cannot be written down.
    #[error("request {path}")]
    Request {
        /// The call's path.
        path: String,
        /// What is wrong with it.
        source: hyper::http::Error,
    },
    /// Nobody listens, or the connection broke.
    #[error("call {path}")]
    Connection {
        /// The call's path.
        path: String,
        /// What broke.
        source: legacy::Error,
    },
    /// The answer broke off.
    #[error("answer of {path}")]
    Answer {
        /// The call's path.
        path: String,
        /// What broke.
        source: hyper::Error,
    },
}

impl Client {
    /// A client of the plugin that listens at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { http: legacy::Client::unix(), socket: socket.to_owned() }
    }

    /// Posts `body` to `path` as dockerd does (no content type) and returns status and answer.
    pub async fn post(
        &self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let response = self.send(path, body).await?;
        let status = response.status();
        Ok((status, whole(path, response).await?))
    }

    /// Posts as [`Client::post`] and hands each piece of an answer of status 200 to `take` as it comes, until
    /// that breaks off. Of another status the whole answer is given back.
    pub async fn stream(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let mut response = self.send(path, body).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Ok((status, whole(path, response).await?));
        }
        while let Some(frame) = response.frame().await {
            let frame =
                frame.map_err(|source| CallError::Answer { path: path.to_owned(), source })?;
            if frame.data_ref().is_some_and(|bytes| take(bytes).is_break()) {
                break;
            }
        }
        Ok((status, Bytes::new()))
    }

    async fn send(
        &self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, CallError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(hyperlocal::Uri::new(&self.socket, path))
            .header("Accept", "application/vnd.docker.plugins.v1.2+json")
            .body(Full::new(body.into()))
            .map_err(|source| CallError::Request { path: path.to_owned(), source })?;
        self.http
            .request(request)
            .await
            .map_err(|source| CallError::Connection { path: path.to_owned(), source })
    }
}

/// The body of `response`, to its end.
async fn whole(path: &str, response: Response<Incoming>) -> Result<Bytes, CallError> {
    let answer = response.into_body().collect().await;
    answer
        .map(http_body_util::Collected::to_bytes)
        .map_err(|source| CallError::Answer { path: path.to_owned(), source })
}

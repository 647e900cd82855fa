//! The server as dockerd meets it: over a real socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use plugin_sdk::client::Client;
use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::server::{BODY_LIMIT, Server};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    socket: PathBuf,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn start(router: Router) -> Running {
    let dir = tempfile::tempdir().expect("temporary directory");
    let socket = dir.path().join("test.sock");
    let shutdown = CancellationToken::new();
    let listening = Server::bind(&socket).expect("bind");
    let served = tokio::spawn(listening.serve(router, shutdown.clone()));
    Running { socket, shutdown, served, _dir: dir }
}

#[derive(Deserialize)]
struct Echo {
    #[serde(rename = "Name", default)]
    name: String,
}

#[derive(Serialize)]
struct Echoed {
    #[serde(rename = "Name")]
    name: String,
}

fn router() -> Router {
    Router::new(&["VolumeDriver"])
        .call("/Test.Echo", |echo: Echo| async move { Ok(Echoed { name: echo.name }) })
        .call("/Test.Unit", |_: serde_json::Value| async move { Ok(()) })
        .call("/Test.Refuse", |_: serde_json::Value| async move {
            Err::<(), _>(Refusal::new("no: because"))
        })
        .call("/Test.Panic", |_: serde_json::Value| async move {
            assert!(std::env::args().count() == 0, "a bug");
            Ok(())
        })
}

#[tokio::test]
async fn activate_empty_body_unit_and_refusal() {
    let running = start(router());
    let client = Client::new(&running.socket);
    let cases = [
        ("/Plugin.Activate", "", r#"{"Implements":["VolumeDriver"]}"#),
        ("/Test.Echo", "{\"Name\":\"v\"}\n", r#"{"Name":"v"}"#),
        ("/Test.Echo", "", r#"{"Name":""}"#),
        ("/Test.Unit", "", "{}"),
        ("/Test.Refuse", "{}", r#"{"Err":"no: because"}"#),
    ];
    for (path, body, answer) in cases {
        let (status, bytes) = client.post(path, body).await.unwrap();
        assert_eq!((status, &bytes[..]), (StatusCode::OK, answer.as_bytes()), "{path} {body}");
    }
}

#[tokio::test]
async fn unknown_path_bad_json_and_too_long_a_body_say_so() {
    let running = start(router());
    let client = Client::new(&running.socket);
    let (status, answer) = client.post("/Test.Nothing", "").await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(String::from_utf8_lossy(&answer).contains("/Test.Nothing"));
    let (status, answer) = client.post("/Test.Echo", "{\"Name\":").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&answer).contains("{\"Err\":\"the body of /Test.Echo"));
    // The answer may come while the body is still being sent, as an error of the connection.
    if let Ok((status, answer)) = client.post("/Test.Echo", vec![b' '; BODY_LIMIT + 1]).await {
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8_lossy(&answer).contains("limit"));
    }
    let (status, _) = client.post("/Test.Echo", "{}").await.unwrap();
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_call_may_hang_up_and_the_next_one_is_answered() {
    let running = start(router().call("/Test.HangUp", |_: serde_json::Value| async move {
        Err::<(), _>(Refusal::hang_up("not known yet"))
    }));
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    stream
        .write_all(b"POST /Test.HangUp HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "");
    let client = Client::new(&running.socket);
    assert_eq!(client.post("/Test.Unit", "").await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_an_error_answer_and_ends_nothing() {
    let running = start(router());
    let client = Client::new(&running.socket);
    let (status, answer) = client.post("/Test.Panic", "").await.unwrap();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(String::from_utf8_lossy(&answer).contains("panicked"));
    assert_eq!(client.post("/Test.Unit", "").await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_probe_that_only_connects_is_survived_and_the_connection_is_closed_after_an_answer() {
    let running = start(router());
    drop(UnixStream::connect(&running.socket).await.unwrap());
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    // No Host, no content type, as older engines send it.
    stream
        .write_all(b"POST /Test.Unit HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
}

#[tokio::test]
async fn a_slow_call_blocks_no_other_and_outlives_its_caller() {
    let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (done, undone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, finish) = (entered.clone(), finish.clone());
        let (done, undone) = (done.clone(), undone.clone());
        move |_: serde_json::Value| {
            let (entered, finish) = (entered.clone(), finish.clone());
            let (done, undone) = (done.clone(), undone.clone());
            async move {
                entered.notify_one();
                finish.notified().await;
                done.notify_one();
                let undo: plugin_sdk::router::Undo = Box::pin(async move { undone.notify_one() });
                Ok(((), undo))
            }
        }
    };
    let running = start(router().call_with_undo("/Test.Slow", handler));
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    stream
        .write_all(b"POST /Test.Slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    let client = Client::new(&running.socket);
    assert_eq!(client.post("/Test.Unit", "").await.unwrap().0, StatusCode::OK);
    drop(stream);
    // The server must notice that the caller is gone before the call ends.
    tokio::time::sleep(Duration::from_millis(100)).await;
    finish.notify_one();
    tokio::time::timeout(Duration::from_secs(5), done.notified()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), undone.notified()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_taken_is_not_undone() {
    let undone = Arc::new(AtomicUsize::new(0));
    let counter = undone.clone();
    let running = start(router().call_with_undo("/Test.Done", move |_: serde_json::Value| {
        let counter = counter.clone();
        async move {
            let undo: plugin_sdk::router::Undo = Box::pin(async move {
                counter.fetch_add(1, Ordering::SeqCst);
            });
            Ok(((), undo))
        }
    }));
    let client = Client::new(&running.socket);
    assert_eq!(client.post("/Test.Done", "").await.unwrap().0, StatusCode::OK);
    running.shutdown.cancel();
    running.served.await.unwrap();
    assert_eq!(undone.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_stream_sends_its_head_at_once_and_tells_its_writer_that_the_client_went() {
    let (hand_over, mut senders) = mpsc::channel(1);
    let running = start(router().stream("/Test.Stream", move |_: serde_json::Value| {
        let hand_over = hand_over.clone();
        async move {
            let (sender, receiver) = mpsc::channel(1);
            hand_over.send(sender).await.unwrap();
            Ok(receiver)
        }
    }));
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    stream
        .write_all(b"POST /Test.Stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let sender: mpsc::Sender<io::Result<Bytes>> = senders.recv().await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    sender.send(Ok(Bytes::from_static(b"frame"))).await.unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"frame\r\n") {
        rest.push(stream.read_u8().await.unwrap());
    }
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), sender.closed()).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_fails_on_the_way_does_not_end_cleanly() {
    let running = start(router().stream("/Test.Stream", |_: serde_json::Value| async move {
        let (sender, receiver) = mpsc::channel(2);
        sender.send(Ok(Bytes::from_static(b"frame"))).await?;
        sender.send(Err(io::Error::other("disk"))).await?;
        Ok(receiver)
    }));
    assert!(Client::new(&running.socket).post("/Test.Stream", "").await.is_err());
}

#[tokio::test]
async fn an_error_of_a_stream_is_not_status_200() {
    let running = start(router().stream("/Test.Stream", |_: serde_json::Value| async move {
        Err(Refusal::new("no such log"))
    }));
    let client = Client::new(&running.socket);
    let (status, answer) = client.post("/Test.Stream", "").await.unwrap();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(&answer[..], br#"{"Err":"no such log"}"#);
}

#[tokio::test]
async fn shutdown_waits_for_a_running_call_and_removes_the_socket() {
    let entered = Arc::new(Notify::new());
    let notify = entered.clone();
    let running = start(router().call("/Test.Second", move |_: serde_json::Value| {
        let notify = notify.clone();
        async move {
            notify.notify_one();
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(())
        }
    }));
    let client = Client::new(&running.socket);
    let call = tokio::spawn(async move { client.post("/Test.Second", "").await });
    entered.notified().await;
    running.shutdown.cancel();
    assert_eq!(call.await.unwrap().unwrap().0, StatusCode::OK);
    running.served.await.unwrap();
    assert!(!running.socket.exists());
}

#[tokio::test]
async fn a_call_that_does_not_end_holds_the_shutdown_for_less_than_8_s() {
    let entered = Arc::new(Notify::new());
    let notify = entered.clone();
    let running = start(router().call("/Test.Hang", move |_: serde_json::Value| {
        let notify = notify.clone();
        async move {
            notify.notify_one();
            std::future::pending::<()>().await;
            Ok(())
        }
    }));
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    stream
        .write_all(b"POST /Test.Hang HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    let begin = Instant::now();
    running.shutdown.cancel();
    running.served.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_directory_in_its_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/plugin.sock");
    drop(Server::bind(&socket).unwrap());
    assert!(socket.exists());
    drop(Server::bind(&socket).unwrap());
    std::fs::remove_file(&socket).unwrap();
    plugin_sdk::durable::create_dir(&socket, 0o755).unwrap();
    let error = Refusal::from(Server::bind(&socket).unwrap_err()).to_string();
    assert!(error.contains("plugin.sock: "), "{error}");
}

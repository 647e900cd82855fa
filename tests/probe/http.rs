//! As much of an HTTP server as dockerd and the suite need: POST, a length, JSON, one answer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Answers requests on a socket from now on, a thread for each connection.
pub(crate) fn listen(
    socket: &Path,
    answer: impl Fn(&str, &Value) -> Result<Value> + Send + Sync + 'static,
) -> Result<()> {
    // A killed daemon leaves the socket of the last life behind.
    drop(fs::remove_file(socket));
    let listener =
        UnixListener::bind(socket).with_context(|| format!("bind {}", socket.display()))?;
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A client that goes away in mid-request is its own affair.
            thread::spawn(move || drop(talk(&connection, answer.as_ref())));
        }
    });
    Ok(())
}

fn talk(connection: &UnixStream, answer: &dyn Fn(&str, &Value) -> Result<Value>) -> Result<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(path) = line.split(' ').nth(1).map(str::to_owned) else {
        return Ok(()); // dockerd's probe: connect and close
    };
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, body) = match answer(&path, &body) {
        Ok(value) => ("200 OK", value),
        Err(error) => ("500 Internal Server Error", json!({"Err": format!("{error:#}")})),
    };
    let body = body.to_string();
    let mut connection = connection;
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

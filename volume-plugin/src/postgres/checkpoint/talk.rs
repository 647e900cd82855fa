//! As much of PostgreSQL's protocol as one statement takes, over a socket, without a password. What the
//! server sends is not trusted: messages are capped.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Version 3.0.
const VERSION: i32 = 0x0003_0000;

/// Longest message that is read.
const LONGEST: u32 = 64 << 10;

/// A database that every cluster has unless somebody dropped it; being in `template1` would keep others
/// from making databases.
const DATABASE: &str = "postgres";

/// Connects to `socket` as `role` and has a checkpoint made, in `limit`.
pub(super) fn checkpoint(socket: &Path, role: &str, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(limit))?;
    let mut start = VERSION.to_be_bytes().to_vec();
    for word in ["user", role, "database", DATABASE, "application_name", "pgvol", ""] {
        if word.contains('\0') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        start.extend(word.bytes().chain([0]));
    }
    send(&mut stream, None, &start)?;
    until_ready(&mut stream, deadline)?;
    send(&mut stream, Some(b'Q'), b"CHECKPOINT\0")?;
    until_ready(&mut stream, deadline)?;
    send(&mut stream, Some(b'X'), b"")
}

fn send(stream: &mut UnixStream, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend(length.to_be_bytes());
    message.extend(body);
    stream.write_all(&message)
}

/// Reads until the server waits for a statement.
fn until_ready(stream: &mut UnixStream, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).checked_sub(4).filter(|length| *length <= LONGEST);
        let mut body = Vec::new();
        let length = u64::from(length.ok_or(io::ErrorKind::InvalidData)?);
        if (&mut *stream).take(length).read_to_end(&mut body)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match kind {
            b'Z' => return Ok(()),
            b'E' => return Err(io::Error::other(complaint(&body))),
            b'R' if body != [0; 4] => return Err(io::Error::other("it asks for a password")),
            _ => {}
        }
    }
}

/// The text of an error's message.
fn complaint(body: &[u8]) -> String {
    let mut fields = body.split(|&byte| byte == 0);
    let message = fields.find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0Z\0\0\0\x05I";
    const DONE: &[u8] = b"C\0\0\0\x0fCHECKPOINT\0Z\0\0\0\x05I";

    /// What becomes of it where the server says this to the start and to the statement.
    fn said(start: &'static [u8], statement: &'static [u8]) -> io::Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut body).unwrap();
            assert!(body.starts_with(b"\0\x03\0\0user\0boss\0database\0postgres\0"));
            stream.write_all(start).unwrap();
            let mut query = [0; 16];
            if stream.read_exact(&mut query).is_ok() {
                assert_eq!(&query, b"Q\0\0\0\x0fCHECKPOINT\0");
                stream.write_all(statement).unwrap();
                thread::sleep(Duration::from_millis(100));
            }
        });
        let told = checkpoint(&socket, "boss", Duration::from_millis(300));
        server.join().unwrap();
        told
    }

    #[test]
    fn a_server_that_trusts_is_asked() {
        said(GREETING, DONE).unwrap();
    }

    #[test]
    fn whatever_else_it_says_is_an_answer() {
        let password = said(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", b"").unwrap_err();
        assert!(password.to_string().contains("password"), "{password}");
        let refused = said(b"E\0\0\0\x14SFATAL\0Mno way\0\0\0", b"").unwrap_err();
        assert_eq!(refused.to_string(), "no way");
        let denied = said(GREETING, b"E\0\0\0\x0cMnot me\0\0").unwrap_err();
        assert_eq!(denied.to_string(), "not me");
        assert_eq!(said(b"Z\xff\xff\xff\xff", b"").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(said(GREETING, b"C\0\0").is_err());
    }

    #[test]
    fn nobody_there_is_an_answer() {
        let nobody = checkpoint(Path::new("/no/such/socket"), "boss", Duration::from_secs(1));
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(checkpoint(Path::new("/no/such/socket"), "a\0b", Duration::from_secs(1)).is_err());
    }
}

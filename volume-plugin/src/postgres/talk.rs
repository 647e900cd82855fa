//! As much of PostgreSQL's protocol as a few statements take, over a socket, without a password. What the
//! server sends is not trusted: messages are capped, and so is what they say in all.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// Version 3.0.
const VERSION: i32 = 0x0003_0000;

/// Longest message that is read.
const LONGEST: u32 = 1 << 20;

/// Most columns of a row that are read.
const MOST_COLUMNS: usize = 16;

/// A database that every cluster has unless somebody dropped it; being in `template1` would keep others
/// from making databases.
const DATABASE: &str = "postgres";

/// A session of a server that waits for a statement.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
}

impl Talk {
    /// Connects to `socket` as `role`.
    pub(super) fn begin(socket: &Path, role: &str, deadline: Instant) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(left(deadline)?))?;
        let mut start = VERSION.to_be_bytes().to_vec();
        for word in ["user", role, "database", DATABASE, "application_name", "pgvol", ""] {
            if word.contains('\0') {
                return Err(ErrorKind::InvalidInput.into());
            }
            start.extend(word.bytes().chain([0]));
        }
        send(&mut stream, None, &start)?;
        let mut talk = Self { stream };
        talk.answer(deadline)?;
        Ok(talk)
    }

    /// Has the server do `statement` and gives the last of the rows that it answers with. After the server's
    /// complaint it can be asked for something else.
    pub(super) fn ask(
        &mut self,
        statement: &str,
        deadline: Instant,
    ) -> io::Result<Vec<Option<String>>> {
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        send(&mut self.stream, Some(b'Q'), format!("{statement}\0").as_bytes())?;
        self.answer(deadline)
    }

    /// Says goodbye.
    pub(super) fn end(mut self) -> io::Result<()> {
        send(&mut self.stream, Some(b'X'), b"")
    }

    /// Reads until the server waits for a statement.
    fn answer(&mut self, deadline: Instant) -> io::Result<Vec<Option<String>>> {
        let (mut row, mut complained) = (Vec::new(), None);
        loop {
            let (kind, body) = match self.message(deadline) {
                Ok(message) => message,
                // It hangs up after a complaint about whom it talks to.
                Err(error) => return Err(complained.map_or(error, io::Error::other)),
            };
            match kind {
                b'Z' => return complained.map_or(Ok(row), |said| Err(io::Error::other(said))),
                b'E' => complained = Some(complaint(&body)),
                b'R' if body != [0; 4] => return Err(io::Error::other("it asks for a password")),
                b'D' => row = columns(&body).ok_or(ErrorKind::InvalidData)?,
                _ => {}
            }
        }
    }

    fn message(&mut self, deadline: Instant) -> io::Result<(u8, Vec<u8>)> {
        self.stream.set_read_timeout(Some(left(deadline)?))?;
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).checked_sub(4).filter(|length| *length <= LONGEST);
        let mut body = Vec::new();
        let length = u64::from(length.ok_or(ErrorKind::InvalidData)?);
        if (&mut self.stream).take(length).read_to_end(&mut body)? as u64 != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok((kind, body))
    }
}

fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn send(stream: &mut UnixStream, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend(length.to_be_bytes());
    message.extend(body);
    stream.write_all(&message)
}

/// What is in a row, as text; none for what is null.
fn columns(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let mut row = Vec::new();
    for _ in 0..Some(count).filter(|count| *count <= MOST_COLUMNS)? {
        let (length, after) = rest.split_first_chunk()?;
        let (column, after) = match usize::try_from(i32::from_be_bytes(*length)).ok() {
            Some(length) => {
                let (text, after) = after.split_at_checked(length)?;
                (Some(String::from_utf8_lossy(text).into_owned()), after)
            }
            None => (None, after),
        };
        rest = after;
        row.push(column);
    }
    Some(row)
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
    use std::time::Duration;

    use super::*;

    const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0Z\0\0\0\x05I";
    const DONE: &[u8] = b"C\0\0\0\x0fCHECKPOINT\0Z\0\0\0\x05I";

    /// What becomes of it where the server says this to the start and to the statement.
    fn said(start: &'static [u8], statement: &'static [u8]) -> io::Result<Vec<Option<String>>> {
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
        let deadline = Instant::now() + Duration::from_millis(300);
        let told = checkpoint(&socket, "boss", deadline);
        server.join().unwrap();
        told
    }

    fn checkpoint(socket: &Path, role: &str, deadline: Instant) -> io::Result<Vec<Option<String>>> {
        Talk::begin(socket, role, deadline)?.ask("CHECKPOINT", deadline)
    }

    #[test]
    fn a_server_that_trusts_is_asked() {
        assert_eq!(said(GREETING, DONE).unwrap(), Vec::new());
        let row = b"D\0\0\0\x11\0\x02\0\0\0\x030/1\xff\xff\xff\xffZ\0\0\0\x05I";
        assert_eq!(said(GREETING, row).unwrap(), [Some("0/1".to_owned()), None]);
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
        let soon = Instant::now() + Duration::from_secs(1);
        let nobody = checkpoint(Path::new("/no/such/socket"), "boss", soon);
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(checkpoint(Path::new("/no/such/socket"), "a\0b", soon).is_err());
    }

    #[test]
    fn rows_that_are_cut_off_are_none() {
        for none in [&b""[..], b"\0", b"\0\x01", b"\0\x01\0\0\0\x02a", b"\xff\xff"] {
            assert_eq!(columns(none), None, "{none:?}");
        }
        assert_eq!(columns(b"\0\x01\0\0\0\0"), Some(vec![Some(String::new())]));
    }
}

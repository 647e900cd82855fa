//! Servers that take records as fast as they come and count them: what is measured is the driver.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use harness::{Engine, Network, eventually};
use rmpv::Value;

/// How long the records of one run may take.
const LIMIT: Duration = Duration::from_mins(10);

/// What a receiver understands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    /// Messages that end in a newline.
    Syslog,
    /// fluentd's forward protocol, with acknowledgements where they are asked for.
    Forward,
}

/// What has come so far.
#[derive(Debug, Default)]
struct Count {
    records: u64,
    last: Option<SystemTime>,
}

/// Listens in an engine's network.
#[derive(Debug)]
pub(crate) struct Receiver(Arc<Mutex<Count>>);

impl Receiver {
    /// Takes what comes to `port`, until this program ends.
    pub(crate) fn start(engine: &Engine, port: u16, protocol: Protocol) -> Result<Self> {
        let listener = Network::of(engine)?.listen(port)?;
        let count = Arc::default();
        let own = Arc::clone(&count);
        thread::spawn(move || accept(&listener, protocol, &own));
        Ok(Self(count))
    }

    /// Begins to count anew.
    pub(crate) fn reset(&self) {
        *self.lock() = Count::default();
    }

    /// Waits for so many `records`; tells when the last came, in nanoseconds since 1970.
    pub(crate) fn wait(&self, records: u64) -> Result<f64> {
        let last = eventually(LIMIT, || {
            let count = self.lock();
            ensure!(count.records >= records, "{} of {records} records came", count.records);
            count.last.context("a time")
        })?;
        Ok(last.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() * 1e9)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, protocol: Protocol, count: &Arc<Mutex<Count>>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let count = Arc::clone(count);
        // A connection ends as its other side wants it.
        thread::spawn(move || match protocol {
            Protocol::Syslog => lines(stream, &count).ok(),
            Protocol::Forward => events(&stream, &count).ok(),
        });
    }
}

fn add(count: &Mutex<Count>, records: u64) {
    let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
    count.records += records;
    count.last = Some(SystemTime::now());
}

fn lines(mut stream: TcpStream, count: &Mutex<Count>) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let newlines = buffer[..length].iter().map(|&byte| u64::from(byte == b'\n')).sum();
        add(count, newlines);
    }
}

fn events(stream: &TcpStream, count: &Mutex<Count>) -> Result<()> {
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    loop {
        let message = rmpv::decode::read_value(&mut reader)?;
        let parts = message.as_array().context("an array")?;
        let option = |name: &str| {
            let options = parts.last()?.as_map()?;
            options.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
        };
        let many = |part: &Value| part.is_bin() || part.is_str();
        let size = match parts.get(1) {
            Some(Value::Array(entries)) => u64::try_from(entries.len())?,
            Some(part) if many(part) => option("size").and_then(Value::as_u64).context("a size")?,
            _ => 1,
        };
        add(count, size);
        if let Some(chunk) = option("chunk") {
            let mut answer = Vec::new();
            let ack = Value::Map(vec![("ack".into(), chunk.clone())]);
            rmpv::encode::write_value(&mut answer, &ack)?;
            let mut stream = stream;
            stream.write_all(&answer)?;
        }
    }
}

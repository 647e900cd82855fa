//! What a sender of syslog messages calls delivered, and when.

use super::*;
use crate::options::{Deliver, TlsSpec};
use std::io::Read;
use std::os::unix::net::UnixListener;

fn outlet(dir: &Path) -> SyslogOutlet {
    let target = SyslogTarget {
        addresses: vec![Address::Unix("/socket".into())],
        deliver: Deliver::Failover,
        facility: 3,
        format: SyslogFormat::Local,
        framing: None,
        tls: TlsSpec::default(),
        tag: "t".to_owned(),
        structured: None,
    };
    let ledger = Ledger::open(&dir.join("cursor")).unwrap();
    SyslogOutlet::new(HostRoot::new(dir), target, Arc::new(Mutex::new(ledger)))
}

fn entry(text: &str) -> LogEntry {
    LogEntry { line: text.into(), ..LogEntry::default() }
}

/// Batches settle in their order, also one of nothing but empty lines, which are not sent.
#[tokio::test]
async fn a_batch_without_messages_settles_after_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let mut outlet = outlet(dir.path());
    for (text, settled) in [("", 1), ("one", 0), ("", 0)] {
        outlet.accept(&[entry(text)], Dropped::default());
        outlet.send().await.unwrap();
        assert_eq!(outlet.take_settled(), settled, "{text}");
    }
    let (mut server, _) = listener.accept().unwrap();
    assert!(server.read(&mut [0; 1000]).unwrap() > 0);
    outlet.settle().await.unwrap();
    assert_eq!(outlet.take_settled(), 2);
}

/// The server closes while it is waited for that it takes a large one: it is still one batch.
#[tokio::test]
async fn a_batch_that_is_sent_again_settles_once() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let mut outlet = outlet(dir.path());
    outlet.accept(&[entry(&"x".repeat(AHEAD + 100_000))], Dropped::default());
    let served = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        // All but the end of it, so that all is sent.
        first.read_exact(&mut vec![0; AHEAD + 100_000]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        let mut all = String::new();
        second.read_to_string(&mut all).unwrap();
        all.lines().count()
    });
    while outlet.send().await.is_err() {}
    outlet.settle().await.unwrap();
    assert_eq!(outlet.take_settled(), 1);
    outlet.close().await;
    assert_eq!(served.join().unwrap(), 1);
}

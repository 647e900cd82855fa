//! Control files made up field by field, and every way in which one can be wrong.

use plugin_sdk::durable;
use proptest::prelude::*;

use super::*;

/// A control file as the versions of this number write it.
fn file(version: u32, catalog: u32) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &7_412_345_678_901_234_567_u64.to_le_bytes());
    put(8, &version.to_le_bytes());
    put(12, &catalog.to_le_bytes());
    put(16, &6_u32.to_le_bytes());
    put(32, &0x1_0203_0405_u64.to_le_bytes());
    put(40, &0x1_0203_0000_u64.to_le_bytes());
    put(48, &3_u32.to_le_bytes());
    put(56, &[1]);
    put(136, &0x77_u64.to_le_bytes());
    put(144, &4_u32.to_le_bytes());
    put(152, &0x55_u64.to_le_bytes());
    put(160, &0x66_u64.to_le_bytes());
    put(172, &1_u32.to_le_bytes());
    for (at, size) in [(216, 8192_u32), (220, 131_072), (224, 8192), (228, 1 << 24)] {
        put(at, &size.to_le_bytes());
    }
    put(252, &1_u32.to_le_bytes());
    let at = if version == 1800 { 292 } else { 288 };
    let checksum = crc32c::crc32c(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The beginning of what initdb of each version wrote, with checksums on.
const REAL: [(&str, &[u8]); 7] = [
    ("12", include_bytes!("../../fixtures/pg_control/12")),
    ("13", include_bytes!("../../fixtures/pg_control/13")),
    ("14", include_bytes!("../../fixtures/pg_control/14")),
    ("15", include_bytes!("../../fixtures/pg_control/15")),
    ("16", include_bytes!("../../fixtures/pg_control/16")),
    ("17", include_bytes!("../../fixtures/pg_control/17")),
    ("18", include_bytes!("../../fixtures/pg_control/18")),
];

#[test]
fn files_of_real_clusters_are_read() {
    for (version, bytes) in REAL {
        let control = parse(bytes).unwrap();
        assert_eq!(control.version, version);
        assert_eq!((control.state, control.timeline), ("shut down", 1));
        assert_eq!((control.data_checksums, control.wal_level), (true, "replica"));
        // A cluster that was shut down has nothing to redo; its first segment is number 1.
        assert_eq!(control.redo, control.checkpoint);
        assert_eq!(control.redo.0 >> 24, 1, "{}", control.redo);
        let details = control.details;
        assert!(control.is_shut_down() && details.full_page_writes);
        assert_eq!((control.last_timeline(), details.backup_start), (1, Lsn(0)));
        assert_eq!((details.block_size, details.wal_block_size), (8192, 8192));
        assert_eq!((details.wal_segment_size, details.blocks_in_file), (1 << 24, 131_072));
        // The upper half is the time of initdb.
        let identifier: u64 = control.system_identifier.parse().unwrap();
        assert_eq!(identifier >> 56, 0x6b, "{identifier:x}");
    }
}

#[test]
fn every_version_is_told_by_its_catalog() {
    for (version, catalog, major) in [
        (1201, 201_909_212, "12"),
        (1300, 202_007_201, "13"),
        (1300, 202_107_181, "14"),
        (1300, 202_209_061, "15"),
        (1300, 202_307_071, "16"),
        (1700, 202_406_281, "17"),
        (1800, 202_506_291, "18"),
        (1800, 202_512_311, "unknown"),
    ] {
        let control = parse(&file(version, catalog)).unwrap();
        assert_eq!(
            control,
            Control {
                version: major,
                system_identifier: "7412345678901234567".to_owned(),
                state: "in production",
                timeline: 3,
                checkpoint: Lsn(0x1_0203_0405),
                redo: Lsn(0x1_0203_0000),
                data_checksums: true,
                wal_level: "replica",
                details: Details {
                    system_identifier: 7_412_345_678_901_234_567,
                    catalog_version: catalog,
                    min_recovery_point: Lsn(0x77),
                    min_recovery_timeline: 4,
                    backup_start: Lsn(0x55),
                    backup_end: Lsn(0x66),
                    full_page_writes: true,
                    wal_segment_size: 1 << 24,
                    wal_block_size: 8192,
                    block_size: 8192,
                    blocks_in_file: 131_072,
                },
            }
        );
    }
}

#[test]
fn an_lsn_is_written_as_postgresql_does() {
    assert_eq!(Lsn(0x1_0203_0405).to_string(), "1/2030405");
    assert_eq!(serde_json::to_string(&Lsn(0x16)).unwrap(), "\"0/16\"");
}

#[test]
fn an_unknown_version_is_not_guessed_at() {
    for version in [0, 1100, 1900] {
        assert_eq!(parse(&file(version, 0)), Err(ControlError::Version(version)));
    }
}

#[test]
fn every_flipped_byte_under_the_checksum_is_noticed() {
    for version in [1700, 1800] {
        let good = file(version, 202_406_281);
        for at in 0..296 {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(parse(&bad).is_err() || at >= 292, "version {version}, byte {at}");
        }
    }
}

#[test]
fn a_short_file_is_no_panic() {
    let good = file(1800, 202_506_291);
    for length in 0..296 {
        assert!(parse(&good[..length]).is_err(), "{length}");
    }
}

fn data() -> (tempfile::TempDir, Dir) {
    let temporary = tempfile::tempdir().unwrap();
    durable::create_dir(&temporary.path().join("global"), 0o700).unwrap();
    let dir = Dir::open(temporary.path()).unwrap();
    (temporary, dir)
}

#[test]
fn a_directory_without_a_cluster_has_none() {
    let (_temporary, dir) = data();
    assert_eq!(read(&dir), None);
}

#[test]
fn a_torn_file_is_read_again() {
    let (temporary, dir) = data();
    let path = temporary.path().join(PATH);
    let good = file(1700, 202_406_281);
    let mut torn = good.clone();
    torn[40] ^= 1;
    durable::write(&path, &torn).unwrap();
    let mender = thread::spawn(move || {
        thread::sleep(PAUSE);
        durable::write(&path, &good).unwrap();
    });
    let first = read(&dir);
    mender.join().unwrap();
    // However the two raced, a reader that comes later sees the whole file.
    assert!(matches!(first, Some(Cluster::Known(_) | Cluster::Unknown { .. })));
    assert!(matches!(read(&dir), Some(Cluster::Known(_))));
}

#[test]
fn what_stays_torn_is_unknown() {
    let (temporary, dir) = data();
    durable::write(&temporary.path().join(PATH), &[0x11; 100]).unwrap();
    assert!(matches!(read(&dir), Some(Cluster::Unknown { version: "unknown", .. })));
}

#[test]
fn a_link_or_fifo_in_its_place_is_not_followed() {
    let (temporary, dir) = data();
    let elsewhere = temporary.path().join("elsewhere");
    durable::write(&elsewhere, &file(1700, 202_406_281)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, temporary.path().join(PATH)).unwrap();
    assert!(!matches!(read(&dir), Some(Cluster::Known(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(parse(&bytes));
    }
}

//! Records on disk and in memory.

use jiff::Timestamp;

use super::*;
use crate::pool::PoolName;
use crate::volume::options;
use crate::volume::spec::Layout;
use proptest::prelude::*;

fn record(name: &str, phase: Phase, label: &str) -> Record {
    let raw = [("label.x".to_owned(), label.to_owned())].into();
    let pools = [PoolName::new("default"), PoolName::new("wal")];
    Record {
        name: name.parse().unwrap(),
        phase,
        created: "2026-11-22T12:00:00Z".parse().unwrap(),
        share: name.parse().unwrap(),
        spec: options::parse(&raw, &pools, Layout::Split).unwrap(),
        wal_directories: Vec::new(),
        moving: None,
        restoring: None,
        content: None,
        taken: None,
        origin: None,
        unattended: None,
        begun_anew: 0,
        scheduled_since: None,
    }
}

fn whole(catalog: &Catalog, name: &str) -> Record {
    match catalog.get(&name.parse().unwrap()) {
        Some(Entry::Volume(record)) => record,
        other => panic!("{other:?}"),
    }
}

fn since(seconds: i64) -> Stage {
    Stage::Kept { since: Timestamp::from_second(seconds).unwrap() }
}

fn in_trash(catalog: &Catalog) -> Vec<(String, Stage, Record)> {
    let shown = |(share, trashed): (ShareName, Trashed)| {
        (share.to_string(), trashed.stage, trashed.record.unwrap())
    };
    catalog.trash().into_iter().map(shown).collect()
}

#[test]
fn what_is_put_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(dir.path().join("catalog")).unwrap();
    catalog.put(record("a", Phase::Creating, "1")).unwrap();
    catalog.put(record("a", Phase::Ready, "1")).unwrap();
    catalog.put(record("b", Phase::Ready, "2")).unwrap();
    catalog.forget(&record("b", Phase::Ready, "2")).unwrap();
    let again = Catalog::load(dir.path().join("catalog")).unwrap();
    assert_eq!(whole(&again, "a"), record("a", Phase::Ready, "1"));
    assert_eq!(again.all().len(), 1);
}

#[test]
fn each_step_through_the_trash_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Catalog::load(dir.path().to_owned()).unwrap();
    let kept = record("a", Phase::Ready, "1");
    let catalog = load();
    catalog.put(kept.clone()).unwrap();
    catalog.discard(kept.clone(), since(7)).unwrap();
    for catalog in [catalog, load()] {
        assert_eq!(catalog.all().len(), 0);
        assert_eq!(in_trash(&catalog), [("a".into(), since(7), kept.clone())]);
        assert_eq!(catalog.free_share(&kept.name).to_string(), "a~1");
    }
    let renamed = Record { name: "b".parse().unwrap(), ..kept.clone() };
    let catalog = load();
    catalog.restore(kept.clone(), since(7), renamed.name.clone()).unwrap();
    for catalog in [catalog, load()] {
        assert_eq!((whole(&catalog, "b"), in_trash(&catalog)), (renamed.clone(), vec![]));
        assert_eq!(catalog.free_share(&kept.name).to_string(), "a~1");
    }
    let catalog = load();
    catalog.discard(renamed.clone(), since(9)).unwrap();
    catalog.begin_purge(renamed.clone(), since(9)).unwrap();
    for catalog in [catalog, load()] {
        assert_eq!(in_trash(&catalog), [("a".into(), Stage::Purging, renamed.clone())]);
    }
    let catalog = load();
    catalog.end_purge(&renamed.share).unwrap();
    assert_eq!(catalog.free_share(&kept.name), renamed.share);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Killed between its two steps, a rename out of the trash is done; before, it is not begun.
#[test]
fn a_share_is_never_two_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(dir.path().to_owned()).unwrap();
    let kept = record("a", Phase::Ready, "1");
    catalog.put(kept.clone()).unwrap();
    catalog.discard(kept.clone(), since(7)).unwrap();
    // What its record would be put on cannot be replaced.
    durable::create_dir(&dir.path().join("b.record"), 0o700).unwrap();
    assert!(catalog.restore(kept.clone(), since(7), "b".parse().unwrap()).is_err());
    fs::remove_dir(dir.path().join("b.record")).unwrap();
    for catalog in [catalog, Catalog::load(dir.path().to_owned()).unwrap()] {
        assert_eq!(in_trash(&catalog), [("a".into(), since(7), kept.clone())]);
        assert_eq!(catalog.all().len(), 0);
    }
    let renamed = Record { name: "b".parse().unwrap(), ..kept };
    write(&dir.path().join("b.record"), &renamed).unwrap();
    for _ in 0..2 {
        let catalog = Catalog::load(dir.path().to_owned()).unwrap();
        assert_eq!((whole(&catalog, "b"), in_trash(&catalog)), (renamed.clone(), vec![]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn records_of_version_1_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let version_1 = |name: &str| {
        let mut body = serde_json::to_value(record(name, Phase::Ready, "1")).unwrap();
        body.as_object_mut().unwrap().remove("share").unwrap();
        record::encode(KIND, 1, &body).unwrap()
    };
    durable::write(&dir.path().join("a.record"), &version_1("a")).unwrap();
    durable::write(&dir.path().join("b.removing"), &version_1("b")).unwrap();
    let catalog = Catalog::load(dir.path().to_owned()).unwrap();
    assert_eq!(whole(&catalog, "a"), record("a", Phase::Ready, "1"));
    let removing = ("b".into(), Stage::Purging, record("b", Phase::Ready, "1"));
    assert_eq!(in_trash(&catalog), [removing]);
}

#[test]
fn volumes_whose_names_look_like_our_files_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(dir.path().to_owned()).unwrap();
    let names = ["a", "a.record", "a.tmp", "a.record.tmp", "a.removing", "a.7.trashed", "a.7"];
    for name in names {
        catalog.put(record(name, Phase::Ready, name)).unwrap();
    }
    let again = Catalog::load(dir.path().to_owned()).unwrap();
    for name in names {
        assert_eq!(whole(&again, name).spec.labels["x"], name);
        again.discard(whole(&again, name), since(7)).unwrap();
    }
    let again = Catalog::load(dir.path().to_owned()).unwrap();
    let trash = in_trash(&again);
    assert_eq!(trash.len(), names.len());
    for (share, stage, record) in trash {
        assert_eq!((stage, record.share.as_str()), (since(7), share.as_str()));
        again.begin_purge(record, stage).unwrap();
    }
    assert_eq!(in_trash(&Catalog::load(dir.path().to_owned()).unwrap()).len(), names.len());
}

#[test]
fn a_write_cut_short_is_swept_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("a.record.tmp")).unwrap();
    assert!(Catalog::load(dir.path().to_owned()).unwrap().all().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_or_misplaced_record_is_still_a_volume() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(dir.path().to_owned()).unwrap();
    catalog.put(record("a", Phase::Ready, "1")).unwrap();
    let bytes = fs::read(dir.path().join("a.record")).unwrap();
    durable::write(&dir.path().join("b.record"), &bytes).unwrap();
    durable::write(&dir.path().join("a.record"), &bytes[..bytes.len() - 1]).unwrap();
    durable::write(&dir.path().join("c.7.trashed"), &bytes).unwrap();
    let again = Catalog::load(dir.path().to_owned()).unwrap();
    let (share, trashed) = again.trash().pop().unwrap();
    assert!(share.as_str() == "c" && trashed.record.unwrap_err().contains("share a"));
    for (name, reason) in [("a", "damaged"), ("b", "volume a")] {
        match again.get(&name.parse().unwrap()) {
            Some(Entry::Unreadable(why)) => assert!(why.contains(reason), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(dir.path().to_owned()).unwrap();
    catalog.put(record("a", Phase::Ready, "1")).unwrap();
    durable::create_dir(&dir.path().join("a.record.tmp"), 0o700).unwrap();
    assert!(catalog.put(record("a", Phase::Creating, "1")).is_err());
    assert_eq!(whole(&catalog, "a").phase, Phase::Ready);
}

proptest! {
    #[test]
    fn every_record_is_read_as_it_was_written(
        name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", label in "\\PC{0,60}", seconds in 0_i64..4_000_000_000,
    ) {
        let mut written = record(&name, Phase::Ready, &label);
        written.created = Timestamp::from_second(seconds).unwrap();
        let bytes = record::encode(KIND, VERSION, &written).unwrap();
        prop_assert_eq!(record::decode::<Record>(KIND, VERSION, &bytes).unwrap(), written);
    }
}

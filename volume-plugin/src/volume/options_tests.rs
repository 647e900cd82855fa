//! Every rule on options, each as a table.

use proptest::prelude::*;

use super::*;
use crate::volume::spec::Role;

fn raw(options: &[(&str, &str)]) -> RawOptions {
    options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn try_parse(options: &[(&str, &str)]) -> Result<VolumeSpec, OptionError> {
    parse(&raw(options), &[PoolName::new("default"), PoolName::new("wal")], Layout::Split)
}

#[test]
fn nothing_asked_gives_the_defaults() {
    let spec = try_parse(&[]).unwrap();
    assert_eq!(
        (spec.pool.to_string(), spec.wal_pool.to_string()),
        ("default".into(), "wal".into())
    );
    assert_eq!(spec.owner, Owner { uid: 999, gid: 999, mode: 0o700 });
    assert_eq!(spec.overwrite, Overwrite::InPlace);
    assert_eq!(spec.access, Access::Guarded);
    assert!(spec.tablespaces.is_empty() && spec.labels.is_empty());
}

#[test]
fn a_volume_that_becomes_pgdata_has_the_default_layout_or_asks_for_it() {
    let pools = [PoolName::new("default"), PoolName::new("wal")];
    let layout = |options: &[(&str, &str)], default| {
        parse(&raw(options), &pools, default).map(|spec| spec.layout)
    };
    assert_eq!(layout(&[], Layout::Pgdata), Ok(Layout::Pgdata));
    assert_eq!(layout(&[("layout", "split")], Layout::Pgdata), Ok(Layout::Split));
    assert_eq!(layout(&[("layout", "pgdata")], Layout::Split), Ok(Layout::Pgdata));
    // It has no place for tablespaces.
    for asked in [&[("tablespaces", "a,b")][..], &[("layout", "pgdata"), ("tablespaces", "a,b")]] {
        let error = layout(asked, Layout::Pgdata).unwrap_err().to_string();
        assert!(
            error.contains("`tablespaces`: `a,b`") && error.contains("layout=split"),
            "{error}"
        );
    }
}

#[test]
fn every_option_has_its_effect() {
    let spec = try_parse(&[
        ("layout", "split"),
        ("pool", "wal"),
        ("wal.pool", "default"),
        ("tablespaces", "a,b+c d"),
        ("tablespace.b.pool", "default"),
        ("uid", "70"),
        ("gid", "0"),
        ("mode", "0750"),
        ("cow", "on"),
        ("access", "exclusive"),
        ("label.team", "db=1"),
        ("label.a.b", ""),
    ])
    .unwrap();
    let tablespaces: Vec<_> =
        spec.tablespaces.iter().map(|(name, pool)| format!("{name}:{pool}")).collect();
    assert_eq!(tablespaces, ["a:wal", "b:default", "c:wal", "d:wal"]);
    assert_eq!(spec.owner, Owner { uid: 70, gid: 0, mode: 0o750 });
    assert_eq!(spec.overwrite, Overwrite::Copy);
    assert_eq!(spec.access, Access::Exclusive);
    assert_eq!(spec.labels["team"], "db=1");
    assert_eq!(spec.labels["a.b"], "");
}

#[test]
fn a_bad_value_is_refused_with_key_value_and_what_is_allowed() {
    for (key, value, allowed) in [
        ("layout", "flat", "split"),
        ("pool", "fast", "default, wal"),
        ("wal.pool", "", "default, wal"),
        ("tablespaces", "Big", "a-z"),
        ("tablespaces", "a,a", "twice"),
        ("tablespaces", "a,../b", "a-z"),
        ("uid", "postgres", "4294967294"),
        ("uid", "4294967295", "4294967294"),
        ("gid", "-1", "4294967294"),
        ("mode", "1777", "0777"),
        ("mode", "rwx", "0777"),
        ("mode", "+700", "0777"),
        ("mode", "", "0777"),
        ("cow", "yes", "on and off"),
        ("access", "shared", "guarded and exclusive"),
        ("label.x", &"x".repeat(4097), "4096"),
    ] {
        let error = try_parse(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
        assert!(error.contains(allowed), "{error}");
        assert!(value.len() > 100 || error.contains(&format!("`{value}`")), "{error}");
    }
}

#[test]
fn an_unknown_key_is_told_what_there_is() {
    for key in ["Pool", "walpool", "", "label.", "label", "tablespace.x", "tablespace.x.colour"] {
        let error = try_parse(&[("tablespaces", "x"), (key, "1")]).unwrap_err();
        assert!(matches!(error, OptionError::Unknown(_)), "{key}: {error}");
        assert!(error.to_string().contains("wal.pool"), "{error}");
    }
}

#[test]
fn what_is_not_built_says_so() {
    let keys = NOT_BUILT.iter().copied();
    for key in keys {
        let error = try_parse(&[(key, "1")]).unwrap_err().to_string();
        assert_eq!(error, format!("option `{key}` is not built yet"));
    }
}

#[test]
fn a_pool_for_a_tablespace_that_is_not_there_is_refused() {
    let error = try_parse(&[("tablespaces", "a"), ("tablespace.b.pool", "wal")]).unwrap_err();
    assert!(error.to_string().contains("no tablespace `b`"), "{error}");
}

#[test]
fn differences_are_named() {
    let has = try_parse(&[("label.a", "1")]).unwrap();
    assert_eq!(differences(&has, &has), "");
    let asked = try_parse(&[("cow", "on"), ("uid", "70")]).unwrap();
    assert_eq!(
        differences(&has, &asked),
        "`cow` is `off`, not `on`, `label.a` is `1`, not unset, `uid` is `999`, not `70`"
    );
}

proptest! {
    #[test]
    fn written_out_options_give_the_same_again(
        names in proptest::collection::btree_set("[a-z0-9_-]{1,63}", 0..5),
        uid in 0..u32::MAX, gid in 0..u32::MAX, mode in 0..=0o777_u32, cow: bool,
        labels in proptest::collection::btree_map("[a-z.]{1,9}", "\\PC{0,40}", 0..4),
        swap: bool,
    ) {
        let pool = if swap { "wal" } else { "default" };
        let names: Vec<_> = names.into_iter().collect();
        let mut raw = RawOptions::from([
            ("pool".to_owned(), pool.to_owned()),
            ("tablespaces".to_owned(), names.join("+")),
            ("uid".to_owned(), uid.to_string()),
            ("gid".to_owned(), gid.to_string()),
            ("mode".to_owned(), format!("{mode:o}")),
            ("cow".to_owned(), if cow { "on" } else { "off" }.to_owned()),
        ]);
        raw.extend(labels.into_iter().map(|(key, value)| (format!("label.{key}"), value)));
        let pools = [PoolName::new("default"), PoolName::new("wal")];
        let spec = parse(&raw, &pools, Layout::Split).unwrap();
        prop_assert_eq!(&parse(&render(&spec), &pools, Layout::Split).unwrap(), &spec);
        prop_assert_eq!(differences(&spec, &spec), "");
    }

    #[test]
    fn no_map_makes_it_panic(raw in proptest::collection::btree_map("\\PC{0,30}", "\\PC{0,30}", 0..6)) {
        drop(parse(&raw, &[PoolName::new("default")], Layout::Pgdata));
    }
}

#[test]
fn labels_and_access_can_be_changed_and_nothing_else() {
    let pools = [PoolName::new("default"), PoolName::new("wal")];
    let created = [("uid", "70"), ("tablespaces", "a"), ("label.a", "1"), ("label.b", "2")];
    let spec = parse(&raw(&created), &pools, Layout::Split).unwrap();
    let set = raw(&[("label.a", "x=y"), ("label.c", ""), ("access", "exclusive")]);
    let changed = change(&spec, set, &["label.b".to_owned()], &pools).unwrap();
    let labels = [("a".to_owned(), "x=y".to_owned()), ("c".to_owned(), String::new())].into();
    assert_eq!(changed, VolumeSpec { labels, access: changed.access, ..spec.clone() });
    assert_eq!(render(&changed)["access"], "exclusive");
    let error = |set: &[(&str, &str)], unset: &[&str]| {
        let unset: Vec<_> = unset.iter().map(|&key| key.to_owned()).collect();
        change(&spec, raw(set), &unset, &pools).unwrap_err()
    };
    for key in ["uid", "pool", "layout", "tablespace.a.pool"] {
        assert_eq!(error(&[(key, "1")], &[]), OptionError::Fixed(key.to_owned()));
        assert_eq!(error(&[], &[key]), OptionError::Needed(key.to_owned()));
    }
    assert!(matches!(error(&[("access", "all")], &[]), OptionError::Value { .. }));
    assert!(matches!(error(&[("label.", "x")], &[]), OptionError::Unchangeable(_)));
    assert!(matches!(error(&[("size", "1")], &[]), OptionError::Value { .. }));
    let sized = change(&spec, raw(&[("size", "1G")]), &[], &pools).unwrap();
    assert_eq!(render(&sized)["size"], "1024M");
    let unsized_again = change(&sized, raw(&[("size", "none")]), &[], &pools).unwrap();
    assert_eq!(unsized_again, spec);
}

#[test]
fn roles_have_sizes_of_their_own_from_creation_on() {
    let pools = [PoolName::new("default"), PoolName::new("wal")];
    let keys = [
        ("tablespaces", "a,b"),
        ("size", "4G"),
        ("wal.size", "1G"),
        ("tablespace.a.size", "512M"),
        ("tablespace.b.size", "none"),
    ];
    let spec = try_parse(&keys).unwrap();
    let size = |role: Role| spec.sizes.of(&role).map(Size::bytes);
    let tablespace = |name: &str| Role::Tablespace(name.to_owned().try_into().unwrap());
    assert_eq!((size(Role::Data), size(Role::Wal)), (Some(4 << 30), Some(1 << 30)));
    assert_eq!((size(tablespace("a")), size(tablespace("b"))), (Some(512 << 20), None));
    assert_eq!(render(&spec)["tablespace.a.size"], "512M");
    assert_eq!(differences(&spec, &try_parse(&keys).unwrap()), "");
    // Another size is another size; none, or one where there was none, is another place.
    let changed = change(&spec, raw(&[("wal.size", "2G")]), &[], &pools).unwrap();
    assert_eq!(changed.sizes.wal.map(Size::bytes), Some(2 << 30));
    for (key, value) in
        [("wal.size", "none"), ("tablespace.a.size", "none"), ("tablespace.b.size", "1G")]
    {
        let error = change(&spec, raw(&[(key, value)]), &[], &pools).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains("creation"), "{error}");
    }
    let long = "x".repeat(41);
    let size = format!("tablespace.{long}.size");
    for (options, said) in [
        (&[("wal.size", "1")][..], "of M, G or T from 128M on"),
        (&[("tablespace.a.size", "1G")], "no tablespace `a`"),
        (&[("tablespaces", &long), (&size, "1G")], "40 bytes at most"),
        (
            &[("layout", "pgdata"), ("wal.pool", "default"), ("wal.size", "1G")],
            "or another wal.pool",
        ),
    ] {
        let error = try_parse(options).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    try_parse(&[("layout", "pgdata"), ("wal.size", "1G")]).unwrap();
}

#[test]
fn a_schedule_is_read_and_bad_ones_are_refused() {
    let pools = [PoolName::new("default"), PoolName::new("wal")];
    let parse = |options: &[(&str, &str)]| parse(&raw(options), &pools, Layout::Split);
    let keys = [("snapshot.schedule", "TZ=Europe/Berlin 0 3 * * *"), ("snapshot.keep", "daily=7")];
    let spec = parse(&keys).unwrap();
    assert_eq!(spec.schedule.as_ref().unwrap().to_string(), keys[0].1);
    assert_eq!(spec.keep.as_ref().unwrap().to_string(), keys[1].1);
    assert_eq!(differences(&spec, &parse(&keys).unwrap()), "");
    let other = parse(&[("snapshot.schedule", "@daily")]).unwrap();
    let told = differences(&spec, &other);
    assert!(told.contains("`snapshot.schedule` is `TZ=Europe/Berlin 0 3 * * *`, not `@daily`"));
    assert!(told.contains("`snapshot.keep` is `daily=7`, not unset"), "{told}");
    for (key, value, allowed) in [
        ("snapshot.schedule", "daily", "crontab"),
        ("snapshot.schedule", "TZ=Mars/Base 0 3 * * *", "Mars/Base"),
        ("snapshot.keep", "7", "hourly=24+daily=7"),
    ] {
        let error = parse(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(value) && error.contains(allowed), "{error}");
    }
}

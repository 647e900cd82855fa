//! Views across mount namespaces: an engine that is a peer, a service that only follows, and
//! containers that copied what the engine sees.

use std::process::Command;

use plugin_sdk::durable;

use super::*;
use crate::scratch::Scratch;
use crate::sys::namespace;
use crate::volume::testing::Neighbour;

struct World {
    engine: Neighbour,
    views: Views,
    plan: ViewPlan,
    volume: VolumeName,
    dir: Scratch,
}

impl World {
    /// With a volume of two shares, below a directory of views that propagates to an engine.
    fn new() -> Self {
        namespace::isolate();
        let dir = Scratch::new();
        // Nobody but the engine is to see any of it.
        mount::private_tmpfs(dir.path()).unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["views", "staging", "root/data", "root/wal", "other/wal", "c"] {
            durable::create_dir(&path(name), 0o755).unwrap();
        }
        durable::write(&path("other/wal/segment"), b"x").unwrap();
        // As on a host whose file systems are shared: a bind within one is its peer, so that the
        // engine has another copy of each view, below the directory of all views.
        mount::bind(dir.path(), dir.path()).unwrap();
        mount::make_shared(dir.path()).unwrap();
        mount::bind(&path("views"), &path("views")).unwrap();
        let engine = Neighbour::new("unchanged", "");
        mount::leave_group(dir.path()).unwrap();
        let views = Views::new(path("views"), path("staging"), Duration::ZERO);
        let plan = ViewPlan {
            root: path("root"),
            inside: vec![("wal".to_owned(), path("other"))],
            writing: Writing::Allowed,
        };
        Self { engine, views, plan, volume: "v".parse().unwrap(), dir }
    }

    fn ensure(&self) -> PathBuf {
        self.views.ensure(&self.volume, &self.plan).unwrap()
    }
}

#[test]
fn the_engine_sees_the_whole_view_and_nobody_keeps_it() {
    let world = World::new();
    let engine = &world.engine;
    let service = Neighbour::new("slave", "");
    let view = world.ensure();
    assert!(engine.has_file(&view.join("wal/segment")));
    for point in [view.clone(), view.join("wal")] {
        let mount = engine.sees(&point).unwrap();
        assert_eq!((mount.shared, mount.master), (None, None), "{mount:?}");
        assert!(service.sees(&point).is_some());
    }
    world.views.drop(&world.volume).unwrap();
    for point in [view.clone(), view.join("wal")] {
        assert_eq!((engine.sees(&point), service.sees(&point)), (None, None));
    }
    assert!(!view.exists());
}

#[test]
fn a_container_keeps_its_wal_when_the_engine_drops_the_views() {
    let world = World::new();
    let engine = &world.engine;
    let view = world.ensure();
    let here = world.dir.path().join("c");
    let copy = format!("mount --rbind {} {}", view.display(), here.display());
    let container = {
        let (sender, receiver) = std::sync::mpsc::channel();
        let enter = || sender.send(Neighbour::new("slave", &copy)).map_err(io::Error::other);
        engine.namespace().enter(enter).unwrap();
        receiver.recv().unwrap()
    };
    assert!(container.has_file(&here.join("wal/segment")));
    // What dockerd does when a plugin is disabled by force: the deepest first.
    let unmount = || mount::detach(&view.join("wal")).and_then(|()| mount::detach(&view));
    engine.namespace().enter(unmount).unwrap();
    assert!(container.has_file(&here.join("wal/segment")));
    // Nor does the plugin's own removal of a view reach it.
    world.ensure();
    world.views.drop(&world.volume).unwrap();
    assert!(container.has_file(&here.join("wal/segment")));
    let places: Vec<_> = {
        let own = mountinfo::own().unwrap();
        [&world.plan.root, &world.dir.path().join("other")]
            .map(|path| mountinfo::place(&own, path).unwrap())
            .into()
    };
    let users = world.views.users(&world.volume, &places).unwrap();
    assert!(users.iter().all(|user| user.point.starts_with(&here)), "{users:?}");
    assert_eq!(users.len(), 2);
    drop(container);
    assert_eq!(world.views.users(&world.volume, &places).unwrap(), []);
}

#[test]
fn a_copy_of_the_whole_host_is_no_use_and_goes_with_the_view() {
    let world = World::new();
    let view = world.ensure();
    let mirror = world.dir.path().join("c");
    let watcher = Neighbour::new("private", &format!("mount --rbind / {}", mirror.display()));
    let copy = mirror.join(view.strip_prefix("/").unwrap());
    assert!(watcher.has_file(&copy.join("wal/segment")));
    let own = mountinfo::own().unwrap();
    let places = [mountinfo::place(&own, &world.plan.root).unwrap()];
    let users = world.views.users(&world.volume, &places).unwrap();
    assert_eq!(users, []);
    world.views.drop(&world.volume).unwrap();
    assert_eq!((watcher.sees(&copy), watcher.sees(&view)), (None, None));
}

#[test]
fn a_view_that_the_engine_unmounted_is_made_again() {
    let world = World::new();
    let engine = &world.engine;
    let view = world.ensure();
    engine.namespace().enter(|| mount::detach(&view)).unwrap();
    world.ensure();
    assert!(engine.has_file(&view.join("wal/segment")));
    // Nothing of all this reaches the shares.
    assert!(!world.dir.path().join("root/wal/segment").exists());
}

/// As after a kill of the engine, which has listed the views of the last process.
#[test]
fn a_view_that_the_engine_is_about_to_unmount_is_not_promised() {
    let mut world = World::new();
    world.views.unsettled_until = Instant::now() + UNSETTLED;
    let engine = world.engine.namespace();
    let view = world.views.path(&world.volume);
    let unmounts = || {
        while !world.engine.has_file(&view.join("wal/segment")) {
            thread::sleep(Duration::from_millis(1));
        }
        // Its view alone, and the plugin's with the one below.
        engine.enter(|| mount::detach(&view)).unwrap();
    };
    thread::scope(|scope| {
        let unmounted = scope.spawn(unmounts);
        world.ensure();
        unmounted.join().unwrap();
    });
    assert!(world.engine.has_file(&view.join("wal/segment")));
}

/// As after a kill of the engine that unmounts what it gives the plugin while it gives it.
#[test]
fn whoever_is_cut_off_from_the_engine_joins_it_again() {
    for host in [mount::make_shared, mount::leave_group] {
        let world = World::new();
        let engine = &world.engine;
        let root = world.dir.path().join("views");
        engine.namespace().enter(|| mount::detach(&root)).unwrap();
        engine.namespace().enter(|| host(world.dir.path())).unwrap();
        mount::leave_group(&root).unwrap();
        mount::make_shared(&root).unwrap();
        let view = world.ensure();
        assert!(engine.has_file(&view.join("wal/segment")));
        assert!(!Elsewhere::of(&root).unwrap().is_out_of_touch());
        // Of the mounts that were nobody's business none is left.
        let points = mountinfo::own().unwrap();
        let here = points.iter().filter(|mount| mount.point == root).count();
        assert_eq!(here, 1);
        world.views.drop(&world.volume).unwrap();
        assert_eq!(engine.sees(&view), None);
    }
}

/// All of them find that they are cut off at the same time.
#[test]
fn whoever_joins_the_engine_again_takes_no_view_of_others_away() {
    for _ in 0..5 {
        let world = World::new();
        let root = world.dir.path().join("views");
        world.engine.namespace().enter(|| mount::detach(&root)).unwrap();
        mount::leave_group(&root).unwrap();
        mount::make_shared(&root).unwrap();
        let volumes: Vec<VolumeName> = (0..8).map(|n| format!("v{n}").parse().unwrap()).collect();
        let (views, plan) = (&world.views, &world.plan);
        std::thread::scope(|scope| {
            for volume in &volumes {
                scope.spawn(|| views.ensure(volume, plan).unwrap());
            }
        });
        for volume in &volumes {
            let view = views.path(volume);
            assert!(world.engine.has_file(&view.join("wal/segment")), "{volume}");
            assert!(view.join("wal/segment").exists());
        }
    }
}

#[test]
fn a_view_that_the_engine_has_lost_is_not_taken_for_seen() {
    let world = World::new();
    let view = world.ensure();
    assert!(world.views.is_seen(&world.volume).unwrap());
    world.engine.namespace().enter(|| mount::detach(&view)).unwrap();
    assert!(!world.views.is_seen(&world.volume).unwrap());
    world.ensure();
    let root = world.dir.path().join("views");
    world.engine.namespace().enter(|| mount::detach(&root)).unwrap();
    mount::leave_group(&root).unwrap();
    mount::make_shared(&root).unwrap();
    assert!(!world.views.is_seen(&world.volume).unwrap());
}

#[test]
fn what_was_written_below_a_view_is_kept() {
    let world = World::new();
    let view = world.ensure();
    // The engine unmounted it, and somebody took the empty directory for the volume.
    world.engine.namespace().enter(|| mount::detach(&view)).unwrap();
    let write = || durable::write(&view.join("file"), b"precious");
    world.engine.namespace().enter(write).unwrap();
    world.ensure();
    world.views.drop(&world.volume).unwrap();
    assert_eq!(world.engine.sees(&view), None);
    assert!(view.join("file").exists());
}

#[test]
fn half_a_view_is_never_left() {
    let world = World::new();
    let engine = &world.engine;
    std::fs::remove_dir_all(world.dir.path().join("other")).unwrap();
    assert!(world.views.ensure(&world.volume, &world.plan).is_err());
    let view = world.views.path(&world.volume);
    assert_eq!(engine.sees(&view), None);
    assert!(!view.exists() && !world.dir.path().join("staging/v").exists());
}

#[test]
fn containers_that_are_just_starting_do_not_disturb() {
    let world = World::new();
    // As runc does: born with all that the engine has as its peer, private a moment later.
    let starts = "while kill -0 $PPID; do unshare --mount true; done";
    #[expect(clippy::disallowed_methods, reason = "it runs beside the test")]
    let spawn = || Command::new("sh").args(["-c", starts]).spawn();
    let mut starting = world.engine.namespace().enter(spawn).map(Neighbour).unwrap();
    for round in 0..300 {
        let made = world.views.ensure(&world.volume, &world.plan);
        made.unwrap_or_else(|error| panic!("round {round}: {}", plugin_sdk::chain::chain(&error)));
        world.views.drop(&world.volume).unwrap();
    }
    assert!(starting.0.try_wait().unwrap().is_none(), "containers were starting all the time");
}

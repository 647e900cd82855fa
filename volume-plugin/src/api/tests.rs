//! The calls over a real socket, down to an image pool, byte for byte where dockerd is strict.

use std::path::Path;

use plugin_sdk::client::Client;
use plugin_sdk::durable;
use plugin_sdk::server::Server;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::app::Paths;
use crate::scratch::Scratch;
use crate::settings::Settings;
use crate::sys::file;
use crate::volume::testing::apart;

struct World {
    app: Arc<App>,
    client: Client,
    dir: Scratch,
}

impl World {
    fn paths(dir: &Path) -> Paths {
        Paths {
            state: dir.join("state"),
            pools: dir.join("pools"),
            views: dir.join("views"),
            socket: dir.join("pgvol.sock"),
        }
    }

    fn start(settings: &[(&str, &str)], before: impl FnOnce(&Path)) -> Self {
        let dir = Scratch::new();
        before(dir.path());
        let paths = Self::paths(dir.path());
        let client = Client::new(&paths.socket);
        let settings = settings.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        let server = Server::bind(&paths.socket).unwrap();
        let app = App::new(paths, &Settings::read(settings));
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&app).start(shutdown.clone()));
        tokio::spawn(server.serve(router(&app), shutdown));
        Self { app, client, dir }
    }

    async fn text(&self, call: &str, body: &str) -> String {
        let path = format!("/VolumeDriver.{call}");
        let (status, answer) = self.client.post(&path, body.to_owned()).await.unwrap();
        assert_eq!(status.as_u16(), 200);
        String::from_utf8(answer.to_vec()).unwrap()
    }

    async fn call(&self, call: &str, body: Value) -> Value {
        serde_json::from_str(&self.text(call, &body.to_string()).await).unwrap()
    }

    async fn refused(&self, call: &str, body: &str) -> String {
        let answer: Value = serde_json::from_str(&self.text(call, body).await).unwrap();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        answer["Err"].as_str().unwrap().to_owned()
    }
}

const SMALL: &[(&str, &str)] = &[("POOL_SIZE", "256M")];

#[test]
fn a_life_of_a_volume() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        let view = world.dir.path().join("views/v");
        assert_eq!(world.text("Create", r#"{"Name":"v","Opts":null}"#).await, "{}");
        assert_eq!(world.text("Create", r#"{"Name":"v","Opts":{"cow":"off"}}"#).await, "{}");
        assert_eq!(world.text("List", "{}").await, r#"{"Volumes":[{"Name":"v","Mountpoint":""}]}"#);
        let get = world.call("Get", json!({"Name": "v"})).await;
        assert_eq!(
            (&get["Volume"]["Name"], &get["Volume"]["Mountpoint"]),
            (&json!("v"), &json!(""))
        );
        assert_eq!(get["Volume"]["Status"]["state"], "ok");
        let created = get["Volume"]["CreatedAt"].as_str().unwrap();
        assert!(created.parse::<jiff::Timestamp>().is_ok() && created.len() == 20, "{created}");
        let mounted = world.call("Mount", json!({"Name": "v", "ID": "1"})).await;
        assert_eq!(mounted, json!({"Mountpoint": view}));
        for path in ["data", "wal", "tablespaces"] {
            assert!(view.join(path).is_dir());
        }
        assert_eq!(world.call("Path", json!({"Name": "v"})).await, json!({"Mountpoint": view}));
        let get = world.call("Get", json!({"Name": "v"})).await;
        assert_eq!(get["Volume"]["Status"]["mounts"], json!({"1": 1}));
        assert_eq!(world.text("Unmount", r#"{"Name":"v","ID":"1"}"#).await, "{}");
        assert_eq!(world.text("Unmount", r#"{"Name":"v","ID":"1"}"#).await, "{}");
        assert_eq!(world.text("Path", r#"{"Name":"v"}"#).await, r#"{"Mountpoint":""}"#);
        assert_eq!(world.text("Remove", r#"{"Name":"v"}"#).await, "{}");
        assert_eq!(world.text("Remove", r#"{"Name":"v"}"#).await, "{}");
        assert_eq!(world.text("List", "{}").await, r#"{"Volumes":[]}"#);
        assert_eq!(world.refused("Get", r#"{"Name":"v"}"#).await, "no such volume: v");
    });
}

#[test]
fn a_removed_volume_is_shown_had_back_and_purged() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        let pgvol = async |call: &str, body: Value| -> Value {
            let path = format!("/Pgvol.{call}");
            let (_, answer) = world.client.post(&path, body.to_string()).await.unwrap();
            serde_json::from_slice(&answer).unwrap()
        };
        world.call("Create", json!({"Name": "v"})).await;
        world.call("Remove", json!({"Name": "v"})).await;
        let trash = pgvol("Trash", json!({})).await;
        let removed = &trash["volumes"][0];
        assert_eq!(
            (&removed["id"], &removed["name"], &removed["state"]),
            (&json!("v~0"), &json!("v"), &json!("kept"))
        );
        // Its directories alone.
        assert!(removed["used"].as_u64().unwrap() < 1 << 20, "{removed}");
        let time = |field: &str| removed[field].as_str().unwrap().parse::<jiff::Timestamp>();
        let (since, until) = (time("removed").unwrap(), time("until").unwrap());
        assert_eq!(until.as_second() - since.as_second(), 24 * 3600);
        assert_eq!(pgvol("Undelete", json!({"name": "v", "as": "w"})).await, json!({"name": "w"}));
        assert_eq!(world.text("List", "{}").await, r#"{"Volumes":[{"Name":"w","Mountpoint":""}]}"#);
        world.call("Remove", json!({"Name": "w"})).await;
        for (call, body, words) in [
            ("Undelete", json!({}), "names no volume"),
            ("Undelete", json!({"name": "v"}), "the trash has no v"),
            ("Undelete", json!({"name": "w", "as": "../x"}), "no volume name"),
            ("Purge", json!({}), "or says `all`"),
            ("Purge", json!({"names": ["w"], "all": true}), "or says `all`"),
            ("Purge", json!({"names": ["w~1"]}), "the trash has no w~1"),
        ] {
            let answer = pgvol(call, body).await;
            assert!(answer["Err"].as_str().unwrap().contains(words), "{answer}");
        }
        assert_eq!(pgvol("Purge", json!({"names": ["w"]})).await, json!({"ids": ["v~0"]}));
        while pgvol("Trash", json!({})).await != json!({"volumes": []}) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(!world.dir.path().join("state/wal/v").exists());
    });
}

#[test]
fn each_restore_keeps_what_was_before() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        assert_eq!(world.text("Create", r#"{"Name":"v","Opts":null}"#).await, "{}");
        let taken = r#"{"Name":"v@s","Opts":{"snapshot":"now"}}"#;
        assert_eq!(world.text("Create", taken).await, "{}");
        let mut kept = std::collections::BTreeSet::new();
        // More than one of them in a second.
        for _ in 0..3 {
            let asked = json!({"name": "v@s"}).to_string();
            let (_, answer) = world.client.post("/Pgvol.Restore", asked).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            kept.insert(answer["kept"].as_str().expect("a name").to_owned());
        }
        assert_eq!(kept.len(), 3, "{kept:?}");
    });
}

#[test]
fn capabilities_and_activation() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        for body in ["", "{}", "{}\n"] {
            assert_eq!(
                world.text("Capabilities", body).await,
                r#"{"Capabilities":{"Scope":"local"}}"#
            );
        }
        let (_, answer) = world.client.post("/Plugin.Activate", "").await.unwrap();
        assert_eq!(answer, r#"{"Implements":["VolumeDriver"]}"#);
    });
}

#[test]
fn a_retried_request_without_body_never_means_a_volume() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        for body in ["", "{}", r#"{"Name":null}"#, r#"{"Name":""}"#] {
            for call in ["Create", "Remove", "Mount", "Unmount", "Path"] {
                let words = world.refused(call, body).await;
                assert_eq!(words, "the request names no volume", "{call} {body}");
            }
            // Any answer would be taken for "no such volume".
            assert!(world.client.post("/VolumeDriver.Get", body).await.is_err(), "{body}");
        }
        world.call("Create", json!({"Name": "v"})).await;
        assert!(world.refused("Mount", r#"{"Name":"v"}"#).await.contains("mount id"));
    });
}

#[test]
fn odd_names_are_refused_and_nothing_is_left() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        for name in ["../x", "a/b", ".", "x y", "é", &"x".repeat(129)] {
            let body = json!({"Name": name, "ID": "1"}).to_string();
            for call in ["Create", "Mount", "Get", "Remove", "Path"] {
                assert!(world.refused(call, &body).await.contains("no volume name"), "{name}");
            }
            assert_eq!(world.text("Unmount", &body).await, "{}");
        }
        let snapshot = world.refused("Create", r#"{"Name":"v@s"}"#).await;
        assert!(snapshot.contains("no snapshot v@s"), "{snapshot}");
        assert_eq!(world.text("List", "{}").await, r#"{"Volumes":[]}"#);
    });
}

#[test]
fn a_mount_that_nobody_waited_for_is_undone() {
    apart(|| async {
        let world = World::start(SMALL, |_| ());
        world.call("Create", json!({"Name": "v"})).await;
        let request = MountRequest { name: "v".to_owned(), id: "1".to_owned() };
        let Ok((_, undo)) = mount(Arc::clone(&world.app), request).await else { panic!() };
        assert!(world.dir.path().join("views/v/data").exists());
        undo.await;
        assert!(!world.dir.path().join("views/v").exists());
    });
}

#[test]
fn a_host_without_room_is_told_and_listing_goes_on() {
    apart(|| async {
        let world = World::start(SMALL, |dir| {
            crate::sys::mount::private_tmpfs(dir).unwrap();
        });
        let words = world.refused("Create", r#"{"Name":"v"}"#).await;
        assert!(words.contains("pool default: no room"), "{words}");
        assert_eq!(world.text("List", "{}").await, r#"{"Volumes":[]}"#);
    });
}

#[test]
fn state_that_another_has_is_told_and_taken_when_free() {
    apart(|| async {
        let mut held = None;
        let world = World::start(SMALL, |dir| {
            durable::create_dir(&dir.join("state"), 0o700).unwrap();
            held = file::lock(&dir.join("state/lock")).unwrap();
        });
        let words = world.refused("Create", r#"{"Name":"v"}"#).await;
        assert!(words.contains("another pgvol is using"), "{words}");
        // A Get is not answered, since dockerd would forget the volume.
        let (client, app) = (world.client.clone(), Arc::clone(&world.app));
        let get = tokio::spawn(async move {
            client.post("/VolumeDriver.Get", r#"{"Name":"v"}"#).await.unwrap()
        });
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!get.is_finished());
        let name = r#"{"Name":"w"}"#;
        assert!(world.client.post("/VolumeDriver.Get", name).await.is_err(), "in the end");
        assert!(get.await.is_err());
        let client = world.client.clone();
        let get = tokio::spawn(async move {
            let (_, answer) = client.post("/VolumeDriver.Get", name).await.unwrap();
            String::from_utf8(answer.to_vec()).unwrap()
        });
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(held);
        assert_eq!(get.await.unwrap(), r#"{"Err":"no such volume: w"}"#);
        assert!(app.service().await.is_ok());
    });
}

#[test]
fn bad_settings_refuse_creation_alone() {
    apart(|| async {
        let world = World::start(&[("POOL_SIZE", "lots"), ("LOG_LEVEL", "loud")], |_| ());
        let words = world.refused("Create", r#"{"Name":"v"}"#).await;
        assert!(words.contains("POOL_SIZE=lots") && words.contains("LOG_LEVEL=loud"), "{words}");
        assert_eq!(world.text("List", "{}").await, r#"{"Volumes":[]}"#);
        assert!(!world.dir.path().join("state/pools/default.img").exists());
    });
}

//! Where a server finds a cluster and of which image it is: taken from the container that has the volume,
//! or had it and is still there.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where a volume is mounted that no container is known to have had.
const ELSEWHERE: &str = "/run/pgvol-volume";

/// Of `docker inspect`, what is needed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    created: String,
    image: String,
    state: State,
    config: Config,
    host_config: HostConfig,
    #[serde(default)]
    mounts: Vec<Mounted>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    env: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    mounts: Option<Vec<Asked>>,
}

/// A mount as it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mounted {
    #[serde(default)]
    name: String,
    destination: String,
}

/// A mount as it was asked for, which alone has the subpath.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    target: String,
    #[serde(default)]
    volume_options: Option<VolumeOptions>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeOptions {
    #[serde(default)]
    subpath: String,
}

/// A part of a volume at a place in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Below the volume's root; empty for that itself.
    subpath: PathBuf,
    destination: PathBuf,
}

/// How the server of a cluster is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    /// None where no container is known.
    pub(super) image: Option<String>,
    pub(super) places: Vec<Place>,
    /// The cluster in the container.
    pub(super) data: PathBuf,
    /// Who is most likely a superuser.
    pub(super) superuser: String,
}

impl Home {
    /// That of the cluster at `cluster`, below the root of `volume`, by the best of `containers`.
    pub(super) fn of(
        volume: &str,
        cluster: &Path,
        version: &str,
        containers: &[Container],
    ) -> Self {
        let fits = |container: &Container| container.home(volume, cluster);
        let mut found: Vec<_> =
            containers.iter().filter_map(|container| Some((container, fits(container)?))).collect();
        found.sort_by_cached_key(|(container, home)| {
            let major = container.variable("PG_MAJOR");
            (
                major == Some(version),
                container.variable("PGDATA").map(Path::new) == Some(&home.data),
                major.is_none(),
                container.state.running,
                container.created.clone(),
            )
        });
        found.pop().map_or_else(|| Self::elsewhere(cluster), |(_, home)| home)
    }

    fn elsewhere(cluster: &Path) -> Self {
        let whole = Place { subpath: PathBuf::new(), destination: ELSEWHERE.into() };
        Self {
            image: None,
            data: Path::new(ELSEWHERE).join(cluster),
            places: vec![whole],
            superuser: "postgres".to_owned(),
        }
    }

    /// What `docker run` is told of the mounts, with `volume` in the place of the original.
    pub(super) fn mounts(&self, volume: &str) -> Vec<String> {
        let words = self.places.iter().map(|Place { subpath, destination }| {
            let mut mount = format!("type=volume,src={volume},dst={}", destination.display());
            if !subpath.as_os_str().is_empty() {
                mount = format!("{mount},volume-subpath={}", subpath.display());
            }
            ["--mount".to_owned(), mount]
        });
        words.flatten().collect()
    }
}

impl Container {
    /// The home of the cluster in it, if it has that.
    fn home(&self, volume: &str, cluster: &Path) -> Option<Home> {
        let places: Vec<_> = self
            .mounts
            .iter()
            .filter(|mount| mount.name == volume)
            .map(|mount| Place {
                subpath: self.subpath(&mount.destination),
                destination: PathBuf::from(&mount.destination),
            })
            .collect();
        let data = places.iter().find_map(|place| {
            let below = cluster.strip_prefix(&place.subpath).ok()?;
            // Component by component: joining nothing would leave a slash at the end.
            Some(place.destination.components().chain(below.components()).collect())
        })?;
        let superuser = self.variable("POSTGRES_USER").unwrap_or("postgres").to_owned();
        Some(Home { image: Some(self.image.clone()), places, data, superuser })
    }

    fn subpath(&self, destination: &str) -> PathBuf {
        let asked = self.host_config.mounts.iter().flatten();
        let mut here = asked.filter(|asked| asked.target == destination);
        let options = here.next().and_then(|asked| asked.volume_options.as_ref());
        options.map(|options| PathBuf::from(&options.subpath)).unwrap_or_default()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let all = self.config.env.iter().flatten();
        let mut found = all.filter_map(|pair| pair.split_once('=')).filter(|pair| pair.0 == name);
        found.next_back().map(|pair| pair.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// With these mounts of the volume `db`, each with its subpath.
    fn container(image: &str, env: &[&str], mounts: &[(&str, &str)], running: bool) -> Value {
        let mounted = mounts.iter().map(|(destination, _)| {
            json!({"Type": "volume", "Name": "db", "Driver": "pgvol", "Destination": destination})
        });
        let asked = mounts.iter().filter(|(_, subpath)| !subpath.is_empty());
        let asked = asked.map(|(target, subpath)| {
            json!({"Type": "volume", "Source": "db", "Target": target,
                "VolumeOptions": {"Subpath": subpath}})
        });
        json!({
            "Created": "2026-11-27T00:00:00Z", "Image": image,
            "State": {"Running": running}, "Config": {"Env": env},
            "HostConfig": {"Mounts": asked.collect::<Vec<_>>()},
            "Mounts": mounted.chain([json!({"Type": "bind", "Source": "/x", "Destination": "/x"})])
                .collect::<Vec<_>>(),
        })
    }

    fn home(containers: &[Value]) -> Home {
        let parse = |one: &Value| serde_json::from_value(one.clone()).unwrap();
        let containers: Vec<_> = containers.iter().map(parse).collect();
        Home::of("db", Path::new("data/main"), "17", &containers)
    }

    #[test]
    fn a_clone_is_mounted_as_its_original_was() {
        let whole = container("i", &["POSTGRES_USER=me"], &[("/pg", "")], true);
        let whole = home(&[whole]);
        assert_eq!((whole.image.as_deref(), &*whole.superuser), (Some("i"), "me"));
        assert_eq!(whole.data, Path::new("/pg/data/main"));
        assert_eq!(whole.mounts("copy"), ["--mount", "type=volume,src=copy,dst=/pg"]);
        let parts = [("/wal", "wal"), ("/data", "data")];
        let parts = home(&[container("i", &[], &parts, true)]);
        assert_eq!((&*parts.superuser, parts.data.to_str()), ("postgres", Some("/data/main")));
        let mounts = parts.mounts("copy");
        assert_eq!(mounts[1], "type=volume,src=copy,dst=/wal,volume-subpath=wal");
        let itself = home(&[container("i", &[], &[("/data", "data/main")], true)]);
        assert_eq!(itself.data, Path::new("/data"));
    }

    #[test]
    fn of_several_containers_the_server_s_is_taken() {
        let mount: &[_] = &[("/pg", "")];
        let server = container("server", &["PGDATA=/pg/data/main"], mount, false);
        let right = container("right", &["PG_MAJOR=17"], mount, false);
        let wrong = container("wrong", &["PG_MAJOR=16"], mount, true);
        let reader = container("reader", &[], mount, true);
        let image = |containers: &[&Value]| {
            let containers: Vec<_> = containers.iter().map(|&one| one.clone()).collect();
            home(&containers).image.unwrap()
        };
        assert_eq!(image(&[&right, &wrong, &server, &reader]), "right");
        assert_eq!(image(&[&reader, &server]), "server");
        assert_eq!(image(&[&wrong, &reader]), "reader");
        assert_eq!(image(&[&wrong]), "wrong");
    }

    #[test]
    fn without_a_container_the_whole_volume_is_mounted() {
        let wal = container("i", &[], &[("/wal", "wal")], true);
        for containers in [&[][..], &[wal]] {
            let home = home(containers);
            assert_eq!((home.image, home.places.len()), (None, 1));
            assert!(home.data.ends_with("data/main"));
        }
    }
}

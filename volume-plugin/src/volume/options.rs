//! The options of `docker volume create -o`: Docker's raw map in, a [`VolumeSpec`] out. Every
//! rule on options is here; what comes out needs no further check.

use std::collections::{BTreeMap, BTreeSet};

use super::size::{Size, SizeError, Sizes};
use super::spec::{Access, Layout, LayoutError, TablespaceName, VolumeSpec};
use crate::name::VolumeName;
use crate::pool::{Overwrite, Owner, PoolName};
use crate::snapshot::retention::{Keep, KeepError};
use crate::snapshot::schedule::{Schedule, ScheduleError};

/// Docker's map, in the order of its keys.
pub type RawOptions = BTreeMap<String, String>;

/// Longest value of a label, in bytes.
const LONGEST_LABEL: usize = 4096;

/// Why a role does not come to have a size of its own, or to have none.
const FROM_CREATION_ON: &str = "a role has a size of its own, and with it a place, from the volume's \
                                creation on or never";

/// Why a volume that becomes PGDATA has no tablespaces.
const NO_TABLESPACES: &str = "with layout=pgdata the root is empty and becomes PGDATA, with no place \
                              for them; allowed are none, or layout=split";

/// Why WAL that stays in PGDATA has no size of its own.
const NO_WAL_APART: &str = "with layout=pgdata the WAL stays within the data where both have one pool; \
                            allowed are none, or another wal.pool";

/// What can be changed.
const CHANGEABLE: &str = "access, size, wal.size, tablespace.NAME.size, snapshot.schedule, \
                          snapshot.keep and label.KEY";

/// What an unknown key is answered with.
const KNOWN: &str = "layout, pool, wal.pool, tablespaces, tablespace.NAME.pool, size, wal.size, \
                     tablespace.NAME.size, uid, gid, mode, cow, access, snapshot.schedule, snapshot.keep, label.KEY; of a snapshot \
                     snapshot, consistency; of a clone from, sanitize, prepared";

/// Options of the product that this version cannot honour.
const NOT_BUILT: [&str; 1] = ["compress"];

/// Longest name of a tablespace with a size of its own, which becomes a part of a file's name.
const LONGEST_SIZED: usize = 40;

/// Keys that are whole words.
const KEYS: [&str; 13] = [
    "layout",
    "pool",
    "wal.pool",
    "tablespaces",
    "size",
    "wal.size",
    "uid",
    "gid",
    "mode",
    "cow",
    "access",
    SCHEDULE,
    KEEP,
];

/// Options beside labels that a volume can be given and rid of later on.
const SCHEDULE: &str = "snapshot.schedule";
const KEEP: &str = "snapshot.keep";

/// Why options are refused; each names the key, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown option `{0}`; allowed are {KNOWN}")]
    Unknown(String),
    /// An option of a later version.
    #[error("option `{0}` is not built yet")]
    NotBuilt(String),
    /// An option that a volume keeps.
    #[error("option `{0}` cannot be changed; allowed are {CHANGEABLE}")]
    Fixed(String),
    /// No such option, of a volume that there is.
    #[error("unknown option `{0}`; what can be changed are {CHANGEABLE}")]
    Unchangeable(String),
    /// An option that a volume always has.
    #[error(
        "option `{0}` cannot be unset; allowed are snapshot.schedule, snapshot.keep and label.KEY; a \
         volume without a size has `size=none`"
    )]
    Needed(String),
    /// Nobody has taken a snapshot of this name.
    #[error("there is no snapshot {0}; the option `snapshot=now` takes it")]
    NoSnapshot(VolumeName),
    /// An option that snapshots do not have.
    #[error("a snapshot has no option `{0}`; allowed are snapshot=now, consistency and label.KEY")]
    NotOfSnapshot(String),
    /// An option that clones do not have.
    #[error(
        "a clone has no option `{0}`; beside from allowed are sanitize, prepared, access, size, \
         snapshot.schedule, snapshot.keep and label.KEY"
    )]
    NotOfClone(String),
    /// A bad value.
    #[error("option `{key}`: `{value}` is not allowed: {allowed}")]
    Value {
        /// The option.
        key: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// An option of a tablespace that the volume does not have.
    #[error("option `{key}`: `tablespaces` names no tablespace `{name}`")]
    NoSuchTablespace {
        /// The option.
        key: String,
        /// The tablespace in it.
        name: String,
    },
}

/// Reads `raw`, where `pools` are the pools that there are, and `default_layout` is that of a volume
/// for which none is asked.
pub fn parse(
    raw: &RawOptions,
    pools: &[PoolName],
    default_layout: Layout,
) -> Result<VolumeSpec, OptionError> {
    let options = Options { raw, pools, default_layout };
    for key in raw.keys() {
        options.check_key(key)?;
    }
    let pool = options.pool("pool", &PoolName::new(PoolName::DEFAULT))?;
    let layout = options.layout()?;
    if layout == Layout::Pgdata && options.tablespace_names().next().is_some() {
        let value = raw.get("tablespaces").map(String::as_str).unwrap_or_default();
        return Err(bad("tablespaces", value, NO_TABLESPACES));
    }
    let wal_pool = options.pool("wal.pool", &PoolName::new(PoolName::WAL))?;
    let sizes = options.sizes()?;
    if layout == Layout::Pgdata && wal_pool == pool && sizes.wal.is_some() {
        let value = raw.get("wal.size").map(String::as_str).unwrap_or_default();
        return Err(bad("wal.size", value, NO_WAL_APART));
    }
    let spec = VolumeSpec {
        layout,
        wal_pool,
        tablespaces: options.tablespaces(&pool)?,
        owner: options.owner()?,
        overwrite: options.overwrite()?,
        access: options.access()?,
        sizes,
        schedule: schedule(raw)?,
        keep: keep(raw)?,
        labels: labels(raw)?,
        pool,
    };
    Ok(spec)
}

/// `spec` with new values for what `set` names, and none for what `unset` does: labels, a schedule.
pub fn change(
    spec: &VolumeSpec,
    set: RawOptions,
    unset: &[String],
    pools: &[PoolName],
) -> Result<VolumeSpec, OptionError> {
    let mut raw = render(spec);
    let optional = |key: &str| key.starts_with("label.") || [SCHEDULE, KEEP].contains(&key);
    if let Some(key) = unset.iter().find(|key| !optional(key)) {
        return Err(OptionError::Needed(key.clone()));
    }
    for key in unset {
        raw.remove(key);
    }
    for (key, value) in set {
        let known = Options { raw: &raw, pools, default_layout: spec.layout }.check_key(&key);
        known.map_err(|error| match error {
            OptionError::Unknown(key) => OptionError::Unchangeable(key),
            other => other,
        })?;
        if !optional(&key) && key != "access" && !key.ends_with("size") {
            return Err(OptionError::Fixed(key));
        }
        raw.insert(key, value);
    }
    let mut changed = parse(&raw, pools, spec.layout)?;
    let Sizes { uncounted, released, .. } = spec.sizes;
    if changed.sizes.data == spec.sizes.data {
        changed.sizes.uncounted = uncounted;
    }
    let as_before = Sizes { uncounted, released, ..changed.sizes.clone() } == spec.sizes;
    if as_before {
        changed.sizes = spec.sizes.clone();
    }
    for (role, home) in spec.roles() {
        if home != changed.home(&role) {
            let key = role.size_key();
            let value = raw.get(&key).map_or("none", String::as_str);
            return Err(bad(&key, value, FROM_CREATION_ON));
        }
    }
    Ok(changed)
}

/// What differs between what a volume has and what is asked for; empty when nothing does.
pub fn differences(has: &VolumeSpec, asked: &VolumeSpec) -> String {
    let (has, asked) = (render(has), render(asked));
    let keys: BTreeSet<_> = has.keys().chain(asked.keys()).collect();
    let value = |options: &RawOptions, key: &str| {
        options.get(key).map_or_else(|| "unset".to_owned(), |value| format!("`{value}`"))
    };
    let differing = keys.into_iter().filter(|&key| has.get(key) != asked.get(key));
    let told = differing
        .map(|key| format!("`{key}` is {}, not {}", value(&has, key), value(&asked, key)))
        .collect::<Vec<_>>();
    told.join(", ")
}

/// The options that give `spec`, each written out.
fn render(spec: &VolumeSpec) -> RawOptions {
    let names: Vec<_> = spec.tablespaces.keys().map(ToString::to_string).collect();
    let cow = if spec.overwrite == Overwrite::Copy { "on" } else { "off" };
    let fixed = [
        ("layout", spec.layout.to_string()),
        ("pool", spec.pool.to_string()),
        ("wal.pool", spec.wal_pool.to_string()),
        ("tablespaces", names.join(",")),
        ("uid", spec.owner.uid.to_string()),
        ("gid", spec.owner.gid.to_string()),
        ("mode", format!("{:04o}", spec.owner.mode)),
        ("cow", cow.to_owned()),
        ("access", spec.access.to_string()),
    ];
    let pools = spec
        .tablespaces
        .iter()
        .map(|(name, pool)| (format!("tablespace.{name}.pool"), pool.to_string()));
    let size = spec
        .roles()
        .into_iter()
        .filter_map(|(role, _)| Some((role.size_key(), spec.sizes.of(&role)?.option())));
    let schedule = spec.schedule.iter().map(|value| (SCHEDULE.to_owned(), value.to_string()));
    let keep = spec.keep.iter().map(|value| (KEEP.to_owned(), value.to_string()));
    let labels = spec.labels.iter().map(|(key, value)| (format!("label.{key}"), value.clone()));
    fixed
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .chain(pools)
        .chain(size)
        .chain(schedule)
        .chain(keep)
        .chain(labels)
        .collect()
}

struct Options<'a> {
    raw: &'a RawOptions,
    pools: &'a [PoolName],
    default_layout: Layout,
}

impl Options<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.raw.get(key).map(String::as_str)
    }

    fn check_key(&self, key: &str) -> Result<(), OptionError> {
        let unknown = || OptionError::Unknown(key.to_owned());
        if NOT_BUILT.contains(&key) {
            return Err(OptionError::NotBuilt(key.to_owned()));
        }
        let value = || self.get(key).unwrap_or_default();
        match key {
            "snapshot" | "consistency" => {
                return Err(bad(key, value(), "it goes with a name VOLUME@SNAPSHOT"));
            }
            "sanitize" => return Err(bad(key, value(), "it goes with the option from")),
            _ => {}
        }
        if let Some(rest) = key.strip_prefix("tablespace.") {
            let (name, field) = rest.rsplit_once('.').ok_or_else(unknown)?;
            return match field {
                "pool" | "size" if self.tablespace_names().any(|has| has == name) => Ok(()),
                "pool" | "size" => Err(OptionError::NoSuchTablespace {
                    key: key.to_owned(),
                    name: name.to_owned(),
                }),
                _ => Err(unknown()),
            };
        }
        if KEYS.contains(&key) || is_label(key) { Ok(()) } else { Err(unknown()) }
    }

    fn layout(&self) -> Result<Layout, OptionError> {
        let Some(value) = self.get("layout") else { return Ok(self.default_layout) };
        value.parse().map_err(|error: LayoutError| bad("layout", value, &error.to_string()))
    }

    fn pool(&self, key: &str, default: &PoolName) -> Result<PoolName, OptionError> {
        let Some(value) = self.get(key) else { return Ok(default.clone()) };
        let asked = PoolName::new(value);
        if self.pools.contains(&asked) {
            return Ok(asked);
        }
        let names: Vec<_> = self.pools.iter().map(ToString::to_string).collect();
        Err(bad(key, value, &format!("the pools are {}", names.join(", "))))
    }

    fn tablespace_names(&self) -> impl Iterator<Item = &str> {
        let list = self.get("tablespaces").unwrap_or_default();
        list.split([',', '+', ' ']).filter(|name| !name.is_empty())
    }

    fn tablespaces(
        &self,
        data: &PoolName,
    ) -> Result<BTreeMap<TablespaceName, PoolName>, OptionError> {
        let mut tablespaces = BTreeMap::new();
        for text in self.tablespace_names() {
            let refused =
                |why: &str| bad("tablespaces", self.get("tablespaces").unwrap_or_default(), why);
            let name = TablespaceName::try_from(text.to_owned()).map_err(refused)?;
            let pool = self.pool(&format!("tablespace.{name}.pool"), data)?;
            if tablespaces.insert(name, pool).is_some() {
                return Err(refused(&format!("`{text}` is named twice")));
            }
        }
        Ok(tablespaces)
    }

    fn owner(&self) -> Result<Owner, OptionError> {
        Ok(Owner { uid: self.id("uid")?, gid: self.id("gid")?, mode: self.mode()? })
    }

    fn id(&self, key: &str) -> Result<u32, OptionError> {
        // The Debian-based image's postgres.
        let Some(value) = self.get(key) else { return Ok(999) };
        // The highest number means "leave as it is" to the kernel.
        match value.parse() {
            Ok(id) if id < u32::MAX && !value.starts_with('+') => Ok(id),
            _ => Err(bad(key, value, "allowed are numbers from 0 to 4294967294")),
        }
    }

    fn mode(&self) -> Result<u32, OptionError> {
        let Some(value) = self.get("mode") else { return Ok(0o700) };
        let octal = value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(value, 8) {
            Ok(mode) if octal && mode <= 0o777 => Ok(mode),
            _ => Err(bad("mode", value, "allowed are octal modes from 0 to 0777")),
        }
    }

    fn overwrite(&self) -> Result<Overwrite, OptionError> {
        match self.get("cow") {
            None | Some("off") => Ok(Overwrite::InPlace),
            Some("on") => Ok(Overwrite::Copy),
            Some(value) => Err(bad("cow", value, "allowed are on and off")),
        }
    }

    fn access(&self) -> Result<Access, OptionError> {
        match self.get("access") {
            None | Some("guarded") => Ok(Access::Guarded),
            Some("exclusive") => Ok(Access::Exclusive),
            Some(value) => Err(bad("access", value, "allowed are guarded and exclusive")),
        }
    }

    fn sizes(&self) -> Result<Sizes, OptionError> {
        let size = |key: &str| {
            let found = self.get(key).map(|value| size(key, value)).transpose();
            found.map(Option::flatten)
        };
        let mut tablespaces = BTreeMap::new();
        for name in self.tablespace_names() {
            let key = format!("tablespace.{name}.size");
            let Some(size) = size(&key)? else { continue };
            if name.len() > LONGEST_SIZED {
                let allowed =
                    format!("the names of such tablespaces have {LONGEST_SIZED} bytes at most");
                return Err(bad(&key, &size.option(), &allowed));
            }
            let refused = |why: &str| bad("tablespaces", name, why);
            tablespaces.insert(TablespaceName::try_from(name.to_owned()).map_err(refused)?, size);
        }
        let (data, wal) = (size("size")?, size("wal.size")?);
        Ok(Sizes { data, wal, tablespaces, ..Sizes::default() })
    }
}

/// What `value`, of the option `key`, says that a role may hold.
pub(crate) fn size(key: &str, value: &str) -> Result<Option<Size>, OptionError> {
    if value == "none" {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|why: SizeError| bad(key, value, &why.to_string()))
}

/// Whether `key` is that of a label.
pub(crate) fn is_label(key: &str) -> bool {
    key.strip_prefix("label.").is_some_and(|rest| !rest.is_empty())
}

/// When snapshots are to be taken, as the options say.
pub(crate) fn schedule(raw: &RawOptions) -> Result<Option<Schedule>, OptionError> {
    let Some(value) = raw.get(SCHEDULE) else { return Ok(None) };
    value.parse().map(Some).map_err(|error: ScheduleError| bad(SCHEDULE, value, &error.to_string()))
}

/// Which of them are to be kept.
pub(crate) fn keep(raw: &RawOptions) -> Result<Option<Keep>, OptionError> {
    let Some(value) = raw.get(KEEP) else { return Ok(None) };
    value.parse().map(Some).map_err(|error: KeepError| bad(KEEP, value, &error.to_string()))
}

/// The labels among the options, none of which is too long.
pub(crate) fn labels(raw: &RawOptions) -> Result<BTreeMap<String, String>, OptionError> {
    let mut labels = BTreeMap::new();
    for (key, value) in raw {
        if value.len() > LONGEST_LABEL {
            let start: String = value.chars().take(16).collect();
            let allowed = format!("allowed are {LONGEST_LABEL} bytes");
            return Err(bad(key, &format!("{start}..."), &allowed));
        }
        if let Some(label) = key.strip_prefix("label.") {
            labels.insert(label.to_owned(), value.clone());
        }
    }
    Ok(labels)
}

pub(crate) fn bad(key: &str, value: &str, allowed: &str) -> OptionError {
    OptionError::Value { key: key.to_owned(), value: value.to_owned(), allowed: allowed.to_owned() }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

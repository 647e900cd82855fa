//! What a volume consists of: its roles, which pool each lives in, and who owns them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::size::Sizes;
use crate::pool::{Directory, Overwrite, Owner, PoolName};
use crate::snapshot::retention::Keep;
use crate::snapshot::schedule::Schedule;

/// How the roles are laid out below a volume's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `data/`, `wal/` and `tablespaces/NAME/` below a root that is root's.
    Split,
    /// The root is empty and becomes PGDATA or holds it; `pg_wal` goes to its pool once there is one.
    Pgdata,
}

/// What a user is told of a bad [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are split and pgdata")]
pub struct LayoutError;

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        match text {
            "split" => Ok(Self::Split),
            "pgdata" => Ok(Self::Pgdata),
            _ => Err(LayoutError),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split => f.write_str("split"),
            Self::Pgdata => f.write_str("pgdata"),
        }
    }
}

/// Who may mount a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Any number of containers, of which one at a time runs a cluster's server.
    #[default]
    Guarded,
    /// One container at a time.
    Exclusive,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guarded => f.write_str("guarded"),
            Self::Exclusive => f.write_str("exclusive"),
        }
    }
}

/// A tablespace's name: `[a-z0-9_-]{1,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TablespaceName(String);

impl TryFrom<String> for TablespaceName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err("tablespace names are 1 to 63 of a-z, 0-9, `_` and `-`")
        }
    }
}

impl From<TablespaceName> for String {
    fn from(name: TablespaceName) -> Self {
        name.0
    }
}

impl fmt::Display for TablespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of a PostgreSQL cluster that can be stored apart from the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// PGDATA.
    Data,
    /// The write-ahead log.
    Wal,
    /// A tablespace.
    Tablespace(TablespaceName),
}

impl Role {
    /// The role's directory below the root of a volume with the layout `split`, the same in each
    /// pool's share.
    pub fn path(&self) -> String {
        match self {
            Self::Data => "data".to_owned(),
            Self::Wal => "wal".to_owned(),
            Self::Tablespace(name) => format!("{TABLESPACES}/{name}"),
        }
    }
}

impl Role {
    /// The option that gives its size.
    pub fn size_key(&self) -> String {
        match self {
            Self::Data => "size".to_owned(),
            _ => format!("{self}.size"),
        }
    }
}

/// As options write it: `data`, `wal`, `tablespace.NAME`.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("data"),
            Self::Wal => f.write_str("wal"),
            Self::Tablespace(name) => write!(f, "tablespace.{name}"),
        }
    }
}

/// The directory of all tablespaces.
pub(crate) const TABLESPACES: &str = "tablespaces";

/// What was asked for at create, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The layout.
    pub layout: Layout,
    /// Pool of the root and of `data`.
    pub pool: PoolName,
    /// Pool of `wal`.
    pub wal_pool: PoolName,
    /// Pool of each tablespace.
    pub tablespaces: BTreeMap<TablespaceName, PoolName>,
    /// Owner of every role's directory.
    pub owner: Owner,
    /// How files are overwritten.
    pub overwrite: Overwrite,
    /// Who may mount it; volumes of before there was a choice are guarded.
    #[serde(default)]
    pub access: Access,
    /// What roles may hold; nothing had a size before version 3.
    #[serde(default)]
    pub sizes: Sizes,
    /// When snapshots are taken by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Which of these are kept; all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
}

/// A share of a volume: the pool that it is in, and whose it is where it is not that of all roles there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The pool.
    pub pool: PoolName,
    /// The role that has it for itself, having a size of its own.
    pub alone: Option<Role>,
}

impl Home {
    /// Whether the WAL is in it, or would be if it was in this pool.
    pub fn is_of_wal_in(&self, pool: &PoolName) -> bool {
        self.pool == *pool && matches!(self.alone, None | Some(Role::Wal))
    }
}

impl VolumeSpec {
    /// Every role and the share that it lives in.
    pub fn roles(&self) -> Vec<(Role, Home)> {
        let tablespaces = self.tablespaces.keys().map(|name| Role::Tablespace(name.clone()));
        let roles = [Role::Data, Role::Wal].into_iter().chain(tablespaces);
        roles.map(|role| (role.clone(), self.home(&role))).collect()
    }

    /// The share that `role`, which the volume has, lives in.
    pub fn home(&self, role: &Role) -> Home {
        let pool = match role {
            Role::Data => &self.pool,
            Role::Wal => &self.wal_pool,
            Role::Tablespace(name) => self.tablespaces.get(name).unwrap_or(&self.pool),
        };
        let is_alone = *role != Role::Data && self.sizes.of(role).is_some();
        Home { pool: pool.clone(), alone: is_alone.then(|| role.clone()) }
    }

    /// Directories of the root that hold no cluster.
    pub fn without_clusters(&self) -> Vec<String> {
        match self.layout {
            Layout::Split => vec![Role::Wal.path(), TABLESPACES.to_owned()],
            Layout::Pgdata => Vec::new(),
        }
    }

    /// The shares of the volume, one in each pool and one for each role with a size of its own: the
    /// root's first, with every directory, since roles of other shares are bound onto theirs.
    pub fn shares(&self) -> Vec<(Home, Vec<Directory>)> {
        let mut homes: Vec<Home> = Vec::new();
        for (_, home) in self.roles() {
            if !homes.contains(&home) {
                homes.push(home);
            }
        }
        homes.into_iter().map(|home| (home.clone(), self.directories_in(&home))).collect()
    }

    fn directories_in(&self, home: &Home) -> Vec<Directory> {
        let root = *home == self.home(&Role::Data);
        if self.layout == Layout::Pgdata {
            // Docker fills a root that is empty, and initdb takes no other.
            return if root { vec![self.directory(String::new(), self.owner)] } else { Vec::new() };
        }
        let roles: Vec<_> =
            self.roles().into_iter().filter(|(_, its)| root || its == home).collect();
        let mut directories = Vec::new();
        if root || roles.iter().any(|(role, _)| matches!(role, Role::Tablespace(_))) {
            directories.push(self.directory(TABLESPACES.to_owned(), Owner::ROOT));
        }
        directories.extend(roles.iter().map(|(role, _)| self.directory(role.path(), self.owner)));
        directories
    }

    fn directory(&self, path: String, owner: Owner) -> Directory {
        Directory { path, owner, overwrite: self.overwrite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::options;

    fn spec(options: &[(&str, &str)]) -> VolumeSpec {
        let raw = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let pools = [PoolName::new("default"), PoolName::new("wal")];
        options::parse(&raw, &pools, Layout::Split).unwrap()
    }

    fn paths(spec: &VolumeSpec) -> Vec<(String, Vec<String>)> {
        let shares = spec.shares().into_iter();
        shares
            .map(|(home, dirs)| {
                let alone = home.alone.map(|role| format!("+{role}")).unwrap_or_default();
                let paths = dirs.into_iter().map(|directory| directory.path);
                (format!("{}{alone}", home.pool), paths.collect())
            })
            .collect()
    }

    #[test]
    fn the_root_has_every_directory_and_other_shares_what_lives_there() {
        let spec = spec(&[("tablespaces", "a,b"), ("tablespace.b.pool", "wal")]);
        let root = ["tablespaces", "data", "wal", "tablespaces/a", "tablespaces/b"];
        let wal = ["tablespaces", "wal", "tablespaces/b"];
        assert_eq!(
            paths(&spec),
            [
                ("default".to_owned(), root.map(str::to_owned).to_vec()),
                ("wal".to_owned(), wal.map(str::to_owned).to_vec()),
            ]
        );
    }

    #[test]
    fn a_role_with_a_size_of_its_own_is_alone() {
        let spec = spec(&[
            ("tablespaces", "a,b"),
            ("wal.pool", "default"),
            ("wal.size", "1G"),
            ("tablespace.b.size", "2G"),
        ]);
        let root = ["tablespaces", "data", "wal", "tablespaces/a", "tablespaces/b"];
        let paths = paths(&spec);
        assert_eq!(paths[0], ("default".to_owned(), root.map(str::to_owned).to_vec()));
        assert_eq!(paths[1], ("default+wal".to_owned(), vec!["wal".to_owned()]));
        let b = ["tablespaces", "tablespaces/b"].map(str::to_owned).to_vec();
        assert_eq!(paths[2], ("default+tablespace.b".to_owned(), b));
    }

    #[test]
    fn one_pool_is_one_share() {
        let spec = spec(&[("wal.pool", "default")]);
        assert_eq!(paths(&spec).len(), 1);
    }

    #[test]
    fn the_root_of_a_cluster_is_empty_and_the_cluster_s() {
        let spec = spec(&[("layout", "pgdata"), ("uid", "70")]);
        let shares = spec.shares();
        assert_eq!((shares.len(), shares[0].1.len(), shares[1].1.len()), (2, 1, 0));
        assert_eq!((&*shares[0].1[0].path, shares[0].1[0].owner.uid), ("", 70));
        assert!(spec.without_clusters().is_empty());
    }

    #[test]
    fn parents_come_before_their_children() {
        for (_, directories) in spec(&[("tablespaces", "x y z"), ("pool", "wal")]).shares() {
            let at = |path: &str| directories.iter().position(|d| d.path == path).unwrap();
            assert!(at("tablespaces") < at("tablespaces/x"));
        }
    }
}

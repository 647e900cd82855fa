//! Limits on what roles may hold, as options give them.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::spec::{Role, TablespaceName};
use crate::pool::{self, Limit};

/// The least that a role may be limited to: an empty cluster fits, with room to work.
const LEAST: u64 = 128 << 20;

/// The most that is held back of a limit.
const RESERVE: u64 = 256 << 20;

/// What a role may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(u64);

/// A size that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are none and whole numbers of M, G or T from 128M on, such as 512M or 20G")]
pub struct SizeError;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bytes = pool::parse_bytes(text).filter(|bytes| (LEAST..1 << 60).contains(bytes));
        bytes.map(Self).ok_or(SizeError)
    }
}

impl Size {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// What is held back of it, so that a server that has filled it can be helped: a sixteenth.
    pub fn reserve(self) -> u64 {
        RESERVE.min(self.0 / 16)
    }

    /// As an option gives it.
    pub fn option(self) -> String {
        format!("{}M", self.0 >> 20)
    }
}

/// The sizes of a volume's roles; those without one hold as much as there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sizes {
    /// Of all that lives with `data` and has no size of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Size>,
    /// Of `wal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<Size>,
    /// Of tablespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tablespaces: BTreeMap<TablespaceName, Size>,
    /// Bytes of `data` that were there before its pool counted what is written.
    pub uncounted: u64,
    /// Whether what is held back was released.
    pub released: bool,
}

impl Sizes {
    /// That of `role`.
    pub fn of(&self, role: &Role) -> Option<Size> {
        match role {
            Role::Data => self.data,
            Role::Wal => self.wal,
            Role::Tablespace(name) => self.tablespaces.get(name).copied(),
        }
    }

    /// What the share with the size of `role` may hold, as its pool is told.
    pub fn limit(&self, role: &Role) -> Option<Limit> {
        let size = self.of(role)?;
        let held_back = if self.released { 0 } else { size.reserve() };
        let uncounted = if *role == Role::Data { self.uncounted } else { 0 };
        Some(Limit { size: size.bytes(), held_back, uncounted })
    }

    /// Those of a copy whose data may hold `data`: its roles are where they are here, and as full; so
    /// what is lent here is lent there, or what is here would not fit.
    #[must_use]
    pub fn of_copy(&self, data: Option<Size>) -> Self {
        Self { data, uncounted: 0, ..self.clone() }
    }

    /// Whether any role has one.
    pub fn is_empty(&self) -> bool {
        self.data.is_none() && self.wal.is_none() && self.tablespaces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let size: Size = "20G".parse().unwrap();
        assert_eq!((size.bytes(), size.option().parse()), (20 << 30, Ok(size)));
        for text in ["", "127M", "20", "-1G", "+1G", "1.5G", "99999999T", "none"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError), "{text}");
        }
    }

    #[test]
    fn a_sixteenth_is_held_back_until_it_is_released() {
        let mut sizes = Sizes { data: Some("160M".parse().unwrap()), ..Sizes::default() };
        let to_fill = |sizes: &Sizes| sizes.limit(&Role::Data).map(Limit::to_fill);
        assert_eq!((to_fill(&sizes), sizes.limit(&Role::Wal)), (Some(150 << 20), None));
        sizes.released = true;
        assert_eq!(to_fill(&sizes), Some(160 << 20));
        // What it holds then fits into a copy too.
        assert_eq!(to_fill(&sizes.of_copy(sizes.data)), Some(160 << 20));
        let large: Size = "1T".parse().unwrap();
        assert_eq!(large.reserve(), 256 << 20);
    }
}

//! The pools of this host, each opened once, behind the start: whoever needs a pool waits for
//! that pool alone. A pool that could not be opened is tried again when it is next needed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::{Pool, PoolError, PoolName};
use plugin_sdk::chain::chain;

/// Opens a pool; called again after a failure.
pub type Opener = Arc<dyn Fn() -> Result<Arc<dyn Pool>, PoolError> + Send + Sync>;

/// See the module.
#[derive(Debug, Default)]
pub struct PoolRegistry {
    slots: BTreeMap<PoolName, Slot>,
}

struct Slot {
    open: Opener,
    pool: OnceCell<Arc<dyn Pool>>,
    trouble: Mutex<Option<String>>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

impl PoolRegistry {
    /// Adds the pool `name`, to be opened by `open` when it is first needed.
    #[must_use]
    pub fn with(mut self, name: PoolName, open: Opener) -> Self {
        let slot = Slot { open, pool: OnceCell::new(), trouble: Mutex::default() };
        self.slots.insert(name, slot);
        self
    }

    /// The names of all pools.
    pub fn names(&self) -> impl Iterator<Item = &PoolName> {
        self.slots.keys()
    }

    /// The pool `name`, opened now if it is not.
    pub async fn get(&self, name: &PoolName) -> Result<Arc<dyn Pool>, PoolError> {
        let slot = self.slots.get(name).ok_or_else(|| self.unknown(name))?;
        slot.pool.get_or_try_init(|| slot.open()).await.cloned()
    }

    fn unknown(&self, name: &PoolName) -> PoolError {
        let known: Vec<_> = self.names().map(ToString::to_string).collect();
        PoolError::Unknown { name: name.clone(), known: known.join(", ") }
    }

    /// The pool `name` if it is open.
    pub fn open_already(&self, name: &PoolName) -> Option<Arc<dyn Pool>> {
        self.slots.get(name)?.pool.get().cloned()
    }

    /// Why the pool `name` could not be opened when that was last tried.
    pub fn trouble(&self, name: &PoolName) -> Option<String> {
        let Some(slot) = self.slots.get(name) else {
            return Some(self.unknown(name).to_string());
        };
        slot.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Slot {
    async fn open(&self) -> Result<Arc<dyn Pool>, PoolError> {
        let open = Arc::clone(&self.open);
        let opened = tokio::task::spawn_blocking(move || open()).await;
        let opened = opened.unwrap_or_else(|panic| Err(PoolError::Internal(panic.to_string())));
        let trouble = opened.as_ref().err().map(|error| chain(error));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::super::DirPool;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_pool_that_did_not_open_is_tried_again_and_then_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let open: Opener = Arc::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(PoolError::NotMade("full".to_owned())),
            _ => Ok(Arc::new(DirPool::open(root.clone())?)),
        });
        let name = PoolName::new("p");
        let pools = PoolRegistry::default().with(name.clone(), open);
        assert!(pools.get(&name).await.is_err());
        assert_eq!(pools.trouble(&name).as_deref(), Some("full"));
        assert!(pools.open_already(&name).is_none());
        assert!(pools.get(&name).await.is_ok() && pools.get(&name).await.is_ok());
        assert_eq!((tries.load(Ordering::SeqCst), pools.trouble(&name)), (2, None));
        assert!(pools.open_already(&name).is_some());
    }

    #[tokio::test]
    async fn a_panic_while_opening_is_an_error() {
        let name = PoolName::new("p");
        let pools = PoolRegistry::default().with(name.clone(), Arc::new(|| panic!("bad day")));
        assert!(matches!(pools.get(&name).await, Err(PoolError::Internal(_))));
    }

    #[tokio::test]
    async fn an_unknown_pool_is_named() {
        let open: Opener = Arc::new(|| Err(PoolError::NotMade("full".to_owned())));
        let pools = PoolRegistry::default().with(PoolName::new("a"), Arc::clone(&open));
        let pools = pools.with(PoolName::new("b"), open);
        let error = pools.get(&PoolName::new("x")).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no pool x; allowed are a, b");
    }
}

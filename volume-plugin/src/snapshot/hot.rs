//! Copies of a volume that servers go on writing to, taken again where a server was quicker.

use std::time::{Duration, Instant};

use super::capture::{Job, Live, clusters};
use super::checks::{self, CheckError, Verified};
use super::{Consistency, Level, SnapshotError, Taken};
use crate::pool::Capture;
use crate::postgres::control::Control;
use crate::volume::error::VolumeError;

/// How often a copy is begun anew.
const MOST_TRIES: u32 = 60;

/// How long after the first try another is begun, where nobody waits for an answer: of the level that was
/// insisted on, or of one that there are others behind.
const PATIENCE_INSISTED: Duration = Duration::from_hours(1);
const PATIENCE: Duration = Duration::from_secs(10);

impl Job<'_> {
    /// One that may be torn, and that the WAL makes whole: `atomic`, or `ordered`.
    pub(super) fn hot(
        &self,
        live: &Live,
        wanted: Consistency,
        begun: Instant,
    ) -> Result<Taken, VolumeError> {
        let mut tries = 0;
        // Else nothing would be left for the barrier.
        let enough = match (wanted, self.pace.deadline()) {
            (Consistency::Auto, Some(deadline)) => {
                begun + deadline.saturating_duration_since(begun) / 2
            }
            (_, Some(deadline)) => deadline,
            (Consistency::Auto, None) => begun + PATIENCE,
            (_, None) => begun + PATIENCE_INSISTED,
        };
        loop {
            let before = live.controls_now()?;
            let taken = self.once(live).and_then(|()| self.checked(live));
            let taken = taken.and_then(|checked| match checked {
                Ok(verified) => self.at_one_moment(live, &before, verified),
                Err(error) => Ok(Err(error)),
            });
            match taken {
                Ok(Err(error)) if self.was_quicker(live, &error)? => {
                    tries += 1;
                    tracing::debug!(?error, tries, "the server was quicker");
                    let took = match wanted {
                        // The next would take as long, of the time of those behind it.
                        Consistency::Auto => self.capture_took.get(),
                        _ => Duration::ZERO,
                    };
                    let is_cancelled = self.pace.progress().is_cancelled();
                    if tries >= MOST_TRIES || is_cancelled || Instant::now() + took >= enough {
                        return Err(error.given_up(wanted, tries));
                    }
                    self.discard()?;
                }
                Ok(Ok(verified)) if verified.partial_pages => {
                    let why = "a server was set to full_page_writes=off".to_owned();
                    return Err(SnapshotError::Level { wanted, why }.into());
                }
                taken => {
                    let level = match wanted {
                        Consistency::Ordered => Level::Ordered,
                        _ if self.is_whole(self.copy)? => Level::Atomic,
                        _ if wanted == Consistency::Atomic => {
                            let why = "roles live in several pools".to_owned();
                            return Err(SnapshotError::Level { wanted, why }.into());
                        }
                        _ => Level::Ordered,
                    };
                    return Self::taken(level, tries, begun, taken);
                }
            }
        }
    }

    /// Whether what was captured in more than one step is as if of one: by the control files `before` it.
    fn at_one_moment(
        &self,
        live: &Live,
        before: &[Control],
        verified: Verified,
    ) -> Result<Result<Verified, CheckError>, VolumeError> {
        let copied = match self.live[0].capture() {
            Capture::AtOnce => &verified.controls[..],
            Capture::FileByFile => &[],
        };
        Ok(match live.moved_on(before, &live.controls_now()?, copied) {
            Some(error) => Err(CheckError::Wal(error)),
            None => Ok(verified),
        })
    }

    /// Whether the copy did not pass since the server was quicker: another may.
    fn was_quicker(&self, live: &Live, error: &CheckError) -> Result<bool, VolumeError> {
        Ok(match error {
            CheckError::Wal(_) => true,
            CheckError::Failed { check: checks::TABLESPACES, .. } => {
                live.has_other_tablespaces(&clusters(self.of, &self.copy[0])?)
            }
            _ => false,
        })
    }

    /// Why there is no copy of a volume that is in use.
    pub(super) fn no_hot_copy(
        &self,
        live: &Live,
        wanted: Consistency,
    ) -> Result<Option<String>, VolumeError> {
        let whole = self.is_whole(self.live)?;
        if wanted == Consistency::Atomic && !whole {
            let pools: Vec<_> = self.live.iter().map(|share| share.pool_name.to_string()).collect();
            return Ok(Some(match self.live[0].capture() {
                Capture::FileByFile => format!("pool {} copies file by file", pools[0]),
                Capture::AtOnce => format!("its roles live in the pools {}", pools.join(" and ")),
            }));
        }
        if live.controls.iter().any(|control| !control.details.full_page_writes) {
            return Ok(Some("a server runs with full_page_writes=off".to_owned()));
        }
        let [control] = &live.controls[..] else {
            let count = live.controls.len();
            let why = format!("it is in use, and holds {count} clusters in several pools");
            return Ok((!whole).then_some(why));
        };
        let minimal = control.wal_level == "minimal" && (!whole || wanted == Consistency::Ordered);
        Ok(minimal.then(|| "a server runs with wal_level=minimal".to_owned()))
    }
}

//! Where a batch goes: one of the kinds of sinks.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::delivery::DeliveryError;
use super::file::{FileOutlet, Receipt};
use super::fluentd::FluentdOutlet;
use super::retry::Backoff;
use super::status::Meter;
use super::syslog::SyslogOutlet;
use crate::journal::{Batch, Dropped};
use plugin_sdk::chain::chain;

/// The end of one sink that delivers.
#[derive(Debug)]
pub(super) enum Outlet {
    File(Box<FileOutlet>),
    Syslog(Box<SyslogOutlet>),
    Fluentd(Box<FluentdOutlet>),
}

impl Outlet {
    /// Delivers `batch`, after saying that `saying` is missing. Tries again after every failure,
    /// which `meter` shows, and ends without having delivered only when it is `replaced`.
    pub(super) async fn deliver(
        self,
        batch: Arc<Batch>,
        saying: Dropped,
        meter: Arc<Meter>,
        replaced: CancellationToken,
    ) -> Result<Self, DeliveryError> {
        let mut backoff = Backoff::default();
        let mut outlet = self;
        let mut accepted = false;
        loop {
            let (returned, delivered) = outlet.attempt(&batch, saying, accepted).await?;
            (outlet, accepted) = (returned, true);
            meter.judge(delivered.as_ref().err().map(|error| chain(error)));
            if delivered.is_ok() {
                return Ok(outlet);
            }
            tokio::select! {
                () = replaced.cancelled() => return Err(DeliveryError::Replaced),
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    async fn attempt(
        self,
        batch: &Arc<Batch>,
        saying: Dropped,
        accepted: bool,
    ) -> Result<(Self, Result<(), DeliveryError>), DeliveryError> {
        match self {
            Self::File(mut outlet) => {
                let batch = Arc::clone(batch);
                let attempt = tokio::task::spawn_blocking(move || {
                    if !accepted {
                        outlet.accept(&batch.entries, saying);
                    }
                    let written = outlet.write();
                    (outlet, written)
                });
                let (outlet, written) = attempt.await?;
                Ok((Self::File(outlet), written.map_err(DeliveryError::File)))
            }
            Self::Syslog(mut outlet) => {
                if !accepted {
                    outlet.accept(&batch.entries, saying);
                }
                let sent = outlet.send().await;
                Ok((Self::Syslog(outlet), sent.map_err(DeliveryError::Syslog)))
            }
            Self::Fluentd(mut outlet) => {
                if !accepted {
                    outlet.accept(&batch.entries, saying);
                }
                let sent = outlet.send().await;
                Ok((Self::Fluentd(outlet), sent.map_err(DeliveryError::Fluentd)))
            }
        }
    }

    /// How many more of the batches need not be delivered again after a kill.
    pub(super) fn take_settled(&mut self, delivered: usize) -> usize {
        match self {
            Self::File(_) => delivered,
            Self::Syslog(outlet) => outlet.take_settled(),
            Self::Fluentd(outlet) => outlet.take_settled(),
        }
    }

    /// Whether waiting for [`Outlet::settle`] has a point.
    pub(super) fn is_unsettled(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Syslog(outlet) => outlet.is_unsettled(),
            Self::Fluentd(outlet) => outlet.is_unsettled(),
        }
    }

    /// Waits until all batches are settled. May be given up at any time.
    pub(super) async fn settle(&mut self) -> Result<(), DeliveryError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Syslog(outlet) => outlet.settle().await.map_err(DeliveryError::Syslog),
            Self::Fluentd(outlet) => outlet.settle().await.map_err(DeliveryError::Fluentd),
        }
    }

    /// What a file holds of all that was delivered.
    pub(super) fn receipt(&self) -> Receipt {
        match self {
            Self::File(outlet) => outlet.receipt(),
            Self::Syslog(_) | Self::Fluentd(_) => Receipt::default(),
        }
    }

    /// The log has ended.
    pub(super) async fn close(self) {
        match self {
            Self::File(_) => {}
            Self::Syslog(outlet) => outlet.close().await,
            Self::Fluentd(outlet) => outlet.close().await,
        }
    }
}

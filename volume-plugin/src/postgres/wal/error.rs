//! Why WAL is not what a server recovers from.

use std::io;

use crate::postgres::control::Lsn;

/// Why a copy of WAL cannot be recovered from.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The cluster has a segment or page size that no PostgreSQL has.
    #[error("the control file names no possible size of segments or of their pages")]
    Size,
    /// The copy has its control file from one and other files from another.
    #[error("the server went from timeline {was} to {is}")]
    Timeline {
        /// Of the copy's control file.
        was: u32,
        /// That of the server's, when all was copied.
        is: u32,
    },
    /// What was written before it, and is part of it, may be missing.
    #[error("the server ended a checkpoint at {0}")]
    Checkpointed(Lsn),
    /// Records end before what makes a base backup whole.
    #[error("the WAL ends at {end}, before the end of the base backup that began at {start}")]
    Backup {
        /// Where they end.
        end: Lsn,
        /// Where the backup began.
        start: Lsn,
    },
    /// The segment with the redo point is not there, or is another one by now.
    #[error("the WAL has no segment with the redo point {0}")]
    Redo(Lsn),
    /// Records end too soon.
    #[error("the WAL ends at {end}, before the checkpoint record at {checkpoint} is whole")]
    Checkpoint {
        /// Where they end.
        end: Lsn,
        /// The checkpoint.
        checkpoint: Lsn,
    },
    /// Records end too soon for a cluster that was recovering.
    #[error("the WAL ends at {end}, and has to reach {needed}")]
    Recovery {
        /// Where they end.
        end: Lsn,
        /// Where they have to end at least.
        needed: Lsn,
    },
    /// Something between is missing.
    #[error("the WAL ends at {end}, although there is a later segment {later}")]
    Hole {
        /// Where it ends.
        end: Lsn,
        /// A segment behind.
        later: String,
    },
    /// The system refused.
    #[error("read the WAL: {0}")]
    Io(#[from] io::Error),
}

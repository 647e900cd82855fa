//! The write-ahead log as files: which segment a file is, and how far records can be read.
//!
//! What is here judges copies: nothing is replayed, and no record is understood beyond what says where
//! the next one begins.

mod error;
mod images;
#[cfg(test)]
pub(crate) mod sample;
mod segment;
mod walk;
mod written;

pub use error::WalError;
pub use images::{Block, whole_blocks};
pub use segment::{Segment, list};
pub use walk::{Walk, belongs, walk};
pub use written::written;

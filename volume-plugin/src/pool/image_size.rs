//! How large an image is made: as asked for, as long as the host keeps enough for itself.

use std::str::FromStr;

use crate::sys::file::Space;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The least that the image leaves to the host, beside 5 % of its file system: the WAL of every
/// volume lives there.
const FLOOR: u64 = 4 * GIB;

/// The smallest image worth having.
const SMALLEST: u64 = 256 * MIB;

/// The size asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize(u64);

/// A size that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are sizes from 256M on, such as 512M, 10G or 2T")]
pub struct ImageSizeError;

impl FromStr for ImageSize {
    type Err = ImageSizeError;

    fn from_str(text: &str) -> Result<Self, ImageSizeError> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "M" | "MB" | "MIB" => MIB,
            "G" | "GB" | "GIB" => GIB,
            "T" | "TB" | "TIB" => 1024 * GIB,
            _ => return Err(ImageSizeError),
        };
        let count: u64 = digits.parse().map_err(|_| ImageSizeError)?;
        let size = count.checked_mul(unit).filter(|size| (SMALLEST..1 << 60).contains(size));
        size.map(Self).ok_or(ImageSizeError)
    }
}

impl ImageSize {
    /// The size on a file system with this space: at most half of what is free above the floor,
    /// in whole MiB. The error says what is there.
    pub(super) fn on(self, space: Space) -> Result<u64, String> {
        let floor = FLOOR.max(space.total / 20);
        let allowed = space.free.saturating_sub(floor) / 2;
        let size = self.0.min(allowed) / MIB * MIB;
        if size >= SMALLEST {
            return Ok(size);
        }
        Err(format!(
            "no room for the pool: the host has {} MiB free and keeps {} MiB for itself; \
             an image takes half of the rest and at least {} MiB",
            space.free / MIB,
            floor / MIB,
            SMALLEST / MIB,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(text: &str, total: u64, free: u64) -> Result<u64, String> {
        text.parse::<ImageSize>().unwrap().on(Space { total: total * GIB, free: free * GIB })
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("256M", 256 * MIB), ("10G", 10 * GIB), ("1t", 1024 * GIB)] {
            assert_eq!(text.parse(), Ok(ImageSize(bytes)), "{text}");
        }
        for text in ["", "10", "G", "255M", "-1G", "1.5G", "10 G", "99999999T", "10Gx"] {
            assert_eq!(text.parse::<ImageSize>(), Err(ImageSizeError), "{text}");
        }
    }

    #[test]
    fn the_host_keeps_its_floor_and_half_of_the_rest() {
        assert_eq!(on("10G", 100, 90), Ok(10 * GIB));
        // 4 GiB are the floor, half of the other 6 is the image's.
        assert_eq!(on("10G", 40, 10), Ok(3 * GIB));
        // 5 % of 400 GiB are more than 4 GiB.
        assert_eq!(on("100G", 400, 40), Ok(10 * GIB));
    }

    #[test]
    fn a_full_host_is_told_the_numbers() {
        let error = on("10G", 100, 4).unwrap_err();
        assert!(error.contains("4096 MiB free"), "{error}");
        assert!(on("10G", 100, 0).is_err());
    }
}

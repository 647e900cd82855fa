//! How large an image is: made as asked for, grown ahead of use and shrunk again, as long as the
//! host keeps enough for itself. Pure: sizes in, sizes out.

use std::str::FromStr;

use crate::sys::file::Space;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The least that the image leaves to the host, beside 5 % of its file system: the WAL of every
/// volume lives there.
const FLOOR: u64 = 4 * GIB;

/// The smallest image worth having.
const SMALLEST: u64 = 256 * MIB;

/// The most that an image grows or shrinks by in one step: so much is moved at once at most.
const STEP: u64 = GIB;

/// The least that it grows or shrinks by: less is not worth a step.
const LEAST: u64 = 64 * MIB;

/// However large an image is, this much free is far ahead of use.
const AMPLE: u64 = 8 * GIB;

/// The size asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize(u64);

/// A size that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are whole numbers of M, G or T from 256M on, such as 512M or 10G")]
pub struct ImageSizeError;

impl FromStr for ImageSize {
    type Err = ImageSizeError;

    fn from_str(text: &str) -> Result<Self, ImageSizeError> {
        let size = parse_bytes(text).filter(|size| (SMALLEST..1 << 60).contains(size));
        size.map(Self).ok_or(ImageSizeError)
    }
}

/// Bytes as settings and options give them: a number with M, G or T.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "M" | "MB" | "MIB" => MIB,
        "G" | "GB" | "GIB" => GIB,
        "T" | "TB" | "TIB" => 1024 * GIB,
        _ => return None,
    };
    // No sign: `+1G` could be meant as one more.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

/// The largest size that an image grows to by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimit(Option<ImageSize>);

/// A limit that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are none and whole numbers of M, G or T from 256M on, such as 512M or 10G")]
pub struct ImageLimitError;

impl FromStr for ImageLimit {
    type Err = ImageLimitError;

    fn from_str(text: &str) -> Result<Self, ImageLimitError> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|size| Self(Some(size))).map_err(|_| ImageLimitError)
    }
}

/// What an image's size moves between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Its size when it is made; it never shrinks below.
    pub size: ImageSize,
    /// Beyond this it does not grow.
    pub limit: ImageLimit,
}

impl Bounds {
    /// The size that a new image gets on a file system with this space: at most half of what is
    /// free above the floor, in whole MiB. The error says what is there.
    pub(super) fn first(self, space: Space) -> Result<u64, String> {
        let ImageLimit(limit) = self.limit;
        let wanted = limit.map_or(self.size.0, |limit| limit.0.min(self.size.0));
        let floor = floor(space);
        let allowed = space.free.saturating_sub(floor) / 2;
        let size = wanted.min(allowed) / MIB * MIB;
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

    /// By how much an image of `size` may still grow on a host with this space.
    pub(super) fn growable(self, size: u64, host: Space) -> u64 {
        let ImageLimit(limit) = self.limit;
        let allowed = limit.map_or(u64::MAX, |limit| limit.0.saturating_sub(size));
        let spare = host.free.saturating_sub(floor(host)) / MIB * MIB;
        Some(spare.min(allowed)).filter(|bytes| *bytes >= LEAST).unwrap_or(0)
    }

    /// The size after the next step of growth; none where there is none.
    pub(super) fn grown(self, size: u64, host: Space) -> Option<u64> {
        let step = (size / 4 / MIB * MIB).clamp(4 * LEAST, 16 * STEP);
        let step = step.min(self.growable(size, host));
        (step > 0).then_some(size + step)
    }

    /// The size after the next step of giving back, where so much of an image of `size` is free
    /// that it would not grow again at once.
    pub(super) fn shrunk(self, size: u64, free: u64) -> Option<u64> {
        let idle = free.saturating_sub(headroom(size)).min(size.saturating_sub(self.size.0));
        let step = idle.min(STEP) / MIB * MIB;
        (step >= LEAST).then(|| size - step)
    }
}

/// How much of an image of `size` is free before it needs to grow.
pub(super) fn headroom(size: u64) -> u64 {
    (size / 4).min(AMPLE)
}

/// What the image leaves to the host.
pub(super) fn floor(host: Space) -> u64 {
    FLOOR.max(host.total / 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(size: &str, limit: &str) -> Bounds {
        Bounds { size: size.parse().unwrap(), limit: limit.parse().unwrap() }
    }

    fn host(total: u64, free: u64) -> Space {
        Space { total: total * GIB, free: free * GIB }
    }

    fn first(size: &str, limit: &str, total: u64, free: u64) -> Result<u64, String> {
        bounds(size, limit).first(host(total, free))
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("256M", 256 * MIB), ("10G", 10 * GIB), ("1t", 1024 * GIB)] {
            assert_eq!(text.parse(), Ok(ImageSize(bytes)), "{text}");
            assert_eq!(text.parse(), Ok(ImageLimit(Some(ImageSize(bytes)))), "{text}");
        }
        for text in ["", "10", "G", "255M", "-1G", "+1G", "1.5G", "10 G", "99999999T", "10Gx"] {
            assert_eq!(text.parse::<ImageSize>(), Err(ImageSizeError), "{text}");
            assert_eq!(text.parse::<ImageLimit>(), Err(ImageLimitError), "{text}");
        }
        assert_eq!("none".parse(), Ok(ImageLimit(None)));
    }

    #[test]
    fn the_host_keeps_its_floor_and_half_of_the_rest() {
        assert_eq!(first("10G", "none", 100, 90), Ok(10 * GIB));
        assert_eq!(first("10G", "5G", 100, 90), Ok(5 * GIB));
        // 4 GiB are the floor, half of the other 6 is the image's.
        assert_eq!(first("10G", "none", 40, 10), Ok(3 * GIB));
        // 5 % of 400 GiB are more than 4 GiB.
        assert_eq!(first("100G", "none", 400, 40), Ok(10 * GIB));
    }

    #[test]
    fn a_full_host_is_told_the_numbers() {
        let error = first("10G", "none", 100, 4).unwrap_err();
        assert!(error.contains("4096 MiB free"), "{error}");
        assert!(first("10G", "none", 100, 0).is_err());
    }

    #[test]
    fn an_image_grows_by_a_quarter_up_to_its_limit_and_the_host_s_floor() {
        let free = bounds("10G", "none");
        assert_eq!(free.grown(20 * GIB, host(1000, 500)), Some(25 * GIB));
        assert_eq!(free.grown(GIB, host(1000, 500)), Some(GIB + 256 * MIB));
        assert_eq!(free.grown(1000 * GIB, host(9000, 5000)), Some(1016 * GIB));
        // 50 GiB are the floor.
        assert_eq!(free.grown(20 * GIB, host(1000, 52)), Some(22 * GIB));
        assert_eq!(
            (free.grown(20 * GIB, host(1000, 50)), free.growable(GIB, host(10, 1))),
            (None, 0)
        );
        let limited = bounds("10G", "22G");
        assert_eq!(limited.grown(20 * GIB, host(1000, 500)), Some(22 * GIB));
        assert_eq!(limited.grown(22 * GIB, host(1000, 500)), None);
        // It was larger before the limit was set.
        assert_eq!(limited.growable(23 * GIB, host(1000, 500)), 0);
    }

    #[test]
    fn what_was_given_back_is_not_wanted_again_at_once() {
        let bounds = bounds("10G", "none");
        let mut size = 40 * GIB;
        let used = 4 * GIB;
        while let Some(next) = bounds.shrunk(size, size - used) {
            assert!(next < size && size - next <= STEP);
            size = next;
            assert!(size - used >= headroom(size), "{size} would grow");
        }
        assert_eq!(size, 10 * GIB);
        assert_eq!(bounds.shrunk(40 * GIB, 8 * GIB), None);
        assert_eq!(bounds.shrunk(5 * GIB, 5 * GIB), None);
    }
}

//! Pieces of msgpack, appended to a vector.

use rmp::Marker;
use rmp::encode::{self, ValueWriteError};

/// The type of an event's time among msgpack's extensions.
const EVENT_TIME: i8 = 0;

/// 128 bits in base64 (RFC 4648).
pub(super) fn base64(bits: [u8; 16]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let number = u128::from_be_bytes(bits);
    // 21 letters of 6 bits, the last two bits, and what fills them up to whole groups of four.
    let letter = |at: u32| LETTERS[(number >> (122 - 6 * at)) as usize % 64] as char;
    let mut text: String = (0..21).map(letter).collect();
    text.push(LETTERS[(number << 4) as usize % 64] as char);
    text.push_str("==");
    text
}

pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    endless(encode::write_uint(out, number));
}

pub(super) fn array(out: &mut Vec<u8>, length: u32) {
    endless(encode::write_array_len(out, length));
}

pub(super) fn map(out: &mut Vec<u8>, length: u32) {
    endless(encode::write_map_len(out, length));
}

/// A string, which like Go's need not be UTF-8.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    endless(encode::write_str_len(out, length(bytes)));
    out.extend_from_slice(bytes);
}

pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    endless(encode::write_bin_len(out, length(bytes)));
    out.extend_from_slice(bytes);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A vector takes whatever is written to it.
fn endless(written: Result<Marker, ValueWriteError>) {
    debug_assert!(written.is_ok());
    drop(written);
}

/// A time as fluentd's protocol has it.
pub(super) fn event_time(out: &mut Vec<u8>, seconds: u32, nanos: u32) {
    endless(encode::write_ext_meta(out, 8, EVENT_TIME));
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&nanos.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        assert_eq!(base64([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(base64([0xff; 16]), "/////////////////////w==");
        assert_eq!(base64(*b"0123456789abcdef"), "MDEyMzQ1Njc4OWFiY2RlZg==");
    }
}

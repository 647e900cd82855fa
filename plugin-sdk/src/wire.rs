//! Docker's JSON habits: Go sends `null` for an empty map or list, and retried requests have no
//! body at all.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// Reads `null` as the type's default. Go's nil maps and slices are marshalled as `null`.
///
/// Use with `#[serde(default, deserialize_with = "plugin_sdk::wire::null_as_default")]`.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Parses the first JSON value of a request body; an empty body reads as `{}`.
///
/// dockerd sends no body where a call has no arguments, and also when it retries a request
/// (moby `pkg/plugins/client.go`: the reader is used up by the first attempt), so each request
/// type must be able to tell "nothing was said" from a real request.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Request {
        #[serde(rename = "Opts", default, deserialize_with = "null_as_default")]
        opts: BTreeMap<String, String>,
    }

    #[test]
    fn null_missing_and_empty_body_are_the_default() {
        for body in [&b"{\"Opts\":null}\n"[..], b"{}", b"", b"\n"] {
            assert_eq!(parse::<Request>(body).unwrap(), Request { opts: BTreeMap::new() });
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(parse::<Request>(b"{\"Opts\":").is_err());
        assert!(parse::<Request>(b"[]x").is_err());
    }
}

//! A short name for a content, so that a plan can say which model and cluster it was made for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quantity::{self, Quantity};

/// 64 bits that follow from a content; printed as 16 hexadecimal digits. Not a defence against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub u64);

/// The digest of a text, by FNV-1a (Fowler, Noll and Vo 1991).
pub fn digest(text: &str) -> Digest {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    Digest(text.bytes().fold(BASIS, |state, byte| (state ^ u64::from(byte)).wrapping_mul(PRIME)))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Written like a quantity without a unit, so that a wrong one is reported like a wrong quantity.
impl Quantity for Digest {
    const FORM: &'static str = "a digest of 16 hexadecimal digits";

    fn parse(text: &str) -> Option<Digest> {
        let is_digest = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_digest).map(Digest)
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        quantity::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        quantity::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        assert_eq!(digest("").to_string(), "cbf29ce484222325");
        assert_eq!(digest("a").to_string(), "af63dc4c8601ec8c");
        assert_eq!(digest("foobar").to_string(), "85944171f73967e8");
    }

    #[test]
    fn a_digest_is_read_back() {
        assert_eq!(Digest::parse("00000000000004d2"), Some(Digest(1234)));
        assert_eq!(Digest::parse("4d2"), None);
        assert_eq!(Digest::parse("+0000000000004d2"), None);
    }
}

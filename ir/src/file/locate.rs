//! Where in a YAML text a key stands, so that what is wrong with a value can be said with its line.
//!
//! The YAML parser attaches the place to an error that arises while it reads. So the text is read once more by a
//! visitor that follows the path and fails on purpose when it arrives.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One key or index on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Into a mapping.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Segment {
        Segment::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Segment {
        Segment::Index(index)
    }
}

/// Line and column, both from 1, of the last segment that exists on the way; none if not even the first does.
pub(crate) fn locate(text: &str, path: &[Segment]) -> Option<(usize, usize)> {
    (1..=path.len()).rev().find_map(|length| exact(text, &path[..length]))
}

fn exact(text: &str, path: &[Segment]) -> Option<(usize, usize)> {
    let error = Seek(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    if !error.to_string().contains(FOUND) {
        return None;
    }
    error.location().map(|location| (location.line(), location.column()))
}

const FOUND: &str = "\u{1}found\u{1}";

/// Follows a path; with none left, fails at once.
struct Seek<'a>(&'a [Segment]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Reached when a scalar stands where the path ends, or where it would go on.
        f.write_str(if self.0.is_empty() { FOUND } else { "a mapping or a list" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Err(de::Error::custom(FOUND)) };
        let Segment::Key(key) = first else { return Err(de::Error::custom("not a list")) };
        while let Some(here) = map.next_key_seed(SeekKey { key, arrival: Arrival::of(rest) })? {
            if here {
                return map.next_value_seed(Seek(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Err(de::Error::custom(FOUND)) };
        let Segment::Index(index) = first else { return Err(de::Error::custom("not a mapping")) };
        for _ in 0..*index {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        list.next_element_seed(Seek(rest)).map(|_| ())
    }
}

/// Whether a key is the end of the path.
#[derive(Clone, Copy)]
enum Arrival {
    Here,
    Later,
}

impl Arrival {
    fn of(rest: &[Segment]) -> Arrival {
        if rest.is_empty() { Arrival::Here } else { Arrival::Later }
    }
}

/// Reads a key and says whether it is the one that is sought; fails on it if the path ends there.
struct SeekKey<'a> {
    key: &'a str,
    arrival: Arrival,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        match self.arrival {
            Arrival::Here if text == self.key => Err(E::custom(FOUND)),
            Arrival::Here | Arrival::Later => Ok(text == self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "format: 1\ntraining:\n  batch: 0\n  betas: [0.9,\n    2]\nlayers: { 0..3: { data: 2 }, 3..6:\n  {data: 1} }\n";

    #[test]
    fn keys_and_elements_are_found_in_block_and_flow_style() {
        let place = |path: &[Segment]| locate(TEXT, path);
        assert_eq!(place(&["training".into()]), Some((2, 1)));
        assert_eq!(place(&["training".into(), "batch".into()]), Some((3, 3)));
        assert_eq!(place(&["training".into(), "betas".into(), 1.into()]), Some((5, 5)));
        assert_eq!(place(&["layers".into(), "3..6".into(), "data".into()]), Some((7, 4)));
    }

    #[test]
    fn a_missing_key_is_where_its_parent_is() {
        assert_eq!(locate(TEXT, &["training".into(), "warmup_steps".into()]), Some((2, 1)));
        assert_eq!(locate(TEXT, &["nothing".into()]), None);
    }
}

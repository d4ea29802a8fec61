//! Words of closed lists, and shapes, as they stand in files.

use serde::de::{Deserialize, Deserializer, Error, Unexpected};
use serde::ser::{Serialize, Serializer};

use crate::graph::Element;
use crate::layout::ExchangeKind;
use crate::op::{Addend, OpKind, Write};
use crate::profile::Shape;

/// Reads and writes a word of a closed list; the error lists all, so that the nearest can be offered.
macro_rules! words {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                const NAMES: [&str; <$type>::ALL.len()] = {
                    let mut names = [""; <$type>::ALL.len()];
                    let mut next = 0;
                    while next < names.len() {
                        names[next] = <$type>::ALL[next].name();
                        next += 1;
                    }
                    names
                };
                let text = String::deserialize(deserializer)?;
                let found = <$type>::ALL.into_iter().find(|item| item.name() == text);
                found.ok_or_else(|| Error::unknown_variant(&text, &NAMES))
            }
        }
    };
}

words!(OpKind);
words!(Element);
words!(Write);
words!(Addend);
words!(ExchangeKind);

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"letters with sizes, such as `b2 h768 s1024` or `m8 n4 k16 nt`";
        text.parse().map_err(|_| Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

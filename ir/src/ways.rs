//! How a library is told to compute products of matrices: of the several ways that it knows, the one that was measured
//! to be fastest. A plan holds those of its products, so that each of its runs computes the same.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::profile::Work;

/// A way in which a library computes a product, in its own words: they mean something to the version that said them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way(pub [u64; 8]);

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().rposition(|&word| word != 0).map_or(1, |last| last + 1);
        for (place, word) in self.0[..used].iter().enumerate() {
            write!(f, "{}{word:x}", if place == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

/// A text that is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWay;

impl FromStr for Way {
    type Err = NoWay;

    fn from_str(text: &str) -> Result<Way, NoWay> {
        let mut words = [0; 8];
        for (place, part) in text.split('-').enumerate() {
            let is_plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let word = u64::from_str_radix(part, 16).ok().filter(|_| is_plain);
            *words.get_mut(place).ok_or(NoWay)? = word.ok_or(NoWay)?;
        }
        Ok(Way(words))
    }
}

/// Ways of several products. Those that are not among them are computed as the library expects to be fastest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ways {
    /// The library and its version; empty if there are no ways.
    pub library: String,
    /// By product.
    pub products: BTreeMap<Work, Way>,
}

impl Ways {
    /// Those of some works.
    pub fn of(&self, works: impl IntoIterator<Item = Work>) -> Ways {
        let known = works.into_iter().filter_map(|work| self.products.get_key_value(&work));
        let products: BTreeMap<Work, Way> = known.map(|(work, &way)| (work.clone(), way)).collect();
        let library = if products.is_empty() { String::new() } else { self.library.clone() };
        Ways { library, products }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.products.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_read_back() {
        for words in [[0; 8], [1, 0, 0, 0, 0, 0, 0, 0], [0x42, 0, u64::MAX, 7, 0, 0, 0, 0], [9; 8]] {
            assert_eq!(Way(words).to_string().parse(), Ok(Way(words)));
        }
        assert_eq!(Way([0x42, 0, 0xff, 0, 0, 0, 0, 0]).to_string(), "42-0-ff");
        for text in ["", "-", "1-", "+1", "g", "10000000000000000", "1-1-1-1-1-1-1-1-1"] {
            assert_eq!(text.parse::<Way>(), Err(NoWay), "{text}");
        }
    }
}

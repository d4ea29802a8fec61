//! How large the operands of a kernel are, as far as its time depends on it.

use std::fmt;
use std::str::FromStr;

use crate::op::{Product, Storage};

/// The sizes by which a kernel is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Of a product of matrices: `m8 n4 k16 nt`.
    Product(Product),
    /// Of any other kernel: `b2 h768 s1024`.
    Letters(LetterSizes),
}

/// Letters of operands, each with its size.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterSizes(
    // Invariant: in the order of letters, each at most once.
    Vec<(char, u64)>,
);

impl LetterSizes {
    /// The size of a letter; 1 if no operand has it.
    pub fn size(&self, letter: char) -> u64 {
        self.0.iter().find(|&&(other, _)| other == letter).map_or(1, |&(_, size)| size)
    }

    /// All letters and sizes, in the order of letters.
    pub fn iter(&self) -> impl Iterator<Item = (char, u64)> {
        self.0.iter().copied()
    }

    /// Sets the size of a letter; false if it had one.
    fn insert(&mut self, letter: char, size: u64) -> bool {
        match self.0.binary_search_by_key(&letter, |&(other, _)| other) {
            Ok(place) => {
                self.0[place].1 = size;
                false
            }
            Err(place) => {
                self.0.insert(place, (letter, size));
                true
            }
        }
    }
}

impl FromIterator<(char, u64)> for LetterSizes {
    /// Of a letter that comes twice, the last size counts.
    fn from_iter<I: IntoIterator<Item = (char, u64)>>(sizes: I) -> LetterSizes {
        let mut all = LetterSizes(Vec::with_capacity(8));
        for (letter, size) in sizes {
            all.insert(letter, size);
        }
        all
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Product(Product { rows, columns, inner, a, b }) => {
                write!(f, "m{rows} n{columns} k{inner} {}{}", storage_letter(*a), storage_letter(*b))
            }
            Shape::Letters(sizes) => {
                for (place, (letter, size)) in sizes.iter().enumerate() {
                    write!(f, "{}{letter}{size}", if place == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    }
}

/// `n`: as stored; `t`: transposed.
fn storage_letter(storage: Storage) -> char {
    match storage {
        Storage::InnerLast => 'n',
        Storage::InnerFirst => 't',
    }
}

/// A text that is no shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoShape;

impl FromStr for Shape {
    type Err = NoShape;

    fn from_str(text: &str) -> Result<Shape, NoShape> {
        let mut sizes = LetterSizes::default();
        let mut form = None;
        for word in text.split_whitespace() {
            let letter = word.chars().next().filter(char::is_ascii_lowercase).ok_or(NoShape)?;
            match (word[1..].parse::<u64>(), form) {
                (Ok(size), None) if size > 0 && sizes.insert(letter, size) => {}
                (Err(_), None) => form = Some(parse_form(word).ok_or(NoShape)?),
                (Ok(_), _) | (Err(_), Some(_)) => return Err(NoShape),
            }
        }
        match (form, sizes.0.as_slice()) {
            (None, _) => Ok(Shape::Letters(sizes)),
            (Some([a, b]), &[('k', inner), ('m', rows), ('n', columns)]) => {
                Ok(Shape::Product(Product { rows, columns, inner, a, b }))
            }
            (Some(_), _) => Err(NoShape),
        }
    }
}

fn parse_form(word: &str) -> Option<[Storage; 2]> {
    match word {
        "nn" => Some([Storage::InnerLast, Storage::InnerLast]),
        "nt" => Some([Storage::InnerLast, Storage::InnerFirst]),
        "tn" => Some([Storage::InnerFirst, Storage::InnerLast]),
        "tt" => Some([Storage::InnerFirst, Storage::InnerFirst]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_read_back() {
        for text in ["m8 n4 k16 nt", "m1 n1 k1 nn", "b2 h768 s1024", "n18446744073709551615", ""] {
            assert_eq!(text.parse::<Shape>().map(|shape| shape.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("s4 b2".parse::<Shape>(), "b2 s4".parse());
    }

    #[test]
    fn what_is_no_shape_is_not_read() {
        for text in ["b0 h2", "b2.5", "b", "b2 b3", "nt tn", "m8 n4 nt", "m8 n4 k16 nx", "nt m8 n4 k16", "é2", "b-1"] {
            assert_eq!(text.parse::<Shape>(), Err(NoShape), "{text}");
        }
    }
}

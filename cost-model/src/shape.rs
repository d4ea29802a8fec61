//! The sizes in a profile's keys, and how much work they stand for.

/// What `Kernel::work` writes as the shape of a kernel, read back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Letters and sizes, in the order of the key.
    sizes: Vec<(char, f64)>,
    /// How the factors of a product are stored: two of `n` and `t`; empty for all else.
    pub(crate) form: String,
}

impl Shape {
    /// Reads `b2 h768 s1024` or `m8 n4 k16 nt`. None if it is neither.
    pub(crate) fn parse(text: &str) -> Option<Shape> {
        let mut shape = Shape { sizes: Vec::new(), form: String::new() };
        for word in text.split_whitespace() {
            let letter = word.chars().next()?;
            match word[letter.len_utf8()..].parse::<f64>() {
                Ok(size) if size > 0.0 && size.is_finite() => shape.sizes.push((letter, size)),
                Ok(_) => return None,
                Err(_) if shape.form.is_empty() => shape.form = word.to_owned(),
                Err(_) => return None,
            }
        }
        Some(shape)
    }

    /// The size of a letter; 1 if the shape lacks it.
    pub(crate) fn size(&self, letter: char) -> f64 {
        self.sizes.iter().find(|&&(other, _)| other == letter).map_or(1.0, |&(_, size)| size)
    }

    /// The product of all sizes but those of `skipped`.
    pub(crate) fn elements(&self, skipped: &[char]) -> f64 {
        self.sizes.iter().filter(|(letter, _)| !skipped.contains(letter)).map(|&(_, size)| size).product()
    }

    /// Rows, columns and inner size of a product.
    pub(crate) fn product(&self) -> [f64; 3] {
        ['m', 'n', 'k'].map(|letter| self.size(letter))
    }

    /// What the time of a kernel other than a product grows with: elements that it passes over; for attention, pairs
    /// of positions. Tables are looked up, not passed over, so their length does not count.
    pub(crate) fn amount(&self, op: &str) -> f64 {
        match op {
            "attention" | "attention-gradient" => {
                let [b, s, g, c, d] = ['b', 's', 'g', 'c', 'd'].map(|letter| self.size(letter));
                b * s * s * g * (c - 2.0).max(1.0) * d
            }
            "embed" | "embed-gradient" => self.elements(&['v']),
            "position" | "position-gradient" => self.elements(&['p']),
            _ => self.elements(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let product = Shape::parse("m8 n4 k16 nt").expect("a product");
        assert_eq!((product.product(), product.form.as_str()), ([8.0, 4.0, 16.0], "nt"));
        let norm = Shape::parse("b2 h768 s1024").expect("letters");
        assert!((norm.amount("layer-norm") - 2.0 * 768.0 * 1024.0).abs() < 1e-9);
        assert_eq!(Shape::parse("b0 h2"), None);
        assert_eq!(Shape::parse("nt tn"), None);
    }

    #[test]
    fn a_longer_table_is_not_more_work() {
        let amount = |text: &str| Shape::parse(text).expect("letters").amount("embed");
        assert_eq!(amount("b2 h8 s4 v100").to_bits(), amount("b2 h8 s4 v900").to_bits());
    }
}

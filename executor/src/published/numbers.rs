//! Numbers as published files store them, and as they are here: in 32 bits.

use kernels::bf16::Bf16;

/// How a published file stores its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In 32 bits.
    F32,
    /// In 16 bits, with the exponent of 32: the upper half of these.
    Bf16,
    /// In 16 bits (IEEE 754 binary16). It can be read, but is not written.
    F16,
}

impl Stored {
    /// By its word in the header of a file.
    pub(super) fn of(word: &str) -> Option<Stored> {
        match word {
            "F32" => Some(Stored::F32),
            "BF16" => Some(Stored::Bf16),
            "F16" => Some(Stored::F16),
            _ => None,
        }
    }

    /// Its word in the header of a file.
    pub(super) fn word(self) -> &'static str {
        match self {
            Stored::F32 => "F32",
            Stored::Bf16 => "BF16",
            Stored::F16 => "F16",
        }
    }

    /// Its word in config.json.
    pub(super) fn config_word(self) -> &'static str {
        match self {
            Stored::F32 => "float32",
            Stored::Bf16 => "bfloat16",
            Stored::F16 => "float16",
        }
    }

    /// Bytes that one takes.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Stored::F32 => 4,
            Stored::Bf16 | Stored::F16 => 2,
        }
    }

    /// Numbers from the bytes of a file, exactly.
    pub(super) fn read(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Stored::F32 => values.extend(bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word))),
            Stored::Bf16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&word| Bf16(u16::from_le_bytes(word)).widened()));
            }
            Stored::F16 => values.extend(bytes.as_chunks().0.iter().map(|&word| widened(u16::from_le_bytes(word)))),
        }
    }

    /// Numbers as the bytes of a file, rounded to the nearest.
    ///
    /// # Panics
    /// If it is `F16`, which is not written.
    pub(super) fn write(self, values: &[f32]) -> Vec<u8> {
        match self {
            Stored::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Stored::Bf16 => values.iter().flat_map(|value| Bf16::rounded(*value).0.to_le_bytes()).collect(),
            Stored::F16 => panic!("16 bits of few exponents are not written"),
        }
    }
}

/// A number of 1 sign, 5 exponent and 10 fraction bits.
fn widened(bits: u16) -> f32 {
    let [sign, exponent, fraction] = [bits >> 15, bits >> 10 & 0x1f, bits & 0x3ff].map(u32::from);
    let size = match exponent {
        // 2⁻²⁴ is the smallest.
        0 => fraction as f32 * f32::from_bits((127 - 24) << 23),
        0x1f => f32::from_bits(0xff << 23 | fraction << 13),
        _ => f32::from_bits((exponent + 127 - 15) << 23 | fraction << 13),
    };
    if sign == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_what_the_standard_says() {
        let known = [
            (0x0000, 0.0),
            (0x0001, 2.0_f32.powi(-24)),
            (0x03ff, 1023.0 / 1024.0 / 16384.0),
            (0x0400, 1.0 / 16384.0),
            (0x3555, 0.333_251_95),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in known {
            assert_eq!(widened(bits).to_bits(), value.to_bits(), "{bits:x}");
        }
        assert!(widened(0x7e00).is_nan() && widened(0x8000).is_sign_negative());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let values = [0.0, -1.5, 3.25e-5, f32::MAX];
        let mut back = Vec::new();
        Stored::F32.read(&Stored::F32.write(&values), &mut back);
        assert_eq!(back, values);
        back.clear();
        Stored::Bf16.read(&Stored::Bf16.write(&values[..2]), &mut back);
        assert_eq!(back, values[..2]);
    }
}

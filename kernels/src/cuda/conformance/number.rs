//! Numbers as they are stored.

use ir::graph::Element;

/// The nearest value that is stored so; ties go to the even one.
pub(crate) fn round(value: f32, element: Element) -> f32 {
    match element {
        Element::F32 | Element::I32 => value,
        Element::Bf16 => f32::from_bits(u32::from(bf16(value)) << 16),
    }
}

/// The upper half of a single-precision number, rounded. Values are finite.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// How numbers lie in memory.
pub(crate) fn bytes_of(values: &[f32], element: Element) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        Element::Bf16 => values.iter().flat_map(|&value| bf16(value).to_ne_bytes()).collect(),
        Element::I32 => panic!("tokens are not written"),
    }
}

/// The numbers that lie in memory.
pub(crate) fn floats_of(bytes: &[u8], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect(),
        Element::Bf16 => {
            let halves = bytes.as_chunks().0.iter().map(|&bytes| u16::from_ne_bytes(bytes));
            halves.map(|half| f32::from_bits(u32::from(half) << 16)).collect()
        }
        Element::I32 => panic!("tokens are not results"),
    }
}

//! No text makes reading a model file panic; what is accepted is printed and read back to the same value.
#![no_main]

use ir::file::{decode, parse_model, print_model};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = decode(bytes, "x.yaml") else { return };
    if let Ok(value) = parse_model(text, "x.yaml") {
        assert_eq!(parse_model(&print_model(&value), "x.yaml"), Ok(value));
    }
});

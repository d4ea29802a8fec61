//! No text makes reading a profile file panic; what is accepted is printed and read back to the same value.
#![no_main]

use ir::file::{decode, parse_profile, print_profile};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = decode(bytes, "x.yaml") else { return };
    if let Ok(value) = parse_profile(text, "x.yaml") {
        assert_eq!(parse_profile(&print_profile(&value), "x.yaml"), Ok(value));
    }
});

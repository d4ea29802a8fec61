//! No text makes reading a plan file panic; what is accepted is printed and read back to the same value.
#![no_main]

use ir::file::{decode, parse_plan, print_plan};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = decode(bytes, "x.yaml") else { return };
    if let Ok(value) = parse_plan(text, "x.yaml") {
        assert_eq!(parse_plan(&print_plan(&value), "x.yaml"), Ok(value));
    }
});

//! No text makes reading a cluster file panic; what is accepted is printed and read back to the same value.
#![no_main]

use ir::file::{decode, parse_cluster, print_cluster};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = decode(bytes, "x.yaml") else { return };
    if let Ok(value) = parse_cluster(text, "x.yaml") {
        assert_eq!(parse_cluster(&print_cluster(&value), "x.yaml"), Ok(value));
    }
});

//! Any text either parses or is named wrong; what parses prints, parses back, and can be checked.
#![no_main]

use ir::program::Programs;
use ir::text::{parse, print};
use ir::units::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(draft) = parse(text) else { return };
    let printed = print(&draft);
    let again = parse(&printed).expect("what was printed parses");
    assert_eq!(print(&again), printed);
    let _ = Programs::verified(draft, Bytes(1 << 30));
});

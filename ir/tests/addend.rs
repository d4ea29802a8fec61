//! What `Programs::verified` asks of the addend of a product or of the gradient of a norm.

use hetu_ir::program::Programs;
use hetu_ir::text;
use hetu_ir::units::Bytes;

/// A program of one rank that multiplies once, with these operands.
fn product(operands: &str) -> Vec<String> {
    let text = format!(
        "programs format 2\nmesh 1\nstep microbatches=1 sequences=1 sequence=1\nranks 1*r0\n\
         fragment 0 \"product\" scratch_bound=0\n  binding 0 read bytes=256\n  binding 1 read bytes=256\n  \
         binding 2 read bytes=256\n  binding 3 write bytes=256\n  kernel {operands}\n"
    );
    let text = format!("{text}role 0 stages=[0] arena=0 live_bound=0\n");
    let draft = text::parse(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    let found = Programs::verified(draft, Bytes(u64::MAX)).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn an_addend_is_like_the_result_and_stands_alone() {
    let factors = "matmul @0:f32[b=4,h=8] @1:f32[f=2,h=8]";
    let gradient = "rms-norm-gradient epsilon=1e-5 @0:f32[b=2,h=8] @1:f32[b=2,h=8] @2:f32[h=8]";
    let written = "@3:f32[b=2,h=8] @3+64:f32[h=8]";
    let right = [
        format!("{factors} @2:f32[b=4,f=2] -> @3:f32[b=4,f=2]"),
        format!("{gradient} @2+64:f32[b=2] @2+128:f32[b=2,h=8] -> {written}"),
    ];
    for operands in right {
        assert_eq!(product(&operands), [""; 0], "{operands}");
    }
    let unlike = "its addend has other dimensions or another element than its result";
    let wrong = [
        (format!("{factors} @2:f32[f=2,b=4] -> @3:f32[b=4,f=2]"), unlike),
        (format!("{factors} @2:bf16[b=4,f=2] -> @3:f32[b=4,f=2]"), unlike),
        (format!("{factors} @2:f32[b=4] -> @3:f32[b=4,f=2]"), unlike),
        (format!("{factors} @2:f32[b=4,f=2] @2:f32[b=4,f=2] -> @3:f32[b=4,f=2]"), "addend or none, not 4"),
        (format!("{gradient} -> {written}"), "reads 4 operands, and an addend or none, not 3"),
    ];
    for (operands, words) in wrong {
        let found = product(&operands);
        assert!(found.iter().any(|found| found.contains(words)), "{operands}: {found:?}");
    }
    let adds = product(&format!("{factors} @2:f32[b=4,f=2] -> +@3:f32[b=4,f=2]"));
    assert!(adds.iter().any(|found| found.contains("one of them must go")), "{adds:?}");
    let in_place = product(&format!("{factors} @3:f32[b=4,f=2] -> @3:f32[b=4,f=2]"));
    assert!(!in_place.is_empty(), "an addend lies apart from the result");
}

//! Programs as text, both ways: for messages, `--explain` and tests.
//!
//! One thing a line; indentation and whatever stands behind `#` mean nothing. An arrow stands before operands that
//! are only written, for the reader; a result with `+` before it is added to what is there. A buffer, fragment, collective, transfer or event is a letter and its number.
//!
//! ```text
//! programs format 2
//! mesh 2x2
//! step microbatches=1 sequences=2 sequence=128
//! ranks 2*r0 2*r1
//! block 0 layer=0 decayed=64 length=64 padded=64 shard=[1]
//!   parameter "embedding" first=0 init=normal(0.02) dimensions=[128/1,1]
//! collective 0 all-reduce axes=[1] reduce=sum for=data shape=[64] f32
//! fragment 0 "attention F" scratch_bound=0
//!   binding 0 read bytes=256
//!   binding 1 write bytes=256
//!   kernel layer-norm epsilon=1e-5 @0:f32[b=2,h=32] @0+128:f32[h=32] -> @1:f32[b=2,h=32]
//! transfer 0 r0 r1 forward m0 L4
//! role 0 stages=[0] arena=1024 live_bound=512
//!   buffer 0 address=0 bytes=256 value
//!   compute            m0 L3 F    run f0 b0 -> b1       # "attention F"
//!   compute            m0 L3 F    signal e0
//!   exchange(data)     m0 L3 F    wait e0
//!   exchange(data)     m0 L3 F    exchange c0 b1        # all-reduce 256 B among 2
//!   send(forward)      m0 L3 F    send t0 b1            # 256 B, r0 to r1
//!   compute            m0 L3 F    free b0               # 256 B
//! ```

mod op;
mod parse;
mod print;
mod word;

pub use parse::parse;
pub use print::print;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}{help}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// The column in letters, from 1.
    pub column: usize,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// The word that was probably meant; empty if none is near.
    pub help: String,
}

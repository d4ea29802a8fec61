//! The files that people write and tools exchange: text to value and back, with every mistake at its line.
//!
//! Nothing here opens a file: callers pass the text, and a name for messages. All forms are YAML whose first key is
//! `format: 1`, but traces are lines of JSON. `parse_*` of what `print_*` gives is the same value again, to the bit.

mod digest;
mod locate;
mod parse;
mod print;
mod translate;
mod ways;
mod words;

mod cluster;
mod config;
mod decoder;
mod fleet;
mod images;
mod model;
mod plan;
mod preset;
mod profile;
mod purpose;
pub mod quantity;
mod software;
mod trace;

pub use cluster::{parse_cluster, print_cluster};
pub use config::{parse_config, print_config};
pub use digest::{Digest, digest};
pub use fleet::{parse_machines, print_fleet};
pub use model::{parse_model, print_model};
pub use parse::{FILE_MAX, TRACE_MAX, decode, read};
pub use plan::{parse_plan, print_plan};
pub use profile::{parse_profile, print_profile};
pub use software::{parse_software, print_software};
pub use trace::{parse_trace, print_trace, trace_beside};

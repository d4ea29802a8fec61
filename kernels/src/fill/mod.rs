//! Setting memory: zeros and copies.

pub mod cpu;
pub(crate) mod cuda;

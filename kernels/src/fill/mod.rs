//! Setting memory: zeros and copies.

pub mod cpu;

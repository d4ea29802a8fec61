//! Ranks on this machine's processor.

pub(crate) mod shuffle;
pub(crate) mod threads;

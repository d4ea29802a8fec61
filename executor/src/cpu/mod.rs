//! Ranks on this machine's processor: each has an arena, all share this process.
//!
//! Modules stand in the order in which one should read them.

pub(crate) mod threads;

pub(crate) mod shuffle;

pub(crate) mod engine;

pub(crate) mod job;

pub(crate) mod arena;

pub(crate) mod rendezvous;

pub(crate) mod exchange;

pub(crate) mod kernel;

pub(crate) mod dispatch;

pub(crate) mod recorder;

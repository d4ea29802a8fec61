//! Runs programs: on CPU ranks that share this process, each with one arena, in real time or in any legal order.
//!
//! Modules stand in the order in which one should read them.

pub mod data;

mod session;

mod checkpoint;

mod engine;

mod job;

mod fault;

mod arena;

mod rendezvous;

mod exchange;

mod kernel;

mod dispatch;

mod parameters;

mod rate;

mod recorder;

mod measure;

mod cpu;

#[cfg(test)]
mod tests;

pub use checkpoint::CheckpointError;
pub use fault::{Fault, Head, LoadError};
pub use rate::learning_rate;
pub use session::{Backend, Batch, Session, Settings, StepResult};

//! Runs programs: on CPU ranks that share this process, each with one arena, in real time or in any legal order.
//!
//! Modules stand in the order in which one should read them.

pub mod data;

mod session;

mod checkpoint;

mod fault;

mod parameters;

mod rate;

mod measure;

mod cpu;

#[cfg(test)]
mod tests;

pub use checkpoint::CheckpointError;
pub use fault::{Fault, Head, LoadError};
pub use rate::learning_rate;
pub use session::{Backend, Batch, Session, Settings, StepResult};

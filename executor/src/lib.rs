//! Trains: a session speaks to a host, which runs programs on ranks. The CPU's ranks share this process, each with one
//! arena, and run in real time or in any legal order; those on GPUs have a thread and a GPU each.
//!
//! Modules stand in the order in which one should read them.

pub mod data;

mod session;

mod launch;

mod world;

mod host;

mod meetings;

mod parameters;

mod moves;

mod among;

mod checkpoint;

mod published;

mod fault;

mod rate;
mod rows;

mod measure;

mod cpu;

mod cuda;

#[cfg(test)]
mod tests;

pub use checkpoint::{CheckpointError, Fact, Folder, Freedom, Identity, Resumed, Saving};
pub use fault::{Fault, Head, LoadError};
pub use launch::{Launch, LaunchError, Meet, Place};
pub use published::{Exported, PublishedError, Stored, Weights, export};
pub use rate::learning_rate;
pub use rows::Batch;
pub use session::{Backend, Issue, Session, Settings, StepResult, Tensor, Tensors};
#[cfg(feature = "mpi")]
pub use world::messages;
pub use world::{Alone, Invitation, Post, Processes, World, WorldError};

/// Gives the driver and the libraries of GPUs the settings that sessions need, where the user has none. To be called
/// before the first GPU is opened or another thread runs, by those who open one before a session does.
pub fn prepare_gpus() {
    cuda::prepare();
}

/// The version of the library of exchanges between GPUs, in words.
pub fn exchange_library() -> Result<String, kernels::cuda::Error> {
    cuda::library_version()
}

//! Weights as models are published: a folder with config.json and safetensors, in one file or several, with the names
//! and layouts of the `transformers` library. A training begins from them, and a checkpoint becomes one.
//!
//! Each parameter here is one or several tensors there, of which it takes windows: the same description
//! ([`names`]) serves both directions.

mod export;
mod files;
mod names;
mod numbers;
#[cfg(test)]
mod tests;
mod weights;
mod window;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::checkpoint::CheckpointError;

pub use export::{Exported, export};
pub use numbers::Stored;
pub use weights::Weights;

/// Why published weights could not be read or written.
#[derive(Debug, Error)]
pub enum PublishedError {
    /// A file could not be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What was read is damaged, or of another model.
    #[error("{}: {words}", .path.display())]
    Wrong {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// The description of the model is wrong.
    #[error("{0}")]
    Config(ir::error::Mistakes),
}

impl PublishedError {
    fn file(path: &Path, error: io::Error) -> PublishedError {
        PublishedError::File { path: path.to_owned(), error }
    }

    fn wrong(path: &Path, words: impl Into<String>) -> PublishedError {
        PublishedError::Wrong { path: path.to_owned(), words: words.into() }
    }
}

/// What describes the model in its folder.
const CONFIG: &str = "config.json";
/// All weights in one file.
const WEIGHTS: &str = "model.safetensors";
/// Which of several files has which tensor.
const INDEX: &str = "model.safetensors.index.json";

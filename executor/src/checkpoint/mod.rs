//! Checkpoints: all parameters and moments in 32 bits, so that any plan on any number of ranks and processes can go on
//! from any other's.
//!
//! A checkpoint is a folder. Each process writes one file of pieces: what its ranks hold, each element once over all
//! processes. The manifest says what training it is of and which elements stand where, with a checksum each; it is
//! written last, and the folder gets its name when all is on the disk. So a folder with a name is whole, whenever the
//! machine stops. Nothing is gathered: what goes through memory are chunks.

#[cfg(test)]
mod cut;
mod files;
mod folder;
mod identity;
mod manifest;
mod pieces;
mod talk;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::world::WorldError;

pub use folder::{Folder, Resumed, Saving};
pub use identity::{Fact, Freedom, Identity};
pub(crate) use manifest::{Manifest, tensor_name};
pub(crate) use pieces::read_whole;

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file could not be written or read.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is damaged, or not of this program.
    #[error("{}: {words}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// The checkpoint lacks a tensor of this model.
    #[error("{}: no tensor `{name}` of the model's shape; is it a checkpoint of another model?", .path.display())]
    Model {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor that is missing or of another shape.
        name: String,
    },
    /// The checkpoint is of another training.
    #[error("{}: the training was another one: {}", .path.display(), .differences.join("; "))]
    Unlike {
        /// The checkpoint.
        path: PathBuf,
        /// What differs, with both values.
        differences: Vec<String>,
        /// Names with which [`Folder::resume`] may be told to accept the differences; none if some cannot be.
        remedy: Option<Vec<String>>,
    },
    /// Another run has the folder.
    #[error("{}: another training saves there now", .path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to go on from.
    #[error("{}: there is no checkpoint to go on from", .path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// Checkpoints of an earlier version.
    #[error("{}: a checkpoint of an earlier version of this program, in one file; this version cannot read it", .path.display())]
    Earlier {
        /// One of them.
        path: PathBuf,
    },
    /// A process does not see what process 0 has in the folder.
    #[error("{}: process {process} does not see the folder of process 0", .path.display())]
    Unseen {
        /// The folder.
        path: PathBuf,
        /// Which process.
        process: u32,
    },
    /// No checkpoint in the folder can be read.
    #[error("no checkpoint can be read: {}", .reasons.join("; "))]
    AllDamaged {
        /// Why, for each.
        reasons: Vec<String>,
    },
    /// Another process failed.
    #[error("process {process}: {words}")]
    Elsewhere {
        /// Which.
        process: u32,
        /// What it said.
        words: String,
    },
    /// Processes do not hear each other any more.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl CheckpointError {
    fn file(path: &Path, error: io::Error) -> CheckpointError {
        CheckpointError::File { path: path.to_owned(), error }
    }

    fn damaged(path: &Path, words: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { path: path.to_owned(), words: words.into() }
    }

    /// Whether the checkpoint before this one may be better.
    fn is_damage(&self) -> bool {
        match self {
            CheckpointError::File { .. } | CheckpointError::Damaged { .. } => true,
            CheckpointError::Model { .. }
            | CheckpointError::Unlike { .. }
            | CheckpointError::Taken { .. }
            | CheckpointError::Nothing { .. }
            | CheckpointError::Earlier { .. }
            | CheckpointError::Unseen { .. }
            | CheckpointError::AllDamaged { .. }
            | CheckpointError::Elsewhere { .. }
            | CheckpointError::World(_) => false,
        }
    }
}

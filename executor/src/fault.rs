//! What can go wrong: before a step (the programs ask for what this backend has not), and in one (the world's faults).

use std::fmt;

use ir::program::{Action, Span, Stream};
use ir::units::{Bytes, Seconds};
use thiserror::Error;

use crate::world::WorldError;

/// Why programs cannot be loaded.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LoadError {
    /// The system gave no memory for an arena.
    #[error("no memory for an arena of {bytes} (rank {rank})")]
    Memory {
        /// The rank.
        rank: u32,
        /// What it asked for.
        bytes: Bytes,
    },
    /// A GPU, or what it needs, is missing or failed.
    #[error("rank {rank}: {error}")]
    Device {
        /// The rank.
        rank: u32,
        /// What is wrong, and what to do.
        error: kernels::cuda::Error,
    },
    /// A GPU did not do its part of loading in time.
    #[error("rank {rank} has not {what} after {:.0}", .patience)]
    Late {
        /// The rank.
        rank: u32,
        /// What it should have done.
        what: &'static str,
        /// How long was waited.
        patience: Seconds,
    },
    /// A thread could not be started.
    #[error("no thread for rank {rank}")]
    Thread {
        /// The rank.
        rank: u32,
    },
    /// Processes cannot have equally many ranks.
    #[error("{ranks} ranks cannot be shared out to {processes} processes, each as many")]
    Uneven {
        /// Ranks of the programs.
        ranks: u32,
        /// Processes that were started.
        processes: u32,
    },
    /// Who runs the ranks can do so in one process only.
    #[error("all ranks are shuffled in one process, but there are {processes}")]
    Shuffled {
        /// Processes that were started.
        processes: u32,
    },
    /// Processes were not started alike.
    #[error("{what}: {} in process 0, but {} in process {process}", .values[0], .values[1])]
    Unlike {
        /// What differs.
        what: &'static str,
        /// The first process that differs from process 0.
        process: u32,
        /// What process 0 has, and what that process has.
        values: [String; 2],
    },
    /// Another process is lost.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// Why a step ended early. The session is over after any of these.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Fault {
    /// No rank could go on.
    #[error("no rank made progress{}{}", After(*.patience), Heads(.heads))]
    Stalled {
        /// How long nothing happened; zero if it is known that nothing can.
        patience: Seconds,
        /// What every stream that was not at its end waited in, by rank.
        heads: Vec<Head>,
    },
    /// A GPU failed.
    #[error("rank {rank}: {error}")]
    Device {
        /// The rank.
        rank: u32,
        /// What failed.
        error: kernels::cuda::Error,
    },
    /// A kernel or an exchange broke one of our own invariants; the message is on standard error.
    #[error("rank {rank} broke off in a failed assertion")]
    Broken {
        /// The rank.
        rank: u32,
    },
    /// Another process is lost.
    #[error(transparent)]
    World(#[from] WorldError),
    /// An earlier step ended in a fault.
    #[error("the session ended in an earlier step")]
    Ended,
}

/// The instruction at which a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The rank.
    pub rank: u32,
    /// Its place in the code of the rank's role.
    pub instruction: usize,
    /// The stream.
    pub stream: Stream,
    /// What it is part of.
    pub span: Span,
    /// What it would do.
    pub action: Action,
    /// The other end of a transfer.
    pub partner: Option<u32>,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { rank, instruction, stream, span, .. } = self;
        write!(f, "rank {rank} on {}: instruction {instruction} ({span}) ", stream.name())?;
        match self.action {
            Action::Compute(id) => write!(f, "runs fragment {}", id.0),
            Action::Exchange(id) => write!(f, "waits for the members of collective {}", id.0),
            Action::Send(_) => write!(f, "waits for {} to receive", Partner(self.partner)),
            Action::Receive(_) => write!(f, "waits for {} to send", Partner(self.partner)),
            Action::Free => f.write_str("frees a buffer"),
            Action::Signal(event) => write!(f, "signals event {}", event.0),
            Action::Wait(event) => write!(f, "waits for event {}", event.0),
        }
    }
}

struct Partner(Option<u32>);

impl fmt::Display for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rank) => write!(f, "rank {rank}"),
            None => f.write_str("another rank"),
        }
    }
}

struct After(Seconds);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Seconds::ZERO { Ok(()) } else { write!(f, " for {:.0}", self.0) }
    }
}

struct Heads<'a>(&'a [Head]);

impl fmt::Display for Heads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|head| write!(f, "\n  {head}"))
    }
}

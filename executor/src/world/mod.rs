//! The processes of one training, and the one thing that they do together beside exchanges of ranks: each says
//! something, and all hear all.
//!
//! Modules stand in the order in which one should read them.

mod post;

mod tcp;

#[cfg(feature = "mpi")]
mod messages;

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

#[cfg(feature = "mpi")]
pub use messages::messages;
pub(crate) use post::Hearer;
pub use post::Post;
pub use tcp::Invitation;

use crate::fault::LoadError;

/// How this process meets the others. Calls are made by all processes in one order.
pub trait World: fmt::Debug + Send {
    /// Which process this is, from zero.
    fn process(&self) -> u32;

    /// How many there are.
    fn processes(&self) -> u32;

    /// Gives all processes what each of them says, in order of processes; so it is a barrier, too.
    fn all_say(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError>;

    /// Tells all others that this process cannot go on, and why. They end, and so do all later calls here.
    fn fail(&mut self, reason: &str) {
        let _ = reason;
    }

    /// The letters between processes; none where there is one process.
    fn post(&self) -> Option<Arc<Post>> {
        None
    }
}

/// One process, which has all ranks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl World for Alone {
    fn process(&self) -> u32 {
        0
    }

    fn processes(&self) -> u32 {
        1
    }

    fn all_say(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError> {
        Ok(vec![own.to_vec()])
    }
}

/// A process is lost, and the training with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("process {process} is lost: {reason}")]
pub struct WorldError {
    /// Who is missing.
    pub process: u32,
    /// What was seen.
    pub reason: String,
}

/// A world that sessions, their hosts and the tool share.
#[derive(Clone, Debug)]
pub struct Processes {
    world: Arc<Mutex<dyn World>>,
    // The same letters as the world's: asked while the world may be waiting.
    post: Option<Arc<Post>>,
    process: u32,
    processes: u32,
    local: u32,
}

impl Processes {
    /// One process.
    pub fn alone() -> Processes {
        Processes::new(Alone, 0)
    }

    /// Those of a world, of which this is the `local`-th of its machine.
    pub fn new(world: impl World + 'static, local: u32) -> Processes {
        let (process, processes, post) = (world.process(), world.processes(), world.post());
        Processes { world: Arc::new(Mutex::new(world)), post, process, processes, local }
    }

    /// Whether this process has all ranks.
    pub fn is_alone(&self) -> bool {
        self.processes == 1
    }

    /// Why the training cannot go on, if a process is lost.
    pub(crate) fn lost(&self) -> Option<WorldError> {
        self.post.as_ref()?.lost()
    }

    /// Which of the processes of its machine this is.
    pub(crate) fn local(&self) -> u32 {
        self.local
    }

    /// The ranks of this process, of so many: each process has equally many, in order.
    pub(crate) fn ranks(&self, rank_count: u32) -> Result<Range<u32>, LoadError> {
        let Processes { process, processes, .. } = *self;
        let each = rank_count / processes;
        if each * processes != rank_count || each == 0 {
            return Err(LoadError::Uneven { ranks: rank_count, processes });
        }
        Ok(process * each..(process + 1) * each)
    }

    /// Ends with an error on all processes unless all say the same.
    ///
    /// # Errors
    /// Names the first process that says something else, and both values; or whoever is lost.
    pub fn agree(&mut self, what: &'static str, own: impl Display) -> Result<(), LoadError> {
        let own = own.to_string();
        let said = self.all_say(own.as_bytes())?;
        let words = |said: &[u8]| String::from_utf8_lossy(said).into_owned();
        match said.iter().position(|other| *other != said[0]) {
            None => Ok(()),
            Some(process) => {
                let values = [words(&said[0]), words(&said[process])];
                Err(LoadError::Unlike { what, process: process as u32, values })
            }
        }
    }

    fn world(&self) -> MutexGuard<'_, dyn World + 'static> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World for Processes {
    fn process(&self) -> u32 {
        self.process
    }

    fn processes(&self) -> u32 {
        self.processes
    }

    fn all_say(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError> {
        self.world().all_say(own)
    }

    fn fail(&mut self, reason: &str) {
        // Past the world, in which somebody may wait.
        if let Some(post) = &self.post {
            post.lose(self.process, reason);
        }
    }

    fn post(&self) -> Option<Arc<Post>> {
        self.post.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_has_equally_many_ranks() {
        let of = |process, processes| Processes { process, processes, ..Processes::alone() };
        assert_eq!(of(1, 2).ranks(8), Ok(4..8));
        assert_eq!(of(0, 3).ranks(8), Err(LoadError::Uneven { ranks: 8, processes: 3 }));
        assert_eq!(of(0, 3).ranks(2), Err(LoadError::Uneven { ranks: 2, processes: 3 }));
    }
}

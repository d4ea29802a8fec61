//! The processes of one training, and the one thing that they do together beside exchanges of ranks: each says
//! something, and all hear all.

use thiserror::Error;

/// How this process meets the others. Calls are made by all processes in one order.
pub trait World: std::fmt::Debug + Send {
    /// Which process this is, from zero.
    fn process(&self) -> u32;

    /// How many there are.
    fn processes(&self) -> u32;

    /// Gives all processes what each of them says, in order of processes; so it is a barrier, too.
    fn all_say(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError>;
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

/// Processes cannot hear each other any more.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("process {process} does not answer: {reason}")]
pub struct WorldError {
    /// Who is missing.
    pub process: u32,
    /// What was seen.
    pub reason: String,
}

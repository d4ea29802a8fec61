//! The seam between a training and the devices: whoever runs the ranks of this process is a host.
//!
//! Sessions, parameters, checkpoints and traces speak to a host alone and know no device. A host has some of the
//! ranks, which need not be all: how its ranks meet those of other processes is its own matter.

use std::fmt::Debug;
use std::ops::Range;

use ir::program::Buffer;
use ir::trace::{MemorySample, TraceEvent};
use ir::units::Seconds;

use crate::fault::Fault;

/// Runs the ranks of this process. Made with their memory allocated and all resident buffers zero.
pub(crate) trait Host: Debug + Send {
    /// The ranks of this process.
    fn ranks(&self) -> Range<u32>;

    /// Runs all its ranks to the end of a step, and says how long that took.
    fn step(&mut self, recording: Recording) -> Result<Seconds, Fault>;

    /// Copies what a rank holds, between steps. Bytes are in the order of this machine.
    fn read(&self, rank: u32, place: Place, into: &mut [u8]);

    /// Replaces what a rank holds, between steps.
    fn write(&mut self, rank: u32, place: Place, from: &[u8]);

    /// Memory of the process from which writing is fastest, of so many bytes.
    fn staging(&self, bytes: usize) -> Box<dyn AsMut<[u8]>> {
        Box::new(vec![0; bytes])
    }

    /// Fills a place with a pattern, again and again, between steps.
    fn fill(&mut self, rank: u32, place: Place, pattern: &[u8]) {
        let end = place.address + place.bytes;
        for address in (place.address..end).step_by(pattern.len()) {
            let bytes = (end - address).min(pattern.len() as u64);
            self.write(rank, Place { address, bytes }, &pattern[..bytes as usize]);
        }
    }

    /// What its ranks wrote down in the last step, if that was recorded.
    fn notes(&self) -> Vec<Notes>;
}

/// So many bytes from an address in the arena of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

impl Place {
    /// All of a buffer.
    pub(crate) fn of(buffer: &Buffer) -> Place {
        Place { address: buffer.address, bytes: buffer.bytes.0 }
    }
}

/// Whether a step is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recording {
    /// Nothing is written down.
    Nothing,
    /// Every instruction that takes time, and every change of live memory.
    Everything,
}

/// What a rank wrote down in a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notes {
    pub(crate) rank: u32,
    pub(crate) events: Vec<TraceEvent>,
    pub(crate) memory: Vec<MemorySample>,
}

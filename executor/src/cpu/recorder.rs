//! Writes down what a rank does in a traced step. In others it does nothing, and reads no clock.

use std::time::Instant;

use ir::program::{Instr, Stream};
use ir::trace::{Confidence, MemorySample, TraceEvent};
use ir::units::{Bytes, Seconds};

use crate::host::{Notes, Recording};

/// The notes of one rank on one step. Filling them allocates nothing.
#[derive(Debug)]
pub(crate) struct Recorder {
    rank: u32,
    recording: Recording,
    begin: Instant,
    resident: Bytes,
    live: Bytes,
    events: Vec<TraceEvent>,
    memory: Vec<MemorySample>,
}

impl Recorder {
    /// Room for so many instructions, on a rank whose resident buffers take so much.
    pub(crate) fn new(rank: u32, instructions: usize, resident: Bytes) -> Recorder {
        Recorder {
            rank,
            recording: Recording::Nothing,
            begin: Instant::now(),
            resident,
            live: resident,
            events: Vec::with_capacity(instructions),
            memory: Vec::with_capacity(instructions + 1),
        }
    }

    /// Starts the notes of a step that began at `begin`.
    pub(crate) fn start(&mut self, recording: Recording, begin: Instant) {
        self.recording = recording;
        self.begin = begin;
        self.live = self.resident;
        self.events.clear();
        self.memory.clear();
        self.sample(Seconds::ZERO);
    }

    /// Time since the step began; zero if nothing is recorded.
    pub(crate) fn now(&self) -> Seconds {
        match self.recording {
            Recording::Nothing => Seconds::ZERO,
            Recording::Everything => Seconds(self.begin.elapsed().as_secs_f64()),
        }
    }

    /// An instruction ran from `start` to `end`.
    pub(crate) fn ran(&mut self, stream: Stream, instr: &Instr, start: Seconds, end: Seconds) {
        if self.recording == Recording::Everything {
            let Instr { span, action, .. } = *instr;
            let confidence = Confidence::Measured;
            self.events.push(TraceEvent { rank: self.rank, stream, span, action, start, end, confidence });
        }
    }

    /// Buffers of so many bytes begin to live.
    pub(crate) fn born(&mut self, bytes: Bytes) {
        if bytes != Bytes::ZERO {
            self.live += bytes;
            self.sample(self.now());
        }
    }

    /// A buffer of so many bytes was freed.
    pub(crate) fn freed(&mut self, bytes: Bytes) {
        self.live = self.live.saturating_sub(bytes);
        self.sample(self.now());
    }

    /// What was written down.
    pub(crate) fn notes(&self) -> Notes {
        Notes { rank: self.rank, events: self.events.clone(), memory: self.memory.clone() }
    }

    fn sample(&mut self, time: Seconds) {
        if self.recording == Recording::Everything {
            self.memory.push(MemorySample { rank: self.rank, time, live: self.live });
        }
    }
}

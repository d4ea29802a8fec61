//! What a simulation writes down when it is asked for events.

use ir::program::{Action, Instr};
use ir::trace::{Confidence, MemorySample, TraceEvent};
use ir::units::{Bytes, Seconds};

use super::player::Player;

/// Events and memory of all roles.
#[derive(Debug, Default)]
pub(super) struct Recording {
    events: Vec<TraceEvent>,
    memory: Vec<MemorySample>,
    // By role: which buffers live now, and the sum of their bytes.
    alive: Vec<Vec<bool>>,
    live: Vec<Bytes>,
}

impl Recording {
    pub(super) fn new(players: &[Player<'_>]) -> Recording {
        let mut recording = Recording::default();
        for player in players {
            let buffers = &player.role.buffers;
            let resident = || buffers.iter().filter(|buffer| buffer.is_resident());
            recording.alive.push(buffers.iter().map(|buffer| buffer.is_resident()).collect());
            recording.live.push(resident().map(|buffer| buffer.bytes).sum());
            recording.sample(player, 0.0);
        }
        recording
    }

    /// A task begins: buffers that it is the first to touch come alive.
    pub(super) fn begin(&mut self, player: &Player<'_>, instr: &Instr, now: f64) {
        let mut born = Bytes::ZERO;
        for buffer in player.role.operands(instr) {
            let alive = &mut self.alive[player.index][buffer.index()];
            if !*alive {
                *alive = true;
                born += player.role.buffers[buffer.index()].bytes;
            }
        }
        if born > Bytes::ZERO {
            self.live[player.index] += born;
            self.sample(player, now);
        }
    }

    /// A buffer's life ends.
    pub(super) fn free(&mut self, player: &Player<'_>, instr: &Instr, now: f64) {
        for buffer in player.role.operands(instr) {
            let alive = &mut self.alive[player.index][buffer.index()];
            if *alive {
                *alive = false;
                let bytes = player.role.buffers[buffer.index()].bytes;
                self.live[player.index] = self.live[player.index].saturating_sub(bytes);
            }
        }
        self.sample(player, now);
    }

    /// A task ended.
    pub(super) fn end(&mut self, player: &Player<'_>, instr: &Instr, times: [f64; 2], confidence: Confidence) {
        let [start, end] = times.map(Seconds);
        let Instr { stream, span, action, .. } = *instr;
        debug_assert!(!matches!(action, Action::Free | Action::Signal(_) | Action::Wait(_)), "only tasks take time");
        self.events.push(TraceEvent { rank: player.rank, stream, span, action, start, end, confidence });
    }

    /// Events by start, memory by rank; what is simultaneous in the order of ranks and streams.
    pub(super) fn sorted(mut self) -> (Vec<TraceEvent>, Vec<MemorySample>) {
        self.events.sort_by(|a, b| {
            let place = |event: &TraceEvent| (event.rank, event.stream.index());
            a.start.0.total_cmp(&b.start.0).then(place(a).cmp(&place(b)))
        });
        self.memory.sort_by_key(|sample| sample.rank);
        // Of samples of one moment the last says what holds from then on.
        let mut memory: Vec<MemorySample> = Vec::with_capacity(self.memory.len());
        for sample in self.memory {
            match memory.last_mut() {
                Some(last) if last.rank == sample.rank && last.time >= sample.time => *last = sample,
                Some(_) | None => memory.push(sample),
            }
        }
        (self.events, memory)
    }

    fn sample(&mut self, player: &Player<'_>, now: f64) {
        self.memory.push(MemorySample { rank: player.rank, time: Seconds(now), live: self.live[player.index] });
    }
}

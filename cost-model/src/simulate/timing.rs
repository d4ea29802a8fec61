//! How fast tasks run: what remains of each is timed anew when what runs beside it changes.

use ir::program::{Action, Stream, Streams};

use super::engine::Engine;
use super::player::{Links, Parties, Task};
use crate::slowdown::{LinkUse, Mix};

impl Engine<'_> {
    /// Sets the factors of a rank's tasks by what else runs on it.
    pub(super) fn retime_pairs(&mut self, role: usize) {
        let running = self.players[role].running;
        let mix = match self.players[role].head(Stream::Compute).map(|head| head.action) {
            Some(Action::Compute(id)) => self.prices.fragment_price(role, id).mix,
            Some(_) | None => Mix::default(),
        };
        for stream in running.iter() {
            let player = &self.players[role];
            let links = player.tasks[stream].links;
            let others = running.minus(Streams::only(stream)).iter().map(|beside| {
                let same = links & player.tasks[beside].links != 0;
                let shares = if same { LinkUse::Same } else { LinkUse::Other };
                self.seats.model(role).slowdowns().pair(stream, beside, shares, mix) - 1.0
            });
            let factor = 1.0 + others.sum::<f64>();
            self.set_factor(role, stream, factor);
        }
    }

    /// Sets the factor of what a rank's thread does by how many ranks of its node are at work. Prices of exchanges
    /// are those of a group whose members are all at work, and only what comes on top slows them.
    pub(super) fn retime_thread(&mut self, role: usize) {
        let player = &self.players[role];
        let Some(stream) = player.running.intersection(self.occupied()).iter().next() else { return };
        let count = self.players.len();
        let beside = &self.neighbours[role * count..(role + 1) * count];
        let busy = self
            .players
            .iter()
            .zip(beside)
            .filter(|(player, _)| !player.running.intersection(self.occupied()).is_empty());
        let working: u32 = busy.map(|(_, &ranks)| ranks).sum();
        let priced = match player.head(stream).map(|head| head.action) {
            Some(Action::Exchange(id)) => self.prices.exchange(role, id).ranks_per_node,
            Some(_) | None => 1,
        };
        let model = self.seats.model(role);
        let factor = match priced {
            1 => model.sharing(working),
            priced => (model.sharing(working) / model.sharing(priced)).max(1.0),
        };
        self.set_factor(role, stream, factor);
    }

    fn set_factor(&mut self, role: usize, stream: Stream, factor: f64) {
        let task = &mut self.players[role].tasks[stream];
        if same(task.own_factor, factor) {
            return;
        }
        task.own_factor = factor;
        match task.parties {
            Parties::Own => {
                task.retime(self.now, factor);
                self.touched.insert(role);
            }
            Parties::Pair { role: other, stream: beside } => {
                let other = other as usize;
                let slowest = factor.max(self.players[other].tasks[beside].own_factor);
                for (role, stream) in [(role, stream), (other, beside)] {
                    self.players[role].tasks[stream].retime(self.now, slowest);
                    self.touched.insert(role);
                }
            }
            Parties::All => {
                let slowest = self.players.iter().map(|player| player.tasks[stream].own_factor).fold(1.0, f64::max);
                for role in 0..self.players.len() {
                    self.players[role].tasks[stream].retime(self.now, slowest);
                    self.touched.insert(role);
                }
            }
        }
    }
}

impl Task {
    pub(super) fn new(now: f64, work: f64, parties: Parties, links: Links) -> Task {
        Task { start: now, since: now, remaining: work, own_factor: 1.0, factor: 1.0, end: now + work, parties, links }
    }

    /// From now on a second of work takes `factor` seconds.
    fn retime(&mut self, now: f64, factor: f64) {
        if same(self.factor, factor) {
            return;
        }
        self.remaining = (self.remaining - (now - self.since) / self.factor).max(0.0);
        self.since = now;
        self.factor = factor;
        self.end = now + self.remaining * factor;
    }
}

/// Whether two factors are the very same number: then nothing has to be timed anew.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

//! The event loop.

use ir::cluster::Execution;
use ir::mesh::Axis;
use ir::parallel;
use ir::profile::Route;
use ir::program::{Action, Draft, Stream, Streams};
use ir::software::Reduction;
use ir::trace::{Confidence, Totals};
use ir::units::Seconds;

use super::Detail;
use super::agenda::{Agenda, RoleSet};
use super::deadlock::{Deadlock, deadlock};
use super::player::{COMPUTE, EXCHANGES, Links, Parties, Player, RECEIVES, SENDS, Task, spans_stages};
use super::record::Recording;
use crate::fleet::Seats;
use crate::prices::Prices;

/// How the streams of a rank share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Regime {
    /// Side by side; what overlaps slows.
    Concurrent,
    /// One at a time; ranks that share cores slow each other.
    Thread,
    /// Side by side, at no cost.
    Ideal,
}

impl Regime {
    /// As the devices of the model run.
    pub(super) fn of(seats: Seats<'_>) -> Regime {
        match seats.model(0).cluster().device.execution {
            Execution::Concurrent => Regime::Concurrent,
            Execution::Shared { .. } => Regime::Thread,
        }
    }
}

/// A simulation under way.
pub(super) struct Engine<'a> {
    pub(super) draft: &'a Draft,
    pub(super) prices: &'a Prices,
    pub(super) seats: Seats<'a>,
    regime: Regime,
    pub(super) players: Vec<Player<'a>>,
    pub(super) now: f64,
    /// Streams whose head is to be looked at.
    awake: Vec<(usize, Stream)>,
    /// Roles of which something changed at this moment.
    pub(super) touched: RoleSet,
    agenda: Agenda,
    /// By role and other role: ranks of the other on the node of this one's first rank.
    pub(super) neighbours: Vec<u32>,
    /// Time of events by what it rests on.
    shares: [f64; 3],
    recording: Option<Recording>,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        draft: &'a Draft,
        prices: &'a Prices,
        seats: Seats<'a>,
        regime: Regime,
        detail: Detail,
    ) -> Engine<'a> {
        let roles = (0..draft.roles.len()).collect();
        let players: Vec<Player<'a>> = parallel::map(roles, |role| Player::new(draft, role, prices, detail));
        let nodes = seats.nodes(draft);
        let on_node_of = |player: &Player<'_>, other: &Player<'_>| {
            let node = nodes.of(player.rank);
            draft.ranks_of(other.role.id).filter(|&rank| nodes.of(rank) == node).count() as u32
        };
        let neighbours = match regime {
            Regime::Thread => {
                let pairs = players.iter().flat_map(|player| players.iter().map(move |other| (player, other)));
                pairs.map(|(player, other)| on_node_of(player, other)).collect()
            }
            Regime::Concurrent | Regime::Ideal => Vec::new(),
        };
        Engine {
            draft,
            prices,
            seats,
            regime,
            now: 0.0,
            awake: Vec::with_capacity(Stream::COUNT * players.len()),
            touched: RoleSet::new(players.len()),
            agenda: Agenda::new(players.len()),
            neighbours,
            shares: [0.0; 3],
            recording: (detail == Detail::Events).then(|| Recording::new(&players)),
            players,
        }
    }

    /// Plays to the end and gives its time in seconds.
    pub(super) fn run(&mut self) -> Result<f64, Deadlock> {
        for role in 0..self.players.len() {
            self.awake.extend(Stream::ALL.into_iter().rev().map(|stream| (role, stream)));
        }
        let mut ending = Vec::new();
        loop {
            while let Some((role, stream)) = self.awake.pop() {
                self.advance(role, stream);
            }
            self.settle();
            let Some(next) = self.agenda.take(&mut ending) else { break };
            self.now = next;
            ending.iter().for_each(|&role| self.complete(role));
        }
        let is_over = |player: &Player<'_>| Stream::ALL.into_iter().all(|stream| player.head(stream).is_none());
        if self.players.iter().all(is_over) { Ok(self.now) } else { Err(deadlock(self)) }
    }

    /// Totals, time by what it rests on, and what was recorded.
    pub(super) fn finish(self, step: f64) -> (Vec<Totals>, [Seconds; 3], Option<Recording>) {
        let occupied = self.occupied();
        let totals = self.players.into_iter().map(|mut player| {
            player.account(step, occupied);
            player.totals
        });
        (totals.collect(), self.shares.map(Seconds), self.recording)
    }

    /// Streams whose tasks keep a rank busy.
    pub(super) fn occupied(&self) -> Streams {
        match self.regime {
            Regime::Thread => COMPUTE.union(EXCHANGES).union(RECEIVES),
            Regime::Concurrent | Regime::Ideal => COMPUTE.union(EXCHANGES).union(RECEIVES).union(SENDS),
        }
    }

    /// Does what takes no time at the head of a stream, until something that does, or must wait.
    fn advance(&mut self, role: usize, stream: Stream) {
        let player = &mut self.players[role];
        if player.running.union(player.arrived).union(player.pending).contains(stream) {
            return;
        }
        while let Some(&head) = player.head(stream) {
            match head.action {
                Action::Free => {
                    if let Some(recording) = &mut self.recording {
                        recording.free(player, player.instr(head), self.now);
                    }
                }
                Action::Signal(event) => {
                    let woken = player.signal(event);
                    self.awake.extend(woken.iter().map(|stream| (role, stream)));
                }
                Action::Wait(event) => {
                    if !player.is_signalled(event) {
                        player.blocked.insert(stream);
                        return;
                    }
                }
                Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) => {
                    if !player.may_issue(head) {
                        return;
                    }
                    let issued = head.issued + player.late + self.prices.host(role).issue;
                    if self.prices.is_issued_aside() && issued > self.now {
                        player.pending.insert(stream);
                        player.tasks[stream].end = issued;
                        self.touched.insert(role);
                    } else {
                        self.arrive(role, stream);
                    }
                    return;
                }
            }
            player.pop(stream);
        }
    }

    /// The head of a stream has come, and takes time: starts it if all that it needs is there.
    fn arrive(&mut self, role: usize, stream: Stream) {
        let player = &mut self.players[role];
        player.arrived.insert(stream);
        self.touched.insert(role);
        let Some(action) = player.arrived_action(stream) else { return };
        match action {
            Action::Compute(_) => self.make_ready(role, stream),
            Action::Exchange(id) if spans_stages(&self.draft.collectives[id.index()].exchange) => {
                let come = |player: &Player<'_>| player.arrived_action(stream) == Some(Action::Exchange(id));
                if self.players.iter().all(come) {
                    for member in 0..self.players.len() {
                        self.make_ready(member, stream);
                    }
                }
            }
            Action::Exchange(_) => self.make_ready(role, stream),
            Action::Send(id) => {
                let (other, beside) = (self.draft.transfers[id.index()].to.index(), peer(stream));
                if self.players[other].arrived_action(beside) == Some(Action::Receive(id)) {
                    self.make_ready(other, beside);
                }
            }
            Action::Receive(id) => {
                let other = self.draft.transfers[id.index()].from.index();
                if self.players[other].arrived_action(peer(stream)) == Some(Action::Send(id)) {
                    self.make_ready(role, stream);
                }
            }
            Action::Free | Action::Signal(_) | Action::Wait(_) => {}
        }
    }

    fn make_ready(&mut self, role: usize, stream: Stream) {
        self.players[role].ready.insert(stream);
        self.touched.insert(role);
    }

    /// Starts what is ready, and times anew what runs beside something else than before.
    fn settle(&mut self) {
        if self.touched.first_from(0).is_none() {
            return;
        }
        // Who is touched on the way is visited too, if it comes later.
        let mut at = 0;
        while let Some(role) = self.touched.first_from(at) {
            self.dispatch(role);
            at = role + 1;
        }
        match self.regime {
            Regime::Concurrent => {
                at = 0;
                while let Some(role) = self.touched.first_from(at) {
                    self.retime_pairs(role);
                    at = role + 1;
                }
            }
            Regime::Thread => (0..self.players.len()).for_each(|role| self.retime_thread(role)),
            Regime::Ideal => {}
        }
        at = 0;
        while let Some(role) = self.touched.take_from(at) {
            self.agenda.put(role, self.players[role].next());
            at = role + 1;
        }
    }

    fn dispatch(&mut self, role: usize) {
        let ready = self.players[role].ready;
        match self.regime {
            Regime::Concurrent | Regime::Ideal => ready.iter().for_each(|stream| self.start(role, stream)),
            Regime::Thread => {
                let player = &self.players[role];
                let is_free = player.running.intersection(self.occupied()).is_empty();
                let first = ready.iter().min_by_key(|&stream| player.head(stream).map(|head| head.place));
                if let (true, Some(stream)) = (is_free, first) {
                    self.start(role, stream);
                }
            }
        }
    }

    fn start(&mut self, role: usize, stream: Stream) {
        let player = &self.players[role];
        let head = *player.head(stream).expect("what is ready is the head of its stream");
        let (work, parties, links) = match head.action {
            Action::Compute(id) => {
                let fragment = self.prices.fragment_price(role, id);
                let issued = head.issued + player.late + fragment.issued_end - self.now;
                (fragment.price.time.max(issued), Parties::Own, 0)
            }
            Action::Exchange(id) => {
                let exchange = self.prices.exchange(role, id);
                let all = spans_stages(&self.draft.collectives[id.index()].exchange) && self.regime != Regime::Thread;
                let links = exchange.route.map_or(0, |route| outward(route) | inward(route));
                (exchange.price.time, if all { Parties::All } else { Parties::Own }, links)
            }
            Action::Receive(id) => {
                let from = self.draft.transfers[id.index()].from;
                let lane = self.prices.lane_of(self.draft, id);
                let (bytes, route) = (player.bytes_moved(head), lane.route);
                let work = self.prices.transfer(bytes, lane).time;
                let sender = Parties::Pair { role: role as u16, stream };
                self.begin(from.index(), peer(stream), Task::new(self.now, work, sender, outward(route)));
                (work, Parties::Pair { role: from.0 as u16, stream: peer(stream) }, inward(route))
            }
            Action::Send(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {
                unreachable!("a send starts with its receive, and the others take no time")
            }
        };
        self.begin(role, stream, Task::new(self.now, work, parties, links));
    }

    fn begin(&mut self, role: usize, stream: Stream, task: Task) {
        let occupied = self.occupied();
        let player = &mut self.players[role];
        player.account(self.now, occupied);
        player.arrived.remove(stream);
        player.ready.remove(stream);
        player.running.insert(stream);
        player.tasks[stream] = task;
        self.touched.insert(role);
        if let (Some(recording), Some(&head)) = (&mut self.recording, player.head(stream)) {
            recording.begin(player, player.instr(head), self.now);
        }
    }

    /// Ends what ends now, and wakes what was issued.
    fn complete(&mut self, role: usize) {
        let occupied = self.occupied();
        self.touched.insert(role);
        self.players[role].account(self.now, occupied);
        for stream in self.players[role].running.union(self.players[role].pending).iter() {
            let player = &mut self.players[role];
            if player.tasks[stream].end > self.now {
                continue;
            }
            if player.pending.contains(stream) {
                player.pending.remove(stream);
                self.arrive(role, stream);
            } else {
                player.running.remove(stream);
                self.end(role, stream);
                if matches!(
                    self.players[role].head(stream).map(|head| head.action),
                    Some(Action::Receive(_) | Action::Send(_))
                ) {
                    let (count, _) = self.players[role].moved;
                    self.players[role].moved = (count + 1, self.now);
                    // The host may have waited for it.
                    self.awake.push((role, Stream::Compute));
                }
                if stream == Stream::Compute {
                    self.players[role].computed += 1;
                    if self.prices.reduction == Reduction::Behind {
                        self.awake.push((role, Stream::Exchange(Axis::Data)));
                    }
                }
                self.players[role].pop(stream);
                self.awake.push((role, stream));
            }
        }
    }

    /// Adds a task that ended to the totals.
    fn end(&mut self, role: usize, stream: Stream) {
        let player = &mut self.players[role];
        let Some(&head) = player.head(stream) else { return };
        let start = player.tasks[stream].start;
        let passed = self.now - start;
        let confidence = match head.action {
            Action::Compute(id) => {
                player.totals.compute += Seconds(passed);
                let fragment = self.prices.fragment_price(role, id);
                for (share, part) in self.shares.iter_mut().zip(fragment.parts) {
                    *share += part * passed;
                }
                fragment.price.confidence
            }
            Action::Exchange(id) => {
                player.totals.exchange += Seconds(passed);
                let confidence = self.prices.exchange(role, id).price.confidence;
                self.shares[confidence as usize] += passed;
                confidence
            }
            Action::Send(id) | Action::Receive(id) => {
                player.totals.transfer += Seconds(passed);
                let bytes = player.bytes_moved(head);
                let confidence = self.prices.transfer(bytes, self.prices.lane_of(self.draft, id)).confidence;
                self.shares[confidence as usize] += passed;
                confidence
            }
            Action::Free | Action::Signal(_) | Action::Wait(_) => Confidence::Modelled,
        };
        if let Some(recording) = &mut self.recording {
            recording.end(player, player.instr(head), [start, self.now], confidence);
        }
    }
}

/// The other end of a stream of sends or receives.
fn peer(stream: Stream) -> Stream {
    stream.peer().expect("sends and receives run on streams that have a peer")
}

fn outward(route: Route) -> Links {
    match route {
        Route::Inside => 0b0001,
        Route::Between => 0b0010,
    }
}

fn inward(route: Route) -> Links {
    outward(route) << 2
}

//! A job: programs with all that their ranks share, made at load.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use ir::program::{Access, CollectiveId, Draft, Instr, PerStream, Role, TransferId};
use ir::units::Bytes;

use super::abroad::Abroad;
use super::arena::Arenas;
use super::rendezvous::{Channel, Gathering, Group};
use crate::fault::LoadError;
use crate::host::Place;
use crate::meetings::{Meetings, Route};

/// What happens to freed memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// It stays as it is.
    Kept,
    /// It becomes unfit for use, so that a wrong use shows.
    Poisoned,
}

/// Programs and what their ranks share.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) draft: Arc<Draft>,
    pub(crate) arenas: Arenas,
    pub(crate) freed: Freed,
    /// The way to ranks of other processes, if there are any.
    pub(crate) abroad: Option<Abroad>,
    /// For each role and stream, places in the code.
    queues: Vec<PerStream<Vec<u32>>>,
    /// For each role and instruction, bytes of the buffers that it is the first to write.
    born: Vec<Vec<Bytes>>,
    meetings: Meetings,
    /// For each meeting, how far its members have come.
    pub(crate) groups: Vec<Group>,
    channels: BTreeMap<Route, Channel>,
    sleepers: OnceLock<Vec<Thread>>,
}

impl Job {
    /// Allocates the arenas, whose resident buffers are zero, and finds out who meets whom.
    pub(crate) fn new(draft: Arc<Draft>, freed: Freed, abroad: Option<Abroad>) -> Result<Job, LoadError> {
        let arenas = Arenas::new((0..draft.mesh.rank_count()).map(|rank| draft.role(rank).arena))?;
        if freed == Freed::Poisoned {
            let mut memory = arenas.between_steps();
            for rank in 0..draft.mesh.rank_count() {
                memory.poison(rank);
                for buffer in draft.role(rank).buffers.iter().filter(|buffer| buffer.is_resident()) {
                    memory.write::<u8>(rank, Place::of(buffer)).fill(0);
                }
            }
        }
        let meetings = Meetings::new(&draft);
        Ok(Job {
            arenas,
            freed,
            abroad,
            queues: draft.roles.iter().map(queues).collect(),
            born: draft.roles.iter().map(|role| born(&draft, role)).collect(),
            groups: meetings.all.iter().map(|meeting| Group::new(&meeting.members)).collect(),
            channels: meetings.routes.iter().map(|&route| (route, Channel::default())).collect(),
            meetings,
            sleepers: OnceLock::new(),
            draft,
        })
    }

    /// The ranks of this process.
    pub(crate) fn own(&self) -> Range<u32> {
        self.abroad.as_ref().map_or(0..self.draft.mesh.rank_count(), Abroad::own)
    }

    /// The role of a rank.
    pub(crate) fn role(&self, rank: u32) -> &Role {
        self.draft.role(rank)
    }

    /// For each stream of a rank, places in its code.
    pub(crate) fn queues_of(&self, rank: u32) -> &PerStream<Vec<u32>> {
        &self.queues[self.role_of(rank)]
    }

    /// Bytes of buffers that begin to live with an instruction.
    pub(crate) fn born(&self, rank: u32, instruction: usize) -> Bytes {
        self.born[self.role_of(rank)][instruction]
    }

    /// The group with which a rank comes to a collective.
    pub(crate) fn group(&self, rank: u32, id: CollectiveId) -> &Group {
        &self.groups[self.meetings.of(rank, id)]
    }

    /// The same by its number, and the place of the rank in it.
    pub(crate) fn meets(&self, rank: u32, id: CollectiveId) -> (u32, u32) {
        (self.meetings.of(rank, id) as u32, self.group(rank, id).position(rank) as u32)
    }

    /// The way of a transfer that a rank sends or receives.
    pub(crate) fn route(&self, rank: u32, id: TransferId) -> Route {
        self.meetings.route(&self.draft, id, rank)
    }

    /// What has come on the way from one rank to another.
    pub(crate) fn channel(&self, route: Route) -> &Channel {
        self.channels.get(&route).expect("every send and receive has its channel")
    }

    /// The number of the way of a transfer.
    pub(crate) fn place_of_route(&self, rank: u32, id: TransferId) -> u32 {
        let route = self.route(rank, id);
        self.channels.range(..route).count() as u32
    }

    /// The way of that number.
    pub(crate) fn channel_at(&self, number: u32) -> Option<(Route, &Channel)> {
        self.channels.iter().nth(number as usize).map(|(&route, channel)| (route, channel))
    }

    /// Names the threads to wake, those of the ranks of this process; without them, nobody sleeps.
    pub(crate) fn wakes(&self, threads: Vec<Thread>) {
        self.sleepers.set(threads).expect("threads are named once");
    }

    /// Wakes a rank, if it is of this process, which may now be able to go on.
    pub(crate) fn wake(&self, rank: u32) {
        if let Some(threads) = self.sleepers.get() {
            let place = rank.checked_sub(self.own().start);
            if let Some(thread) = place.and_then(|place| threads.get(place as usize)) {
                thread.unpark();
            }
        }
    }

    /// Wakes the other members of a group once all have come as far as this one.
    pub(crate) fn wake_if_complete(&self, group: &Group, position: usize, gathering: Gathering) {
        match gathering {
            Gathering::Waiting => {}
            Gathering::Complete => {
                let others = group.ranks().enumerate().filter(|&(other, _)| other != position);
                others.for_each(|(_, rank)| self.wake(rank));
            }
        }
    }

    fn role_of(&self, rank: u32) -> usize {
        self.draft.role_of[rank as usize].index()
    }
}

fn queues(role: &Role) -> PerStream<Vec<u32>> {
    let mut queues: PerStream<Vec<u32>> = PerStream::default();
    for (index, instr) in role.code.iter().enumerate() {
        queues[instr.stream].push(index as u32);
    }
    queues
}

fn born(draft: &Draft, role: &Role) -> Vec<Bytes> {
    let mut alive: Vec<bool> = role.buffers.iter().map(|buffer| buffer.is_resident()).collect();
    let mut first_written = |instr: &Instr| {
        let mut bytes = Bytes::ZERO;
        for (id, _) in role.uses(&draft.fragments, instr).filter(|&(_, access)| access != Access::Read) {
            if !std::mem::replace(&mut alive[id.index()], true) {
                bytes += role.buffers[id.index()].bytes;
            }
        }
        bytes
    };
    role.code.iter().map(&mut first_written).collect()
}

//! A job: programs with all that their ranks share, made at load.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::thread::Thread;

use ir::graph::Element;
use ir::mesh::Axis;
use ir::program::{
    Access, Action, Collective, CollectiveId, Direction, Draft, Instr, Operand, PerStream, Role, Stream,
};
use ir::units::Bytes;

use crate::cpu::arena::Arenas;
use crate::cpu::rendezvous::{Channel, Gathering, Group};
use crate::fault::LoadError;

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
    pub(crate) draft: Draft,
    pub(crate) digest: u64,
    pub(crate) arenas: Arenas,
    pub(crate) freed: Freed,
    /// For each role and stream, places in the code.
    queues: Vec<PerStream<Vec<u32>>>,
    /// For each role and instruction, bytes of the buffers that it is the first to write.
    born: Vec<Vec<Bytes>>,
    groups: Vec<Group>,
    /// For each rank and collective, its group, if the rank takes part.
    group_of: Vec<Vec<Option<usize>>>,
    channels: BTreeMap<(u32, u32, Direction), Channel>,
    sleepers: OnceLock<Vec<Thread>>,
}

impl Job {
    /// Allocates the arenas and finds out who meets whom.
    pub(crate) fn new(draft: Draft, digest: u64, freed: Freed) -> Result<Job, LoadError> {
        let is_short = |operand: &Operand| operand.element == Element::Bf16;
        let kernels = || draft.fragments.iter().flat_map(|fragment| &fragment.kernels);
        if draft.collectives.iter().any(|collective| collective.element == Element::Bf16)
            || kernels().any(|kernel| kernel.operands().chain(&kernel.workspace).any(is_short))
        {
            return Err(LoadError::Precision);
        }
        let stage = |rank| draft.mesh.coordinate(rank, 0) as usize;
        let arenas = Arenas::new((0..draft.mesh.rank_count()).map(|rank| draft.roles[stage(rank)].arena))?;
        if freed == Freed::Poisoned {
            let mut memory = arenas.between_steps();
            (0..draft.mesh.rank_count()).for_each(|rank| memory.poison(rank));
        }
        let (groups, group_of) = groups(&draft);
        Ok(Job {
            arenas,
            digest,
            freed,
            queues: draft.roles.iter().map(queues).collect(),
            born: draft.roles.iter().map(|role| born(&draft, role)).collect(),
            groups,
            group_of,
            channels: channels(&draft),
            sleepers: OnceLock::new(),
            draft,
        })
    }

    /// The role of a rank.
    pub(crate) fn role(&self, rank: u32) -> &Role {
        &self.draft.roles[self.stage(rank)]
    }

    /// For each stream of a rank, places in its code.
    pub(crate) fn queues_of(&self, rank: u32) -> &PerStream<Vec<u32>> {
        &self.queues[self.stage(rank)]
    }

    /// Bytes of buffers that begin to live with an instruction.
    pub(crate) fn born(&self, rank: u32, instruction: usize) -> Bytes {
        self.born[self.stage(rank)][instruction]
    }

    /// The group with which a rank comes to a collective.
    pub(crate) fn group(&self, rank: u32, id: CollectiveId) -> &Group {
        let group = self.group_of[rank as usize][id.index()];
        &self.groups[group.expect("a rank has a group for each collective of its role")]
    }

    /// The rank at the same place of another stage.
    pub(crate) fn counterpart(&self, rank: u32, stage: u16) -> u32 {
        let ranks = self.draft.mesh.ranks_per_stage();
        u32::from(stage) * ranks + rank % ranks
    }

    /// The way from one rank to another.
    pub(crate) fn channel(&self, (from, to): (u32, u32), direction: Direction) -> &Channel {
        self.channels.get(&(from, to, direction)).expect("every send and receive has its channel")
    }

    /// Names the threads to wake; without them, nobody sleeps.
    pub(crate) fn wakes(&self, threads: Vec<Thread>) {
        self.sleepers.set(threads).expect("threads are named once");
    }

    /// Wakes a rank, which may now be able to go on.
    pub(crate) fn wake(&self, rank: u32) {
        if let Some(threads) = self.sleepers.get() {
            threads[rank as usize].unpark();
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

    fn stage(&self, rank: u32) -> usize {
        self.draft.mesh.coordinate(rank, 0) as usize
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

/// All groups, and for each rank and collective which it is. Members of a group share stream and order.
fn groups(draft: &Draft) -> (Vec<Group>, Vec<Vec<Option<usize>>>) {
    let mut known: BTreeMap<(Axis, Vec<u32>), usize> = BTreeMap::new();
    let mut groups = Vec::new();
    let mut group_of = Vec::new();
    for rank in 0..draft.mesh.rank_count() {
        let role = &draft.roles[draft.mesh.coordinate(rank, 0) as usize];
        let mut own = vec![None; draft.collectives.len()];
        for instr in &role.code {
            let Action::Exchange(id) = instr.action else { continue };
            let Collective { exchange, axis, .. } = &draft.collectives[id.index()];
            let members = draft.mesh.members(rank, exchange.axes());
            let group = *known.entry((*axis, members)).or_insert_with_key(|(_, members)| {
                groups.push(Group::new(members));
                groups.len() - 1
            });
            own[id.index()] = Some(group);
        }
        group_of.push(own);
    }
    (groups, group_of)
}

fn channels(draft: &Draft) -> BTreeMap<(u32, u32, Direction), Channel> {
    let ranks = draft.mesh.ranks_per_stage();
    let mut channels = BTreeMap::new();
    for rank in 0..draft.mesh.rank_count() {
        let peer = |stage: u16| u32::from(stage) * ranks + rank % ranks;
        for instr in &draft.roles[draft.mesh.coordinate(rank, 0) as usize].code {
            let direction = if let Stream::Send(direction) | Stream::Receive(direction) = instr.stream {
                direction
            } else {
                continue;
            };
            let ends = match instr.action {
                Action::Send { to } => (rank, peer(to)),
                Action::Receive { from } => (peer(from), rank),
                Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {
                    continue;
                }
            };
            channels.entry((ends.0, ends.1, direction)).or_insert_with(Channel::default);
        }
    }
    channels
}

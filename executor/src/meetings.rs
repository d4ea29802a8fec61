//! Who meets whom, as programs say it: the members of every collective, and the ends of every transfer.
//!
//! Facts of the draft alone. How ranks come together (counters, communicators) is a matter of each host.

use std::collections::{BTreeMap, BTreeSet};

use ir::mesh::Axis;
use ir::program::{Action, Collective, CollectiveId, Direction, Draft, Stream};

/// Ranks that come to collectives together: on one stream, in one order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meeting {
    /// What its exchanges are for; this names their stream.
    pub(crate) axis: Axis,
    /// The ranks, in the order in which values are added.
    pub(crate) members: Vec<u32>,
}

/// The way of transfers from one rank to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) direction: Direction,
}

/// All meetings of a draft.
#[derive(Debug)]
pub(crate) struct Meetings {
    /// Each once; others name them by their place here.
    pub(crate) all: Vec<Meeting>,
    /// All ways on which something is sent.
    pub(crate) routes: BTreeSet<Route>,
    // For each rank and collective, its meeting, if the rank takes part.
    of: Vec<Vec<Option<usize>>>,
}

impl Meetings {
    /// Those of a draft.
    pub(crate) fn new(draft: &Draft) -> Meetings {
        let mut meetings = Meetings { all: Vec::new(), routes: BTreeSet::new(), of: Vec::new() };
        let mut known = BTreeMap::new();
        for rank in 0..draft.mesh.rank_count() {
            let mut own = vec![None; draft.collectives.len()];
            for instr in &draft.roles[draft.mesh.coordinate(rank, 0) as usize].code {
                match instr.action {
                    Action::Exchange(id) => own[id.index()] = Some(meetings.join(&mut known, draft, (rank, id))),
                    Action::Send { to } => {
                        let to = counterpart(draft, rank, to);
                        meetings.routes.insert(Route { from: rank, to, direction: direction(instr.stream) });
                    }
                    Action::Receive { from } => {
                        let from = counterpart(draft, rank, from);
                        meetings.routes.insert(Route { from, to: rank, direction: direction(instr.stream) });
                    }
                    Action::Compute(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {}
                }
            }
            meetings.of.push(own);
        }
        meetings
    }

    /// The meeting to which a rank comes for a collective, by its place among all.
    pub(crate) fn of(&self, rank: u32, id: CollectiveId) -> usize {
        self.of[rank as usize][id.index()].expect("a rank takes part in each collective of its role")
    }

    fn join(&mut self, known: &mut BTreeMap<Meeting, usize>, draft: &Draft, (rank, id): (u32, CollectiveId)) -> usize {
        let Collective { exchange, axis, .. } = &draft.collectives[id.index()];
        let meeting = Meeting { axis: *axis, members: draft.mesh.members(rank, exchange.axes()) };
        *known.entry(meeting).or_insert_with_key(|meeting| {
            self.all.push(meeting.clone());
            self.all.len() - 1
        })
    }
}

/// The rank at the same place of another stage.
pub(crate) fn counterpart(draft: &Draft, rank: u32, stage: u16) -> u32 {
    let ranks = draft.mesh.ranks_per_stage();
    u32::from(stage) * ranks + rank % ranks
}

/// The direction of a transfer on a stream.
pub(crate) fn direction(stream: Stream) -> Direction {
    match stream {
        Stream::Send(direction) | Stream::Receive(direction) => direction,
        Stream::Compute | Stream::Exchange(_) => unreachable!("nothing is sent on {}", stream.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::builder::Builder;
    use ir::layout::Exchange;
    use ir::mesh::Mesh;
    use ir::program::{Content, StepSize};

    #[test]
    fn ranks_of_a_stage_meet_along_axes_and_stages_meet_rank_by_rank() {
        let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
        let mut builder = Builder::new(&Mesh::new(2, &[2]), step);
        let gather = |builder: &mut Builder, axis| {
            builder.collective(Exchange::AllGather { axes: vec![1], dimension: 0 }, axis, &[1])
        };
        let [first, again, other] = [Axis::Data, Axis::Data, Axis::Tensor].map(|axis| gather(&mut builder, axis));
        for role in 0..2 {
            let [x, y] = [1, 2].map(|size| builder.buffer(role, size, Content::Boundary));
            for (id, axis) in [(first, Axis::Data), (again, Axis::Data), (other, Axis::Tensor)] {
                builder.push(role, Stream::Exchange(axis), Action::Exchange(id), &[x, y]);
            }
            let (stream, action) = match role {
                0 => (Stream::Send(Direction::Forward), Action::Send { to: 1 }),
                _ => (Stream::Receive(Direction::Forward), Action::Receive { from: 0 }),
            };
            builder.push(role, stream, action, &[x]);
        }
        let meetings = Meetings::new(&builder.finish());
        let members: Vec<(Axis, &[u32])> = meetings.all.iter().map(|it| (it.axis, it.members.as_slice())).collect();
        let expected: [(Axis, &[u32]); 4] =
            [(Axis::Data, &[0, 1]), (Axis::Tensor, &[0, 1]), (Axis::Data, &[2, 3]), (Axis::Tensor, &[2, 3])];
        assert_eq!(members, expected);
        assert_eq!([first, again, other].map(|id| meetings.of(3, id)), [2, 2, 3]);
        let route = |from, to| Route { from, to, direction: Direction::Forward };
        assert!(meetings.routes.iter().eq(&[route(0, 2), route(1, 3)]), "{:?}", meetings.routes);
    }
}

//! Who meets whom, as programs say it: the members of every collective, and the ends of every transfer.
//!
//! Facts of the draft alone. How ranks come together (counters, communicators) is a matter of each host.

use std::collections::{BTreeMap, BTreeSet};

use ir::mesh::Axis;
use ir::program::{Action, Collective, CollectiveId, Direction, Draft, RoleId, Transfer, TransferId};

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
    // The ranks of each role, and the place of each rank among those of its role.
    ranks_of: Vec<Vec<u32>>,
    places: Vec<usize>,
}

impl Meetings {
    /// Those of a draft.
    pub(crate) fn new(draft: &Draft) -> Meetings {
        let ranks_of: Vec<Vec<u32>> = draft.roles.iter().map(|role| draft.ranks_of(role.id).collect()).collect();
        let mut places = vec![0; draft.role_of.len()];
        for ranks in &ranks_of {
            ranks.iter().enumerate().for_each(|(place, &rank)| places[rank as usize] = place);
        }
        let mut meetings = Meetings { all: Vec::new(), routes: BTreeSet::new(), of: Vec::new(), ranks_of, places };
        let mut known = BTreeMap::new();
        for rank in 0..draft.mesh.rank_count() {
            let mut own = vec![None; draft.collectives.len()];
            for instr in &draft.role(rank).code {
                if let Action::Exchange(id) = instr.action {
                    own[id.index()] = Some(meetings.join(&mut known, draft, (rank, id)));
                }
            }
            meetings.of.push(own);
        }
        for transfer in &draft.transfers {
            let [from, to] = [transfer.from, transfer.to].map(|role| &meetings.ranks_of[role.index()]);
            meetings.routes.extend(from.iter().zip(to).map(|(&from, &to)| Route {
                from,
                to,
                direction: transfer.direction,
            }));
        }
        meetings
    }

    /// The meeting to which a rank comes for a collective, by its place among all.
    pub(crate) fn of(&self, rank: u32, id: CollectiveId) -> usize {
        self.of[rank as usize][id.index()].expect("a rank takes part in each collective of its role")
    }

    /// The way of a transfer that `rank`, one of its ends, sends or receives.
    pub(crate) fn route(&self, draft: &Draft, id: TransferId, rank: u32) -> Route {
        let Transfer { from, to, direction, .. } = draft.transfers[id.index()];
        let place = self.places[rank as usize];
        let end = |role: RoleId| self.ranks_of[role.index()][place];
        Route { from: end(from), to: end(to), direction }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::builder::Builder;
    use ir::layout::Exchange;
    use ir::mesh::Mesh;
    use ir::program::{Content, StepSize, Stream};

    #[test]
    fn ranks_of_a_stage_meet_along_axes_and_stages_meet_rank_by_rank() {
        let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
        let mut builder = Builder::new(&Mesh::new(2, &[2]), step);
        let gather = |builder: &mut Builder, axis| {
            builder.collective(Exchange::AllGather { axes: vec![1], dimension: 0 }, axis, &[1])
        };
        let [first, again, other] = [Axis::Data, Axis::Data, Axis::Tensor].map(|axis| gather(&mut builder, axis));
        let sent = builder.transfer([0, 1], Direction::Forward);
        for role in 0..2 {
            let [x, y] = [1, 2].map(|size| builder.buffer(role, size, Content::Boundary));
            for (id, axis) in [(first, Axis::Data), (again, Axis::Data), (other, Axis::Tensor)] {
                builder.push(role, Stream::Exchange(axis), Action::Exchange(id), &[x, y]);
            }
            let (stream, action) = match role {
                0 => (Stream::Send(Direction::Forward), Action::Send(sent)),
                _ => (Stream::Receive(Direction::Forward), Action::Receive(sent)),
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

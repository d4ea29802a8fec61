//! The prices of all that happens in given programs: looked up once, so that the simulator looks nothing up.

use ir::cluster::Execution;
use ir::mesh::{Axis, Mesh};
use ir::profile::{KernelKind, Route};
use ir::program::{Action, CollectiveId, Draft, FragmentId, Programs, Role, RoleId, Stream, Transfer, TransferId};
use ir::software::{Reduction, Waits};
use ir::trace::Confidence;
use ir::units::{Bytes, Seconds};

use crate::fleet::{Nodes, Seats};
use crate::model::CostModel;
use crate::network::Group;
use crate::slowdown::Mix;

/// Times of the fragments, collectives and transfers of programs.
#[derive(Clone, Debug)]
pub struct Prices {
    // By part, then by fragment; none of parts that are not used.
    fragments: Vec<Vec<FragmentPrice>>,
    // By role, then by collective; none where a role does not take part.
    exchanges: Vec<Option<ExchangePrice>>,
    transfers: Vec<(Bytes, Lane, Price)>,
    // By role and other role.
    lanes: Vec<Lane>,
    collectives: usize,
    // By role.
    hosts: Vec<Host>,
    /// For what the host waits.
    pub(crate) waits: Waits,
    /// When gradients are joined over Data.
    pub(crate) reduction: Reduction,
    execution: Execution,
}

/// What the host of a role takes, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// The part on which the role lies.
    part: usize,
    /// To issue one kernel.
    pub(crate) issue: f64,
    /// To go through one pass of a layer, besides its kernels.
    pub(crate) issue_pass: f64,
    /// To issue an exchange or a transfer.
    pub(crate) issue_exchange: f64,
}

/// The way from one role to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// The links that it fills.
    pub(crate) route: Route,
    /// The parts at its ends, the smaller first.
    parts: [usize; 2],
}

/// A time in seconds and what it rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    pub(crate) time: f64,
    pub(crate) confidence: Confidence,
}

/// What a fragment takes.
#[derive(Clone, Debug)]
pub(crate) struct FragmentPrice {
    /// Seconds of all kernels, and the weakest of what they rest on.
    pub(crate) price: Price,
    /// Seconds in which the host issues its kernels.
    pub(crate) issue: f64,
    /// Seconds from when the host begins to issue it until it can be over, on an idle device: kernel j starts after
    /// j + 1 issues, so this is the largest of (j + 1) · issue + the time of kernels from j on.
    pub(crate) issued_end: f64,
    /// Parts of the time that are measured, interpolated and modelled; they sum to 1.
    pub(crate) parts: [f64; 3],
    /// Of which kinds its kernels are.
    pub(crate) mix: Mix,
}

/// What a collective takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangePrice {
    pub(crate) price: Price,
    /// The link that it fills; none if it moves nothing.
    pub(crate) route: Option<Route>,
    /// Ranks of a node that are at work in it: already part of its price.
    pub(crate) ranks_per_node: u32,
}

impl Prices {
    /// The prices of `programs` on the cluster of `model`.
    pub fn of(programs: &Programs, model: &CostModel) -> Prices {
        Prices::of_draft(programs.draft(), Seats::alike(model))
    }

    /// The time of a fragment in a stage, and the weakest of what it rests on.
    pub fn fragment(&self, stage: u32, id: FragmentId) -> (Seconds, Confidence) {
        let price = self.fragment_price(stage as usize, id).price;
        (Seconds(price.time), price.confidence)
    }

    /// The time of a collective as the ranks of `stage` see it; none if they take no part in it.
    pub fn collective(&self, stage: u32, id: CollectiveId) -> Option<(Seconds, Confidence)> {
        let price = self.exchanges[stage as usize * self.collectives + id.index()]?.price;
        Some((Seconds(price.time), price.confidence))
    }

    pub(crate) fn of_draft(draft: &Draft, seats: Seats<'_>) -> Prices {
        let nodes = seats.nodes(draft);
        let first = seats.model(0);
        let fragments = |part: usize| -> Vec<FragmentPrice> {
            if !seats.uses(part) {
                return Vec::new();
            }
            draft.fragments.iter().map(|fragment| fragment_price(fragment, seats.of_part(part))).collect()
        };
        let host = |role: usize| {
            let model = seats.model(role);
            let (issue, issue_pass) = (model.issue().0, model.issue_pass().0);
            Host { part: seats.part(role), issue, issue_pass, issue_exchange: model.issue_exchange().0 }
        };
        let mut prices = Prices {
            fragments: (0..seats.part_count()).map(fragments).collect(),
            exchanges: vec![None; draft.roles.len() * draft.collectives.len()],
            transfers: Vec::new(),
            lanes: lanes(draft, seats, &nodes),
            collectives: draft.collectives.len(),
            hosts: (0..draft.roles.len()).map(host).collect(),
            waits: first.waits(),
            reduction: first.reduction(),
            execution: first.cluster().device.execution,
        };
        let mut groups = Groups::default();
        for (index, role) in draft.roles.iter().enumerate() {
            for instr in &role.code {
                match instr.action {
                    Action::Exchange(id) => {
                        let slot = index * draft.collectives.len() + id.index();
                        if prices.exchanges[slot].is_none() {
                            let asked = Asked { draft, seats, nodes: &nodes, role: index };
                            prices.exchanges[slot] = Some(exchange_price(asked, id, &mut groups));
                        }
                    }
                    Action::Receive(id) => {
                        let bytes = role.buffers[role.operands(instr)[0].index()].bytes;
                        prices.add_transfer(bytes, prices.lane_of(draft, id), seats);
                    }
                    Action::Compute(_) | Action::Send(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {}
                }
            }
        }
        prices
    }

    /// What a fragment takes in a role.
    pub(crate) fn fragment_price(&self, role: usize, id: FragmentId) -> &FragmentPrice {
        &self.fragments[self.hosts[role].part][id.index()]
    }

    /// What the host of a role takes.
    pub(crate) fn host(&self, role: usize) -> Host {
        self.hosts[role]
    }

    pub(crate) fn exchange(&self, role: usize, id: CollectiveId) -> ExchangePrice {
        self.exchanges[role * self.collectives + id.index()].expect("every exchange of the code was priced")
    }

    /// Whether what stands behind all passes on a stream waits for them.
    pub(crate) fn joins_behind(&self, stream: Stream) -> bool {
        self.reduction == Reduction::Behind && stream == Stream::Exchange(Axis::Data)
    }

    /// Whether a host issues instructions beside the device; else issuing is part of the price of a fragment.
    pub(crate) fn is_issued_aside(&self) -> bool {
        self.execution == Execution::Concurrent
    }

    /// The way of a transfer.
    pub(crate) fn lane_of(&self, draft: &Draft, id: TransferId) -> Lane {
        let Transfer { from, to, .. } = draft.transfers[id.index()];
        self.lanes[from.index() * self.hosts.len() + to.index()]
    }

    pub(crate) fn transfer(&self, bytes: Bytes, lane: Lane) -> Price {
        let found = self.transfers.iter().find(|(b, l, _)| *b == bytes && *l == lane);
        found.expect("every transfer of the code was priced").2
    }

    fn add_transfer(&mut self, bytes: Bytes, lane: Lane, seats: Seats<'_>) {
        if self.transfers.iter().any(|(b, l, _)| *b == bytes && *l == lane) {
            return;
        }
        let [one, other] = lane.parts;
        let (time, confidence) = if one == other {
            seats.of_part(one).price_transfer(bytes, lane.route)
        } else {
            slower(lane.parts.map(|part| seats.bridge(part).price_transfer(bytes, lane.route)))
        };
        self.transfers.push((bytes, lane, Price { time: time.0, confidence }));
    }
}

/// The longest of prices.
fn slower(prices: impl IntoIterator<Item = (Seconds, Confidence)>) -> (Seconds, Confidence) {
    let slowest = prices.into_iter().max_by(|a, b| a.0.0.total_cmp(&b.0.0));
    slowest.expect("something has a price")
}

fn fragment_price(fragment: &ir::program::Fragment, model: &CostModel) -> FragmentPrice {
    let issue = model.issue().0;
    let mut times = [0.0; 3];
    let mut mix = Mix::default();
    let mut price = Price { time: 0.0, confidence: Confidence::Measured };
    let mut issued_end = 0.0;
    for (position, kernel) in fragment.kernels.iter().enumerate() {
        let (time, confidence) = model.price_kernel(kernel);
        times[confidence as usize] += time.0;
        mix.add(KernelKind::of(kernel.op.kind()), time.0);
        price = Price { time: price.time + time.0, confidence: price.confidence.max(confidence) };
        let issued = (position + 1) as f64 * issue;
        issued_end = f64::max(issued_end, issued) + time.0;
    }
    let issue = fragment.kernels.len() as f64 * issue;
    let (parts, mix) = match price.time {
        time if time > 0.0 => (times.map(|part| part / time), mix.over(time)),
        _ => ([0.0, 0.0, 1.0], Mix::default()),
    };
    match model.cluster().device.execution {
        Execution::Concurrent => FragmentPrice { price, issue, issued_end, parts, mix },
        // One thread issues and computes in turn.
        Execution::Shared { .. } => {
            let price = Price { time: price.time + issue, ..price };
            FragmentPrice { price, issue: 0.0, issued_end: 0.0, parts, mix }
        }
    }
}

/// Groups of ranks that were looked at: collectives have few different sets of axes.
#[derive(Default)]
struct Groups<'a> {
    known: Vec<(&'a [usize], Place, Group)>,
}

/// Where a role begins: its part, and the place of its first rank on a node. Its other ranks follow, so that roles which
/// begin at the same place lie on nodes in the same way.
type Place = (usize, u32);

/// What is asked for the price of an exchange.
#[derive(Clone, Copy)]
struct Asked<'a, 'n> {
    draft: &'a Draft,
    seats: Seats<'n>,
    nodes: &'n Nodes,
    role: usize,
}

impl<'a> Groups<'a> {
    fn of(&mut self, asked: Asked<'a, '_>, axes: &'a [usize]) -> Group {
        let Asked { draft, seats, nodes, role } = asked;
        let ranks = || draft.ranks_of(RoleId(role as u32));
        let before = |first: u32| (0..first).rev().take_while(|&rank| nodes.of(rank) == nodes.of(first)).count();
        let place = (seats.part(role), ranks().next().map_or(0, before) as u32);
        let known = self.known.iter().find(|(other, at, _)| *other == axes && *at == place);
        known.map(|&(.., group)| group).unwrap_or_else(|| {
            let group = Group::by_node(&draft.mesh, |rank| nodes.of(rank), ranks(), axes);
            self.known.push((axes, place, group));
            group
        })
    }
}

fn exchange_price<'a>(asked: Asked<'a, '_>, id: CollectiveId, groups: &mut Groups<'a>) -> ExchangePrice {
    let Asked { draft, seats, role, .. } = asked;
    let collective = &draft.collectives[id.index()];
    let axes = collective.exchange.axes();
    let group = groups.of(asked, axes);
    let price = |model: &CostModel| model.price_collective(collective, group.ranks, group.ranks_per_node);
    let mut parts: Vec<usize> = (0..draft.roles.len()).map(|stage| seats.part(stage)).collect();
    parts.sort_unstable();
    parts.dedup();
    let (time, confidence) = if axes.contains(&Mesh::PIPELINE) && parts.len() > 1 {
        slower(parts.into_iter().map(|part| price(seats.bridge(part))))
    } else {
        price(seats.model(role))
    };
    let moves = group.ranks > 1 && collective.exchange.moves();
    ExchangePrice {
        price: Price { time: time.0, confidence },
        route: moves.then(|| group.route()),
        ranks_per_node: group.ranks_per_node,
    }
}

/// For each pair of roles, whether any of their ranks at the same place lie on different nodes.
fn lanes(draft: &Draft, seats: Seats<'_>, nodes: &Nodes) -> Vec<Lane> {
    let of = |role: &Role| draft.ranks_of(role.id).map(|rank| nodes.of(rank)).collect::<Vec<u32>>();
    let of: Vec<Vec<u32>> = draft.roles.iter().map(of).collect();
    let lane = |a: usize, b: usize| {
        let parts = [seats.part(a), seats.part(b)];
        let route = if of[a] == of[b] { Route::Inside } else { Route::Between };
        Lane { route, parts: [parts[0].min(parts[1]), parts[0].max(parts[1])] }
    };
    (0..of.len()).flat_map(|a| (0..of.len()).map(move |b| (a, b))).map(|(a, b)| lane(a, b)).collect()
}

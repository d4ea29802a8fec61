//! The prices of all that happens in given programs: looked up once, so that the simulator looks nothing up.

use ir::cluster::Execution;
use ir::mesh::Axis;
use ir::profile::{KernelKind, Route};
use ir::program::{Action, CollectiveId, Draft, FragmentId, Programs, Role, RoleId, Stream, Transfer, TransferId};
use ir::software::{Reduction, Waits};
use ir::trace::Confidence;
use ir::units::{Bytes, Seconds};

use crate::model::CostModel;
use crate::network::Group;

/// Times of the fragments, collectives and transfers of programs.
#[derive(Clone, Debug)]
pub struct Prices {
    pub(crate) fragments: Vec<FragmentPrice>,
    // By role, then by collective; none where a role does not take part.
    exchanges: Vec<Option<ExchangePrice>>,
    transfers: Vec<(Bytes, Route, Price)>,
    // By role and other role.
    routes: Vec<Route>,
    collectives: usize,
    roles: usize,
    pub(crate) issue: f64,
    /// Seconds in which the host goes through one pass of a layer, besides its kernels.
    pub(crate) issue_pass: f64,
    /// Seconds in which the host issues an exchange or a transfer.
    pub(crate) issue_exchange: f64,
    /// For what the host waits.
    pub(crate) waits: Waits,
    /// When gradients are joined over Data.
    pub(crate) reduction: Reduction,
    execution: Execution,
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
    /// Part of the time that products take, and not kernels that memory bounds.
    pub(crate) products: f64,
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
        Prices::of_draft(programs.draft(), model)
    }

    /// The time of a fragment, and the weakest of what it rests on.
    pub fn fragment(&self, id: FragmentId) -> (Seconds, Confidence) {
        let price = self.fragments[id.index()].price;
        (Seconds(price.time), price.confidence)
    }

    /// The time of a collective as the ranks of `stage` see it; none if they take no part in it.
    pub fn collective(&self, stage: u32, id: CollectiveId) -> Option<(Seconds, Confidence)> {
        let price = self.exchanges[stage as usize * self.collectives + id.index()]?.price;
        Some((Seconds(price.time), price.confidence))
    }

    pub(crate) fn of_draft(draft: &Draft, model: &CostModel) -> Prices {
        let mut prices = Prices {
            fragments: draft.fragments.iter().map(|fragment| fragment_price(fragment, model)).collect(),
            exchanges: vec![None; draft.roles.len() * draft.collectives.len()],
            transfers: Vec::new(),
            routes: routes(draft, model.cluster().devices_per_node),
            collectives: draft.collectives.len(),
            roles: draft.roles.len(),
            issue: model.issue().0,
            waits: model.waits(),
            reduction: model.reduction(),
            issue_pass: model.issue_pass().0,
            issue_exchange: model.issue_exchange().0,
            execution: model.cluster().device.execution,
        };
        let mut groups = Groups::default();
        for (index, role) in draft.roles.iter().enumerate() {
            for instr in &role.code {
                match instr.action {
                    Action::Exchange(id) => {
                        let slot = index * draft.collectives.len() + id.index();
                        if prices.exchanges[slot].is_none() {
                            prices.exchanges[slot] = Some(exchange_price(draft, index, id, model, &mut groups));
                        }
                    }
                    Action::Receive(id) => {
                        let bytes = role.buffers[role.operands(instr)[0].index()].bytes;
                        prices.add_transfer(bytes, prices.route_of(draft, id), model);
                    }
                    Action::Compute(_) | Action::Send(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {}
                }
            }
        }
        prices
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

    /// The route of a transfer.
    pub(crate) fn route_of(&self, draft: &Draft, id: TransferId) -> Route {
        let Transfer { from, to, .. } = draft.transfers[id.index()];
        self.routes[from.index() * self.roles + to.index()]
    }

    pub(crate) fn transfer(&self, bytes: Bytes, route: Route) -> Price {
        let found = self.transfers.iter().find(|(b, r, _)| *b == bytes && *r == route);
        found.expect("every transfer of the code was priced").2
    }

    fn add_transfer(&mut self, bytes: Bytes, route: Route, model: &CostModel) {
        if !self.transfers.iter().any(|(b, r, _)| *b == bytes && *r == route) {
            let (time, confidence) = model.price_transfer(bytes, route);
            self.transfers.push((bytes, route, Price { time: time.0, confidence }));
        }
    }
}

fn fragment_price(fragment: &ir::program::Fragment, model: &CostModel) -> FragmentPrice {
    let issue = model.issue().0;
    let mut times = [0.0; 3];
    let mut products = 0.0;
    let mut price = Price { time: 0.0, confidence: Confidence::Measured };
    let mut issued_end = 0.0;
    for (position, kernel) in fragment.kernels.iter().enumerate() {
        let (time, confidence) = model.price_kernel(kernel);
        times[confidence as usize] += time.0;
        if KernelKind::of(kernel.op.kind()) == KernelKind::Product {
            products += time.0;
        }
        price = Price { time: price.time + time.0, confidence: price.confidence.max(confidence) };
        let issued = (position + 1) as f64 * issue;
        issued_end = f64::max(issued_end, issued) + time.0;
    }
    let issue = fragment.kernels.len() as f64 * issue;
    let (parts, products) = match price.time {
        time if time > 0.0 => (times.map(|part| part / time), products / time),
        _ => ([0.0, 0.0, 1.0], 0.0),
    };
    match model.cluster().device.execution {
        Execution::Concurrent => FragmentPrice { price, issue, issued_end, parts, products },
        // One thread issues and computes in turn.
        Execution::Shared { .. } => {
            let price = Price { time: price.time + issue, ..price };
            FragmentPrice { price, issue: 0.0, issued_end: 0.0, parts, products }
        }
    }
}

/// Groups of ranks that were looked at: collectives have few different sets of axes.
#[derive(Default)]
struct Groups<'a> {
    /// By axes and by the place of the role's first rank on its node: its other ranks follow, so that roles which begin
    /// at the same place lie on nodes in the same way.
    known: Vec<(&'a [usize], u32, Group)>,
}

impl<'a> Groups<'a> {
    fn of(&mut self, draft: &'a Draft, role: usize, axes: &'a [usize], devices_per_node: u32) -> Group {
        let ranks = || draft.ranks_of(RoleId(role as u32));
        let place = ranks().next().map_or(0, |first| first % devices_per_node);
        let known = self.known.iter().find(|(other, at, _)| *other == axes && *at == place);
        known.map(|&(.., group)| group).unwrap_or_else(|| {
            let group = Group::of(&draft.mesh, devices_per_node, ranks(), axes);
            self.known.push((axes, place, group));
            group
        })
    }
}

fn exchange_price<'a>(
    draft: &'a Draft,
    role: usize,
    id: CollectiveId,
    model: &CostModel,
    groups: &mut Groups<'a>,
) -> ExchangePrice {
    let collective = &draft.collectives[id.index()];
    let group = groups.of(draft, role, collective.exchange.axes(), model.cluster().devices_per_node);
    let (time, confidence) = model.price_collective(collective, group.ranks, group.ranks_per_node);
    let moves = group.ranks > 1 && collective.exchange.moves();
    ExchangePrice {
        price: Price { time: time.0, confidence },
        route: moves.then(|| group.route()),
        ranks_per_node: group.ranks_per_node,
    }
}

/// For each pair of roles, whether any of their ranks at the same place lie on different nodes.
fn routes(draft: &Draft, devices_per_node: u32) -> Vec<Route> {
    let nodes = |role: &Role| draft.ranks_of(role.id).map(|rank| rank / devices_per_node).collect::<Vec<u32>>();
    let nodes: Vec<Vec<u32>> = draft.roles.iter().map(nodes).collect();
    let route = |a: &[u32], b: &[u32]| if a == b { Route::Inside } else { Route::Between };
    nodes.iter().flat_map(|a| nodes.iter().map(move |b| route(a, b))).collect()
}

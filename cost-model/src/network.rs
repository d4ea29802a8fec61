//! Time of exchanges and transfers from latency and bandwidth, when nobody measured them.
//!
//! For n ranks, S bytes of the whole operand, latency α and rate B of a link (Thakur, Rabenseifner and Gropp 2005):
//!
//! | exchange | time |
//! |---|---|
//! | all-gather, reduce-scatter (ring) | (n−1) α + (n−1)/n · S/B |
//! | all-reduce (ring) | twice that |
//! | all-reduce (two trees, Sanders et al. 2009) | 2 ⌈log₂ n⌉ α + 2 S/B |
//! | all-to-all (pairwise) | (n−1) α + (n−1)/n · S/B |
//!
//! Libraries choose the better of ring and trees by size, and so does this. A ring over k nodes with p ranks in each
//! enters and leaves every node over the links of all its p ranks: it runs at the slower of the link inside and p links
//! between (what NCCL's tests call bus bandwidth), and of its n−1 hops k−1 cross nodes.

use ir::cluster::{Cluster, Link};
use ir::layout::ExchangeKind;
use ir::mesh::Mesh;
use ir::profile::Route;
use ir::units::{Bytes, BytesPerSecond, Seconds};

/// Who takes part in an exchange: how many ranks, and how many of them share a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Members of the group.
    pub ranks: u32,
    /// How many of them share a node; the least, where nodes have unlike numbers.
    pub ranks_per_node: u32,
}

impl Group {
    /// The groups that `axes` make of some `ranks`, as the worst placed of them: the one with the fewest members on a
    /// node.
    pub fn of(mesh: &Mesh, devices_per_node: u32, ranks: impl Iterator<Item = u32>, axes: &[usize]) -> Group {
        Group::by_node(mesh, |rank| rank / devices_per_node, ranks, axes)
    }

    /// The same where ranks lie on these nodes.
    pub(crate) fn by_node(
        mesh: &Mesh,
        node: impl Fn(u32) -> u32,
        ranks: impl Iterator<Item = u32>,
        axes: &[usize],
    ) -> Group {
        let size = axes.iter().map(|&axis| mesh.sizes()[axis]).product();
        let is_head = |rank: u32| axes.iter().all(|&axis| axis == Mesh::PIPELINE || mesh.coordinate(rank, axis) == 0);
        let heads = ranks.filter(|&rank| is_head(rank));
        let ranks_per_node = heads.map(|head| least_on_a_node(mesh.members(head, axes), &node)).min().unwrap_or(size);
        Group { ranks: size, ranks_per_node }
    }

    /// Nodes that it spans.
    pub fn nodes(self) -> u32 {
        self.ranks.div_ceil(self.ranks_per_node.max(1))
    }

    /// The link that its exchanges fill: between nodes if it spans several.
    pub fn route(self) -> Route {
        if self.nodes() > 1 { Route::Between } else { Route::Inside }
    }
}

fn least_on_a_node(members: Vec<u32>, node: impl Fn(u32) -> u32) -> u32 {
    let mut nodes: Vec<u32> = members.into_iter().map(node).collect();
    nodes.sort_unstable();
    nodes.chunk_by(|a, b| a == b).map(|chunk| chunk.len() as u32).min().unwrap_or(1)
}

/// An exchange of `bytes`, the whole operand.
pub(crate) fn exchange(cluster: &Cluster, kind: ExchangeKind, group: Group, bytes: Bytes) -> Seconds {
    if group.ranks < 2 {
        return Seconds::ZERO;
    }
    let start = cluster.inside.start.max(if group.nodes() > 1 { cluster.between.start } else { Seconds::ZERO });
    start
        + match kind {
            ExchangeKind::AllGather | ExchangeKind::ReduceScatter => ring(cluster, group, bytes),
            ExchangeKind::AllToAll => pairwise(cluster, group, bytes),
            ExchangeKind::AllReduce => (ring(cluster, group, bytes) * 2.0).min(trees(cluster, group, bytes)),
        }
}

/// The same of a group over several nodes, if each node uses one adapter of those that its members have.
pub(crate) fn through_one_adapter(cluster: &Cluster, kind: ExchangeKind, group: Group, bytes: Bytes) -> Seconds {
    let rate = BytesPerSecond(cluster.between.rate.0 / f64::from(group.ranks_per_node.max(1)));
    let narrow = Cluster { between: Link { rate, ..cluster.between.clone() }, ..cluster.clone() };
    exchange(&narrow, kind, group, bytes)
}

/// A transfer from one device to another: α + S/B.
pub(crate) fn transfer(cluster: &Cluster, bytes: Bytes, route: Route) -> Seconds {
    let link = link(cluster, route);
    // Two devices of a node are a ring of two.
    let rate = if route == Route::Inside { reached_by(link, 2) } else { reached(link) };
    link.latency + bytes / rate
}

fn ring(cluster: &Cluster, group: Group, bytes: Bytes) -> Seconds {
    let (ranks, nodes) = (f64::from(group.ranks), f64::from(group.nodes()));
    let latency = cluster.inside.latency * (ranks - nodes) + cluster.between.latency * (nodes - 1.0);
    latency + (bytes / ring_rate(cluster, group)) * ((ranks - 1.0) / ranks)
}

fn trees(cluster: &Cluster, group: Group, bytes: Bytes) -> Seconds {
    let depth = |count: u32| f64::from(count.max(1)).log2().ceil();
    let inside = cluster.inside.latency * depth(group.ranks_per_node.min(group.ranks));
    let between = cluster.between.latency * depth(group.nodes());
    (inside + between + bytes / ring_rate(cluster, group)) * 2.0
}

fn pairwise(cluster: &Cluster, group: Group, bytes: Bytes) -> Seconds {
    let ranks = f64::from(group.ranks);
    let near = f64::from(group.ranks_per_node.min(group.ranks)) - 1.0;
    let far = ranks - 1.0 - near;
    let latency = cluster.inside.latency * near + cluster.between.latency * far;
    let inside = (bytes / reached_by(&cluster.inside, group.ranks.min(group.ranks_per_node))) * (near / ranks);
    let between = (bytes / reached(&cluster.between)) * (far / ranks);
    latency + inside.max(between)
}

fn ring_rate(cluster: &Cluster, group: Group) -> BytesPerSecond {
    let inside = reached_by(&cluster.inside, group.ranks.min(group.ranks_per_node));
    let between = BytesPerSecond(reached(&cluster.between).0 * f64::from(group.ranks_per_node));
    match (group.nodes(), group.ranks_per_node) {
        (1, _) => inside,
        (_, 1) => between,
        _ => BytesPerSecond(inside.0.min(between.0)),
    }
}

fn link(cluster: &Cluster, route: Route) -> &Link {
    match route {
        Route::Inside => &cluster.inside,
        Route::Between => &cluster.between,
    }
}

/// What a ring over so many devices of a node reaches.
fn reached_by(link: &Link, ranks: u32) -> BytesPerSecond {
    let share = link.efficiency_of.get(&ranks).copied().unwrap_or(link.efficiency);
    BytesPerSecond(link.rate.0 * share)
}

fn reached(link: &Link) -> BytesPerSecond {
    BytesPerSecond(link.rate.0 * link.efficiency)
}

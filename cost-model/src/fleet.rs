//! Prices where devices are unlike: each stage lies on one part of a fleet, and what it does is priced there.

use ir::cluster::Cluster;
use ir::fleet::Fleet;
use ir::program::Draft;
use ir::trace::Trace;

use crate::interval::Interval;
use crate::model::CostModel;

/// What work costs on each part of a fleet, and between parts.
#[derive(Clone, Debug)]
pub struct FleetModel {
    /// One for each part.
    parts: Vec<CostModel>,
    /// The same with what joins the parts as the link between nodes, if that is the slower one.
    bridges: Vec<CostModel>,
}

impl FleetModel {
    /// A model of each part of a fleet, from its description.
    pub fn new(fleet: &Fleet) -> FleetModel {
        let bridged = |part: &Cluster| Cluster { between: fleet.between.slower(&part.between).clone(), ..part.clone() };
        FleetModel {
            parts: fleet.parts.iter().map(|part| CostModel::new(part, None)).collect(),
            bridges: fleet.parts.iter().map(|part| CostModel::new(&bridged(part), None)).collect(),
        }
    }

    /// A model that was made before, of a fleet of one part.
    pub fn alone(model: &CostModel) -> FleetModel {
        FleetModel { parts: vec![model.clone()], bridges: vec![model.clone()] }
    }

    /// What work costs on a part.
    pub fn part(&self, part: usize) -> &CostModel {
        &self.parts[part]
    }

    /// The same for a part's share in what goes to other parts.
    pub fn bridge(&self, part: usize) -> &CostModel {
        &self.bridges[part]
    }

    /// Between which times a measured step is expected, by the parts that are used: of the least and the most sure.
    pub fn interval(&self, trace: &Trace, stages: &[usize]) -> Interval {
        let intervals = stages.iter().map(|&part| self.parts[part].interval(trace));
        let widest = |a: Interval, b: Interval| Interval { low: a.low.min(b.low), high: a.high.max(b.high) };
        intervals.reduce(widest).expect("a plan has stages")
    }
}

/// On which devices the stages of a pipeline lie. Stages on one part take its devices in their order, from the first on.
#[derive(Clone, Copy, Debug)]
pub struct Seats<'a> {
    models: &'a [CostModel],
    bridges: &'a [CostModel],
    /// The part of each stage; if empty, all lie on the first.
    stages: &'a [usize],
}

impl<'a> Seats<'a> {
    /// All stages on devices of one kind.
    pub fn alike(model: &'a CostModel) -> Seats<'a> {
        let models = std::slice::from_ref(model);
        Seats { models, bridges: models, stages: &[] }
    }

    /// Each stage on a part of a fleet.
    pub fn on_parts(fleet: &'a FleetModel, stages: &'a [usize]) -> Seats<'a> {
        Seats { models: &fleet.parts, bridges: &fleet.bridges, stages }
    }

    /// The part on which a stage lies.
    pub(crate) fn part(self, stage: usize) -> usize {
        self.stages.get(stage).copied().unwrap_or(0)
    }

    /// How many parts there are.
    pub(crate) fn part_count(self) -> usize {
        self.models.len()
    }

    /// Whether a stage lies on a part.
    pub(crate) fn uses(self, part: usize) -> bool {
        if self.stages.is_empty() { part == 0 } else { self.stages.contains(&part) }
    }

    /// What work costs where a stage lies.
    pub(crate) fn model(self, stage: usize) -> &'a CostModel {
        &self.models[self.part(stage)]
    }

    /// What work costs on a part.
    pub(crate) fn of_part(self, part: usize) -> &'a CostModel {
        &self.models[part]
    }

    /// The same for a part's share in what goes to other parts.
    pub(crate) fn bridge(self, part: usize) -> &'a CostModel {
        &self.bridges[part]
    }

    /// Where ranks lie: nodes are numbered over all parts, one part after the other.
    pub(crate) fn nodes(self, draft: &Draft) -> Nodes {
        let ranks = draft.mesh.ranks_per_stage();
        // Of each part its first node, and its devices that are taken.
        let mut taken = vec![0; self.models.len()];
        let counts = self.models.iter().map(|model| model.cluster());
        let firsts: Vec<u32> = counts
            .scan(0, |next, cluster| {
                let first = *next;
                *next += cluster.nodes.max(draft.mesh.rank_count().div_ceil(cluster.devices_per_node));
                Some(first)
            })
            .collect();
        let places = (0..draft.roles.len()).map(|stage| {
            let part = self.part(stage);
            let device = taken[part];
            taken[part] += ranks;
            Place { device, per_node: self.models[part].cluster().devices_per_node, node: firsts[part] }
        });
        Nodes { ranks, places: places.collect() }
    }
}

/// On which node each rank lies.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    ranks: u32,
    /// By stage.
    places: Vec<Place>,
}

/// Where the ranks of a stage lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// That of the first rank among the devices of its part.
    device: u32,
    per_node: u32,
    /// The first node of the part.
    node: u32,
}

impl Nodes {
    /// The node of a rank.
    pub(crate) fn of(&self, rank: u32) -> u32 {
        let Place { device, per_node, node } = self.places[(rank / self.ranks) as usize];
        node + (device + rank % self.ranks) / per_node
    }
}

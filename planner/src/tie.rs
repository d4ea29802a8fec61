//! What stages wait for once a step because they share a matrix: gradients of every copy go to the stage that owns it,
//! which adds them up and sends the sum back.
//!
//! The owner takes them behind the gradient of its last microbatch, so while it goes back through that. What takes
//! longer, the addition and the way back come behind all passes.

use std::collections::BTreeMap;

use compiler::{LayerOutline, TiedOutline};
use cost_model::Group;
use ir::graph::{KindId, LayerId, Tie};
use ir::plan::{Plan, Shard, Strategy};
use ir::profile::Route;
use ir::program::Collective;
use ir::units::Bytes;

use crate::costing::Costing;
use crate::known::Known;
use crate::outer::Outer;
use crate::space::{Setting, costing, crossing_route};

/// How the gradients of a matrix that layers share are added up, on each rank.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// What is held of the matrix.
    pub(crate) state: Bytes,
    /// What goes each way.
    pub(crate) sent: Bytes,
    /// Seconds in which the owner adds those of one copy.
    pub(crate) add: f64,
    /// What joins them within the stage meanwhile: the link that it fills, and for how many seconds.
    pub(crate) joined: Vec<(Route, f64)>,
}

/// Where copies of the matrix are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Copies {
    /// All layers that share it are on one stage, which holds and updates it once.
    OneStage,
    /// Some are on several stages, or may be.
    Stages,
}

impl Copies {
    /// Those of a pipeline of so many stages.
    pub(crate) fn of(stages: u32) -> Copies {
        if stages == 1 { Copies::OneStage } else { Copies::Stages }
    }
}

impl Costing<'_> {
    /// The kind of the layer that owns what a layer of this kind uses on the same stage; of ties with one user.
    pub(crate) fn owner_beside(&self, kind: KindId) -> Option<KindId> {
        let tie = self.graph.tie.as_ref().filter(|tie| self.copies == Copies::OneStage && tie.users.len() == 1)?;
        let [owner, user] = [tie.owner.0, tie.users[0].0].map(|layer| self.graph.layers[layer.index()]);
        (user == kind).then_some(owner)
    }

    /// How layers with a parameter that others have, too, join its gradients.
    pub(crate) fn joining_by_shard(&self, outline: &LayerOutline) -> BTreeMap<Shard, Joining> {
        let (mesh, per_node) = (&outline.mesh, self.model.cluster().devices_per_node);
        let price = |collective: &Collective| {
            let group = Group::of(mesh, per_node, 0..mesh.ranks_per_stage(), collective.exchange.axes());
            (group.route(), self.model.price_collective(collective, group.ranks, group.ranks_per_node).0.0)
        };
        let joining = |tied: &TiedOutline| Joining {
            state: tied.state,
            sent: tied.sent,
            add: self.model.price_fragment(&tied.add).0.0,
            joined: tied.joined.iter().map(price).collect(),
        };
        outline.tied.iter().map(|(&shard, tied)| (shard, joining(tied))).collect()
    }

    /// What a layer of a kind need not hold, as the layer that owns its matrix is on the same stage.
    pub(crate) fn held_by_owner(&self, kind: KindId, joining: Option<&Joining>) -> Bytes {
        let joining = joining.filter(|_| self.owner_beside(kind).is_some());
        joining.map_or(Bytes::ZERO, |joining| joining.state)
    }

    /// The tie of a row of layers, if the first owns what the last uses.
    pub(crate) fn tie_of(&self, row: &[KindId]) -> Option<Tie> {
        let tie = self.graph.tie.as_ref()?;
        let (&first, &last) = (row.first()?, row.last()?);
        let end = LayerId(row.len() as u32 - 1);
        (self.owner_beside(last)? == first)
            .then(|| Tie { owner: (LayerId(0), tie.owner.1), users: vec![(end, tie.users[0].1)] })
    }
}

impl Joining {
    /// Seconds behind all passes, if the sum goes so many seconds over such a link: what is joined meanwhile takes its
    /// part of the link.
    fn behind(&self, route: Route, ways: f64) -> f64 {
        let beside: f64 = self.joined.iter().filter(|it| it.0 == route).map(|it| it.1).sum();
        self.add + ways + beside.min(ways)
    }
}

/// Seconds that every plan of an outer choice takes at the end of a step if a layer of a kind joins its gradients so:
/// one addition and one way back, where first and last layer share the matrix. They are on two stages of any pipeline,
/// and as only the stage that does most at the end counts, both may be charged.
pub(crate) fn least(setting: Setting<'_>, outer: &Outer, kind: KindId, joining: Option<&Joining>) -> f64 {
    let graph = setting.graph;
    let (Some(tie), Some(joining)) = (&graph.tie, joining) else { return 0.0 };
    let ends = [LayerId(0), LayerId(graph.layers.len() as u32 - 1)];
    let is_end = ends.iter().any(|&end| graph.layers[end.index()] == kind);
    // Where devices are unlike, how fast the way is depends on where stages lie.
    let is_sure = outer.stages > 1 && setting.line.is_none() && is_end;
    if !is_sure || ends.iter().any(|&end| tie.sides().all(|(layer, _)| layer != end)) {
        return 0.0;
    }
    let route = crossing_route(setting.cluster, outer);
    joining.behind(route, setting.costs.price_transfer(joining.sent, route).0.0)
}

/// Seconds of a plan.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Joins {
    /// What the first and the last stage are each charged with: [`least`].
    pub(crate) least: f64,
    /// What comes on top of that.
    pub(crate) more: f64,
}

impl Joins {
    /// Those of a plan of an outer choice.
    pub(crate) fn of(setting: Setting<'_>, known: &Known, outer: &Outer, plan: &Plan) -> Joins {
        joins(setting, known, outer, plan).unwrap_or_default()
    }
}

/// None if no two stages share a matrix.
fn joins(setting: Setting<'_>, known: &Known, outer: &Outer, plan: &Plan) -> Option<Joins> {
    let tie = setting.graph.tie.as_ref()?;
    let owner = plan.stage_of(tie.owner.0.0);
    let part = setting.part(owner);
    let (layers, costing) = (known.of(part, outer), costing(setting.on_part(part), outer));
    let mut layers = layers.open();
    let of = |layer: usize| (setting.graph.layers[layer], &plan.strategies[layer]);
    let (kind, strategy) = of(tie.owner.0.index());
    let joining = costing.joining(&mut layers.outlines, kind, strategy)?;
    let ways: Vec<(Route, f64)> =
        copies(tie, plan, owner).map(|user| way(setting, outer, [owner, user], joining.sent)).collect();
    let route = ways.iter().map(|it| it.0).max()?;
    let ways: f64 = ways.iter().map(|it| it.1).sum();
    let backward = |layer: u32| {
        let (kind, strategy): (KindId, &Strategy) = of(layer as usize);
        let time = layers.costs_of(&costing, kind, strategy).time_microbatch;
        time * costing.backward_share(&mut layers.outlines, kind, strategy)
    };
    let hidden: f64 = plan.stages[owner].clone().map(backward).sum();
    let all = (ways - hidden).max(0.0) + joining.behind(route, ways);
    let least = least(setting, outer, kind, Some(&joining));
    Some(Joins { least, more: (all - least).max(0.0) })
}

/// The stages besides the owner's that have a copy.
fn copies(tie: &Tie, plan: &Plan, owner: usize) -> impl Iterator<Item = usize> {
    let mut users: Vec<usize> = tie.users.iter().map(|user| plan.stage_of(user.0.0)).collect();
    users.retain(|&user| user != owner);
    users.sort_unstable();
    users.dedup();
    users.into_iter()
}

/// The link and the seconds for so many bytes from each rank of a stage to one of another.
fn way(setting: Setting<'_>, outer: &Outer, stages: [usize; 2], sent: Bytes) -> (Route, f64) {
    let parts = stages.map(|stage| setting.part(stage));
    let on = setting.on_part(parts[0]);
    match setting.line.filter(|_| parts[0] != parts[1]) {
        None => {
            let route = crossing_route(on.cluster, outer);
            (route, on.costs.price_transfer(sent, route).0.0)
        }
        Some(line) => {
            let price = |part| line.parts.costs.bridge(part).price_transfer(sent, Route::Between).0.0;
            (Route::Between, price(parts[0]).max(price(parts[1])))
        }
    }
}

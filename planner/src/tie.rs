//! What stages wait for once a step because they share a matrix: gradients of every copy go to the stage that owns it,
//! which adds them up and sends the sum back.
//!
//! The owner takes them behind the gradient of its last microbatch, so while it goes back through that. What takes
//! longer, the addition and the way back come behind all passes.

use ir::graph::{KindId, LayerId, Tie};
use ir::plan::{Plan, Strategy};
use ir::units::Bytes;

use crate::known::Known;
use crate::outer::Outer;
use crate::space::{Setting, costing, crossing_route};

/// How the gradients of a matrix that layers share are added up, on each rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joining {
    /// What goes each way.
    pub(crate) sent: Bytes,
    /// Seconds in which the owner adds those of one copy.
    pub(crate) add: f64,
}

/// Seconds that every plan of an outer choice takes at the end of a step if a layer of a kind joins its gradients so:
/// one addition and one way back, where first and last layer share the matrix. They are on two stages of any pipeline,
/// and as only the stage that does most at the end counts, both may be charged.
pub(crate) fn least(setting: Setting<'_>, outer: &Outer, kind: KindId, joining: Option<Joining>) -> f64 {
    let graph = setting.graph;
    let (Some(tie), Some(joining)) = (&graph.tie, joining) else { return 0.0 };
    let ends = [LayerId(0), LayerId(graph.layers.len() as u32 - 1)];
    let is_end = ends.iter().any(|&end| graph.layers[end.index()] == kind);
    // Where devices are unlike, how fast the way is depends on where stages lie.
    let is_sure = outer.stages > 1 && setting.line.is_none() && is_end;
    if !is_sure || ends.iter().any(|&end| tie.sides().all(|(layer, _)| layer != end)) {
        return 0.0;
    }
    joining.add + setting.costs.price_transfer(joining.sent, crossing_route(setting.cluster, outer)).0.0
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
    let ways: f64 = copies(tie, plan, owner).map(|user| way(setting, outer, [owner, user], joining.sent)).sum();
    if ways == 0.0 {
        return None;
    }
    let backward = |layer: u32| {
        let (kind, strategy): (KindId, &Strategy) = of(layer as usize);
        let time = layers.costs_of(&costing, kind, strategy).time_microbatch;
        time * costing.backward_share(&mut layers.outlines, kind, strategy)
    };
    let hidden: f64 = plan.stages[owner].clone().map(backward).sum();
    let all = (ways - hidden).max(0.0) + joining.add + ways;
    let least = least(setting, outer, kind, Some(joining));
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

/// Seconds for so many bytes from each rank of a stage to one of another.
fn way(setting: Setting<'_>, outer: &Outer, stages: [usize; 2], sent: Bytes) -> f64 {
    let parts = stages.map(|stage| setting.part(stage));
    let on = setting.on_part(parts[0]);
    match setting.line.filter(|_| parts[0] != parts[1]) {
        None => on.costs.price_transfer(sent, crossing_route(on.cluster, outer)).0.0,
        Some(line) => {
            let price = |part| line.parts.costs.bridge(part).price_transfer(sent, ir::profile::Route::Between).0.0;
            price(parts[0]).max(price(parts[1]))
        }
    }
}

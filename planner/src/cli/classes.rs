//! The memory of a compiled stage by what it holds.

use std::ops::Range;

use compiler::{LayerBatch, in_flight, layer_bytes};
use ir::graph::{Graph, LayerId, TensorId};
use ir::plan::Plan;
use ir::program::{Content, Role};
use ir::units::Bytes;

/// The layers of the stage that a role plays.
pub(crate) fn layers_of(plan: &Plan, role: &Role) -> Range<u32> {
    let stage = role.stages.first().expect("a role plays a stage");
    plan.stages[stage.index()].clone()
}

/// The arena of a role by what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Classes {
    pub(crate) parameters: Bytes,
    /// Those in 32 bits, where parameters are in fewer.
    pub(crate) master: Bytes,
    pub(crate) moments: Bytes,
    pub(crate) gradients: Bytes,
    pub(crate) saved: Bytes,
    /// Whatever else there is: values of one layer, gathered parameters, inputs, and gaps.
    pub(crate) transient: Bytes,
}

impl Classes {
    pub(crate) fn of(graph: &Graph, plan: &Plan, role: &Role) -> Classes {
        let resident = |is: fn(&Content) -> bool| -> Bytes {
            role.buffers.iter().filter(|buffer| is(&buffer.content)).map(|buffer| buffer.bytes).sum()
        };
        let parameters = resident(|content| matches!(content, Content::Parameters { .. }));
        let master = resident(|content| matches!(content, Content::Master { .. }));
        let moments = resident(|content| matches!(content, Content::FirstMoment { .. } | Content::SecondMoment { .. }));
        let batch = LayerBatch { sequences: plan.microbatch_sequences(), precision: plan.precision };
        let (mut state, mut saved) = (Bytes::ZERO, Bytes::ZERO);
        for layer in layers_of(plan, role) {
            let kind = graph.layers[layer as usize];
            let bytes =
                layer_bytes(graph, kind, &plan.strategies[layer as usize], batch).expect("the plan was compiled");
            (state, saved) = (state + bytes.state, saved + bytes.saved);
            state = state.saturating_sub(counted_twice(graph, plan, role, layer, bytes.state));
        }
        let held = in_flight(plan.schedule, plan.stages.len() as u32, role.id.0, plan.microbatches);
        let saved = saved * u64::from(held);
        let kept = parameters + master + moments;
        let gradients = state.saturating_sub(kept);
        let transient = role.arena.saturating_sub(kept + gradients + saved);
        Classes { parameters, master, moments, gradients, saved, transient }
    }
}

/// Of the state of a layer what another layer of the stage has, too: a tied table.
fn counted_twice(graph: &Graph, plan: &Plan, role: &Role, layer: u32, state: Bytes) -> Bytes {
    let stage = layers_of(plan, role);
    let sides: Vec<(LayerId, TensorId)> = graph.tie.iter().flat_map(|tie| tie.sides()).collect();
    let is_there_before = sides.iter().any(|(other, _)| other.0 < layer && stage.contains(&other.0));
    let side = sides.into_iter().find(|(of, _)| of.0 == layer && is_there_before);
    side.map_or(Bytes::ZERO, |(of, tensor)| {
        let kind = graph.kind(of);
        let tied = kind.tensor(tensor).elements(&kind.sizes);
        // All parameters of a layer have the same numbers kept of them.
        Bytes((state.as_f64() * tied as f64 / kind.parameter_count() as f64) as u64)
    })
}

//! One layer by itself: what it holds, what it computes, and how it is joined to a layer under another strategy. For
//! asking what could be before anything is written.

use std::collections::BTreeMap;

use ir::graph::{Graph, KindId};
use ir::mesh::Mesh;
use ir::model::Precision;
use ir::plan::{Shard, Strategy};
use ir::program::{Access, Collective, Fragment};
use ir::software::TensorExchanges;
use ir::units::Bytes;

use crate::axes::{StrategyAxes, mesh_of};
use crate::check::Violation;
use crate::layer::boundary::{Boundary, ends};
use crate::layer::differentiate::differentiate;
use crate::layer::fragment::{Body, BodyAction, Slot};
use crate::layer::library::Library;
use crate::layer::setting::{Manners, Setting};
use crate::layer::shape::Shape;
use crate::layer::shelf::Shelf;
use crate::layer::spread::Rule;
use crate::layer::{Purpose, compute_element};
use crate::memory::place::aligned;
use crate::step::body::conversions;

/// What one layer holds on each of its ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBytes {
    /// Parameters, master, moments and the sum of gradients: through the whole step.
    pub state: Bytes,
    /// Of that, the sum of gradients, which is there from the first backward pass on.
    pub gradients: Bytes,
    /// What one microbatch keeps from its forward to its backward pass.
    pub saved: Bytes,
}

/// What a layer computes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBatch {
    /// Sequences of a microbatch, over all ranks of the stage.
    pub sequences: u64,
    /// How numbers are stored.
    pub precision: Precision,
}

/// A layer kind under strategies that differ in sharding alone: its passes are the same.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerOutline {
    /// What it holds, for each way of sharding.
    pub bytes: BTreeMap<Shard, LayerBytes>,
    /// Its forward pass.
    pub forward: PassOutline,
    /// Its backward pass.
    pub backward: PassOutline,
    /// What the passes compute.
    pub fragments: Vec<Fragment>,
    /// What they exchange.
    pub collectives: Vec<Collective>,
    /// The ranks that exchange.
    pub mesh: Mesh,
}

/// One pass over a layer, for one microbatch.
#[derive(Clone, Debug, PartialEq)]
pub struct PassOutline {
    /// What it does, in the order of the code.
    pub steps: Vec<StepOutline>,
    /// The step that makes what the next layer on the way takes; none if there is no such layer.
    pub last: Option<usize>,
}

/// A kernel run or an exchange of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutline {
    /// What is done; each kind of it has a stream of its own.
    pub action: BodyAction,
    /// What it needs of its own pass. It waits for that whatever comes before and behind the layer.
    pub needs: Vec<Need>,
}

/// What has to be there before a step of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// What the layer before on the way has made.
    Entry,
    /// An earlier step of the pass.
    Step(usize),
}

/// What a layer kind holds under a strategy.
pub fn layer_bytes(
    graph: &Graph,
    kind: KindId,
    strategy: &Strategy,
    batch: LayerBatch,
) -> Result<LayerBytes, Violation> {
    Ok(layer_outline(&mut Shelf::default(), graph, kind, strategy, batch)?.bytes[&strategy.shard])
}

/// What a layer kind holds and does under a strategy, however it is sharded. The layer is left on the shelf.
pub fn layer_outline(
    shelf: &mut Shelf,
    graph: &Graph,
    kind: KindId,
    strategy: &Strategy,
    batch: LayerBatch,
) -> Result<LayerOutline, Violation> {
    let mesh = mesh_of(1, std::slice::from_ref(strategy))?;
    let compute = compute_element(batch.precision);
    let setting = Setting {
        graph,
        mesh: &mesh,
        sequences: batch.sequences,
        compute,
        purpose: Purpose::Training,
        manners: Manners::USUAL,
    };
    let mut library = Library::default();
    let layer = shelf.layer(setting, kind, strategy, &mut library);
    let Library { fragments, collectives } = library;
    let forward = pass_outline(&layer.forward, &fragments, [Slot::Input, Slot::Output]);
    let backward = pass_outline(&layer.backward, &fragments, [Slot::OutputGradient, Slot::InputGradient]);
    let input = if layer.keeps_input { Bytes(aligned(layer.input.bytes(compute).0)) } else { Bytes::ZERO };
    let saved = layer.saved.iter().copied().sum::<Bytes>() + input;
    let bytes = SHARDS.map(|shard| {
        let shapes = layer.blocks.iter().map(|template| Shape::new(&mesh, &layer, template, (shard, compute)));
        let shapes: Vec<Shape> = shapes.collect();
        let (state, gradients) = (shapes.iter().map(Shape::state).sum(), shapes.iter().map(Shape::gradients).sum());
        (shard, LayerBytes { state, gradients, saved })
    });
    Ok(LayerOutline { bytes: bytes.into(), forward, backward, fragments, collectives: collectives.all, mesh })
}

const SHARDS: [Shard; 4] = [Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters];

/// What each step of a body needs: reads come after the last write of a slot, writes after all that was done to it.
fn pass_outline(body: &Body, fragments: &[Fragment], [entry, exit]: [Slot; 2]) -> PassOutline {
    let from_outside = |slot: &(Slot, Bytes)| if slot.0 == entry { vec![Need::Entry] } else { Vec::new() };
    let mut written: Vec<Vec<Need>> = body.slots.iter().map(from_outside).collect();
    let mut read: Vec<Vec<Need>> = vec![Vec::new(); body.slots.len()];
    let mut steps = Vec::with_capacity(body.steps.len());
    for (index, step) in body.steps.iter().enumerate() {
        let access = |operand: usize| match step.action {
            BodyAction::Compute(id) => fragments[id.index()].bindings[operand].access,
            BodyAction::Exchange(..) if step.operands.len() == 1 => Access::Update,
            BodyAction::Exchange(..) => [Access::Read, Access::Write][operand],
        };
        let mut needs = Vec::new();
        for (operand, &slot) in step.operands.iter().enumerate() {
            needs.extend_from_slice(&written[usize::from(slot)]);
            if access(operand) != Access::Read {
                needs.extend_from_slice(&read[usize::from(slot)]);
            }
        }
        for (operand, &slot) in step.operands.iter().enumerate() {
            if access(operand) == Access::Read {
                read[usize::from(slot)].push(Need::Step(index));
            } else {
                written[usize::from(slot)] = vec![Need::Step(index)];
                read[usize::from(slot)].clear();
            }
        }
        steps.push(StepOutline { action: step.action, needs });
    }
    let exit = body.slots.iter().position(|(slot, _)| *slot == exit);
    let last = exit.and_then(|slot| match written[slot].last() {
        Some(&Need::Step(index)) => Some(index),
        Some(Need::Entry) | None => None,
    });
    PassOutline { steps, last }
}

/// The exchanges that bring what a layer kind takes from the layout of one strategy into that of another, and the ranks
/// that exchange.
pub fn boundary_exchanges(
    graph: &Graph,
    kind: KindId,
    [from, to]: [&Strategy; 2],
    batch: LayerBatch,
) -> Result<(Mesh, Vec<Collective>), Violation> {
    let mesh = mesh_of(1, &[from.clone(), to.clone()])?;
    let kind = &graph.kinds[kind.index()];
    let mut sizes = kind.sizes.clone();
    sizes.insert('b', batch.sequences);
    let differentiated = differentiate(kind);
    let [input, _] = ends(kind);
    let boundary = |strategy| {
        let axes = StrategyAxes::new(&mesh, strategy);
        let rule =
            Rule { mesh: &mesh, axes: &axes, tensors: &differentiated.tensors, exchanges: TensorExchanges::Beside };
        Boundary::of(rule, input, &sizes)
    };
    let element = compute_element(batch.precision);
    let exchanges = conversions(&mesh, element, &boundary(from), &boundary(to));
    Ok((mesh.clone(), exchanges.into_iter().map(|conversion| conversion.collective).collect()))
}

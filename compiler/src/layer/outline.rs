//! One layer by itself: what it holds, what it computes, and how it is joined to a layer under another strategy. For
//! asking what could be before anything is written.

use std::collections::BTreeMap;

use ir::graph::{Graph, KindId, TensorId};
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
    /// Of a kind with a parameter that other layers have, too, what is done to its gradients; else none.
    pub tied: BTreeMap<Shard, TiedOutline>,
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

/// How the gradients of a parameter that layers share are added up, on each rank.
#[derive(Clone, Debug, PartialEq)]
pub struct TiedOutline {
    /// What is held of it, gradients included.
    pub state: Bytes,
    /// What goes to the stage that owns it and, as a sum, back.
    pub sent: Bytes,
    /// How the owner adds one stage's.
    pub add: Fragment,
    /// What joins them over the ranks that hold other sequences, while the sum is on its way back; nothing where each
    /// microbatch's are joined at once.
    pub joined: Vec<Collective>,
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
    // A context is there long before it is read, but where it begins: what a layer there makes, others wait for.
    let begins = layer.context.as_ref().is_some_and(|(context, _)| context.taken().is_none());
    let (made, brought) = if begins { (Some(Slot::Context), Some(Slot::ContextOutputGradient)) } else { (None, None) };
    let ends = Ends { entries: &[Some(Slot::Input)], exits: &[Some(Slot::Output), made] };
    let forward = pass_outline(&layer.forward, &fragments, &ends);
    let ends = Ends { entries: &[Some(Slot::OutputGradient), brought], exits: &[Some(Slot::InputGradient)] };
    let backward = pass_outline(&layer.backward, &fragments, &ends);
    let input = if layer.keeps_input { Bytes(aligned(layer.input.bytes(compute).0)) } else { Bytes::ZERO };
    let saved = layer.saved.iter().copied().sum::<Bytes>() + input;
    let bytes = SHARDS.map(|shard| {
        let shapes = layer.blocks.iter().map(|template| Shape::new(&mesh, &layer, template, (shard, compute)));
        let shapes: Vec<Shape> = shapes.collect();
        let (state, gradients) = (shapes.iter().map(Shape::state).sum(), shapes.iter().map(Shape::gradients).sum());
        (shard, LayerBytes { state, gradients, saved })
    });
    let tied = layer.blocks.iter().find(|template| template.is_tied);
    let tied = SHARDS.into_iter().flat_map(|shard| {
        tied.map(|template| {
            let (shape, mut library) = (Shape::new(&mesh, &layer, template, (shard, compute)), Library::default());
            let add = shape.fragments(template, &mut library).add;
            let (sent, add) = (shape.gradients(), library.fragments[add.index()].clone());
            (shard, TiedOutline { state: shape.state(), sent, add, joined: shape.joined_behind() })
        })
    });
    Ok(LayerOutline {
        bytes: bytes.into(),
        tied: tied.collect(),
        forward,
        backward,
        fragments,
        collectives: collectives.all,
        mesh,
    })
}

const SHARDS: [Shard; 4] = [Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters];

/// Where a pass begins and ends.
struct Ends<'a> {
    entries: &'a [Option<Slot>],
    exits: &'a [Option<Slot>],
}

/// What each step of a body needs: reads come after the last write of a slot, writes after all that was done to it.
fn pass_outline(body: &Body, fragments: &[Fragment], ends: &Ends<'_>) -> PassOutline {
    let is_entry = |slot: Slot| ends.entries.contains(&Some(slot));
    let from_outside = |slot: &(Slot, Bytes)| if is_entry(slot.0) { vec![Need::Entry] } else { Vec::new() };
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
    let made = body.slots.iter().zip(&written).filter(|((slot, _), _)| ends.exits.contains(&Some(*slot)));
    let last = made.filter_map(|(_, written)| match written.last() {
        Some(&Need::Step(index)) => Some(index),
        Some(Need::Entry) | None => None,
    });
    PassOutline { steps, last: last.max() }
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
    let boundary = |tensor: TensorId, strategy| {
        let axes = StrategyAxes::new(&mesh, strategy);
        let rule =
            Rule { mesh: &mesh, axes: &axes, tensors: &differentiated.tensors, exchanges: TensorExchanges::Beside };
        Boundary::of(rule, tensor, &sizes)
    };
    let element = compute_element(batch.precision);
    let taken = [input].into_iter().chain(kind.context_taken());
    let exchanges =
        taken.flat_map(|tensor| conversions(&mesh, element, &boundary(tensor, from), &boundary(tensor, to)));
    Ok((mesh.clone(), exchanges.map(|conversion| conversion.collective).collect()))
}

//! One layer by itself: what it holds, what it computes, and how it is joined to a layer under another strategy. For
//! asking what could be before anything is written.

use ir::graph::{Graph, KindId};
use ir::mesh::Mesh;
use ir::model::Precision;
use ir::plan::Strategy;
use ir::program::{Collective, Fragment};
use ir::units::Bytes;

use crate::axes::{StrategyAxes, mesh_of};
use crate::block::BlockPlan;
use crate::check::Violation;
use crate::differentiate::differentiate;
use crate::fragment::BodyAction;
use crate::layer::{Purpose, Setting, compute_element, layer};
use crate::library::Library;
use crate::pass::{Boundary, conversions};
use crate::place::aligned;
use crate::spread::{Rule, Value};

/// What one layer holds on each of its ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBytes {
    /// Parameters, master, moments and the sum of gradients: through the whole step.
    pub state: Bytes,
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

/// A layer kind under a strategy.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerOutline {
    /// What it holds.
    pub bytes: LayerBytes,
    /// What its forward and its backward pass compute for one microbatch, one after the other.
    pub fragments: Vec<Fragment>,
    /// The exchanges between fragments, which wait for one and are waited for by the next.
    pub exchanges: Vec<Collective>,
    /// The ranks that exchange.
    pub mesh: Mesh,
}

/// What a layer kind holds under a strategy.
pub fn layer_bytes(
    graph: &Graph,
    kind: KindId,
    strategy: &Strategy,
    batch: LayerBatch,
) -> Result<LayerBytes, Violation> {
    Ok(layer_outline(graph, kind, strategy, batch)?.bytes)
}

/// What a layer kind holds and does under a strategy.
pub fn layer_outline(
    graph: &Graph,
    kind: KindId,
    strategy: &Strategy,
    batch: LayerBatch,
) -> Result<LayerOutline, Violation> {
    let mesh = mesh_of(1, std::slice::from_ref(strategy))?;
    let compute = compute_element(batch.precision);
    let setting = Setting { graph, mesh: &mesh, sequences: batch.sequences, compute, purpose: Purpose::Training };
    let mut library = Library::default();
    let layer = layer(setting, kind, strategy, &mut library);
    let fragments = library.fragments.clone();
    let steps = layer.forward.steps.iter().chain(&layer.backward.steps);
    let exchange = |action: BodyAction| match action {
        BodyAction::Exchange(id, _) => Some(library.collectives.all[id.index()].clone()),
        BodyAction::Compute(_) => None,
    };
    let exchanges = steps.filter_map(|step| exchange(step.action)).collect();
    let plans = layer.blocks.iter().map(|template| BlockPlan::new(&mesh, &layer, template, (compute, &mut library)));
    let state = plans.map(|plan| plan.state()).sum();
    let input = layer.boundary_shape.iter().product::<u64>() * compute.bytes();
    let input = if layer.keeps_input { Bytes(aligned(input)) } else { Bytes::ZERO };
    let bytes = LayerBytes { state, saved: layer.saved.iter().copied().sum::<Bytes>() + input };
    Ok(LayerOutline { bytes, fragments, exchanges, mesh })
}

/// The exchanges that bring the residual stream from the layout of one strategy into that of another, and the ranks
/// that exchange. `kind` is a layer kind with an input.
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
    let stream = kind.input.expect("the kind has an input");
    let boundary = |strategy| {
        let axes = StrategyAxes::new(&mesh, strategy);
        let rule = Rule { mesh: &mesh, axes: &axes, tensors: &differentiated.tensors };
        let layout = rule.boundary(stream);
        let value = Value { tensor: stream, layout: layout.clone() };
        let shape = rule.shape(&value, &sizes).iter().map(|&(_, size)| size).collect();
        Boundary { layout, shape, tensor: axes.tensor.iter().copied().collect() }
    };
    let element = compute_element(batch.precision);
    let exchanges = conversions(&mesh, element, &boundary(from), &boundary(to));
    Ok((mesh.clone(), exchanges.into_iter().map(|conversion| conversion.collective).collect()))
}

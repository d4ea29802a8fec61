//! One layer under one strategy: its passes as instructions, its blocks of parameters, what it keeps. Passes 1 to 4,
//! once for equal layers.

pub(crate) mod block;
pub(crate) mod boundary;
pub(crate) mod differentiate;
pub(crate) mod fragment;
pub(crate) mod fuse;
pub(crate) mod homes;
pub(crate) mod layers;
pub(crate) mod legal;
pub(crate) mod letters;
pub(crate) mod library;
pub(crate) mod outline;
pub(crate) mod retain;
pub(crate) mod setting;
pub(crate) mod shape;
pub(crate) mod shelf;
pub(crate) mod spread;

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::{Class, Context, Decay, Graph, KindId, LayerKind, Sizes, TensorId};
use ir::mesh::{AxisSet, Mesh};
use ir::op::Write;
use ir::plan::{Shard, Strategy};
use ir::program::BlockParameter;
use ir::units::Bytes;

use crate::axes::StrategyAxes;
use crate::layer::boundary::{Boundary, ends};
use crate::layer::differentiate::{Differentiated, differentiate, written_once};
use crate::layer::fragment::{Body, Pass, fragments};
use crate::layer::homes::{BackwardHomes, ForwardHomes, HomeTable};
use crate::layer::library::Library;
use crate::layer::retain::{Retained, retain};
pub(crate) use crate::layer::setting::{Setting, compute_element};
use crate::layer::spread::{Rule, Spread, Value, spread};

/// Parameters in a block begin at multiples of this, in elements.
const PARAMETER_ALIGNMENT: u64 = 64;

/// A block of a layer, not yet of a particular one.
#[derive(Clone, Debug)]
pub(crate) struct BlockTemplate {
    pub(crate) parameters: Vec<(TensorId, BlockParameter)>,
    pub(crate) decayed: u64,
    pub(crate) length: u64,
    pub(crate) padded: u64,
    /// Elements of its parameters, without gaps.
    used: u64,
    /// Axes over which gradients are partial.
    pub(crate) partial: AxisSet,
    /// Axes that split its parameters, however they are sharded.
    split: AxisSet,
    /// Ranks of the stage that hold equal parameters.
    pub(crate) copies: u32,
    /// Whether its one parameter is also another layer's.
    pub(crate) is_tied: bool,
}

impl BlockTemplate {
    /// Whether a pass that writes these gradients over what is there leaves nothing of that.
    fn is_whole_if(&self, written: &BTreeSet<TensorId>) -> bool {
        self.used == self.padded && self.parameters.iter().all(|(id, _)| written.contains(id))
    }
}

/// One layer kind under one strategy.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) axes: StrategyAxes,
    pub(crate) shard: Shard,
    /// How what comes from the layer before lies; of the first layer, how what goes to the next lies.
    pub(crate) input: Boundary,
    /// How what goes to the layer behind lies; of the last layer, how what comes to it lies.
    pub(crate) output: Boundary,
    /// What goes beside, and how it lies.
    pub(crate) context: Option<(Context, Boundary)>,
    pub(crate) forward: Body,
    /// Adds to the gradients that are there.
    pub(crate) backward: Body,
    /// Writes gradients over what is there; none where that would leave some of it.
    pub(crate) backward_anew: Option<Body>,
    /// What is kept for the backward pass besides the input.
    pub(crate) saved: Vec<Bytes>,
    pub(crate) keeps_input: bool,
    pub(crate) blocks: Vec<BlockTemplate>,
}

impl Layer {
    /// Shards it otherwise: its passes stay as they are.
    fn reshard(&mut self, mesh: &Mesh, shard: Shard) {
        self.shard = shard;
        let data: AxisSet = self.axes.data.iter().copied().collect();
        self.blocks.iter_mut().for_each(|block| block.copies = copies(mesh, block.split, data, shard));
    }

    /// How the context that comes from the layer before lies, if any does.
    pub(crate) fn context_taken(&self) -> Option<&Boundary> {
        self.context.as_ref().filter(|(context, _)| context.taken().is_some()).map(|(_, boundary)| boundary)
    }

    /// How the context that goes to the layer behind lies, if any does.
    pub(crate) fn context_given(&self) -> Option<&Boundary> {
        self.context.as_ref().filter(|(context, _)| context.given().is_some()).map(|(_, boundary)| boundary)
    }
}

/// Ranks of a stage that hold equal parameters, which these axes split and those of data are there to shard.
fn copies(mesh: &Mesh, split: AxisSet, data: AxisSet, shard: Shard) -> u32 {
    let sharded = if shard == Shard::Nothing { AxisSet::EMPTY } else { data };
    mesh.ranks_per_stage() / mesh.extent(split.union(sharded))
}

/// What a layer is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Forward and backward passes.
    Training,
    /// Only the loss: nothing is kept.
    Evaluation,
}

/// Passes 1 to 4 for one layer kind and strategy.
pub(crate) fn layer(setting: Setting<'_>, kind_id: KindId, strategy: &Strategy, library: &mut Library) -> Layer {
    let kind = &setting.graph.kinds[kind_id.index()];
    let mut sizes = kind.sizes.clone();
    sizes.insert('b', setting.sequences);
    let differentiated = differentiate(kind);
    let retained = retain(kind, &differentiated, strategy.recompute, setting.manners.repeat);
    let axes = StrategyAxes::new(setting.mesh, strategy);
    let exchanges = setting.manners.tensor_exchanges;
    let rule = Rule { mesh: setting.mesh, axes: &axes, tensors: &differentiated.tensors, exchanges };
    let kept: Vec<TensorId> = match setting.purpose {
        Purpose::Training => retained.kept.iter().copied().collect(),
        Purpose::Evaluation => Vec::new(),
    };
    let forward = forward_spread(kind, rule);
    let backward = backward_spread(kind, rule, &differentiated, &retained, &forward);
    let blocks =
        Blocks { setting, kind_id, sizes: &sizes, rule, shard: strategy.shard }.group(&differentiated, &backward);
    let compute = setting.compute;
    let table = HomeTable {
        kind,
        rule,
        forward: &forward,
        kept: &kept,
        blocks: &blocks,
        differentiated: &differentiated,
        compute,
    };
    let homes = (ForwardHomes(&table), BackwardHomes(&table, &backward));
    let name = |pass: &str| format!("{} {pass}", kind.name);
    let pass = Pass {
        name: name("forward"),
        rule,
        sizes: &sizes,
        spread: &forward,
        homes: &homes.0,
        compute,
        gradients: Write::Accumulate,
        residual_sums: setting.manners.residual_sums,
    };
    let forward_body = fragments(&pass, library);
    let pass = Pass { name: name("backward"), spread: &backward, homes: &homes.1, ..pass };
    let (backward_body, backward_anew) = match setting.purpose {
        Purpose::Training => {
            let anew = Pass { name: name("backward anew"), gradients: Write::Replace, ..pass };
            let written = written_once(&backward, &differentiated);
            let is_whole = blocks.iter().all(|block| block.is_whole_if(&written));
            (fragments(&pass, library), is_whole.then(|| fragments(&anew, library)))
        }
        Purpose::Evaluation => (Body::default(), None),
    };
    let saved = kept.iter().map(|&tensor| table.saved_bytes(tensor, &sizes)).collect();
    let reads_input = |input: TensorId| retained.backward.iter().any(|node| node.inputs.contains(&input));
    let keeps_input = setting.purpose == Purpose::Training && kind.input.is_some_and(reads_input);
    let [input, output] = ends(kind).map(|tensor| Boundary::of(rule, tensor, &sizes));
    let context = kind.context.map(|context| (context, Boundary::of(rule, context.tensor(), &sizes)));
    Layer {
        axes: axes.clone(),
        shard: strategy.shard,
        input,
        output,
        context,
        forward: forward_body,
        backward: backward_body,
        backward_anew,
        saved,
        keeps_input,
        blocks,
    }
}

fn given(rule: Rule<'_>, tensors: impl Iterator<Item = TensorId>) -> Vec<Value> {
    tensors.map(|tensor| Value { tensor, layout: rule.boundary(tensor) }).collect()
}

/// Tensors that are there before any pass: parameters, tokens, targets, the layer's input, and its context.
fn before(kind: &LayerKind) -> impl Iterator<Item = TensorId> {
    let is_given = |class: Class| {
        matches!(class, Class::Parameter { .. } | Class::Tokens | Class::Patches | Class::Source | Class::Targets)
    };
    let ids = (0..kind.tensors.len() as u32).map(TensorId);
    ids.filter(move |&id| is_given(kind.tensor(id).class) || Some(id) == kind.input || Some(id) == kind.context_taken())
}

/// Pass 3 of the forward pass.
pub(crate) fn forward_spread(kind: &LayerKind, rule: Rule<'_>) -> Spread {
    let made = match kind.context {
        Some(Context::Begins(context)) => Some(context),
        None | Some(Context::Passes(_) | Context::Ends(_)) => None,
    };
    spread(rule, &kind.nodes, given(rule, before(kind)), kind.output.into_iter().chain(made))
}

/// Pass 3 of the backward pass.
pub(crate) fn backward_spread(
    kind: &LayerKind,
    rule: Rule<'_>,
    differentiated: &Differentiated,
    retained: &Retained,
    forward: &Spread,
) -> Spread {
    let brought = before(kind).chain(differentiated.output_gradient).chain(differentiated.context_output_gradient);
    let mut values = given(rule, brought);
    values.extend(retained.kept.iter().map(|tensor| forward.values[forward.current[tensor].0].clone()));
    let wanted = differentiated.input_gradient.into_iter().chain(differentiated.context_input_gradient);
    spread(rule, &retained.backward, values, wanted)
}

/// What parameters of one block have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct BlockKey {
    /// Whether it is also another layer's.
    is_tied: bool,
    /// Axes over which its gradient is partial.
    partial: AxisSet,
    /// Axes that split it.
    split: AxisSet,
}

/// What the blocks of a layer follow from.
struct Blocks<'a> {
    setting: Setting<'a>,
    kind_id: KindId,
    sizes: &'a Sizes,
    rule: Rule<'a>,
    shard: Shard,
}

impl Blocks<'_> {
    /// Groups parameters whose gradients are treated alike.
    fn group(&self, differentiated: &Differentiated, backward: &Spread) -> Vec<BlockTemplate> {
        let graph = self.setting.graph;
        let kind = &graph.kinds[self.kind_id.index()];
        let tied = tied_parameter(graph, self.kind_id);
        let mut groups: BTreeMap<BlockKey, Vec<TensorId>> = BTreeMap::new();
        for (id, _) in kind.parameters() {
            let gradient = backward.current[&differentiated.parameter_gradients[&id]];
            let partial = backward.values[gradient.0].layout.partial();
            let split: AxisSet = self.rule.boundary(id).splits().iter().flatten().copied().collect();
            let key = BlockKey { is_tied: Some(id) == tied, partial, split };
            groups.entry(key).or_default().push(id);
        }
        groups.into_iter().map(|(key, ids)| self.template(key, ids)).collect()
    }

    fn template(&self, BlockKey { is_tied, partial, split }: BlockKey, mut ids: Vec<TensorId>) -> BlockTemplate {
        let mesh = self.setting.mesh;
        let kind = &self.setting.graph.kinds[self.kind_id.index()];
        ids.sort_by_key(|&id| (decay_of(kind, id), id));
        let mut length = 0;
        let mut decayed = 0;
        let mut used = 0;
        let parameters = ids.into_iter().map(|id| {
            let (parameter, elements) = block_parameter(kind, id, length, self.rule, self.sizes);
            length += elements.next_multiple_of(PARAMETER_ALIGNMENT);
            used += elements;
            if decay_of(kind, id) == Decay::Decayed {
                decayed = length;
            }
            (id, parameter)
        });
        let parameters = parameters.collect();
        let data: AxisSet = self.rule.axes.data.iter().copied().collect();
        let copies = copies(mesh, split, data, self.shard);
        let padded = length.next_multiple_of(PARAMETER_ALIGNMENT * u64::from(mesh.extent(data)));
        BlockTemplate { parameters, decayed, length, padded, used, partial, split, copies, is_tied }
    }
}

fn decay_of(kind: &LayerKind, id: TensorId) -> Decay {
    match kind.tensor(id).class {
        Class::Parameter { decay, .. } => decay,
        class @ (Class::ParameterGradient { .. }
        | Class::Activation
        | Class::Statistic
        | Class::Tokens
        | Class::Patches
        | Class::Source
        | Class::Targets
        | Class::Loss) => panic!("{class:?} is no parameter"),
    }
}

fn block_parameter(kind: &LayerKind, id: TensorId, first: u64, rule: Rule<'_>, sizes: &Sizes) -> (BlockParameter, u64) {
    let tensor = kind.tensor(id);
    let Class::Parameter { init, .. } = tensor.class else { panic!("{} is no parameter", tensor.name) };
    let layout = rule.boundary(id);
    let whole = tensor.dimensions.iter().zip(layout.splits());
    let dimensions = whole.map(|(letter, axes)| (sizes[letter], axes.clone())).collect();
    let local: u64 = rule.shape(&Value { tensor: id, layout }, sizes).iter().map(|&(_, size)| size).product();
    (BlockParameter { name: tensor.name.clone(), first, init, dimensions }, local)
}

/// The parameter of this kind that is also another layer's, if there is one.
fn tied_parameter(graph: &Graph, kind: KindId) -> Option<TensorId> {
    let mut sides = graph.tie.as_ref()?.sides();
    sides.find(|(layer, _)| graph.layers[layer.index()] == kind).map(|(_, tensor)| tensor)
}

//! Pass 3: logical operations become local kernels and the exchanges between them.
//!
//! One table gives every layout: `letters.rs`. What an operation sums over while it is split leaves its result partial. All else is [`ir::layout::Layout::exchanges_to`].

use std::collections::BTreeMap;

use ir::graph::{Class, Node, Sizes, Tensor, TensorId};
use ir::layout::{Exchange, Layout, Reduce};
use ir::mesh::{Axis, AxisSet, Mesh};
use ir::op::Op;
use ir::plan::Sequence;
use ir::software::TensorExchanges;

use crate::axes::StrategyAxes;
use crate::layer::letters;

/// A tensor in one layout: what one buffer, or a part of one, holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) tensor: TensorId,
    pub(crate) layout: Layout,
}

/// A value of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueId(pub(crate) usize);

/// A kernel or an exchange of a pass.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Kernel {
        op: Op,
        inputs: Vec<ValueId>,
        outputs: Vec<ValueId>,
    },
    /// An all-reduce works in place: source and destination share their memory.
    Exchange {
        exchange: Exchange,
        axis: Axis,
        source: ValueId,
        destination: ValueId,
    },
}

/// One pass over a layer, spread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) values: Vec<Value>,
    pub(crate) steps: Vec<Step>,
    /// The value of each tensor that others should use.
    pub(crate) current: BTreeMap<TensorId, ValueId>,
    /// What was asked for at the end of the pass.
    pub(crate) wanted: Vec<ValueId>,
}

/// What the rule needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub(crate) mesh: &'a Mesh,
    pub(crate) axes: &'a StrategyAxes,
    pub(crate) tensors: &'a [Tensor],
    pub(crate) exchanges: TensorExchanges,
}

impl Rule<'_> {
    /// The layout that `tensor` must have as an operand of `node`.
    pub(crate) fn operand(&self, node: &Node, tensor: TensorId) -> Layout {
        let touched = node.inputs.iter().chain(&node.outputs).flat_map(|id| &self.tensors[id.index()].dimensions);
        self.layout(tensor, letters::sequence(Some(&node.op), touched.copied(), self.axes))
    }

    /// The layout of a tensor between layers, or of a parameter. Inputs and targets are never split along the
    /// sequence: most of those who read them share the vocabulary.
    pub(crate) fn boundary(&self, tensor: TensorId) -> Layout {
        let whole = matches!(
            self.tensors[tensor.index()].class,
            Class::Tokens | Class::Patches | Class::Source | Class::Targets
        );
        self.layout(tensor, if whole { Sequence::Whole } else { self.axes.sequence })
    }

    fn layout(&self, tensor: TensorId, sequence: Sequence) -> Layout {
        let splits = letters::splits(&self.tensors[tensor.index()].dimensions, sequence, self.axes);
        Layout::new(splits, AxisSet::EMPTY, Reduce::Sum)
    }

    /// The layout in which `node` leaves `tensor`: partial over what it sums over while that is split.
    fn result(&self, node: &Node, tensor: TensorId) -> Layout {
        let whole = self.operand(node, tensor);
        let kept = &self.tensors[tensor.index()].dimensions;
        let mut partial = AxisSet::EMPTY;
        for &input in &node.inputs[..node.op.reads(node.inputs.len())] {
            let layout = self.operand(node, input);
            for (letter, axes) in self.tensors[input.index()].dimensions.iter().zip(layout.splits()) {
                if !kept.contains(letter) {
                    partial = axes.iter().fold(partial, |set, &axis| set.union(AxisSet::only(axis)));
                }
            }
        }
        Layout::new(whole.splits().to_vec(), partial, node.op.reduce())
    }

    /// Local sizes of a value.
    pub(crate) fn shape(&self, value: &Value, sizes: &Sizes) -> Vec<(char, u64)> {
        let dimensions = &self.tensors[value.tensor.index()].dimensions;
        let local = |(letter, axes): (&char, &Vec<usize>)| {
            let parts: u64 = axes.iter().map(|&axis| u64::from(self.mesh.sizes()[axis])).product();
            (*letter, sizes[letter] / parts)
        };
        dimensions.iter().zip(value.layout.splits()).map(local).collect()
    }

    /// Ranks of the stage that have the same part of a sum: the loss is a sum over all of them.
    fn replicas(&self, sum: &Layout) -> u32 {
        self.mesh.ranks_per_stage() / self.mesh.extent(sum.partial())
    }

    /// What an exchange over these axes is for: Tensor if it uses one of its axes.
    fn axis(&self, exchange: &Exchange) -> Axis {
        let tensor = exchange.axes().iter().any(|axis| self.axes.tensor.contains(axis));
        if tensor { Axis::Tensor } else { Axis::Data }
    }
}

/// Spreads one pass. `given` are the values that are there before it; `wanted` are brought into their boundary layouts.
pub(crate) fn spread(
    rule: Rule<'_>,
    nodes: &[Node],
    given: Vec<Value>,
    wanted: impl IntoIterator<Item = TensorId>,
) -> Spread {
    let mut pass = Spread::default();
    for value in given {
        let id = pass.add(value.tensor, value.layout);
        pass.current.insert(value.tensor, id);
    }
    for node in nodes {
        let inputs = node.inputs[..node.op.reads(node.inputs.len())]
            .iter()
            .map(|&input| pass.convert(rule, input, rule.operand(node, input)));
        let inputs = inputs.collect();
        let outputs: Vec<ValueId> =
            node.outputs.iter().map(|&output| pass.add(output, rule.result(node, output))).collect();
        let op = node.op.with_replicas(rule.replicas(&pass.values[outputs[0].0].layout));
        pass.steps.push(Step::Kernel { op, inputs, outputs: outputs.clone() });
        for (&output, &value) in node.outputs.iter().zip(&outputs) {
            pass.current.insert(output, value);
        }
    }
    let wanted = wanted.into_iter().map(|tensor| pass.convert(rule, tensor, rule.boundary(tensor)));
    pass.wanted = wanted.collect();
    if rule.exchanges == TensorExchanges::Beside {
        pass.steps = hoist(pass.steps);
    }
    pass
}

impl Spread {
    /// Whether a value is the first of its tensor: of one that was there before the pass, that which was given.
    pub(crate) fn is_first(&self, value: ValueId) -> bool {
        let tensor = self.values[value.0].tensor;
        self.values.iter().position(|other| other.tensor == tensor) == Some(value.0)
    }

    /// The value of `tensor` in `layout`; exchanges are added where it is in another.
    pub(crate) fn convert(&mut self, rule: Rule<'_>, tensor: TensorId, layout: Layout) -> ValueId {
        let wanted = Value { tensor, layout };
        if let Some(found) = self.values.iter().rposition(|value| *value == wanted) {
            // A value that was recomputed or reduced replaces earlier ones; only the newest may be used.
            if found >= self.current[&tensor].0 {
                return ValueId(found);
            }
        }
        let mut source = self.current[&tensor];
        for exchange in self.values[source.0].layout.exchanges_to(&wanted.layout) {
            let layout = exchange.layout_after(&self.values[source.0].layout);
            let was_partial = !self.values[source.0].layout.partial().is_empty();
            let destination = self.add(tensor, layout);
            let axis = rule.axis(&exchange);
            self.steps.push(Step::Exchange { exchange, axis, source, destination });
            // Partial values are of no use to anybody else: what was made whole takes their place.
            if was_partial && self.values[destination.0].layout.partial().is_empty() {
                self.current.insert(tensor, destination);
            }
            source = destination;
        }
        source
    }

    fn add(&mut self, tensor: TensorId, layout: Layout) -> ValueId {
        self.values.push(Value { tensor, layout });
        ValueId(self.values.len() - 1)
    }
}

/// Moves each exchange directly behind the kernel that makes its source, so that it may run beside what follows.
/// Exchanges keep their order, and those of values from before the pass stay where they are needed.
fn hoist(steps: Vec<Step>) -> Vec<Step> {
    let mut ordered: Vec<Step> = Vec::with_capacity(steps.len());
    let mut behind = 0;
    for step in steps {
        let at = match &step {
            Step::Kernel { .. } => ordered.len(),
            Step::Exchange { source, .. } => {
                let maker = ordered.iter().rposition(|earlier| makes(earlier, *source));
                behind = maker.map_or(ordered.len(), |maker| maker + 1).max(behind) + 1;
                behind - 1
            }
        };
        ordered.insert(at, step);
    }
    ordered
}

pub(crate) fn makes(step: &Step, value: ValueId) -> bool {
    match step {
        Step::Kernel { outputs, .. } => outputs.contains(&value),
        Step::Exchange { destination, .. } => *destination == value,
    }
}

//! Pass 4: kernels between exchanges become fragments, with their temporaries placed. Before, sums join the kernels
//! that make their summands (`fuse.rs`).

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::{Class, Element, Sizes};
use ir::layout::Exchange;
use ir::mesh::Axis;
use ir::op::{Op, Write};
use ir::program::{Access, Binding, Collective, CollectiveId, Fragment, FragmentId, Kernel, Offset, Operand, Output};
use ir::software::ResidualSums;
use ir::units::Bytes;

use crate::layer::fuse::fuse;
use crate::layer::homes::Homes;
use crate::layer::library::Library;
use crate::layer::spread::{Rule, Spread, Step, ValueId};
use crate::memory::place::{Effort, Lifetime, aligned, place};

/// What a body needs from, or leaves to, the world around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// From the layer before.
    Input,
    /// For the layer behind.
    Output,
    /// From the layer behind.
    OutputGradient,
    /// For the layer before.
    InputGradient,
    /// The context: from the layer before, or where it begins for the layer behind.
    Context,
    /// From the layer behind.
    ContextOutputGradient,
    /// For the layer before.
    ContextInputGradient,
    /// Kept from the forward to the backward pass: the index among the layer's saved tensors.
    Saved(u16),
    /// Tokens of the microbatch.
    Tokens,
    /// Targets of the microbatch.
    Targets,
    /// The loss and the square norm.
    Scalars,
    /// Parameters of one of the layer's blocks, whole.
    Parameters(u16),
    /// Their gradients.
    Gradients(u16),
    /// Made and used inside the body.
    Temporary(u16),
}

/// An instruction of a body, its operands as indices into the body's slots.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BodyStep {
    pub(crate) action: BodyAction,
    pub(crate) operands: Vec<u16>,
    /// Slots that are not used after this step.
    pub(crate) last_uses: Vec<u16>,
}

/// What a step of a body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyAction {
    /// Runs kernels.
    Compute(FragmentId),
    /// Exchanges a tensor, on the stream of an axis.
    Exchange(CollectiveId, Axis),
}

/// One pass over a layer as instructions.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Body {
    pub(crate) slots: Vec<(Slot, Bytes)>,
    pub(crate) steps: Vec<BodyStep>,
}

/// What `fragments` works on.
pub(crate) struct Pass<'a> {
    pub(crate) name: String,
    pub(crate) rule: Rule<'a>,
    pub(crate) sizes: &'a Sizes,
    pub(crate) spread: &'a Spread,
    pub(crate) homes: &'a dyn Homes,
    pub(crate) compute: Element,
    /// How gradients of parameters are written.
    pub(crate) gradients: Write,
    /// How what kernels make is added to the residual stream.
    pub(crate) residual_sums: ResidualSums,
}

/// Cuts a pass into fragments and exchanges.
pub(crate) fn fragments(pass: &Pass<'_>, library: &mut Library) -> Body {
    let storage = Storages::of(pass);
    let steps = fuse(pass);
    let groups = cut(&steps);
    // The first and the last group that use a storage.
    let mut uses: Vec<Option<(usize, usize)>> = vec![None; pass.spread.values.len()];
    for (index, group) in groups.iter().enumerate() {
        for value in group.iter().flat_map(|step| values_of(step)) {
            let (_, last) = uses[storage.of_value(value).0].get_or_insert((index, index));
            *last = index;
        }
    }
    let is_local = |value: ValueId| {
        let used_once = uses[storage.of_value(value).0].is_some_and(|(first, last)| first == last);
        used_once && storage.slot(value).is_none()
    };
    let mut body = Body::default();
    for (index, group) in groups.iter().enumerate() {
        match group.as_slice() {
            [Step::Exchange { exchange, axis, source, destination }] => {
                let collective = pass.collective(&storage, exchange, *axis, *source);
                let mut operands = vec![body.slot(&storage, *source)];
                if !exchange.is_in_place() {
                    operands.push(body.slot(&storage, *destination));
                }
                let action = BodyAction::Exchange(library.collectives.id(collective), *axis);
                body.steps.push(BodyStep { action, operands, last_uses: Vec::new() });
            }
            kernels => {
                let name = format!("{} {}", pass.name, index);
                let mut maker = Maker::new(pass, &storage, &is_local);
                let fragment = maker.fragment(name, kernels);
                // Every fragment has a scratch of its own, so that it lives no longer than the fragment.
                let own_scratch = Slot::Temporary(SCRATCH - index as u16);
                let own = |slot: Slot| if slot == Slot::Temporary(SCRATCH) { own_scratch } else { slot };
                let operands = maker.bound.iter().map(|&(slot, bytes)| body.slot_of((own(slot), bytes))).collect();
                let action = BodyAction::Compute(library.fragment(fragment));
                body.steps.push(BodyStep { action, operands, last_uses: Vec::new() });
            }
        }
    }
    body.mark_last_uses();
    body
}

/// Runs of kernels, and single exchanges. A run ends before an exchange of what it made, and before a kernel that
/// reads what an exchange brought since the run began.
fn cut(steps: &[Step]) -> Vec<Vec<&Step>> {
    let mut groups: Vec<Vec<&Step>> = Vec::new();
    let mut run: Vec<&Step> = Vec::new();
    let mut brought: BTreeSet<ValueId> = BTreeSet::new();
    for step in steps {
        match step {
            Step::Exchange { source, destination, .. } => {
                let made_here = run.iter().any(|kernel| values_of(kernel).any(|value| value == *source));
                if made_here {
                    groups.push(std::mem::take(&mut run));
                    brought.clear();
                }
                groups.push(vec![step]);
                brought.insert(*destination);
            }
            Step::Kernel { inputs, .. } => {
                if !run.is_empty() && inputs.iter().any(|input| brought.contains(input)) {
                    groups.push(std::mem::take(&mut run));
                    brought.clear();
                }
                run.push(step);
            }
        }
    }
    if !run.is_empty() {
        groups.push(run);
    }
    groups
}

fn values_of(step: &Step) -> impl Iterator<Item = ValueId> {
    let (read, written) = match step {
        Step::Kernel { inputs, outputs, .. } => (inputs.as_slice(), outputs.as_slice()),
        Step::Exchange { source, destination, .. } => (std::slice::from_ref(source), std::slice::from_ref(destination)),
    };
    read.iter().chain(written).copied()
}

/// How large values are, and which share memory.
struct Storages {
    /// For each value, the last of those with which it shares memory: all-reduces work in place.
    last: Vec<ValueId>,
    /// The slot of each value that outlives its fragment or comes from elsewhere, and its place in it in bytes.
    slots: Vec<Option<(Slot, u64)>>,
    shapes: Vec<Vec<(char, u64)>>,
    bytes: Vec<Bytes>,
}

impl Storages {
    fn of(pass: &Pass<'_>) -> Storages {
        let values = &pass.spread.values;
        let mut last: Vec<ValueId> = (0..values.len()).map(ValueId).collect();
        for step in pass.spread.steps.iter().rev() {
            if let Step::Exchange { exchange, source, destination, .. } = step
                && exchange.is_in_place()
            {
                last[source.0] = last[destination.0];
            }
        }
        let slots = last.iter().map(|&value| pass.homes.home(value)).collect();
        let shapes: Vec<Vec<(char, u64)>> = values.iter().map(|value| pass.rule.shape(value, pass.sizes)).collect();
        let bytes = |(index, shape): (usize, &Vec<(char, u64)>)| {
            let elements: u64 = shape.iter().map(|&(_, size)| size).product();
            Bytes(elements * pass.element(ValueId(index)).bytes())
        };
        let bytes = shapes.iter().enumerate().map(bytes).collect();
        Storages { last, slots, shapes, bytes }
    }

    fn of_value(&self, value: ValueId) -> ValueId {
        self.last[value.0]
    }

    fn slot(&self, value: ValueId) -> Option<(Slot, u64)> {
        self.slots[value.0]
    }

    fn shape(&self, value: ValueId) -> &[(char, u64)] {
        &self.shapes[value.0]
    }

    fn bytes(&self, value: ValueId) -> Bytes {
        self.bytes[value.0]
    }
}

impl Pass<'_> {
    fn element(&self, value: ValueId) -> Element {
        match self.rule.tensors[self.spread.values[value.0].tensor.index()].class {
            Class::Parameter { .. } | Class::Activation | Class::Patches => self.compute,
            Class::ParameterGradient { .. } | Class::Statistic | Class::Loss => Element::F32,
            Class::Tokens | Class::Source | Class::Targets => Element::I32,
        }
    }

    fn collective(&self, storage: &Storages, exchange: &Exchange, axis: Axis, source: ValueId) -> Collective {
        let shape = storage.shape(source).iter().map(|&(_, size)| size).collect();
        Collective { exchange: exchange.clone(), axis, shape, element: self.element(source) }
    }
}

impl Body {
    fn slot(&mut self, storage: &Storages, value: ValueId) -> u16 {
        let slot = storage.slot(value).map(|(slot, _)| slot);
        let slot = slot.unwrap_or(Slot::Temporary(storage.of_value(value).0 as u16));
        self.slot_of((slot, storage.bytes(value)))
    }

    /// The index of a slot; it must hold at least `bytes`.
    fn slot_of(&mut self, (slot, bytes): (Slot, Bytes)) -> u16 {
        let found = self.slots.iter().position(|(other, _)| *other == slot);
        let index = found.unwrap_or_else(|| {
            self.slots.push((slot, Bytes::ZERO));
            self.slots.len() - 1
        });
        self.slots[index].1 = self.slots[index].1.max(Bytes(aligned(bytes.0)));
        index as u16
    }

    fn mark_last_uses(&mut self) {
        for slot in 0..self.slots.len() as u16 {
            let last = self.steps.iter_mut().rev().find(|step| step.operands.contains(&slot));
            if let Some(step) = last {
                step.last_uses.push(slot);
            }
        }
    }
}

/// Makes one fragment.
struct Maker<'a> {
    pass: &'a Pass<'a>,
    storage: &'a Storages,
    is_local: &'a dyn Fn(ValueId) -> bool,
    bound: Vec<(Slot, Bytes)>,
    accesses: Vec<Access>,
    /// The uses of each local value, by kernel, and its place in the scratch once it is known.
    locals: BTreeMap<ValueId, (Lifetime, u64)>,
}

/// The slot of a fragment's scratch among temporaries: no value has this index.
const SCRATCH: u16 = u16::MAX;

impl<'a> Maker<'a> {
    fn new(pass: &'a Pass<'a>, storage: &'a Storages, is_local: &'a dyn Fn(ValueId) -> bool) -> Maker<'a> {
        Maker { pass, storage, is_local, bound: Vec::new(), accesses: Vec::new(), locals: BTreeMap::new() }
    }

    fn fragment(&mut self, name: String, steps: &[&Step]) -> Fragment {
        let workspaces: Vec<u64> = steps.iter().map(|step| self.workspace(step)).collect();
        let (addresses, size, scratch_bound) = self.place_locals(steps, &workspaces);
        let mut kernels: Vec<Kernel> = Vec::with_capacity(steps.len());
        for step in steps {
            let Step::Kernel { op, inputs, outputs } = step else { panic!("a fragment has kernels only") };
            kernels.push(self.kernel(*op, inputs, outputs));
        }
        let scratch = (size > 0).then(|| self.bind((Slot::Temporary(SCRATCH), Bytes(size)), Access::Write));
        let scratch = scratch.unwrap_or(0);
        for (index, kernel) in kernels.iter_mut().enumerate() {
            let results = kernel.outputs.iter_mut().map(|output| &mut output.operand);
            for operand in kernel.inputs.iter_mut().chain(results) {
                if operand.binding == SCRATCH {
                    operand.binding = scratch;
                }
            }
            kernel.workspace = (workspaces[index] > 0).then(|| Operand {
                binding: scratch,
                offset: addresses[index],
                element: Element::F32,
                dimensions: vec![('n', workspaces[index])],
            });
        }
        let bindings = self.bound.iter().zip(&self.accesses);
        let bindings = bindings.map(|(&(_, bytes), &access)| Binding { bytes, access }).collect();
        Fragment {
            name,
            bindings,
            kernels,
            scratch: (size > 0).then_some(scratch),
            scratch_bound: Bytes(scratch_bound),
        }
    }

    /// Places local values and workspaces. Returns where each kernel's workspace begins, the size and its bound.
    fn place_locals(&mut self, steps: &[&Step], workspaces: &[u64]) -> (Vec<u64>, u64, u64) {
        let mut spans: BTreeMap<ValueId, Lifetime> = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            for value in values_of(step) {
                if (self.is_local)(value) {
                    let bytes = aligned(self.storage.bytes(value).0);
                    let start = index as u32;
                    spans.entry(value).or_insert(Lifetime { bytes, start, end: start }).end = index as u32;
                }
            }
        }
        let mut all: Vec<(Lifetime, Option<ValueId>)> =
            spans.iter().map(|(&value, &lifetime)| (lifetime, Some(value))).collect();
        for (index, &numbers) in workspaces.iter().enumerate().filter(|(_, numbers)| **numbers > 0) {
            let bytes = aligned(numbers * Element::F32.bytes());
            all.push((Lifetime { bytes, start: index as u32, end: index as u32 }, None));
        }
        all.sort_by_key(|(lifetime, value)| (lifetime.start, *value));
        let lifetimes: Vec<Lifetime> = all.iter().map(|(lifetime, _)| *lifetime).collect();
        let placement = place(&lifetimes, 0, Effort::Most);
        let mut of_kernel = vec![0; workspaces.len()];
        for ((lifetime, value), address) in all.into_iter().zip(placement.addresses) {
            match value {
                Some(value) => {
                    self.locals.insert(value, (lifetime, address));
                }
                None => of_kernel[lifetime.start as usize] = address,
            }
        }
        (of_kernel, placement.size, placement.bound)
    }

    fn workspace(&self, step: &Step) -> u64 {
        let Step::Kernel { op, inputs, outputs } = step else { panic!("a fragment has kernels only") };
        let sizes = inputs.iter().chain(outputs).flat_map(|&value| self.storage.shape(value)).copied().collect();
        op.workspace(&sizes)
    }

    fn kernel(&mut self, op: Op, inputs: &[ValueId], outputs: &[ValueId]) -> Kernel {
        let offsets = op.offsets().iter().map(|&letter| self.offset(letter, inputs.iter().chain(outputs))).collect();
        let inputs = inputs.iter().map(|&value| self.operand(value, Access::Read)).collect();
        let outputs = outputs.iter().map(|&value| {
            let write = if self.is_gradient(value) { self.pass.gradients } else { op.write() };
            let access = match write {
                Write::Replace => Access::Write,
                Write::Accumulate => Access::Update,
            };
            Output { operand: self.operand(value, access), write }
        });
        let outputs = outputs.collect();
        Kernel { op, inputs, outputs, offsets, workspace: None }
    }

    /// Whether it is the gradient of a parameter, a sum over microbatches.
    fn is_gradient(&self, value: ValueId) -> bool {
        let tensor = self.pass.spread.values[value.0].tensor;
        matches!(self.pass.rule.tensors[tensor.index()].class, Class::ParameterGradient { .. })
    }

    fn offset<'v>(&self, letter: char, mut values: impl Iterator<Item = &'v ValueId>) -> Offset {
        let found = values.find_map(|&value| {
            let dimensions = &self.pass.rule.tensors[self.pass.spread.values[value.0].tensor.index()].dimensions;
            dimensions.iter().position(|&other| other == letter).map(|dimension| (value, dimension))
        });
        let (value, dimension) = found.expect("the operation has an operand with each letter of its offsets");
        let axes = self.pass.spread.values[value.0].layout.splits()[dimension].clone();
        Offset { letter, axes, step: self.storage.shape(value)[dimension].1 }
    }

    fn operand(&mut self, value: ValueId, access: Access) -> Operand {
        let element = self.pass.element(value);
        let dimensions = self.storage.shape(value).to_vec();
        let local = self.locals.get(&value).map(|&(_, address)| address);
        let (binding, offset) = match local {
            Some(address) => (SCRATCH, address),
            None => {
                let home = self.storage.slot(value);
                let (slot, offset) = home.unwrap_or((Slot::Temporary(self.storage.of_value(value).0 as u16), 0));
                let bytes = Bytes(aligned(offset + self.storage.bytes(value).0));
                (self.bind((slot, bytes), access), offset)
            }
        };
        Operand { binding, offset, element, dimensions }
    }

    fn bind(&mut self, (slot, bytes): (Slot, Bytes), access: Access) -> u16 {
        let found = self.bound.iter().position(|(other, _)| *other == slot);
        if let Some(index) = found {
            self.bound[index].1 = self.bound[index].1.max(bytes);
            self.accesses[index] = joined(self.accesses[index], access);
            return index as u16;
        }
        self.bound.push((slot, bytes));
        self.accesses.push(access);
        self.bound.len() as u16 - 1
    }
}

/// What was written first is not read from before.
fn joined(earlier: Access, later: Access) -> Access {
    match (earlier, later) {
        (Access::Write, _) => Access::Write,
        (Access::Read, Access::Read) => Access::Read,
        (Access::Read | Access::Update, _) => Access::Update,
    }
}

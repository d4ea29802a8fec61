//! Where values of a pass live: in what outlives it or comes from elsewhere, or nowhere but in the pass.

use ir::graph::{Class, Element, LayerKind, Sizes, TensorId};
use ir::units::Bytes;

use crate::layer::BlockTemplate;
use crate::layer::differentiate::Differentiated;
use crate::layer::fragment::Slot;
use crate::layer::spread::{Rule, Spread, ValueId};
use crate::memory::place::aligned;

/// Where the values of a pass live.
pub(crate) trait Homes {
    /// The slot of a value that outlives its fragment or comes from elsewhere, and its place in it in bytes. None
    /// for a value of the pass itself.
    fn home(&self, value: ValueId) -> Option<(Slot, u64)>;
}

/// Where values live; what both passes share.
pub(super) struct HomeTable<'a> {
    pub(super) kind: &'a LayerKind,
    pub(super) rule: Rule<'a>,
    pub(super) forward: &'a Spread,
    pub(super) kept: &'a [TensorId],
    pub(super) blocks: &'a [BlockTemplate],
    pub(super) differentiated: &'a Differentiated,
    pub(super) compute: Element,
}

impl HomeTable<'_> {
    fn common(&self, tensor: TensorId) -> Option<(Slot, u64)> {
        match self.rule.tensors[tensor.index()].class {
            Class::Parameter { .. } => Some(self.in_block(tensor, Slot::Parameters, self.compute)),
            Class::ParameterGradient { of } => Some(self.in_block(of, Slot::Gradients, Element::F32)),
            Class::Tokens | Class::Patches | Class::Source => Some((Slot::Tokens, 0)),
            Class::Targets => Some((Slot::Targets, 0)),
            Class::Loss => Some((Slot::Scalars, 0)),
            Class::Activation | Class::Statistic => None,
        }
    }

    /// Whether a value is a part of patches, of which the whole was given: it has no home.
    fn is_part(&self, spread: &Spread, value: ValueId) -> bool {
        let tensor = spread.values[value.0].tensor;
        self.rule.tensors[tensor.index()].class == Class::Patches && !spread.is_first(value)
    }

    fn in_block(&self, parameter: TensorId, slot: fn(u16) -> Slot, element: Element) -> (Slot, u64) {
        let find =
            |block: &BlockTemplate| block.parameters.iter().find(|(id, _)| *id == parameter).map(|(_, p)| p.first);
        let (index, first) = self
            .blocks
            .iter()
            .enumerate()
            .find_map(|(index, block)| find(block).map(|first| (index, first)))
            .expect("every parameter is in a block");
        (slot(index as u16), first * element.bytes())
    }

    /// What a tensor takes that is kept for the backward pass.
    pub(super) fn saved_bytes(&self, tensor: TensorId, sizes: &Sizes) -> Bytes {
        let value = &self.forward.values[self.forward.current[&tensor].0];
        let elements: u64 = self.rule.shape(value, sizes).iter().map(|&(_, size)| size).product();
        let element = if self.kind.tensor(tensor).class == Class::Statistic { Element::F32 } else { self.compute };
        Bytes(aligned(elements * element.bytes()))
    }

    fn saved(&self, tensor: TensorId) -> Option<(Slot, u64)> {
        self.kept.iter().position(|&kept| kept == tensor).map(|index| (Slot::Saved(index as u16), 0))
    }
}

/// Those of a forward pass.
pub(super) struct ForwardHomes<'a>(pub(super) &'a HomeTable<'a>);

impl Homes for ForwardHomes<'_> {
    fn home(&self, value: ValueId) -> Option<(Slot, u64)> {
        let table = self.0;
        let tensor = table.forward.values[value.0].tensor;
        if table.is_part(table.forward, value) {
            return None;
        }
        if let Some(home) = table.common(tensor) {
            return Some(home);
        }
        let is_current = table.forward.current[&tensor] == value;
        if Some(tensor) == table.kind.input && is_current {
            return Some((Slot::Input, 0));
        }
        if Some(tensor) == table.kind.context_taken() && is_current {
            return Some((Slot::Context, 0));
        }
        if table.forward.wanted.contains(&value) {
            return Some((if Some(tensor) == table.kind.output { Slot::Output } else { Slot::Context }, 0));
        }
        table.saved(tensor).filter(|_| is_current)
    }
}

/// Those of a backward pass.
pub(super) struct BackwardHomes<'a>(pub(super) &'a HomeTable<'a>, pub(super) &'a Spread);

impl Homes for BackwardHomes<'_> {
    fn home(&self, value: ValueId) -> Option<(Slot, u64)> {
        let BackwardHomes(table, spread) = self;
        let tensor = spread.values[value.0].tensor;
        if table.is_part(spread, value) {
            return None;
        }
        if let Some(home) = table.common(tensor) {
            return Some(home);
        }
        let is_first = spread.is_first(value);
        if is_first && Some(tensor) == table.kind.input {
            return Some((Slot::Input, 0));
        }
        if is_first && Some(tensor) == table.differentiated.output_gradient {
            return Some((Slot::OutputGradient, 0));
        }
        if is_first && Some(tensor) == table.kind.context_taken() {
            return Some((Slot::Context, 0));
        }
        if is_first && Some(tensor) == table.differentiated.context_output_gradient {
            return Some((Slot::ContextOutputGradient, 0));
        }
        if spread.wanted.contains(&value) {
            let is_input = Some(tensor) == table.differentiated.input_gradient;
            return Some((if is_input { Slot::InputGradient } else { Slot::ContextInputGradient }, 0));
        }
        table.saved(tensor).filter(|_| is_first)
    }
}

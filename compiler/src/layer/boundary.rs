//! What goes from one layer to the next, whatever letters each has for it.

use ir::graph::{Context, Element, LayerKind, Sizes, TensorId};
use ir::layout::{Layout, Reduce};
use ir::mesh::AxisSet;
use ir::units::Bytes;

use crate::layer::spread::{Rule, Value};

/// How the residual stream lies at an end of a layer: sequences × positions × width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    pub(crate) layout: Layout,
    /// Local shape.
    pub(crate) shape: [u64; 3],
    /// Axes of the layer's tensor parallelism.
    pub(crate) tensor: AxisSet,
}

impl Boundary {
    /// At an end of a layer where this tensor is. Its first letter is of sequences, its last of their width, and all
    /// between of positions: layers may have unlike letters for what one gives and the next takes.
    pub(crate) fn of(rule: Rule<'_>, tensor: TensorId, sizes: &Sizes) -> Boundary {
        let layout = rule.boundary(tensor);
        let shape = rule.shape(&Value { tensor, layout: layout.clone() }, sizes);
        let ([(_, sequences), positions @ .., (_, width)], [batch, between @ .., inner]) =
            (shape.as_slice(), layout.splits())
        else {
            panic!("what goes between layers has sequences and a width")
        };
        let splits = vec![batch.clone(), between.concat(), inner.clone()];
        Boundary {
            layout: Layout::new(splits, layout.partial(), Reduce::Sum),
            shape: [*sequences, positions.iter().map(|&(_, size)| size).product(), *width],
            tensor: rule.axes.tensor.iter().copied().collect(),
        }
    }

    /// What it takes.
    pub(crate) fn bytes(&self, element: Element) -> Bytes {
        Bytes(self.shape.iter().product::<u64>() * element.bytes())
    }
}

/// What comes from the layer before, and what goes to the layer behind; where there is no such layer, the other.
pub(crate) fn ends(kind: &LayerKind) -> [TensorId; 2] {
    let one = || kind.input.or(kind.output).expect("a layer has an input or an output");
    [kind.input, kind.output].map(|end| end.unwrap_or_else(one))
}

/// Numbers of a sequence that a layer kind takes from the layer before; of a first layer, that it gives to the next.
/// First those of the residual stream, then those of the context beside it.
pub fn stream_sizes(kind: &LayerKind) -> [u64; 2] {
    [numbers(kind, ends(kind)[0]), kind.context_taken().map_or(0, |context| numbers(kind, context))]
}

/// Whether layers of a kind can follow each other: what one gives is what the next takes.
pub fn can_repeat(kind: &LayerKind) -> bool {
    let [input, output] = ends(kind).map(|tensor| numbers(kind, tensor));
    let context_stays = match kind.context {
        None | Some(Context::Passes(_)) => true,
        Some(Context::Begins(_) | Context::Ends(_)) => false,
    };
    kind.input.is_some() && kind.output.is_some() && input == output && context_stays
}

fn numbers(kind: &LayerKind, tensor: TensorId) -> u64 {
    kind.tensor(tensor).dimensions[1..].iter().map(|letter| kind.sizes[letter]).product()
}

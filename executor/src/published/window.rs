//! A window: which elements of a published tensor are which of a parameter.
//!
//! A window is a range of each of the parameter's dimensions. One step along a dimension is a fixed number of elements
//! in the published tensor, its stride; so a transposed matrix, a row of heads or a third of a packed product are all
//! windows.

use std::ops::Range;

use ir::region::{Region, Side, Stretch};

/// One dimension of a parameter, as it lies in a published tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The first index of the parameter that is in the window.
    pub(super) first: u64,
    /// How many are in it.
    pub(super) length: u64,
    /// Elements of the published tensor from one to the next.
    pub(super) stride: u64,
}

/// Elements of a parameter that stand in one published tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The dimensions of the parameter, outermost first.
    pub(super) steps: Vec<Step>,
    /// The published element of the first.
    pub(super) offset: u64,
}

/// Elements that follow each other in the window's order, in equal steps of the published tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The first, in the order of the window.
    pub(super) local: u64,
    /// The first, in the published tensor.
    pub(super) published: u64,
    pub(super) length: u64,
    pub(super) stride: u64,
}

impl Row {
    /// The published elements.
    pub(super) fn elements(self) -> impl Iterator<Item = u64> {
        (0..self.length).map(move |index| self.published + index * self.stride)
    }
}

impl Window {
    /// Its place in a parameter of this shape.
    pub(super) fn stretch(&self, shape: &[u64]) -> Stretch {
        let side = |(&size, step): (&u64, &Step)| Side { size, start: step.first, length: step.length };
        Stretch::all(Region { sides: shape.iter().zip(&self.steps).map(side).collect() })
    }

    /// Whether what follows in its order follows in the published tensor, too, at least along the innermost dimension.
    pub(super) fn is_straight(&self) -> bool {
        self.joined().last().is_none_or(|&(_, stride)| stride == 1)
    }

    /// Rows of a range of its elements, in its order.
    pub(super) fn rows(&self, range: Range<u64>) -> impl Iterator<Item = Row> + use<> {
        let mut outer = self.joined();
        let (inner, stride) = outer.pop().unwrap_or((1, 1));
        let (offset, mut next) = (self.offset, range.start);
        std::iter::from_fn(move || {
            if next >= range.end {
                return None;
            }
            let (mut row, within) = (next / inner, next % inner);
            let mut published = offset + within * stride;
            for &(length, stride) in outer.iter().rev() {
                published += row % length * stride;
                row /= length;
            }
            let found = Row { local: next, published, length: (inner - within).min(range.end - next), stride };
            next += found.length;
            Some(found)
        })
    }

    /// Lengths and strides, where dimensions that lie as one are one.
    fn joined(&self) -> Vec<(u64, u64)> {
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for step in self.steps.iter().filter(|step| step.length != 1) {
            match joined.last_mut() {
                Some((length, stride)) if *stride == step.length * step.stride => {
                    *length *= step.length;
                    *stride = step.stride;
                }
                Some(_) | None => joined.push((step.length, step.stride)),
            }
        }
        joined
    }
}

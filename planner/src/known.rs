//! What a search has found out about layers. Outer choices with as many ranks and sequences cost the same by layer, so
//! each of these is asked once.
//!
//! Answers are pure, so that who asks first makes no difference.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ir::graph::KindId;
use ir::plan::Strategy;
use solver::Costs;

use crate::costing::{Costing, Junction, Outlines};
use crate::outer::Outer;
use crate::tie::Copies;

/// What is known of layers, for all outer choices.
#[derive(Clone, Debug, Default)]
pub struct Known {
    by_size: Arc<Mutex<BTreeMap<Size, KnownLayers>>>,
}

/// What a layer's cost depends on, beside its strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    part: usize,
    ranks: u32,
    sequences: u64,
    counts: [u32; 2],
    copies: Copies,
}

/// What is known of layers under outer choices of one size.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownLayers(Arc<Mutex<Layers>>);

/// The memory behind [`KnownLayers`].
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) outlines: Outlines,
    costs: BTreeMap<(KindId, Strategy), Costs>,
    transitions: BTreeMap<[Junction; 2], f64>,
}

impl Known {
    /// What is known of the layers of an outer choice on a part of a fleet; 0 where devices are alike.
    pub(crate) fn of(&self, part: usize, outer: &Outer) -> KnownLayers {
        let Outer { stages, ranks, sequences, microbatches, .. } = *outer;
        let (counts, copies) = (Costing::counts(microbatches), Copies::of(stages));
        let size = Size { part, ranks, sequences, counts, copies };
        locked(&self.by_size).entry(size).or_default().clone()
    }

    /// Costs of layers that were simulated.
    pub(crate) fn cost_count(&self) -> usize {
        locked(&self.by_size).values().map(|layers| layers.open().costs.len()).sum()
    }
}

impl KnownLayers {
    /// To ask and to add. Nobody else can meanwhile.
    pub(crate) fn open(&self) -> MutexGuard<'_, Layers> {
        locked(&self.0)
    }
}

impl Layers {
    /// The exact cost of a strategy, whatever is known of it.
    pub(crate) fn costs_of(&mut self, costing: &Costing<'_>, kind: KindId, strategy: &Strategy) -> Costs {
        let layout = costing.layout(&mut self.outlines, costing.junction(kind, strategy), strategy.ranks(), 0);
        let outline = costing.outline(&mut self.outlines, kind, strategy, layout);
        self.costs(costing, kind, strategy, &outline)
    }

    /// The exact cost of a strategy that has this outline.
    pub(crate) fn costs(&mut self, costing: &Costing<'_>, kind: KindId, strategy: &Strategy, outline: &Costs) -> Costs {
        let make = || costing.costs(&mut self.outlines, kind, strategy, outline);
        let costs = self.costs.entry((kind, strategy.clone())).or_insert_with(make);
        Costs { layout: outline.layout, ..costs.clone() }
    }

    /// Seconds of a microbatch to go from one layout to another and back with the gradient.
    pub(crate) fn transition(&mut self, costing: &Costing<'_>, ranks: u32, ends: [Junction; 2]) -> f64 {
        *self.transitions.entry(ends).or_insert_with(|| costing.transition(ranks, ends))
    }
}

/// What a lock guards; a thread that panicked has left it whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

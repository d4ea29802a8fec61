//! What all layers of a plan have in common, and in what unlike ways trainers go about them.

use ir::graph::{Element, Graph};
use ir::mesh::Mesh;
use ir::model::Precision;
use ir::plan::Plan;
use ir::software::{Reduction, Repeat, ResidualSums, Software, TensorExchanges};

use crate::layer::Purpose;

/// What all layers of a plan have in common.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) mesh: &'a Mesh,
    /// Sequences of a microbatch.
    pub(crate) sequences: u64,
    /// What is computed in.
    pub(crate) compute: Element,
    pub(crate) purpose: Purpose,
    pub(crate) manners: Manners,
}

impl<'a> Setting<'a> {
    /// What a plan says of all its layers.
    pub(crate) fn new(graph: &'a Graph, mesh: &'a Mesh, plan: &Plan, purpose: Purpose) -> Setting<'a> {
        let compute = compute_element(plan.precision);
        let manners = Manners::USUAL;
        Setting { graph, mesh, sequences: plan.microbatch_sequences(), compute, purpose, manners }
    }
}

/// How a trainer goes about its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) repeat: Repeat,
    pub(crate) reduction: Reduction,
    pub(crate) tensor_exchanges: TensorExchanges,
    pub(crate) residual_sums: ResidualSums,
}

impl Manners {
    /// That of the programs that are run here.
    pub(crate) const USUAL: Manners = Manners {
        repeat: Repeat::Needed,
        reduction: Reduction::Beside,
        tensor_exchanges: TensorExchanges::Beside,
        residual_sums: ResidualSums::Fused,
    };

    pub(crate) fn of(software: &Software) -> Manners {
        let Software { repeat, reduction, tensor_exchanges, residual_sums, .. } = *software;
        Manners { repeat, reduction, tensor_exchanges, residual_sums }
    }
}

/// What numbers are computed in.
pub(crate) fn compute_element(precision: Precision) -> Element {
    match precision {
        Precision::Full => Element::F32,
        Precision::Mixed => Element::Bf16,
    }
}

//! The mesh of a plan, and which of its axes a strategy gives to Data and to Tensor.

use ir::mesh::Mesh;
use ir::plan::{Plan, Sequence, Strategy};

use crate::check::Violation;

/// The axes of one strategy on the plan's mesh, and how it treats the sequence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StrategyAxes {
    /// Axes that split the batch, slowest first.
    pub(crate) data: Vec<usize>,
    /// Axes that share products, innermost first: a layer with more Tensor cuts the parts of one with less.
    pub(crate) tensor: Vec<usize>,
    /// Whether Tensor also splits the sequence between products.
    pub(crate) sequence: Sequence,
}

/// The mesh of a plan: stages, then the common factors of all tensor degrees, the innermost degree last.
///
/// Fails if degrees do not nest: 2 and 3 have no mesh in common.
pub(crate) fn mesh_of(stages: u32, strategies: &[Strategy]) -> Result<Mesh, Violation> {
    let ranks = strategies.first().map_or(1, Strategy::ranks);
    let mut degrees: Vec<u32> = strategies.iter().map(|strategy| strategy.tensor).collect();
    degrees.push(ranks);
    degrees.sort_unstable();
    degrees.dedup();
    let mut factors = Vec::new();
    let mut below = 1;
    for degree in degrees {
        if degree % below != 0 {
            return Err(Violation::DegreesDoNotNest { smaller: below, larger: degree });
        }
        factors.push(degree / below);
        below = degree;
    }
    factors.retain(|&factor| factor > 1);
    factors.reverse();
    Ok(Mesh::new(stages, &factors))
}

impl StrategyAxes {
    /// The axes of `strategy` on `mesh`, which [`mesh_of`] made for a plan that has it.
    pub(crate) fn new(mesh: &Mesh, strategy: &Strategy) -> StrategyAxes {
        let mut data: Vec<usize> = (1..mesh.sizes().len()).collect();
        let mut tensor = Vec::new();
        let mut degree = 1;
        while degree < strategy.tensor {
            let axis = data.pop().expect("the mesh has every tensor degree of its plan");
            degree *= mesh.sizes()[axis];
            tensor.push(axis);
        }
        assert_eq!(degree, strategy.tensor, "tensor degrees nest in the mesh");
        StrategyAxes { data, tensor, sequence: strategy.sequence }
    }
}

/// The mesh of a whole plan.
pub fn mesh(plan: &Plan) -> Result<Mesh, Violation> {
    mesh_of(plan.stages.len() as u32, &plan.strategies)
}

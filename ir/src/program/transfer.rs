//! What roles send each other.

use super::{Direction, RoleId};

/// One thing that goes once a step from each rank of a role to the rank at the same place of another: the input of a
/// layer (forward) or the gradient of that input (backward), of one microbatch, or, once a step, the sum of gradients
/// of a parameter that two roles share. A context that goes beside an input is a transfer of its own. No two transfers of a step carry the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transfer {
    /// Who sends.
    pub from: RoleId,
    /// Who receives.
    pub to: RoleId,
    /// The streams on which it is sent and received.
    pub direction: Direction,
    /// The microbatch; none for what goes once a step.
    pub microbatch: Option<u16>,
    /// The layer whose input, or whose parameter, it is about; of a context, the layer that makes it.
    pub layer: u16,
}

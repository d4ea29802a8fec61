//! Says how long work takes, and plays programs against the clock.
//!
//! [`CostModel`] prices one piece of work: from a measurement of the very same work if there is one, else from
//! measurements of work like it, else from a formula; the price says which. [`simulate`] plays verified programs with
//! these prices and gives the trace of a step. Modules stand in the order in which one should read them.

mod bound;
mod curve;
mod factors;
mod fleet;
mod interval;
mod model;
mod network;
mod prices;
mod product;
mod roofline;
mod shape;
mod simulate;
mod slowdown;
mod trainer;

pub use bound::lower_bound;
pub use factors::Factors;
pub use fleet::{FleetModel, Seats};
pub use interval::Interval;
pub use model::CostModel;
pub use network::Group;
pub use prices::Prices;
pub use simulate::{Deadlock, Detail, Stuck, simulate, simulate_draft, simulate_draft_on, simulate_on};

//! Exchanges between ranks.

use crate::graph::Element;
use crate::layout::Exchange;
use crate::mesh::Axis;
use crate::units::Bytes;

/// A collective: an exchange of a tensor of known shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Collective {
    /// What moves.
    pub exchange: Exchange,
    /// What it is for; with the exchange's axes, this names the communicator.
    pub axis: Axis,
    /// Local sizes of each member's source, slowest first.
    pub shape: Vec<u64>,
    /// How numbers are stored.
    pub element: Element,
}

impl Collective {
    /// Bytes of a member's source.
    pub fn source_bytes(&self) -> Bytes {
        Bytes(self.shape.iter().product::<u64>() * self.element.bytes())
    }

    /// Bytes of a member's destination, in a group of `ranks`.
    pub fn destination_bytes(&self, ranks: u32) -> Bytes {
        self.exchange.bytes_after(self.source_bytes(), ranks)
    }

    /// Bytes of the whole operand, as profiles count them.
    pub fn whole_bytes(&self, ranks: u32) -> Bytes {
        self.source_bytes().max(self.destination_bytes(ranks))
    }
}

//! How far off prices may be, by kind of work.

use ir::op::OpKind;
use ir::profile::{KernelKind, Route, Work};

use crate::network::Group;

/// How many times as long work takes as it is priced. Prices of one kind of work are wrong together: what a formula or
/// a measurement missed of one product, it missed of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Matrix products.
    pub products: f64,
    /// Attention and its gradient.
    pub attention: f64,
    /// All other kernels and copies: memory bounds them.
    pub memory: f64,
    /// Exchanges and transfers within a node.
    pub inside: f64,
    /// Exchanges and transfers between nodes.
    pub between: f64,
}

impl Default for Factors {
    /// As it is priced.
    fn default() -> Self {
        Factors { products: 1.0, attention: 1.0, memory: 1.0, inside: 1.0, between: 1.0 }
    }
}

impl Factors {
    /// Both, one after the other.
    pub(crate) fn times(self, other: Factors) -> Factors {
        Factors {
            products: self.products * other.products,
            attention: self.attention * other.attention,
            memory: self.memory * other.memory,
            inside: self.inside * other.inside,
            between: self.between * other.between,
        }
    }

    /// Of a kernel.
    pub(crate) fn of_kernel(self, op: OpKind) -> f64 {
        match KernelKind::of(op) {
            KernelKind::Product => self.products,
            KernelKind::Attention => self.attention,
            KernelKind::Memory => self.memory,
        }
    }

    /// Of any work.
    pub(crate) fn of(self, work: &Work) -> f64 {
        let over = |route| match route {
            Route::Inside => self.inside,
            Route::Between => self.between,
        };
        match work {
            Work::Kernel { op, .. } => self.of_kernel(*op),
            Work::Exchange { ranks, ranks_per_node, .. } => {
                over(Group { ranks: *ranks, ranks_per_node: *ranks_per_node }.route())
            }
            Work::Transfer { route, .. } => over(*route),
            Work::Copy { .. } => self.memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use ir::cluster::Cluster;
    use ir::layout::ExchangeKind;
    use ir::units::Bytes;

    use crate::CostModel;

    use super::*;

    #[test]
    fn each_kind_of_work_has_its_factor() {
        let plain = CostModel::new(&Cluster::preset("2x8xH100").expect("a shipped device"), None);
        let factors = Factors { products: 2.0, attention: 3.0, memory: 5.0, inside: 7.0, between: 11.0 };
        let scaled = plain.scaled(factors);
        let exchange =
            |ranks| Work::Exchange { kind: ExchangeKind::AllReduce, ranks, ranks_per_node: 8, bytes: Bytes(1 << 20) };
        let transfer = |route| Work::Transfer { route, bytes: Bytes(1 << 20) };
        for (work, factor) in [
            (exchange(8), 7.0),
            (exchange(16), 11.0),
            (transfer(Route::Inside), 7.0),
            (transfer(Route::Between), 11.0),
            (Work::Copy { bytes: Bytes(1 << 20) }, 5.0),
        ] {
            let (before, after) = (plain.price(&work).0, scaled.price(&work).0);
            assert!((after.0 / before.0 - factor).abs() < 1e-9, "{work:?}");
        }
        let of = |op| factors.of_kernel(op);
        let found = [OpKind::MatMul, OpKind::Attention, OpKind::AttentionGradient, OpKind::AdamW, OpKind::Add].map(of);
        assert_eq!(found.map(|factor| factor as u32), [2, 3, 3, 5, 5]);
    }
}

//! How much a kernel computes and moves, and a rough guess of how long that takes.

use ir::cluster::{Device, Execution};
use ir::model::Precision;
use ir::op::Op;
use ir::program::Kernel;
use ir::units::{Bytes, Flops, Seconds};

/// What a kernel computes, and what it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Amount {
    pub(crate) flops: Flops,
    pub(crate) bytes: Bytes,
}

impl Amount {
    /// That of a kernel.
    pub(crate) fn of(kernel: &Kernel) -> Amount {
        // Of a table, only the rows of the tokens are touched: each number is read and written.
        let is_lookup = matches!(kernel.op, Op::Embed | Op::EmbedGradient);
        let flops = kernel.flops();
        let bytes = if is_lookup { Bytes((flops.0 * 8.0) as u64) } else { kernel.bytes() };
        Amount { flops, bytes }
    }

    /// What it may take.
    pub(crate) fn expected(self, pace: Pace) -> Seconds {
        Seconds(1e-6 + self.flops.0 / pace.flops_per_second + self.bytes.as_f64() / pace.bytes_per_second)
    }
}

/// Rates by which work is put in order before anything was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    flops_per_second: f64,
    bytes_per_second: f64,
}

impl Pace {
    /// That of a slow core.
    const CORE: Pace = Pace { flops_per_second: 30e9, bytes_per_second: 5e9 };

    pub(crate) fn of(device: &Device, precision: Precision) -> Pace {
        match (device.execution, precision) {
            (Execution::Shared { .. }, _) => Pace::CORE,
            (Execution::Concurrent, Precision::Full) => Pace::gpu(device, device.f32_rate.0),
            (Execution::Concurrent, Precision::Mixed) => Pace::gpu(device, device.bf16_rate.0),
        }
    }

    fn gpu(device: &Device, rate: f64) -> Pace {
        Pace {
            flops_per_second: rate * device.product_efficiency,
            bytes_per_second: device.memory_rate.0 * device.memory_efficiency,
        }
    }
}

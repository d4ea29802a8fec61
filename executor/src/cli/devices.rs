//! Whether a training runs on the devices that its plan was made for: else what was predicted is of other devices.

use ir::cluster::{Execution, is_device};
use ir::plan::Devices;
use kernels::cuda::Device;

use super::inputs::Inputs;
use crate::options::BackendName;

/// The name of devices in the shipped description of CPU ranks, which means any processor.
const ANY_PROCESSOR: &str = "CPU";

/// Devices as they are found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Ranks that share this processor.
    Ranks(String),
    /// GPUs of this name.
    Gpus(String),
}

/// A sentence, without its full stop, if the plan is for other devices than those on which it will run.
pub(crate) fn unlike(inputs: &Inputs, backend: BackendName) -> Option<String> {
    let found = match backend {
        BackendName::Threads | BackendName::Shuffle => Found::Ranks(machine::read().processor),
        // Where there is none, loading says so.
        BackendName::Cuda => Found::Gpus(Device::name_of(0).ok()?),
    };
    let file = inputs.path.display();
    difference(&inputs.devices, inputs.cluster.device.execution, &found).map(|words| format!("{file} {words}"))
}

fn difference(planned: &Devices, execution: Execution, found: &Found) -> Option<String> {
    let Devices { cluster, device } = planned;
    let here = match (execution, found) {
        (Execution::Shared { .. }, Found::Ranks(name)) if device == ANY_PROCESSOR || device == name => return None,
        (Execution::Concurrent, Found::Gpus(name)) if is_device(device, name) => return None,
        (Execution::Shared { .. } | Execution::Concurrent, Found::Ranks(name)) => format!("CPU ranks of {name}"),
        (Execution::Shared { .. } | Execution::Concurrent, Found::Gpus(name)) => name.clone(),
    };
    Some(format!("is for {device} (cluster {cluster}), but runs here on {here}: predicted times are of other devices"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_devices_are_told_and_the_same_ones_are_not() {
        let said = |device: &str, execution, found: Found| {
            let planned = Devices { cluster: format!("8x{device}"), device: device.to_owned() };
            difference(&planned, execution, &found)
        };
        let gpu = |name: &str| Found::Gpus(name.to_owned());
        let ranks = |name: &str| Found::Ranks(name.to_owned());
        let shared = Execution::Shared { cores: 2 };
        for (device, execution, found) in [
            ("H100", Execution::Concurrent, gpu("NVIDIA H100 80GB HBM3")),
            ("A100-80GB", Execution::Concurrent, gpu("NVIDIA A100-SXM4-80GB")),
            ("NVIDIA H200", Execution::Concurrent, gpu("NVIDIA H200")),
            ("CPU", shared, ranks("AMD EPYC")),
            ("AMD EPYC", shared, ranks("AMD EPYC")),
        ] {
            assert_eq!(said(device, execution, found), None, "{device}");
        }
        for (device, execution, found, here) in [
            ("H100", Execution::Concurrent, ranks("AMD EPYC"), "CPU ranks of AMD EPYC"),
            ("H100", Execution::Concurrent, gpu("NVIDIA H200"), "NVIDIA H200"),
            ("CPU", shared, gpu("NVIDIA H200"), "NVIDIA H200"),
            ("Intel Xeon", shared, ranks("AMD EPYC"), "CPU ranks of AMD EPYC"),
        ] {
            let said = said(device, execution, found).expect("they differ");
            assert!(
                said.starts_with(&format!("is for {device} (cluster 8x{device}), but runs here on {here}")),
                "{said}"
            );
        }
    }
}

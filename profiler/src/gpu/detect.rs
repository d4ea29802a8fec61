//! The GPUs of this machine as a cluster.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use ir::cluster::{Cluster, Execution, is_device};
use kernels::cuda::{Device, Error};

/// A day, in seconds.
const DAY: u64 = 86_400;

/// Whether the driver is there and serves a GPU.
pub fn are_there() -> bool {
    Device::count().is_ok_and(|count| count > 0)
}

/// The GPUs of this machine as a node of `ranks` devices; without a number, all of them. Rates are those of the data
/// sheet, or of the nearest device that is known, until they are measured.
pub fn detect(ranks: Option<u32>) -> Result<Cluster, Error> {
    let count = Device::count()?;
    let ranks = ranks.map_or(count, |ranks| ranks as usize);
    if ranks > count || ranks == 0 {
        return Err(Error::NoDevice { ordinal: count, count });
    }
    let device = Device::open(0)?;
    Ok(described(device.name(), device.memory()?, ranks as u32))
}

/// A node of so many devices with this name.
fn described(name: &str, memory: ir::units::Bytes, ranks: u32) -> Cluster {
    let known = Cluster::preset_devices().filter(|device| is_device(device, name)).min_by_key(|device| {
        let preset = Cluster::preset(device).expect("presets are shipped");
        // The name that says most, then the nearest memory.
        (Reverse(device.matches('-').count()), preset.device.memory.0.abs_diff(memory.0))
    });
    let mut cluster = Cluster::preset(known.unwrap_or("H100")).expect("presets are shipped");
    cluster.name = format!("{ranks}x{}", known.unwrap_or(name));
    cluster.devices_per_node = ranks;
    cluster.device.name = name.to_owned();
    cluster.device.execution = Execution::Concurrent;
    cluster.device.memory = memory;
    cluster.device.source = match known {
        Some(known) => format!("Memory as the driver reports it; rates as described for {known}, not measured."),
        None => "Memory as the driver reports it; rates are guesses: those of an H100.".to_owned(),
    };
    cluster
}

/// What is measured, with what and when, in words.
pub(crate) fn source(cluster: &Cluster) -> Result<String, Error> {
    let versions = Device::open(0)?.versions()?;
    let exchanges = match cluster.devices_per_node {
        1 => String::new(),
        _ => format!(", {}", executor::exchange_library()?),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let [year, month, day] = date(now / DAY);
    let (ranks, device) = (cluster.devices_per_node, &cluster.device);
    Ok(format!(
        "{ranks} x {}, {}, {versions}{exchanges}, {year}-{month:02}-{day:02}, under sustained load",
        device.name, device.memory
    ))
}

/// Year, month and day of a day since 1970-01-01 (Hinnant, days_from_civil and back).
fn date(days: u64) -> [u64; 3] {
    // Years that begin in March, of eras of 400 years, from the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    [era * 400 + year + u64::from(month <= 2), month, day]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::file::{parse_cluster, print_cluster};
    use ir::units::Bytes;

    #[test]
    fn devices_that_are_known_take_the_rates_of_their_preset() {
        let cases = [
            ("NVIDIA H100 80GB HBM3", 79, "2xH100", "H100"),
            ("NVIDIA H200", 140, "2xH200", "H200"),
            ("NVIDIA A100-SXM4-40GB", 39, "2xA100-40GB", "A100-40GB"),
            ("NVIDIA A100-SXM4-80GB", 79, "2xA100-80GB", "A100-80GB"),
            ("Tesla V100-SXM2-16GB", 16, "2xV100-16GB", "V100-16GB"),
            ("NVIDIA H100 PCIe", 79, "2xH100-PCIe", "H100-PCIe"),
            ("NVIDIA GeForce RTX 4090", 23, "2xRTX-4090", "RTX-4090"),
            ("NVIDIA GeForce RTX 3090", 23, "2xNVIDIA GeForce RTX 3090", "H100"),
            ("NVIDIA T4", 15, "2xNVIDIA T4", "H100"),
        ];
        for (name, gibibytes, cluster_name, preset) in cases {
            let cluster = described(name, Bytes(gibibytes << 30), 2);
            assert_eq!((cluster.name.as_str(), cluster.device.name.as_str()), (cluster_name, name));
            assert_eq!(cluster.device.bf16_rate, Cluster::preset(preset).unwrap().device.bf16_rate, "{name}");
            assert_eq!(parse_cluster(&print_cluster(&cluster), "c.yaml"), Ok(cluster));
        }
    }

    #[test]
    fn days_have_dates() {
        for (days, expected) in
            [(0, [1970, 1, 1]), (59, [1970, 3, 1]), (19_782, [2024, 2, 29]), (20_785, [2026, 11, 28])]
        {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn without_a_gpu_one_sentence_says_what_is_missing() {
        if are_there() {
            return;
        }
        let said = detect(None).unwrap_err().to_string();
        let sentences =
            ["libcuda.so.1 cannot be loaded: install the NVIDIA driver", "there is no GPU 0: the driver sees 0"];
        assert!(sentences.iter().any(|sentence| said.starts_with(sentence)) && !said.contains('\n'), "{said}");
    }
}

//! cluster.yaml, read with its rules.

use super::locate::Segment;
use super::parse::{Checks, Range, keys, parse};
use crate::cluster::{Cluster, Execution, Link};
use crate::error::Mistakes;
use crate::residuals::Residuals;

/// More devices than this are refused.
pub(crate) const DEVICES_MAX: u64 = 1 << 16;

/// The cluster that `text` describes, or everything that is wrong with it; `file` names it in messages.
pub fn parse_cluster(text: &str, file: &str) -> Result<Cluster, Mistakes> {
    let cluster: Cluster = parse(text, file)?;
    let mut checks = Checks::new(text, file);
    checks.name(&keys(["name"]), &cluster.name);
    checks.positive(&keys(["nodes"]), u64::from(cluster.nodes));
    checks.positive(&keys(["devices_per_node"]), u64::from(cluster.devices_per_node));
    let devices = u64::from(cluster.nodes) * u64::from(cluster.devices_per_node);
    if devices > DEVICES_MAX {
        checks.wrong(&keys(["nodes"]), format!("a cluster has at most {DEVICES_MAX} devices, not {devices}"));
    }
    check_device(&cluster, &mut checks);
    check_link("inside", &cluster.inside, &mut checks);
    check_link("between", &cluster.between, &mut checks);
    checks.finish().map(|()| cluster)
}

/// The cluster as a file that [`parse_cluster`] reads back.
pub fn print_cluster(cluster: &Cluster) -> String {
    serde_yaml::to_string(cluster).expect("a cluster has only names and numbers")
}

fn check_device(cluster: &Cluster, checks: &mut Checks) {
    let device = &cluster.device;
    checks.name(&keys(["device", "name"]), &device.name);
    if let Execution::Shared { cores } = device.execution {
        checks.positive(&keys(["device", "execution", "shared", "cores"]), u64::from(cores));
    }
    checks.positive(&keys(["device", "memory"]), device.memory.0);
    if device.memory.0 > 0 && device.reserved >= device.memory {
        let what =
            format!("`device.reserved` ({}) leaves nothing of `device.memory` ({})", device.reserved, device.memory);
        checks.wrong(&keys(["device", "reserved"]), what);
    }
    checks.within(&keys(["device", "f32_rate"]), device.f32_rate.0, Range::Positive);
    checks.within(&keys(["device", "bf16_rate"]), device.bf16_rate.0, Range::Positive);
    checks.within(&keys(["device", "memory_rate"]), device.memory_rate.0, Range::Positive);
    checks.within(&keys(["device", "issue"]), device.issue.0, Range::NotNegative);
    checks.within(&keys(["device", "product_efficiency"]), device.product_efficiency, Range::Share);
    checks.within(&keys(["device", "memory_efficiency"]), device.memory_efficiency, Range::Share);
    if let Some(residuals) = &device.residuals {
        check_residuals(&keys(["device", "residuals"]), residuals, checks);
    }
}

/// Checks what stands at `path`: quantiles in their order, and a source.
pub(super) fn check_residuals(path: &[Segment], residuals: &Residuals, checks: &mut Checks) {
    let at = |key: &str| [path, &keys([key])].concat();
    checks.name(&at("from"), &residuals.from);
    checks.within(&at("low"), residuals.low, Range::Positive);
    checks.within(&at("high"), residuals.high, Range::Positive);
    if residuals.high < residuals.low {
        checks.wrong(&at("high"), format!("`high` ({}) is below `low` ({})", residuals.high, residuals.low));
    }
}

fn check_link(key: &str, link: &Link, checks: &mut Checks) {
    checks.name(&keys([key, "name"]), &link.name);
    checks.within(&keys([key, "rate"]), link.rate.0, Range::Positive);
    checks.within(&keys([key, "latency"]), link.latency.0, Range::NotNegative);
    checks.within(&keys([key, "efficiency"]), link.efficiency, Range::Share);
    checks.within(&keys([key, "start"]), link.start.0, Range::NotNegative);
    for &share in link.efficiency_of.values() {
        checks.within(&keys([key, "efficiency_of"]), share, Range::Share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, BytesPerSecond, Seconds};

    const PAIR: &str = "\
format: 1
name: pair
nodes: 1
devices_per_node: 2
device:
  name: core
  execution:
    shared: { cores: 2 }
  memory: 2 GiB
  reserved: 0 B
  f32_rate: 50 GFLOP/s
  bf16_rate: 50 GFLOP/s
  memory_rate: 10 GB/s
  issue: 1 µs
  product_efficiency: 0.8
  memory_efficiency: 0.8
  source: a guess
inside: { name: memory, rate: 5 GB/s, latency: 2 us, efficiency: 0.9 }
between: { name: memory, rate: 5 GB/s, latency: 2 us, efficiency: 0.9 }
";

    fn said(from: &str, to: &str) -> String {
        assert!(PAIR.contains(from));
        let text = PAIR.replacen(from, to, 1);
        parse_cluster(&text, "c.yaml").map_or_else(|mistakes| mistakes.to_string(), |cluster| format!("{cluster:?}"))
    }

    #[test]
    fn units_are_read_and_printed() {
        let cluster = parse_cluster(PAIR, "c.yaml").unwrap();
        assert_eq!(cluster.device.execution, Execution::Shared { cores: 2 });
        assert_eq!(cluster.device.memory, Bytes(2 << 30));
        assert_eq!((cluster.inside.rate, cluster.inside.latency), (BytesPerSecond(5e9), Seconds(2e-6)));
        let printed = print_cluster(&cluster);
        assert!(printed.contains("memory: 2 GiB") && printed.contains("latency: 2 µs"), "{printed}");
        assert_eq!(parse_cluster(&printed, "c.yaml"), Ok(cluster));
    }

    #[test]
    fn execution_is_a_word_or_a_count_of_cores() {
        assert!(said("execution:\n    shared: { cores: 2 }", "execution: concurrent").contains("Concurrent"));
        assert_eq!(said("cores: 2", "cores: 0"), "error: c.yaml:8: `device.execution.shared.cores` must be at least 1");
        assert_eq!(
            said("shared: {", "share: {"),
            "error: c.yaml:8: unknown value `share` of `device.execution`\n  \
             help: did you mean `shared`?  (values here: concurrent, shared)"
        );
    }

    #[test]
    fn a_quantity_needs_its_unit() {
        assert_eq!(
            said("memory: 2 GiB", "memory: 2147483648"),
            "error: c.yaml:9: `device.memory` must be an amount of memory with its unit, such as `80 GiB`, not \
             `2147483648`"
        );
        assert_eq!(
            said("rate: 5 GB/s", "rate: 40 Gb/s"),
            "error: c.yaml:18: `inside.rate` must be a rate in bytes (not bits) with its unit, such as `600 GB/s`, not \
             `40 Gb/s`"
        );
    }

    #[test]
    fn impossible_numbers_are_said_at_their_line() {
        assert_eq!(
            said("reserved: 0 B", "reserved: 3 GiB"),
            "error: c.yaml:10: `device.reserved` (3.0 GiB) leaves nothing of `device.memory` (2.0 GiB)"
        );
        assert_eq!(
            said("product_efficiency: 0.8", "product_efficiency: 1.2"),
            "error: c.yaml:15: `device.product_efficiency` must be above 0 and at most 1, not 1.2"
        );
        assert_eq!(
            said("issue: 1 µs", "issue: -1 µs"),
            "error: c.yaml:14: `device.issue` must be finite and 0 or more, not -0.000001"
        );
        assert_eq!(
            said("nodes: 1\ndevices_per_node: 2", "nodes: 4000000000\ndevices_per_node: 4000000000"),
            "error: c.yaml:3: a cluster has at most 65536 devices, not 16000000000000000000"
        );
        assert_eq!(said("name: core", "name: ''"), "error: c.yaml:6: `device.name` must not be empty");
    }
}

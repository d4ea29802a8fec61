//! cluster.yaml, read with its rules.

use super::locate::Segment;
use super::parse::{Checks, Range, keys, named, parse};
use crate::cluster::{Cluster, Device, Execution, Link};
use crate::error::{Mistake, Mistakes};
use crate::residuals::Residuals;

/// More devices than this are refused.
pub(crate) const DEVICES_MAX: u64 = 1 << 16;

/// The cluster that `text` describes, or everything that is wrong with it; `file` names it in messages. One of unlike
/// parts is for [`super::parse_machines`].
pub fn parse_cluster(text: &str, file: &str) -> Result<Cluster, Mistakes> {
    if let Some(line) = line_of_parts(text) {
        return Err(unlike(file).at((line, 1)).into());
    }
    parse_alike(text, file)
}

/// The key of a file that describes parts of unlike devices.
pub(super) const PARTS: &str = "parts";

/// Where that key stands, if it does.
pub(super) fn line_of_parts(text: &str) -> Option<usize> {
    let is_key = |line: &str| line.strip_prefix(PARTS).is_some_and(|rest| rest.starts_with(':'));
    text.lines().position(is_key).map(|index| index + 1)
}

/// Where devices must be alike, and are not.
pub(super) fn unlike(file: &str) -> Mistake {
    Mistake::new(file, "this is a cluster of unlike parts, on which plans are made and checked, but not yet run")
        .help("use `hetu-plan MODEL --cluster` and `hetu-plan check`; here, name a cluster of equal devices")
}

/// The same of a text that is known to have no parts.
pub(super) fn parse_alike(text: &str, file: &str) -> Result<Cluster, Mistakes> {
    let cluster: Cluster = parse(text, file)?;
    let mut checks = Checks::new(text, file);
    checks.name(&keys(["name"]), &cluster.name);
    check_counts(&[], [cluster.nodes, cluster.devices_per_node], &mut checks);
    check_device(&keys(["device"]), &cluster.device, &mut checks);
    check_link(&keys(["inside"]), &cluster.inside, &mut checks);
    check_link(&keys(["between"]), &cluster.between, &mut checks);
    checks.finish().map(|()| cluster)
}

/// The cluster as a file that [`parse_cluster`] reads back.
pub fn print_cluster(cluster: &Cluster) -> String {
    serde_yaml::to_string(cluster).expect("a cluster has only names and numbers")
}

/// Nodes, and devices of each.
pub(super) fn check_counts(path: &[Segment], [nodes, devices_per_node]: [u32; 2], checks: &mut Checks) {
    let at = |key: &str| below(path, &[key]);
    checks.positive(&at("nodes"), u64::from(nodes));
    checks.positive(&at("devices_per_node"), u64::from(devices_per_node));
    let devices = u64::from(nodes) * u64::from(devices_per_node);
    if devices > DEVICES_MAX {
        checks.wrong(&at("nodes"), format!("a cluster has at most {DEVICES_MAX} devices, not {devices}"));
    }
}

/// The way to keys inside what a path leads to.
fn below(path: &[Segment], keys: &[&str]) -> Vec<Segment> {
    path.iter().cloned().chain(keys.iter().map(|key| Segment::from(*key))).collect()
}

/// Checks the device that stands at `path`.
pub(super) fn check_device(path: &[Segment], device: &Device, checks: &mut Checks) {
    let at = |key: &str| below(path, &[key]);
    checks.name(&at("name"), &device.name);
    if let Execution::Shared { cores } = device.execution {
        checks.positive(&below(path, &["execution", "shared", "cores"]), u64::from(cores));
    }
    checks.positive(&at("memory"), device.memory.0);
    if device.memory.0 > 0 && device.reserved >= device.memory {
        let what = format!(
            "{} ({}) leaves nothing of {} ({})",
            named(&at("reserved")),
            device.reserved,
            named(&at("memory")),
            device.memory
        );
        checks.wrong(&at("reserved"), what);
    }
    checks.within(&at("f32_rate"), device.f32_rate.0, Range::Positive);
    checks.within(&at("bf16_rate"), device.bf16_rate.0, Range::Positive);
    checks.within(&at("memory_rate"), device.memory_rate.0, Range::Positive);
    checks.within(&at("issue"), device.issue.0, Range::NotNegative);
    checks.within(&at("product_efficiency"), device.product_efficiency, Range::Share);
    checks.within(&at("memory_efficiency"), device.memory_efficiency, Range::Share);
    if let Some(residuals) = &device.residuals {
        check_residuals(&at("residuals"), residuals, checks);
    }
    if let Some(price) = device.price_per_hour {
        checks.within(&at("price_per_hour"), price, Range::NotNegative);
    }
    if let Some(currency) = &device.currency {
        checks.name(&at("currency"), currency);
    }
}

/// Checks what stands at `path`: quantiles in their order, and a source.
pub(super) fn check_residuals(path: &[Segment], residuals: &Residuals, checks: &mut Checks) {
    let at = |key: &str| below(path, &[key]);
    checks.name(&at("from"), &residuals.from);
    checks.within(&at("low"), residuals.low, Range::Positive);
    checks.within(&at("high"), residuals.high, Range::Positive);
    if residuals.high < residuals.low {
        checks.wrong(&at("high"), format!("`high` ({}) is below `low` ({})", residuals.high, residuals.low));
    }
}

/// Checks the link that stands at `path`.
pub(super) fn check_link(path: &[Segment], link: &Link, checks: &mut Checks) {
    let at = |key: &str| below(path, &[key]);
    checks.name(&at("name"), &link.name);
    checks.within(&at("rate"), link.rate.0, Range::Positive);
    checks.within(&at("latency"), link.latency.0, Range::NotNegative);
    checks.within(&at("efficiency"), link.efficiency, Range::Share);
    checks.within(&at("start"), link.start.0, Range::NotNegative);
    for &share in link.efficiency_of.values() {
        checks.within(&at("efficiency_of"), share, Range::Share);
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

//! What this machine is: its cores, its memory, and the cluster of CPU ranks that it can be.
//!
//! A crate of its own, because planner and profiler both ask, and neither may link the other.

use std::fs::read_to_string;
use std::num::NonZeroUsize;

use ir::cluster::{Cluster, Execution};
use ir::units::Bytes;

/// Fewer ranks than this show no interesting plan, so that many are the default even on fewer cores.
const RANKS_MIN: u32 = 4;
/// Part of the available memory that plans may use: the rest is for everybody else.
const MEMORY_SHARE: (u64, u64) = (3, 4);
/// Where a system says nothing about its memory.
const MEMORY_UNKNOWN: Bytes = Bytes(4 << 30);

/// A machine, as far as the system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: u32,
    /// Memory that is not in use.
    pub memory: Bytes,
    /// The name of the processor.
    pub processor: String,
}

/// This machine.
pub fn read() -> Machine {
    let information = read_to_string("/proc/meminfo").unwrap_or_default();
    let processors = read_to_string("/proc/cpuinfo").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as u32,
        memory: available(&information).unwrap_or(MEMORY_UNKNOWN),
        processor: processor(&processors).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH)),
    }
}

/// This machine as a node of `ranks` devices; without a number, one a core, but at least four. Rates are guesses
/// until they are measured.
pub fn detect(ranks: Option<u32>) -> Cluster {
    read().cluster(ranks)
}

/// Memory that this process has now, all in all; none where the system does not say.
pub fn resident() -> Option<Bytes> {
    number(&read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

impl Machine {
    /// A node of `ranks` devices that share the machine; see [`detect`].
    pub fn cluster(&self, ranks: Option<u32>) -> Cluster {
        let ranks = ranks.unwrap_or(self.cores.max(RANKS_MIN)).max(1);
        let mut cluster = Cluster::preset("CPU").expect("the CPU preset is shipped");
        let (part, whole) = MEMORY_SHARE;
        // Whole mebibytes, so that the file is pleasant to read.
        let memory = Bytes(((self.memory.0 / whole * part / u64::from(ranks)) >> 20) << 20);
        cluster.name = format!("{ranks}xCPU");
        cluster.devices_per_node = ranks;
        cluster.device.name.clone_from(&self.processor);
        cluster.device.execution = Execution::Shared { cores: self.cores };
        cluster.device.memory = memory.max(Bytes(2 * cluster.device.reserved.0.max(1)));
        cluster
    }
}

/// Memory that could be used without swapping, from the text of `/proc/meminfo`.
fn available(text: &str) -> Option<Bytes> {
    number(text, "MemAvailable:").or_else(|| number(text, "MemFree:"))
}

/// The kilobytes behind a key.
fn number(text: &str, key: &str) -> Option<Bytes> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(Bytes(kilobytes.checked_mul(1024)?))
}

/// The model name from the text of `/proc/cpuinfo`, without trademarks.
fn processor(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.replace("(R)", "").replace("(TM)", "");
    let words: Vec<&str> = name.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::file::{parse_cluster, print_cluster};

    #[test]
    fn memory_and_name_are_read_from_the_systems_words() {
        assert_eq!(available("MemTotal:  9 kB\nMemFree: 3 kB\nMemAvailable:   5 kB\n"), Some(Bytes(5 << 10)));
        assert_eq!(available("MemFree: 3 kB\n"), Some(Bytes(3 << 10)));
        assert_eq!(available("nothing"), None);
        let text = "processor\t: 0\nmodel name\t: Some(R) Core(TM)  i5 CPU\n";
        assert_eq!(processor(text).as_deref(), Some("Some Core i5 CPU"));
        assert_eq!(processor("model name:  \n"), None);
    }

    #[test]
    fn a_machine_is_a_valid_cluster_whatever_it_has() {
        for (cores, memory) in [(1, 0), (2, 24 << 30), (96, 1 << 40)] {
            let machine = Machine { cores, memory: Bytes(memory), processor: "p".to_owned() };
            for ranks in [None, Some(0), Some(1), Some(5)] {
                let cluster = machine.cluster(ranks);
                assert_eq!(parse_cluster(&print_cluster(&cluster), "c.yaml"), Ok(cluster.clone()), "{machine:?}");
                assert!(cluster.capacity() > Bytes::ZERO);
            }
        }
        let machine = Machine { cores: 2, memory: Bytes(24 << 30), processor: "p".to_owned() };
        assert_eq!(machine.cluster(None).devices_per_node, 4);
        assert_eq!(machine.cluster(Some(3)).device.memory, Bytes(6 << 30));
    }
}

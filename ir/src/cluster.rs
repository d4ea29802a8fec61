//! cluster.yaml: devices and the links between them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::file::quantity;
use crate::residuals::Residuals;
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

/// Equal nodes of equal devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Version of the file form: 1.
    pub format: u32,
    /// The cluster's name.
    pub name: String,
    /// How many nodes there are.
    pub nodes: u32,
    /// Devices of one node: one rank each.
    pub devices_per_node: u32,
    /// What each device is.
    pub device: Device,
    /// Between devices of one node.
    pub inside: Link,
    /// Between nodes, per device.
    pub between: Link,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// How its streams run.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub execution: Execution,
    /// Memory that a plan may use.
    #[serde(with = "quantity")]
    pub memory: Bytes,
    /// Memory that context and libraries take beside the arena.
    #[serde(with = "quantity")]
    pub reserved: Bytes,
    /// Best rate of products in 32 bits.
    #[serde(with = "quantity")]
    pub f32_rate: FlopsPerSecond,
    /// Best rate of products in bf16.
    #[serde(with = "quantity")]
    pub bf16_rate: FlopsPerSecond,
    /// Best rate of its memory.
    #[serde(with = "quantity")]
    pub memory_rate: BytesPerSecond,
    /// Time to start one kernel.
    #[serde(with = "quantity")]
    pub issue: Seconds,
    /// Share of the best product rate that large products reach.
    pub product_efficiency: f64,
    /// Share of the best memory rate that streaming kernels reach.
    pub memory_efficiency: f64,
    /// How far measured steps were from those that its numbers predict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residuals: Option<Residuals>,
    /// What one costs for an hour, in `currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
    /// In which money, such as `USD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Where the numbers come from.
    pub source: String,
}

/// How the streams of a device run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Execution {
    /// Side by side, as on a GPU.
    Concurrent,
    /// One thread does them all, and so many cores are shared by the ranks of a node.
    Shared {
        /// Cores of a node.
        cores: u32,
    },
}

/// A link, as seen by one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Data that one device can send (and at once receive).
    #[serde(with = "quantity")]
    pub rate: BytesPerSecond,
    /// Time until the first byte arrives.
    #[serde(with = "quantity")]
    pub latency: Seconds,
    /// Share of the rate that large messages reach.
    pub efficiency: f64,
    /// The same where a ring has so few ranks of a node, if wires join pairs of devices and not all to a switch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub efficiency_of: BTreeMap<u32, f64>,
    /// Time that a collective takes besides latency, whatever its size.
    #[serde(default, with = "quantity", skip_serializing_if = "is_none")]
    pub start: Seconds,
}

fn is_none(time: &Seconds) -> bool {
    time.0 <= 0.0
}

impl Cluster {
    /// All devices.
    pub fn device_count(&self) -> u32 {
        self.nodes * self.devices_per_node
    }

    /// Memory that an arena may take.
    pub fn capacity(&self) -> Bytes {
        self.device.memory.saturating_sub(self.device.reserved)
    }
}

/// Whether a device that its driver calls `found` is one that a cluster calls `planned`: `A100-80GB` is also
/// `NVIDIA A100-SXM4-80GB`.
pub fn is_device(planned: &str, found: &str) -> bool {
    let (model, _) = planned.split_once('-').unwrap_or((planned, ""));
    planned == found || found.split([' ', '-']).any(|word| word == model)
}

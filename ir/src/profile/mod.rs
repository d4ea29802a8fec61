//! profile.yaml: what was measured.

mod shape;

use serde::{Deserialize, Serialize};

use crate::graph::Element;
use crate::layout::ExchangeKind;
use crate::op::{Addend, OpKind, Write};
use crate::units::{Bytes, Seconds};
use crate::ways::Way;

pub use shape::{LetterSizes, NoShape, Shape};

/// Anything whose time can be asked for, and hence measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// One kernel on one device.
    Kernel {
        /// What is computed.
        op: OpKind,
        /// What it computes in.
        element: Element,
        /// How much.
        shape: Shape,
        /// Whether it adds its results to what is there, of an operation that may also replace it.
        #[serde(default)]
        write: Write,
        /// Whether it reads an addend, too.
        #[serde(default)]
        addend: Addend,
    },
    /// A collective among devices of one group.
    Exchange {
        /// How data moves.
        kind: ExchangeKind,
        /// Members of the group.
        ranks: u32,
        /// How many of them share a node.
        ranks_per_node: u32,
        /// Bytes of the whole, unsplit operand: what each member has before an all-reduce or after an all-gather.
        bytes: Bytes,
    },
    /// From one device to another.
    Transfer {
        /// Whether both are in one node.
        route: Route,
        /// Bytes that move.
        bytes: Bytes,
    },
    /// Inside one device.
    Copy {
        /// Bytes that are read, and as many written.
        bytes: Bytes,
    },
}

/// Where a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Both ends are in one node.
    Inside,
    /// It crosses from node to node.
    Between,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What was measured.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub work: Work,
    /// Median time.
    pub median: Seconds,
    /// Half the distance between the quartiles.
    pub spread: Seconds,
    /// How many times it was timed.
    pub runs: u32,
    /// Of a product, the way in which the library computed it; none if it was what the library expects to be fastest.
    #[serde(default)]
    pub way: Option<Way>,
}

/// All that was measured on one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the file form: 1.
    pub format: u32,
    /// The device's name, as in the cluster file.
    pub device: String,
    /// Measurements, sorted by work.
    pub samples: Vec<Sample>,
    /// How much longer work takes when so many ranks of a node (from 1) compute at once; empty if none share cores.
    pub sharing: Vec<f64>,
    /// Time to start one instruction.
    pub issue: Seconds,
    /// The same in steps that are replayed from a recording; none if it was not measured.
    #[serde(default)]
    pub issue_recorded: Option<Seconds>,
    /// How much longer each takes when both run: pairs of stream words.
    pub slowdown: Vec<Slowdown>,
    /// Memory that is taken beside the arena.
    pub reserved: Bytes,
    /// What each group of ranks that meets takes of it, which counts [`RESERVED_GROUPS`] of them; none if unknown.
    #[serde(default)]
    pub reserved_group: Option<Bytes>,
    /// On what and with what it was measured; empty if nobody wrote it down.
    #[serde(default)]
    pub source: String,
    /// The library that computes products, and its version; empty if it was not told ways.
    #[serde(default)]
    pub library: String,
    /// In what state the devices were; none if nobody looked.
    #[serde(default)]
    pub state: Option<State>,
}

/// A rank meets others on at most so many streams of exchanges, for which memory is reserved.
pub const RESERVED_GROUPS: u64 = 3;

impl Profile {
    /// Memory that is taken beside the arena of a rank that meets so many groups.
    pub fn reserved_for(&self, groups: u64) -> Bytes {
        let absent = RESERVED_GROUPS.saturating_sub(groups);
        self.reserved.saturating_sub(self.reserved_group.unwrap_or(Bytes::ZERO) * absent)
    }

    /// A profile of a device of which nothing was measured.
    pub fn new(device: &str) -> Profile {
        Profile {
            format: 1,
            device: device.to_owned(),
            samples: Vec::new(),
            sharing: Vec::new(),
            issue: Seconds::ZERO,
            issue_recorded: None,
            slowdown: Vec::new(),
            reserved: Bytes::ZERO,
            reserved_group: None,
            source: String::new(),
            library: String::new(),
            state: None,
        }
    }
}

/// Devices while they were measured: under load, as in a long training, they may run slower than in a burst.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// For how long they had been loaded before the first measurement.
    pub sustained: Seconds,
    /// The clock of the processors then, in MHz; none where the system does not say.
    #[serde(default)]
    pub clock_mhz: Option<f64>,
    /// The power that one device took then, in watts.
    #[serde(default)]
    pub power_watts: Option<f64>,
}

/// What bounds a kernel, and so how it gets on with what runs beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelKind {
    /// Arithmetic: products of matrices.
    Product,
    /// Attention and its gradient: arithmetic, too, but it fills processors so that an exchange finds no room on them.
    Attention,
    /// Memory: all others.
    Memory,
}

impl KernelKind {
    /// That of an operation.
    pub fn of(op: OpKind) -> KernelKind {
        match op {
            OpKind::MatMul => KernelKind::Product,
            OpKind::Attention | OpKind::AttentionGradient | OpKind::CrossAttention | OpKind::CrossAttentionGradient => {
                KernelKind::Attention
            }
            OpKind::Embed
            | OpKind::EmbedGradient
            | OpKind::Norm(_)
            | OpKind::NormGradient(_)
            | OpKind::Activation(_)
            | OpKind::ActivationGradient(_)
            | OpKind::Position
            | OpKind::PositionGradient
            | OpKind::Bias
            | OpKind::BiasGradient
            | OpKind::Rotary
            | OpKind::Add
            | OpKind::RowMax
            | OpKind::SumExp
            | OpKind::CrossEntropy
            | OpKind::CrossEntropyGradient
            | OpKind::SquareSum
            | OpKind::AdamW
            | OpKind::Zero => KernelKind::Memory,
        }
    }
}

/// Two streams side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slowdown {
    /// The stream that is slowed, by its word in programs.
    pub stream: String,
    /// The stream beside it.
    pub beside: String,
    /// For which kernels of the compute stream, be it the one that is slowed or the one beside; none for all.
    #[serde(default)]
    pub kernels: Option<KernelKind>,
    /// Its time, relative to running alone.
    pub factor: f64,
}

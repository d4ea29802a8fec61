//! Clusters whose devices are not all alike: parts, each of equal nodes of equal devices, and the link that joins them.

use crate::cluster::{Cluster, Link};

/// Parts of unlike devices. A cluster of equal devices is a fleet of one part.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// The parts, each a cluster of its own with a name that no other has.
    pub parts: Vec<Cluster>,
    /// Between nodes of unlike parts, per device. Where a part's own link between nodes is slower, that one counts.
    pub between: Link,
}

/// What a cluster file describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Machines {
    /// Devices that are all alike.
    Alike(Box<Cluster>),
    /// Parts of unlike devices.
    Unlike(Fleet),
}

impl Fleet {
    /// A cluster as the only part.
    pub fn of(cluster: &Cluster) -> Fleet {
        Fleet { name: cluster.name.clone(), between: cluster.between.clone(), parts: vec![cluster.clone()] }
    }

    /// All devices.
    pub fn device_count(&self) -> u32 {
        self.parts.iter().map(Cluster::device_count).sum()
    }

    /// The place of the part with this name.
    pub fn part(&self, name: &str) -> Option<usize> {
        self.parts.iter().position(|part| part.name == name)
    }
}

impl Link {
    /// The one of two over which large messages go more slowly.
    pub fn slower<'a>(&'a self, other: &'a Link) -> &'a Link {
        if self.rate.0 * self.efficiency <= other.rate.0 * other.efficiency { self } else { other }
    }
}

//! Where every buffer lies: static addresses from lifetimes.

use std::collections::BTreeMap;

use ir::program::ALIGNMENT;

/// Something that needs memory from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) bytes: u64,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Addresses for all, and how much memory they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) addresses: Vec<u64>,
    pub(crate) size: u64,
    /// The largest sum of what lives at once: no placement needs less.
    pub(crate) bound: u64,
}

/// More lifetimes than this are only placed in the orders that take no quadratic time.
const QUADRATIC_MAX: usize = 3000;

/// Tries several orders and returns the placement that needs least. `lifetimes` must be sorted by start.
pub(crate) fn place(lifetimes: &[Lifetime]) -> Placement {
    let bound = live_bound(lifetimes);
    let mut best = in_order_of_start(lifetimes, Ends::Low);
    let good_enough = |size: u64| size <= bound + bound / 200;
    if !good_enough(best.size) {
        best =
            smaller(best, in_order_of_start(lifetimes, Ends::ByLength { long: median_length(lifetimes), top: bound }));
    }
    if !good_enough(best.size) && lifetimes.len() <= QUADRATIC_MAX {
        let area = |l: &Lifetime| std::cmp::Reverse(u128::from(l.bytes) * u128::from(l.end - l.start + 1));
        let by_size = |l: &Lifetime| std::cmp::Reverse(u128::from(l.bytes));
        let by_length = |l: &Lifetime| std::cmp::Reverse(u128::from(l.end - l.start));
        best = smaller(best, first_fit(lifetimes, &by_size));
        best = smaller(best, first_fit(lifetimes, &area));
        best = smaller(best, first_fit(lifetimes, &by_length));
    }
    Placement { addresses: best.addresses, size: best.size, bound }
}

struct Attempt {
    addresses: Vec<u64>,
    size: u64,
}

fn smaller(a: Attempt, b: Attempt) -> Attempt {
    if b.size < a.size { b } else { a }
}

/// The largest sum of what lives at once.
pub(crate) fn live_bound(lifetimes: &[Lifetime]) -> u64 {
    let mut changes: Vec<(u32, i128)> = Vec::with_capacity(lifetimes.len() * 2);
    for lifetime in lifetimes {
        changes.push((lifetime.start * 2, i128::from(lifetime.bytes)));
        changes.push((lifetime.end * 2 + 1, -i128::from(lifetime.bytes)));
    }
    changes.sort_unstable();
    let mut live = 0;
    let mut most = 0;
    for (_, change) in changes {
        live += change;
        most = most.max(live);
    }
    most as u64
}

fn median_length(lifetimes: &[Lifetime]) -> u32 {
    let mut lengths: Vec<u32> = lifetimes.iter().map(|lifetime| lifetime.end - lifetime.start).collect();
    let middle = lengths.len() / 2;
    if lengths.is_empty() { 0 } else { *lengths.select_nth_unstable(middle).1 }
}

/// From which end free memory is taken.
#[derive(Clone, Copy)]
enum Ends {
    /// Always the tightest hole, else the lowest.
    Low,
    /// What lives longer than `long` from the low end, the rest downwards from `top`.
    ByLength { long: u32, top: u64 },
}

/// Takes memory as an allocator would that knows nothing of what comes: in order of start.
fn in_order_of_start(lifetimes: &[Lifetime], ends: Ends) -> Attempt {
    let top = match ends {
        Ends::Low => 0,
        Ends::ByLength { top, .. } => top,
    };
    let mut holes = Holes::new(top);
    let mut by_end: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut addresses = vec![0; lifetimes.len()];
    for (index, lifetime) in lifetimes.iter().enumerate() {
        while let Some(entry) = by_end.first_entry() {
            if *entry.key() >= lifetime.start {
                break;
            }
            for ended in entry.remove() {
                holes.give_back(addresses[ended], lifetimes[ended].bytes);
            }
        }
        addresses[index] = match ends {
            Ends::ByLength { long, .. } if lifetime.end - lifetime.start <= long => holes.take_high(lifetime.bytes),
            Ends::Low | Ends::ByLength { .. } => holes.take_low(lifetime.bytes),
        };
        by_end.entry(lifetime.end).or_default().push(index);
    }
    Attempt { addresses, size: holes.size }
}

/// Free memory below `size`, as start → length, without neighbours that touch.
struct Holes {
    free: BTreeMap<u64, u64>,
    size: u64,
}

impl Holes {
    fn new(size: u64) -> Holes {
        let free = if size > 0 { BTreeMap::from([(0, size)]) } else { BTreeMap::new() };
        Holes { free, size }
    }

    fn take_low(&mut self, bytes: u64) -> u64 {
        let tightest = self.free.iter().filter(|(_, length)| **length >= bytes).min_by_key(|(_, length)| **length);
        match tightest {
            Some((&start, &length)) => {
                self.free.remove(&start);
                if length > bytes {
                    self.free.insert(start + bytes, length - bytes);
                }
                start
            }
            None => self.grow(bytes),
        }
    }

    fn take_high(&mut self, bytes: u64) -> u64 {
        let highest = self.free.iter().rev().find(|(_, length)| **length >= bytes);
        match highest {
            Some((&start, &length)) => {
                self.free.remove(&start);
                if length > bytes {
                    self.free.insert(start, length - bytes);
                }
                start + length - bytes
            }
            None => self.grow(bytes),
        }
    }

    /// Takes memory at the end, with the hole that may be there.
    fn grow(&mut self, bytes: u64) -> u64 {
        let start = match self.free.last_key_value() {
            Some((&start, &length)) if start + length == self.size => start,
            Some(_) | None => self.size,
        };
        self.free.remove(&start);
        self.size = start + bytes;
        start
    }

    fn give_back(&mut self, mut start: u64, mut bytes: u64) {
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.free.remove(&before);
            start = before;
            bytes += length;
        }
        if let Some(length) = self.free.remove(&(start + bytes)) {
            bytes += length;
        }
        self.free.insert(start, bytes);
    }
}

/// Places in the order of `key`, each at the lowest address where it meets nothing that lives at the same time.
fn first_fit<K: Ord>(lifetimes: &[Lifetime], key: &dyn Fn(&Lifetime) -> K) -> Attempt {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&index| key(&lifetimes[index]));
    let mut placed: Vec<(u64, u64, usize)> = Vec::new();
    let mut addresses = vec![0; lifetimes.len()];
    let mut size = 0;
    for index in order {
        let lifetime = lifetimes[index];
        let mut address = 0;
        for &(start, end, other) in &placed {
            if start >= address + lifetime.bytes {
                break;
            }
            let other = lifetimes[other];
            if end > address && other.start <= lifetime.end && lifetime.start <= other.end {
                address = end;
            }
        }
        addresses[index] = address;
        size = size.max(address + lifetime.bytes);
        let entry = (address, address + lifetime.bytes, index);
        let at = placed.partition_point(|other| *other < entry);
        placed.insert(at, entry);
    }
    Attempt { addresses, size }
}

/// A size as buffers have it.
pub(crate) fn aligned(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::seed::{Draws, Seed};

    fn random(seed: u64) -> Vec<Lifetime> {
        let mut draws = Draws::new(Seed(seed));
        let count = 1 + draws.below(60) as u32;
        let mut all: Vec<Lifetime> = (0..count)
            .map(|_| {
                let start = draws.below(100) as u32;
                Lifetime { bytes: 256 * (1 + draws.below(20)), start, end: start + draws.below(30) as u32 }
            })
            .collect();
        all.sort_by_key(|lifetime| lifetime.start);
        all
    }

    #[test]
    fn nothing_that_lives_at_once_overlaps() {
        for seed in 0..300 {
            let lifetimes = random(seed);
            let placement = place(&lifetimes);
            assert!(placement.size >= placement.bound, "seed {seed}");
            for (i, a) in lifetimes.iter().enumerate() {
                assert!(placement.addresses[i] + a.bytes <= placement.size, "seed {seed}");
                for (j, b) in lifetimes.iter().enumerate().skip(i + 1) {
                    let in_time = a.start <= b.end && b.start <= a.end;
                    let in_space = placement.addresses[i] < placement.addresses[j] + b.bytes
                        && placement.addresses[j] < placement.addresses[i] + a.bytes;
                    assert!(!(in_time && in_space), "seed {seed}: {i} {a:?} and {j} {b:?}");
                }
            }
        }
    }
}

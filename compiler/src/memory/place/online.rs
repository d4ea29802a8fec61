//! Placing in the order of time, as an allocator would that knows nothing of what comes.

use super::{Attempt, Change, Lifetime, by_end, changes};

/// Each takes the low end of the tightest hole when it starts. `lifetimes` must be sorted by start.
pub(super) fn in_order_of_start(lifetimes: &[Lifetime]) -> Attempt {
    from_both_ends(lifetimes, 0, &vec![End::Low; lifetimes.len()])
}

/// An end of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Low,
    High,
}

/// Each takes its end of the tightest hole when it starts; at first there is one hole up to `top`.
pub(super) fn from_both_ends(lifetimes: &[Lifetime], top: u64, sides: &[End]) -> Attempt {
    let mut holes = Holes { free: if top > 0 { vec![(0, top)] } else { Vec::new() }, size: top };
    let mut addresses = vec![0; lifetimes.len()];
    for change in changes(lifetimes, &by_end(lifetimes)) {
        match change {
            Change::Start(index) => addresses[index] = holes.take(lifetimes[index].bytes, sides[index]),
            Change::End(index) => holes.give_back(addresses[index], lifetimes[index].bytes),
        }
    }
    let ends = addresses.iter().zip(lifetimes).map(|(address, lifetime)| address + lifetime.bytes);
    let size = ends.max().unwrap_or(0);
    Attempt { addresses, size }
}

/// Places backwards: from the end of time to its start.
pub(super) fn backwards(lifetimes: &[Lifetime], place: impl Fn(&[Lifetime]) -> Attempt) -> Attempt {
    let last = lifetimes.iter().map(|lifetime| lifetime.end).max().unwrap_or(0);
    let order: Vec<u32> = by_end(lifetimes).into_iter().rev().collect();
    let mirrored = order.iter().map(|&index| {
        let Lifetime { bytes, start, end } = lifetimes[index as usize];
        Lifetime { bytes, start: last - end, end: last - start }
    });
    let mirrored = place(&mirrored.collect::<Vec<_>>());
    let mut addresses = vec![0; lifetimes.len()];
    for (index, address) in order.into_iter().zip(mirrored.addresses) {
        addresses[index as usize] = address;
    }
    Attempt { addresses, size: mirrored.size }
}

/// Free memory below `size`.
struct Holes {
    /// Start and end of each, in order; they do not touch.
    free: Vec<(u64, u64)>,
    size: u64,
}

impl Holes {
    /// The tightest hole; if none is large enough, memory at the end with the hole that may be there.
    fn take(&mut self, bytes: u64, end: End) -> u64 {
        let room = |&(start, end): &(u64, u64)| end - start;
        let enough = self.free.iter().enumerate().filter(|(_, hole)| room(hole) >= bytes);
        if let Some((place, &(low, high))) = enough.min_by_key(|(_, hole)| room(hole)) {
            let is_high = end == End::High;
            if high - low == bytes {
                self.free.remove(place);
            } else if is_high {
                self.free[place].1 -= bytes;
            } else {
                self.free[place].0 += bytes;
            }
            return if is_high { high - bytes } else { low };
        }
        let start = match self.free.last() {
            Some(&(start, end)) if end == self.size => {
                self.free.pop();
                start
            }
            Some(_) | None => self.size,
        };
        self.size = start + bytes;
        start
    }

    fn give_back(&mut self, start: u64, bytes: u64) {
        let end = start + bytes;
        let place = self.free.partition_point(|hole| hole.0 < start);
        let touches_next = self.free.get(place).is_some_and(|next| next.0 == end);
        let touches_last = place > 0 && self.free[place - 1].1 == start;
        match (touches_last, touches_next) {
            (true, true) => {
                self.free[place - 1].1 = self.free[place].1;
                self.free.remove(place);
            }
            (true, false) => self.free[place - 1].1 = end,
            (false, true) => self.free[place].0 = start,
            (false, false) => self.free.insert(place, (start, end)),
        }
    }
}

//! Placing one after the other, each at the lowest address where it meets nothing that lives at the same time: the
//! order decides, and may be searched for.

use ir::seed::{Draws, Seed};

use super::{Attempt, Change, Lifetime, changes, largest};

/// What is placed: sizes, and who must not overlap whom.
pub(super) struct Items {
    bytes: Vec<u64>,
    conflicts: Conflicts,
}

impl Items {
    /// Every lifetime is an item.
    pub(super) fn each(lifetimes: &[Lifetime], ends: &[u32]) -> Items {
        let item_of: Vec<u32> = (0..lifetimes.len() as u32).collect();
        let bytes: Vec<u64> = lifetimes.iter().map(|lifetime| lifetime.bytes).collect();
        let conflicts = Conflicts::of(lifetimes, ends, &item_of, bytes.len());
        Items { bytes, conflicts }
    }

    /// Lifetimes of equal size take turns in slots, as few as there can be. Returns the slot of each lifetime too.
    pub(super) fn slots(lifetimes: &[Lifetime], ends: &[u32]) -> (Items, Vec<u32>) {
        // For each size that there is, in order, the slots that nobody has.
        let mut vacant: Vec<(u64, Vec<u32>)> = Vec::new();
        let mut bytes: Vec<u64> = Vec::new();
        let mut slot_of = vec![0; lifetimes.len()];
        for change in changes(lifetimes, ends) {
            let (Change::Start(index) | Change::End(index)) = change;
            let size = lifetimes[index].bytes;
            let place = vacant.binary_search_by_key(&size, |(other, _)| *other).unwrap_or_else(|place| {
                vacant.insert(place, (size, Vec::new()));
                place
            });
            let slots = &mut vacant[place].1;
            match change {
                Change::Start(_) => {
                    slot_of[index] = slots.pop().unwrap_or_else(|| {
                        bytes.push(size);
                        bytes.len() as u32 - 1
                    });
                }
                Change::End(_) => {
                    // The lowest is taken first, so that the same is done at every visit.
                    let slot = slot_of[index];
                    slots.insert(slots.partition_point(|&other| other > slot), slot);
                }
            }
        }
        let conflicts = Conflicts::of(lifetimes, ends, &slot_of, bytes.len());
        (Items { bytes, conflicts }, slot_of)
    }

    /// Places the largest first.
    pub(super) fn largest_first(&self) -> Attempt {
        let mut order: Vec<usize> = (0..self.bytes.len()).collect();
        order.sort_unstable_by_key(|&item| largest(self.bytes[item], item));
        self.first_fit(&order)
    }

    fn first_fit(&self, order: &[usize]) -> Attempt {
        let mut placed: Vec<(u64, u64, usize)> = Vec::with_capacity(order.len());
        let mut addresses = vec![0; order.len()];
        let mut size = 0;
        for &item in order {
            let bytes = self.bytes[item];
            let row = self.conflicts.row(item);
            let mut address = 0;
            for &(start, end, other) in &placed {
                if start >= address + bytes {
                    break;
                }
                if end > address && contains(row, other) {
                    address = end;
                }
            }
            addresses[item] = address;
            size = size.max(address + bytes);
            let entry = (address, address + bytes, item);
            placed.insert(placed.partition_point(|other| *other < entry), entry);
        }
        Attempt { addresses, size }
    }

    /// Improves the order by chance: takes one of those that end highest, or one that meets it, and places it earlier.
    /// Stops at `good`, or when enough was tried. Equal input gives equal output.
    pub(super) fn search(&self, good: u64) -> Attempt {
        let count = self.bytes.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by_key(|&item| largest(self.bytes[item], item));
        let mut best = self.first_fit(&order);
        let mut draws = Draws::new(Seed(0));
        for _ in 0..SEARCH_WORK / (count * count).max(1) {
            if best.size <= good {
                break;
            }
            let ends_highest = |&place: &usize| {
                let item = order[place];
                best.addresses[item] + self.bytes[item] == best.size
            };
            let highest = pick(&mut draws, (0..count).filter(ends_highest));
            let row = self.conflicts.row(order[highest]);
            let moved = if draws.below(3) == 0 {
                pick(&mut draws, (0..count).filter(|&place| place == highest || contains(row, order[place])))
            } else {
                highest
            };
            let to = draws.below(moved as u64 + 1) as usize;
            order[to..=moved].rotate_right(1);
            let attempt = self.first_fit(&order);
            if attempt.size <= best.size {
                best = attempt;
            } else {
                order[to..=moved].rotate_left(1);
            }
        }
        best
    }
}

/// Pairs of items that are looked at in a search: some milliseconds.
const SEARCH_WORK: usize = 4_000_000;

fn pick(draws: &mut Draws, places: impl Iterator<Item = usize>) -> usize {
    let places: Vec<usize> = places.collect();
    places[draws.below(places.len() as u64) as usize]
}

/// For each item, a row of bits: those that live at the same time at least once.
struct Conflicts {
    /// Words of a row.
    width: usize,
    bits: Vec<u64>,
}

impl Conflicts {
    fn of(lifetimes: &[Lifetime], ends: &[u32], item_of: &[u32], count: usize) -> Conflicts {
        let width = count.div_ceil(64);
        let mut bits = vec![0; width * count];
        let mut alive: Vec<u64> = vec![0; width];
        for change in changes(lifetimes, ends) {
            match change {
                Change::Start(index) => {
                    let item = item_of[index] as usize;
                    for (known, now) in bits[item * width..].iter_mut().zip(&alive) {
                        *known |= now;
                    }
                    alive[item / 64] |= 1 << (item % 64);
                }
                Change::End(index) => {
                    let item = item_of[index] as usize;
                    alive[item / 64] &= !(1 << (item % 64));
                }
            }
        }
        // So far each knows those that were there when it came.
        for item in 0..count {
            for word in 0..width {
                let mut rest = bits[item * width + word];
                while rest != 0 {
                    let other = word * 64 + rest.trailing_zeros() as usize;
                    bits[other * width + item / 64] |= 1 << (item % 64);
                    rest &= rest - 1;
                }
            }
        }
        Conflicts { width, bits }
    }

    fn row(&self, item: usize) -> &[u64] {
        &self.bits[item * self.width..(item + 1) * self.width]
    }
}

fn contains(row: &[u64], item: usize) -> bool {
    row[item / 64] >> (item % 64) & 1 == 1
}

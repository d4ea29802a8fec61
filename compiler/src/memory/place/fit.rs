//! Placing one after the other, each at the lowest address where it meets nothing that lives at the same time: the
//! order decides, and may be searched for.

use ir::seed::{Draws, Seed};

use super::taken::Taken;
use super::{Attempt, Change, Lifetime, changes};

/// Places the largest first, of equal ones the first.
pub(super) fn largest_first(lifetimes: &[Lifetime]) -> Attempt {
    let mut addresses = vec![0; lifetimes.len()];
    let mut size = 0;
    let mut taken = Taken::new(lifetimes);
    for item in by_size(&sizes(lifetimes)) {
        let bytes = lifetimes[item].bytes;
        let address = taken.lowest_free(&lifetimes[item]);
        taken.take(&lifetimes[item], &(address..address + bytes));
        addresses[item] = address;
        size = size.max(address + bytes);
    }
    Attempt { addresses, size }
}

fn sizes(lifetimes: &[Lifetime]) -> Vec<u64> {
    lifetimes.iter().map(|lifetime| lifetime.bytes).collect()
}

/// Indices, the largest first.
fn by_size(bytes: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bytes.len()).collect();
    order.sort_by_key(|&item| std::cmp::Reverse(bytes[item]));
    order
}

/// `lives` says of each item when it is there. It is kept beside the address: all that is looked at lies in a row.
fn first_fit<L: Copy>(bytes: &[u64], lives: &[L], order: &[usize], meets: impl Fn(&L, &L) -> bool) -> Attempt {
    let mut placed: Vec<(u64, u64, L)> = Vec::with_capacity(order.len());
    let mut addresses = vec![0; order.len()];
    let mut size = 0;
    for &item in order {
        let mut address = 0;
        for &(start, end, ref other) in &placed {
            if start >= address + bytes[item] {
                break;
            }
            if end > address && meets(&lives[item], other) {
                address = end;
            }
        }
        addresses[item] = address;
        size = size.max(address + bytes[item]);
        let end = address + bytes[item];
        placed.insert(placed.partition_point(|other| (other.0, other.1) < (address, end)), (address, end, lives[item]));
    }
    Attempt { addresses, size }
}

/// Lifetimes of equal size take turns in slots, as few as there can be; slots that are never taken at once share
/// addresses. In linear time, if sizes are few.
pub(super) fn slots(lifetimes: &[Lifetime], ends: &[u32]) -> Attempt {
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
        let free = &mut vacant[place].1;
        match change {
            Change::Start(_) => {
                slot_of[index] = free.pop().unwrap_or_else(|| {
                    bytes.push(size);
                    bytes.len() as u32 - 1
                });
            }
            Change::End(_) => {
                // The lowest is taken first, so that the same is done at every visit.
                let slot = slot_of[index];
                free.insert(free.partition_point(|&other| other > slot), slot);
            }
        }
    }
    let conflicts = Conflicts::of(lifetimes, ends, &slot_of, bytes.len());
    let slots: Vec<usize> = (0..bytes.len()).collect();
    let of_slots = first_fit(&bytes, &slots, &by_size(&bytes), |&a, &b| conflicts.has(a, b));
    let addresses = slot_of.into_iter().map(|slot| of_slots.addresses[slot as usize]).collect();
    Attempt { addresses, size: of_slots.size }
}

/// For each slot, a row of bits: those that are taken at the same time at least once.
struct Conflicts {
    /// Words of a row.
    width: usize,
    bits: Vec<u64>,
}

impl Conflicts {
    fn of(lifetimes: &[Lifetime], ends: &[u32], slot_of: &[u32], count: usize) -> Conflicts {
        let width = count.div_ceil(64);
        let mut bits = vec![0; width * count];
        let mut taken: Vec<u64> = vec![0; width];
        for change in changes(lifetimes, ends) {
            let (Change::Start(index) | Change::End(index)) = change;
            let slot = slot_of[index] as usize;
            if let Change::Start(_) = change {
                for (known, now) in bits[slot * width..].iter_mut().zip(&taken) {
                    *known |= now;
                }
            }
            taken[slot / 64] ^= 1 << (slot % 64);
        }
        Conflicts { width, bits }
    }

    /// A row only knows the slots that were taken before its own.
    fn has(&self, a: usize, b: usize) -> bool {
        let knows = |row: usize, slot: usize| self.bits[row * self.width + slot / 64] >> (slot % 64) & 1 == 1;
        knows(a, b) || knows(b, a)
    }
}

/// Pairs that are looked at in a search: some milliseconds.
const SEARCH_WORK: usize = 4_000_000;

/// Improves the order by chance: takes one of those that end highest, or one that meets it, and places it earlier.
/// Stops at `good`, or when enough was tried. Equal input gives equal output.
pub(super) fn search(lifetimes: &[Lifetime], good: u64) -> Attempt {
    let count = lifetimes.len();
    let bytes = sizes(lifetimes);
    let meets = |a: usize, b: usize| lifetimes[a].meets(&lifetimes[b]);
    let mut order = by_size(&bytes);
    let mut best = first_fit(&bytes, lifetimes, &order, Lifetime::meets);
    let mut draws = Draws::new(Seed(0));
    for _ in 0..SEARCH_WORK / (count * count).max(1) {
        if best.size <= good {
            break;
        }
        let ends_highest = |&place: &usize| best.addresses[order[place]] + bytes[order[place]] == best.size;
        let highest = pick(&mut draws, (0..count).filter(ends_highest));
        let moved = match draws.below(3) {
            0 => pick(&mut draws, (0..count).filter(|&place| meets(order[highest], order[place]))),
            _ => highest,
        };
        let to = draws.below(moved as u64 + 1) as usize;
        order[to..=moved].rotate_right(1);
        let attempt = first_fit(&bytes, lifetimes, &order, Lifetime::meets);
        if attempt.size <= best.size {
            best = attempt;
        } else {
            order[to..=moved].rotate_left(1);
        }
    }
    best
}

fn pick(draws: &mut Draws, places: impl Iterator<Item = usize>) -> usize {
    let places: Vec<usize> = places.collect();
    places[draws.below(places.len() as u64) as usize]
}

//! Where every buffer lies: static addresses from lifetimes.
//!
//! No way of placing is best for all programs, so a few are tried, cheap ones first, until one needs little more than
//! what lives at once: what lives long apart from what comes and goes (`apart`), the largest first (`fit`), in the
//! order of time from either end (`online`), and last a search.

mod fit;
mod online;
mod skyline;
mod taken;

use std::collections::BTreeMap;

use ir::program::ALIGNMENT;
use ir::seed::Seed;

use fit::{largest_first, search, slots};
use online::{End, backwards, from_both_ends, in_order_of_start};
use skyline::skyline;

/// Something that needs memory from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) bytes: u64,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Lifetime {
    fn length(&self) -> u32 {
        self.end - self.start
    }

    fn meets(&self, other: &Lifetime) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Addresses for all, and how much memory they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) addresses: Vec<u64>,
    pub(crate) size: u64,
    /// The largest sum of what lives at once: no placement needs less.
    pub(crate) bound: u64,
}

/// Addresses for all, and where the highest ends.
struct Attempt {
    addresses: Vec<u64>,
    size: u64,
}

/// More lifetimes than this are not placed in ways that take quadratic time, unless all others were bad...
const SEARCH_MAX: usize = 1000;

/// ... and more than this never: it would be half a second.
const BY_SIZE_MAX: usize = 30_000;

/// Instructions of about one visit to a layer: what lives longer is kept for another visit.
const VISIT: u32 = 64;

/// How much is done for a small placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Nothing is used again: where only times are asked for, and nothing is to wait for memory.
    Least,
    /// Until it fits into so many bytes, residents included, or at most 2 % are wasted: for plans that are compared.
    Fitting(u64),
    /// Until at most 2 % are wasted.
    Usual,
    /// Until next to nothing is wasted, for what does not fit otherwise.
    Most,
}

impl Effort {
    /// The size of a placement that is not improved, where this much lives at once beside residents.
    fn good(self, bound: u64, resident: u64) -> u64 {
        let wasting = |share: u64| bound + (bound + resident) / share;
        let good = match self {
            Effort::Least => u64::MAX,
            Effort::Fitting(bytes) => wasting(50).max(bytes.saturating_sub(resident)),
            Effort::Usual => wasting(50),
            Effort::Most => wasting(1000),
        };
        good / ALIGNMENT * ALIGNMENT
    }
}

/// The smallest of a few placements. `lifetimes` must be sorted by start; `resident` is what lies beside them: memory
/// that is wasted is small or large compared to all.
pub(crate) fn place(lifetimes: &[Lifetime], resident: u64, effort: Effort) -> Placement {
    let bound = live_bound(lifetimes);
    if effort == Effort::Least {
        let Attempt { addresses, size } = side_by_side(lifetimes);
        return Placement { addresses, size, bound };
    }
    let good = effort.good(bound, resident);
    let mut best = Best { addresses: Vec::new(), size: u64::MAX, good };
    if lifetimes.len() > SEARCH_MAX {
        best.offer(|| apart(lifetimes));
    }
    best.offer(|| in_order_of_start(lifetimes));
    best.offer(|| backwards(lifetimes, in_order_of_start));
    if lifetimes.len() <= BY_SIZE_MAX {
        best.offer(|| largest_first(lifetimes));
    }
    if lifetimes.len() <= SEARCH_MAX {
        for round in 0..ROUNDS {
            let place = |all: &[Lifetime]| from_both_ends(all, good, &ends_by_chance(all, Seed(round)));
            best.offer(|| place(lifetimes));
            best.offer(|| backwards(lifetimes, place));
        }
        best.offer(|| skyline(lifetimes));
        best.offer(|| backwards(lifetimes, skyline));
        best.offer(|| search(lifetimes, good));
    }
    Placement { addresses: best.addresses, size: best.size, bound }
}

/// How often ends are chosen by chance.
const ROUNDS: u64 = 24;

/// An end for each lifetime: those of one size and about one length take the same, or take turns.
fn ends_by_chance(lifetimes: &[Lifetime], seed: Seed) -> Vec<End> {
    let mut counts: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    let end = |lifetime: &Lifetime| {
        let class = (lifetime.bytes, lifetime.length().checked_ilog2().unwrap_or(0));
        let count = counts.entry(class).or_insert(0);
        *count += 1;
        match seed.derive(class.0).below(u64::from(class.1), 3) {
            0 => End::Low,
            1 => End::High,
            _ if count.is_multiple_of(2) => End::Low,
            _ => End::High,
        }
    };
    lifetimes.iter().map(end).collect()
}

/// The best attempt so far; no more are made once it is good.
struct Best {
    addresses: Vec<u64>,
    size: u64,
    good: u64,
}

impl Best {
    fn is_good(&self) -> bool {
        self.size <= self.good
    }

    fn offer(&mut self, make: impl FnOnce() -> Attempt) {
        if self.is_good() {
            return;
        }
        let attempt = make();
        if attempt.size < self.size {
            self.addresses = attempt.addresses;
            self.size = attempt.size;
        }
    }
}

/// Indices in the order of their ends.
fn by_end(lifetimes: &[Lifetime]) -> Vec<u32> {
    let last = lifetimes.iter().map(|lifetime| lifetime.end).max().unwrap_or(0);
    let mut places = vec![0u32; last as usize + 2];
    for lifetime in lifetimes {
        places[lifetime.end as usize + 1] += 1;
    }
    for end in 1..places.len() {
        places[end] += places[end - 1];
    }
    let mut order = vec![0; lifetimes.len()];
    for (index, lifetime) in lifetimes.iter().enumerate() {
        let place = &mut places[lifetime.end as usize];
        order[*place as usize] = index as u32;
        *place += 1;
    }
    order
}

/// A start or an end of the lifetime with this index.
#[derive(Clone, Copy)]
enum Change {
    Start(usize),
    End(usize),
}

/// All starts and ends in order. What ends at an instant makes place only after it.
fn changes<'a>(lifetimes: &'a [Lifetime], ends: &'a [u32]) -> impl Iterator<Item = Change> + 'a {
    let mut started = 0;
    let mut ended = 0;
    std::iter::from_fn(move || {
        let &end = ends.get(ended)?;
        if started < lifetimes.len() && lifetimes[started].start <= lifetimes[end as usize].end {
            started += 1;
            return Some(Change::Start(started - 1));
        }
        ended += 1;
        Some(Change::End(end as usize))
    })
}

/// The largest sum of what lives at once.
pub(crate) fn live_bound(lifetimes: &[Lifetime]) -> u64 {
    let mut live = 0;
    let mut most = 0;
    for change in changes(lifetimes, &by_end(lifetimes)) {
        match change {
            Change::Start(index) => live += lifetimes[index].bytes,
            Change::End(index) => live -= lifetimes[index].bytes,
        }
        most = most.max(live);
    }
    most
}

/// Places one behind the other; nothing is used again.
fn side_by_side(lifetimes: &[Lifetime]) -> Attempt {
    let mut size = 0;
    let next = |lifetime: &Lifetime| {
        size += lifetime.bytes;
        size - lifetime.bytes
    };
    Attempt { addresses: lifetimes.iter().map(next).collect(), size }
}

/// Places what lives longer than a visit in order of start, and above it, in slots, what comes and goes: this is the
/// same at every visit.
fn apart(lifetimes: &[Lifetime]) -> Attempt {
    let (long, short): (Vec<usize>, Vec<usize>) =
        (0..lifetimes.len()).partition(|&index| lifetimes[index].length() > VISIT);
    let of = |indices: &[usize]| -> Vec<Lifetime> { indices.iter().map(|&index| lifetimes[index]).collect() };
    let below = in_order_of_start(&of(&long));
    let short_lifetimes = of(&short);
    let above = slots(&short_lifetimes, &by_end(&short_lifetimes));
    let mut addresses = vec![0; lifetimes.len()];
    for (index, address) in long.into_iter().zip(below.addresses) {
        addresses[index] = address;
    }
    for (index, address) in short.into_iter().zip(above.addresses) {
        addresses[index] = below.size + address;
    }
    Attempt { addresses, size: below.size + above.size }
}

/// A size as buffers have it.
pub(crate) fn aligned(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::seed::Draws;

    fn random(seed: u64, most: u64) -> Vec<Lifetime> {
        let mut draws = Draws::new(Seed(seed));
        let count = 1 + draws.below(most) as u32;
        let time = most * 2;
        let mut all: Vec<Lifetime> = (0..count)
            .map(|_| {
                let start = draws.below(time) as u32;
                let length = if draws.below(4) == 0 { draws.below(time) } else { draws.below(30) };
                Lifetime { bytes: 256 * (1 + draws.below(20)), start, end: start + length as u32 }
            })
            .collect();
        all.sort_by_key(|lifetime| lifetime.start);
        all
    }

    fn check(lifetimes: &[Lifetime], attempt: &Attempt, seed: u64) {
        for (i, a) in lifetimes.iter().enumerate() {
            assert!(attempt.addresses[i].is_multiple_of(ALIGNMENT), "seed {seed}");
            assert!(attempt.addresses[i] + a.bytes <= attempt.size, "seed {seed}");
            for (j, b) in lifetimes.iter().enumerate().skip(i + 1) {
                let in_time = a.start <= b.end && b.start <= a.end;
                let in_space = attempt.addresses[i] < attempt.addresses[j] + b.bytes
                    && attempt.addresses[j] < attempt.addresses[i] + a.bytes;
                assert!(!(in_time && in_space), "seed {seed}: {i} {a:?} and {j} {b:?}");
            }
        }
    }

    #[test]
    fn nothing_that_lives_at_once_overlaps() {
        for seed in 0..200 {
            let lifetimes = random(seed, 60);
            let placement = place(&lifetimes, 0, Effort::Usual);
            assert!(placement.size >= placement.bound, "seed {seed}");
            check(&lifetimes, &Attempt { addresses: placement.addresses, size: placement.size }, seed);
            check(&lifetimes, &in_order_of_start(&lifetimes), seed);
            check(&lifetimes, &backwards(&lifetimes, in_order_of_start), seed);
            check(&lifetimes, &skyline(&lifetimes), seed);
            let ends = ends_by_chance(&lifetimes, Seed(seed));
            check(&lifetimes, &from_both_ends(&lifetimes, placement.bound, &ends), seed);
            check(&lifetimes, &apart(&lifetimes), seed);
            check(&lifetimes, &slots(&lifetimes, &by_end(&lifetimes)), seed);
            check(&lifetimes, &largest_first(&lifetimes), seed);
            if seed % 10 == 0 {
                check(&lifetimes, &search(&lifetimes, 0), seed);
            }
        }
        for seed in 0..3 {
            let lifetimes = random(seed, 2 * SEARCH_MAX as u64);
            let Placement { addresses, size, .. } = place(&lifetimes, 0, Effort::Usual);
            check(&lifetimes, &Attempt { addresses, size }, seed);
        }
    }

    #[test]
    fn the_largest_first_lie_as_low_as_they_can() {
        for seed in 0..40 {
            let lifetimes = random(seed, 500);
            let attempt = largest_first(&lifetimes);
            let mut order: Vec<usize> = (0..lifetimes.len()).collect();
            order.sort_by_key(|&index| std::cmp::Reverse(lifetimes[index].bytes));
            for (count, &index) in order.iter().enumerate() {
                let met: Vec<[u64; 2]> = order[..count]
                    .iter()
                    .filter(|&&other| lifetimes[other].meets(&lifetimes[index]))
                    .map(|&other| [attempt.addresses[other], attempt.addresses[other] + lifetimes[other].bytes])
                    .collect();
                let is_free = |at: u64| met.iter().all(|&[from, to]| to <= at || from >= at + lifetimes[index].bytes);
                let ends = met.iter().map(|&[_, to]| to).chain([0]);
                let lowest = ends.filter(|&at| is_free(at)).min();
                assert_eq!(Some(attempt.addresses[index]), lowest, "seed {seed}: {index}");
            }
        }
    }

    #[test]
    fn the_bound_is_the_largest_sum_of_what_lives_at_once() {
        for seed in 0..200 {
            let lifetimes = random(seed, 60);
            let live = |now: u32| -> u64 {
                lifetimes.iter().filter(|life| life.start <= now && now <= life.end).map(|life| life.bytes).sum()
            };
            let most = (0..400).map(live).max().expect("time is not empty");
            assert_eq!(live_bound(&lifetimes), most, "seed {seed}");
        }
    }
}

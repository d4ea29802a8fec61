//! Which window is which row of which step: shuffled by a seed, and by nothing else.
//!
//! The answer is a formula of (seed, step, row), not the state of a generator. So each rank finds
//! its rows without the others, a job that resumes at step 7000 goes on as if it had never
//! stopped, and no plan, however it places rows on devices, changes what the model reads.

use ir::seed::Seed;

/// The shuffled order of windows, epoch after epoch without end.
///
/// In each epoch each window comes once, in an order of its own. A step whose rows do not fit in
/// the rest of an epoch takes the others from the next one, so any batch goes with any corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    // At least 1.
    window_count: u64,
    // At least 1.
    global_batch: u64,
    seed: Seed,
    // Two halves of so many bits number at least `window_count` places.
    half_bits: u32,
}

/// Four suffice for large halves (Luby and Rackoff 1988). Halves of a few bits need more: over 400 000
/// epochs of 5 windows, 8 rounds still prefer some orders by a hundredth, and 10 show no preference.
const ROUND_COUNT: u64 = 12;

impl Order {
    /// The order of `window_count` windows in steps of `global_batch` rows.
    ///
    /// # Panics
    /// If either count is 0.
    pub fn new(window_count: usize, global_batch: usize, seed: Seed) -> Self {
        assert!(window_count > 0 && global_batch > 0, "{window_count} windows, {global_batch} rows");
        let bits = u64::BITS - (window_count as u64 - 1).leading_zeros();
        Self { window_count: window_count as u64, global_batch: global_batch as u64, seed, half_bits: bits.div_ceil(2) }
    }

    /// The window that is row `index_in_global_batch` of a step.
    ///
    /// # Panics
    /// If the global batch has no such row.
    pub fn window(&self, step: u64, index_in_global_batch: usize) -> usize {
        let index = index_in_global_batch as u64;
        assert!(index < self.global_batch, "row {index} of {}", self.global_batch);
        let sample = step * self.global_batch + index;
        let key = self.seed.derive(sample / self.window_count);
        // Cycle walking (Black and Rogaway 2002): the halves number up to four times as many places
        // as there are windows. Going on from a place outside until one is inside is again a
        // permutation, of the windows alone.
        let mut place = sample % self.window_count;
        loop {
            place = self.permuted(place, key);
            if place < self.window_count {
                return place as usize;
            }
        }
    }

    /// The number of rows in a step.
    pub fn global_batch(&self) -> usize {
        self.global_batch as usize
    }

    /// The number of windows that an epoch visits.
    pub fn window_count(&self) -> usize {
        self.window_count as usize
    }

    /// A Feistel network: whatever the noise, a round can be undone, so places never collide.
    fn permuted(&self, place: u64, key: Seed) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (place >> self.half_bits, place & mask);
        for round in 0..ROUND_COUNT {
            let noise = key.derive(round).bits(right);
            (left, right) = (right, left ^ (noise & mask));
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `sample_count` windows in the order of training.
    fn windows(order: Order, sample_count: usize) -> Vec<usize> {
        let batch = order.global_batch();
        (0..sample_count).map(|s| order.window((s / batch) as u64, s % batch)).collect()
    }

    #[test]
    fn each_epoch_visits_each_window_once() {
        for seed in 0..20 {
            for window_count in (1..=70).chain([1000, 1024, 1025]) {
                let batch = 1 + (seed as usize * 7) % 40;
                let three_epochs = windows(Order::new(window_count, batch, Seed(seed)), 3 * window_count);
                for (epoch, visited) in three_epochs.chunks(window_count).enumerate() {
                    let mut visited = visited.to_vec();
                    visited.sort_unstable();
                    let all: Vec<usize> = (0..window_count).collect();
                    assert_eq!(visited, all, "seed {seed}, batch {batch}, epoch {epoch}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_is_the_same_order() {
        let order = || windows(Order::new(100, 8, Seed(5)), 300);
        assert_eq!(order(), order());
    }

    #[test]
    fn seeds_and_epochs_differ() {
        let mut orders = Vec::new();
        for seed in 0..50 {
            let epochs = windows(Order::new(100, 10, Seed(seed)), 200);
            orders.extend([epochs[..100].to_vec(), epochs[100..].to_vec()]);
        }
        let count = orders.len();
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), count);
    }

    #[test]
    fn the_batch_cuts_the_order_into_steps_without_changing_it() {
        let whole = windows(Order::new(37, 1, Seed(9)), 111);
        for batch in [2, 3, 36, 37, 38, 100] {
            assert_eq!(windows(Order::new(37, batch, Seed(9)), 111), whole, "batch {batch}");
        }
    }

    #[test]
    fn the_order_never_changes_between_versions() {
        // Runs of different dates are compared by seed: these are results to keep, not to renew.
        assert_eq!(windows(Order::new(10, 4, Seed(42)), 10), [3, 2, 0, 4, 9, 8, 1, 6, 5, 7]);
    }

    /// Fails if `counts` are further from equal than chance explains. Pearson's statistic of n fair
    /// counts is about n, with a deviation of about √(2n); six deviations leave room for small n.
    fn check_fair(counts: &[usize], what: &str) {
        let cells = counts.len() as f64;
        let expected = counts.iter().sum::<usize>() as f64 / cells;
        let distance = |&count: &usize| (count as f64 - expected).powi(2) / expected;
        let statistic = counts.iter().map(distance).sum::<f64>();
        let limit = cells + 6.0 * (2.0 * cells).sqrt();
        assert!(statistic < limit, "{what}: {statistic:.1} of at most {limit:.1} for {cells} counts");
    }

    #[test]
    fn each_window_comes_equally_often_at_each_place_and_after_each_other() {
        for window_count in [2, 3, 5, 16, 17, 61] {
            let mut at = vec![0; window_count * window_count];
            let mut after = vec![0; window_count * (window_count - 1)];
            for seed in 0..200_000 / window_count as u64 {
                let epoch = windows(Order::new(window_count, 1, Seed(seed)), window_count);
                for (place, window) in epoch.iter().enumerate() {
                    at[place * window_count + window] += 1;
                }
                for pair in epoch.windows(2) {
                    let gap = (pair[1] + window_count - pair[0]) % window_count;
                    after[pair[0] * (window_count - 1) + gap - 1] += 1;
                }
            }
            check_fair(&at, "place");
            check_fair(&after, "predecessor");
        }
    }
}

//! How much of its time a plan trains where devices fail: what checkpoints cost, and what is done again after failures.

use ir::units::{Bytes, BytesPerSecond, Seconds};

/// Bytes of a checkpoint for each parameter: itself and two moments, in 32 bits each.
const BYTES_PER_PARAMETER: u64 = 12;

/// How often devices fail, and how fast what they hold is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failures {
    /// Mean time between failures of one device. Any failure ends a step of all.
    pub device_mtbf: Seconds,
    /// At which all devices together write a checkpoint, and read it again.
    pub save_rate: BytesPerSecond,
}

/// What failures leave of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goodput {
    /// Mean time between failures of all devices.
    pub mtbf: Seconds,
    /// Of one checkpoint; a restart takes as long.
    pub save: Seconds,
    /// Training between the end of a save and the begin of the next.
    pub interval: Seconds,
    /// Part of the time in which steps are done that count, from 0 to 1.
    pub share: f64,
}

/// Goodput with the best interval between saves.
///
/// Failures come independently, each device at the rate `1/device_mtbf` (exponential), training stands still during a
/// save, and after a failure the last checkpoint is read at the rate at which it was written. What a launcher takes to
/// start processes again is not counted. The best interval is the estimate of higher order in Daly 2006, "A higher
/// order estimate of the optimum checkpoint interval for restart dumps":
/// `sqrt(2δM)·(1 + sqrt(δ/2M)/3 + (δ/2M)/9) − δ` where a save takes `δ < 2M`, else `M`, for a mean time `M` between
/// failures; its first term is that of Young 1974, "A first order approximation to the optimum checkpoint interval".
/// The share is `τ` over the expected time of an interval with its save, from the same work:
/// `M·e^(R/M)·(e^((τ+δ)/M) − 1)`, where a restart takes `R`.
pub fn goodput(parameters: u64, devices: u32, failures: Failures) -> Goodput {
    let mtbf = failures.device_mtbf.0 / f64::from(devices);
    let save = (Bytes(BYTES_PER_PARAMETER * parameters) / failures.save_rate).0;
    let interval = best_interval(save, mtbf);
    let share = interval / expected(interval, save, mtbf);
    Goodput { mtbf: Seconds(mtbf), save: Seconds(save), interval: Seconds(interval), share }
}

fn best_interval(save: f64, mtbf: f64) -> f64 {
    let ratio = save / (2.0 * mtbf);
    if ratio >= 1.0 {
        return mtbf;
    }
    (2.0 * save * mtbf).sqrt() * (1.0 + ratio.sqrt() / 3.0 + ratio / 9.0) - save
}

/// Time until so much training and its save are done, failures included.
fn expected(interval: f64, save: f64, mtbf: f64) -> f64 {
    let restart = save;
    mtbf * (restart / mtbf).exp() * ((interval + save) / mtbf).exp_m1()
}

#[cfg(test)]
mod tests {
    use ir::seed::{Draws, Seed};

    use super::*;

    const HOUR: f64 = 3600.0;

    fn of(device_mtbf: f64, save_rate: f64) -> Goodput {
        let failures = Failures { device_mtbf: Seconds(device_mtbf), save_rate: BytesPerSecond(save_rate) };
        goodput(1_000_000_000, 8, failures)
    }

    #[test]
    fn a_save_that_is_short_beside_failures_follows_the_first_order() {
        // 12 GB at 1.2 GB/s are 10 s; a failure in 8 · 1000 h / 8.
        let found = of(8000.0 * HOUR, 1.2e9);
        assert_eq!((found.save, found.mtbf), (Seconds(10.0), Seconds(1000.0 * HOUR)));
        let first_order = (2.0 * 10.0 * 1000.0 * HOUR).sqrt();
        assert!((found.interval.0 / first_order - 1.0).abs() < 2e-3, "{found:?}");
        // Half of the loss is saving, half is done again: about 2·δ/τ.
        assert!((1.0 - found.share - 2.0 * 10.0 / first_order).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn no_other_interval_is_much_better() {
        for (device_mtbf, save_rate) in [(4.0 * HOUR, 2e9), (80.0 * HOUR, 1e8), (0.1 * HOUR, 1e8), (HOUR, 1e6)] {
            let found = of(device_mtbf, save_rate);
            let (save, mtbf) = (found.save.0, found.mtbf.0);
            let share = |interval: f64| interval / expected(interval, save, mtbf);
            let best = (1..4000).map(|index| share(mtbf * f64::from(index) / 1000.0)).fold(0.0, f64::max);
            assert!(found.share >= best * 0.99, "{found:?}, but {best}");
        }
    }

    #[test]
    fn the_share_is_that_of_failures_that_are_drawn() {
        let found = of(4.0 * HOUR, 2e8);
        let (save, mtbf, interval) = (found.save.0, found.mtbf.0, found.interval.0);
        let mut draws = Draws::new(Seed(5));
        let mut to_failure = move || -mtbf * (1.0 - draws.uniform()).ln();
        let (mut time, mut left, mut done) = (0.0, to_failure(), 0.0);
        for _ in 0..100_000 {
            let mut need = interval + save;
            while left < need {
                time += left;
                left = to_failure();
                need = save + interval + save;
            }
            (time, left, done) = (time + need, left - need, done + interval);
        }
        assert!((done / time / found.share - 1.0).abs() < 0.01, "{} is not {found:?}", done / time);
    }
}

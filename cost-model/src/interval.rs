//! Between which times a measured step is expected, if a step was predicted.
//!
//! A prediction is not better than what it rests on, so an interval is a rule about that, and no second prediction: how
//! many times as long measured steps were as predicted ones, where both are known. The low end may lie above the
//! prediction itself: then all that was measured was slower.

use ir::cluster::{Cluster, Execution};
use ir::profile::Profile;
use ir::residuals::Residuals;
use ir::trace::Trace;
use ir::units::Seconds;

/// Times between which a step is expected in nine of ten cases like those that the rule rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The least.
    pub low: Seconds,
    /// The most.
    pub high: Seconds,
}

/// How many times as long as predicted steps were: where 5 % and 95 % of them lie.
type Ratios = [f64; 2];

/// GPUs whose description states no residuals: those of the shipped ones. They rest on 114 published runs of dense
/// models in bf16 on 8 to 512 A100 and H100 by software with fused attention and one pass forward, one backward
/// (MosaicML llm-foundry 2023: 102, NeMo Megatron: 7, zero-bubble's 1F1B baselines 2023: 5), each checked with its own
/// sizes and degrees; median 1.35.
const DESCRIBED_GPU: Ratios = [1.11, 1.84];
/// CPU ranks whose description states none: its numbers are guesses, and nothing says within what.
const DESCRIBED_CPU: Ratios = [0.5, 2.0];
/// GPUs from a profile: least and most of eight plans on two and four H100 (`reports/results/gpu.md`, 2026-11-28).
const PROFILED_GPU: Ratios = [1.016, 1.053];
/// CPU ranks from a profile: of 44 runs of eleven plans (`reports/results/cpu-accuracy.md`, 2026-11-24).
const PROFILED_CPU: Ratios = [0.90, 1.28];

/// From half the distance between quartiles to half that between 5 % and 95 %, if times are normal: 1.645 / 0.6745.
const QUARTILES: f64 = 2.44;

/// The rule for one cluster and profile.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    profiled: Option<Profiled>,
    described: Ratios,
    /// What `described` rests on.
    words: String,
}

#[derive(Clone, Copy, Debug)]
struct Profiled {
    ratios: Ratios,
    /// Relative half-width of what the samples scatter by.
    scatter: f64,
}

impl Rule {
    pub(crate) fn new(cluster: &Cluster, profile: Option<&Profile>) -> Rule {
        let (described, from, ratios) = match cluster.device.execution {
            Execution::Concurrent => (DESCRIBED_GPU, Some("114 published runs on A100 and H100"), PROFILED_GPU),
            Execution::Shared { .. } => (DESCRIBED_CPU, None, PROFILED_CPU),
        };
        let profiled = profile.map(|profile| Profiled { ratios, scatter: scatter(profile) });
        let [low, high] = described;
        let words = from.map_or_else(
            || format!("{low} to {high} times, as numbers of CPUs are guesses"),
            |from| words(described, from),
        );
        let rule = Rule { profiled, described, words };
        match &cluster.device.residuals {
            Some(residuals) => rule.described_by(residuals),
            None => rule,
        }
    }

    /// The same, with what another description states of what it predicts.
    pub(crate) fn described_by(self, residuals: &Residuals) -> Rule {
        let described = [residuals.low, residuals.high];
        Rule { described, words: words(described, &residuals.from), ..self }
    }

    /// The ends for one second, if this share of it is modelled by formula.
    fn ends(&self, modelled: f64) -> [f64; 2] {
        let Some(Profiled { ratios, scatter }) = self.profiled else { return self.described };
        let own = [ratios[0] * (1.0 - scatter).max(0.0), ratios[1] * (1.0 + scatter)];
        [0, 1].map(|end| (1.0 - modelled) * own[end] + modelled * self.described[end])
    }

    pub(crate) fn interval(&self, trace: &Trace) -> Interval {
        let total: f64 = trace.shares.iter().map(|share| share.0).sum();
        let modelled = if total > 0.0 { trace.shares[2].0 / total } else { 0.0 };
        self.around(trace.step, modelled)
    }

    /// Around a step of which this share is modelled by formula.
    pub(crate) fn around(&self, step: Seconds, modelled: f64) -> Interval {
        let [low, high] = self.ends(modelled).map(|ratio| Seconds(step.0 * ratio));
        Interval { low, high }
    }

    /// What the rule rests on, in a sentence.
    pub(crate) fn basis(&self) -> String {
        let described = &self.words;
        match self.profiled {
            None => described.clone(),
            Some(Profiled { ratios: [low, high], scatter }) => format!(
                "steps predicted from profiles took {low} to {high} times as long, and samples of this one scatter by \
                 {:.1} %; for modelled parts: {described}",
                scatter * 100.0
            ),
        }
    }
}

fn words([low, high]: Ratios, from: &str) -> String {
    format!("5 to 95 % of {from} took {low} to {high} times as long as predicted from the description")
}

/// The spreads of all samples together: errors of a kernel repeat in every layer and microbatch, so they are added as
/// times are, and not as if they were independent. With medians m and half quartile distances s it is
/// 2.44 · Σs / Σm, each sample counting by its time.
fn scatter(profile: &Profile) -> f64 {
    let spreads: f64 = profile.samples.iter().map(|sample| sample.spread.0).sum();
    let medians: f64 = profile.samples.iter().map(|sample| sample.median.0).sum();
    if medians > 0.0 { QUARTILES * spreads / medians } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use ir::profile::{Sample, Work};
    use ir::trace::Origin;
    use ir::units::Bytes;

    use super::*;

    /// A step of ten seconds, of which so many seconds are measured, interpolated and modelled.
    fn trace(shares: [f64; 3]) -> Trace {
        Trace {
            origin: Origin::Predicted,
            digest: 0,
            step: Seconds(10.0),
            events: Vec::new(),
            memory: Vec::new(),
            totals: Vec::new(),
            shares: shares.map(Seconds),
        }
    }

    /// In milliseconds.
    fn ends(rule: &Rule, shares: [f64; 3]) -> [u64; 2] {
        let Interval { low, high } = rule.interval(&trace(shares));
        [low, high].map(|end| (end.0 * 1e3).round() as u64)
    }

    #[test]
    fn what_is_described_is_expected_to_be_slower() {
        let gpu = Cluster::preset("8xH100").expect("a shipped device");
        let rule = Rule::new(&gpu, None);
        assert_eq!(ends(&rule, [0.0, 0.0, 10.0]), [11_100, 18_400]);
        assert!(
            rule.basis().starts_with("5 to 95 % of 114 published runs on A100 and H100 took 1.11 to 1.84 times"),
            "{}",
            rule.basis()
        );
        let cpu = Cluster::preset("4xCPU").expect("a shipped device");
        assert_eq!(ends(&Rule::new(&cpu, None), [0.0, 0.0, 10.0]), [5_000, 20_000]);
    }

    #[test]
    fn descriptions_state_their_own_residuals() {
        let mut gpu = Cluster::preset("8xH100").expect("a shipped device");
        let residuals = Residuals { device: String::new(), low: 0.9, high: 1.25, from: "seven runs".to_owned() };
        gpu.device.residuals = Some(residuals.clone());
        let rule = Rule::new(&gpu, None);
        assert_eq!(ends(&rule, [0.0, 0.0, 10.0]), [9_000, 12_500]);
        assert!(rule.basis().starts_with("5 to 95 % of seven runs took 0.9 to 1.25 times"), "{}", rule.basis());
        let other = rule.described_by(&Residuals { low: 1.0, high: 2.0, ..residuals });
        assert_eq!(ends(&other, [0.0, 0.0, 10.0]), [10_000, 20_000]);
    }

    #[test]
    fn spreads_of_a_profile_add_as_times_do() {
        let gpu = Cluster::preset("8xH100").expect("a shipped device");
        let sample = |bytes, median, spread| Sample {
            work: Work::Copy { bytes: Bytes(bytes) },
            median: Seconds(median),
            spread: Seconds(spread),
            runs: 9,
            way: None,
        };
        // 2.44 · (0.2 + 0) / (1 + 3).
        let samples = vec![sample(1, 1.0, 0.2), sample(2, 3.0, 0.0)];
        let rule = Rule::new(&gpu, Some(&Profile { samples, ..Profile::new("H100") }));
        let own = [10.16 * (1.0 - 0.122), 10.53 * (1.0 + 0.122)];
        let rounded = |ends: [f64; 2]| ends.map(|end| (end * 1e3).round() as u64);
        assert_eq!(ends(&rule, [5.0, 5.0, 0.0]), rounded(own));
        assert_eq!(ends(&rule, [5.0, 0.0, 5.0]), rounded([(own[0] + 11.1) / 2.0, (own[1] + 18.4) / 2.0]));
        assert!(rule.basis().contains("samples of this one scatter by 12.2 %"), "{}", rule.basis());
    }
}

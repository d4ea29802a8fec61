//! profile.yaml: thousands of samples, each on a line; saved often, so printed without a serialiser.

use std::fmt::{self, Write};

use super::locate::Step;
use super::parse::{Checks, FORMAT, Range, keys, parse};
use super::print::{scalar, word};
use crate::error::Mistakes;
use crate::profile::{Profile, Sample, Work};

/// The profile that `text` describes, its samples sorted by work; or everything that is wrong with it.
pub fn parse_profile(text: &str, file: &str) -> Result<Profile, Mistakes> {
    let mut profile: Profile = parse(text, file)?;
    let mut checks = Checks::new(text, file);
    checks.name(&keys(["device"]), &profile.device);
    checks.within(&keys(["issue"]), profile.issue.0, Range::NotNegative);
    for (index, factor) in profile.sharing.iter().enumerate() {
        checks.within(&["sharing".into(), index.into()], *factor, Range::Positive);
    }
    for (index, slowdown) in profile.slowdown.iter().enumerate() {
        checks.within(&["slowdown".into(), index.into(), "factor".into()], slowdown.factor, Range::Positive);
    }
    for (index, sample) in profile.samples.iter().enumerate() {
        check_sample(sample, index, &mut checks);
    }
    let order = sorted(&profile);
    for pair in order.windows(2) {
        if profile.samples[pair[0]].work == profile.samples[pair[1]].work {
            let path: [Step; 2] = ["samples".into(), pair[1].into()];
            checks.wrong(&path, format!("`samples[{}]` measures the same as `samples[{}]`", pair[1], pair[0]));
        }
    }
    checks.finish()?;
    profile.samples.sort_by(|left, right| left.work.cmp(&right.work));
    Ok(profile)
}

/// Positions of samples in the order of their work; equal work keeps the order of the file.
fn sorted(profile: &Profile) -> Vec<usize> {
    let mut order: Vec<usize> = (0..profile.samples.len()).collect();
    order.sort_by(|&left, &right| profile.samples[left].work.cmp(&profile.samples[right].work));
    order
}

fn check_sample(sample: &Sample, index: usize, checks: &mut Checks) {
    let path = |key: &str| -> [Step; 3] { ["samples".into(), index.into(), key.into()] };
    let usable = |time: f64| time.is_finite() && time >= 0.0;
    // Paths are only made where something is wrong: most profiles are long and right.
    if !usable(sample.median.0) {
        checks.within(&path("median"), sample.median.0, Range::NotNegative);
    }
    if !usable(sample.spread.0) {
        checks.within(&path("spread"), sample.spread.0, Range::NotNegative);
    }
    if sample.runs == 0 {
        checks.positive(&path("runs"), 0);
    }
    if let Work::Exchange { ranks, ranks_per_node, .. } = sample.work
        && (ranks_per_node == 0 || ranks_per_node > ranks)
    {
        let what = format!("`ranks_per_node` ({ranks_per_node}) must be from 1 to `ranks` ({ranks})");
        checks
            .wrong(&["samples".into(), index.into(), "work".into(), "exchange".into(), "ranks_per_node".into()], what);
    }
}

/// The profile as a file that [`parse_profile`] reads back.
pub fn print_profile(profile: &Profile) -> String {
    let mut text = String::with_capacity(200 + 200 * profile.samples.len());
    write(profile, &mut text).expect("a string can grow");
    text
}

fn write(profile: &Profile, text: &mut String) -> fmt::Result {
    writeln!(text, "format: {FORMAT}")?;
    writeln!(text, "# Times in seconds, sizes in bytes.")?;
    writeln!(text, "device: {}", scalar(&profile.device))?;
    writeln!(text, "issue: {:?}", profile.issue.0)?;
    writeln!(text, "reserved: {}", profile.reserved.0)?;
    writeln!(text, "sharing: {:?}", profile.sharing)?;
    list("slowdown", profile.slowdown.len(), text)?;
    for slowdown in &profile.slowdown {
        let (stream, beside) = (scalar(&slowdown.stream), scalar(&slowdown.beside));
        writeln!(text, "- {{ stream: {stream}, beside: {beside}, factor: {:?} }}", slowdown.factor)?;
    }
    list("samples", profile.samples.len(), text)?;
    for sample in &profile.samples {
        let Sample { work, median, spread, runs } = sample;
        text.write_str("- { work: { ")?;
        write_work(work, text)?;
        writeln!(text, " }}, median: {:?}, spread: {:?}, runs: {runs} }}", median.0, spread.0)?;
    }
    Ok(())
}

fn list(key: &str, length: usize, text: &mut String) -> fmt::Result {
    writeln!(text, "{key}:{}", if length == 0 { " []" } else { "" })
}

fn write_work(work: &Work, text: &mut String) -> fmt::Result {
    match work {
        Work::Kernel { op, element, shape } => {
            let (op, element, shape) = (scalar(op), scalar(element), scalar(shape));
            write!(text, "kernel: {{ op: {op}, element: {element}, shape: {shape} }}")
        }
        Work::Exchange { kind, ranks, ranks_per_node, bytes } => {
            let (kind, bytes) = (scalar(kind), bytes.0);
            write!(
                text,
                "exchange: {{ kind: {kind}, ranks: {ranks}, ranks_per_node: {ranks_per_node}, bytes: {bytes} }}"
            )
        }
        Work::Transfer { route, bytes } => {
            write!(text, "transfer: {{ route: {}, bytes: {} }}", word(route), bytes.0)
        }
        Work::Copy { bytes } => write!(text, "copy: {{ bytes: {} }}", bytes.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Route, Slowdown};
    use crate::seed::{Draws, Seed};
    use crate::units::{Bytes, Seconds};

    fn random(seed: u64, count: u64) -> Profile {
        let mut draws = Draws::new(Seed(seed));
        let samples = (0..count)
            .map(|index| Sample {
                work: work(&mut draws, index),
                median: Seconds(draws.uniform() * 1e-3),
                spread: Seconds(draws.uniform() * 1e-6),
                runs: 1 + draws.below(100) as u32,
            })
            .collect();
        let mut profile = Profile {
            format: 1,
            device: "CPU: \"fast\" core".to_owned(),
            samples,
            sharing: (0..draws.below(3)).map(|_| 1.0 + draws.uniform()).collect(),
            issue: Seconds(draws.uniform() * 1e-6),
            slowdown: (0..draws.below(3))
                .map(|_| Slowdown { stream: "compute".to_owned(), beside: "exchange(data)".to_owned(), factor: 1.25 })
                .collect(),
            reserved: Bytes(draws.below(1 << 40)),
        };
        profile.samples.sort_by(|left, right| left.work.cmp(&right.work));
        profile
    }

    fn work(draws: &mut Draws, index: u64) -> Work {
        let bytes = Bytes(index << 10);
        match draws.below(4) {
            0 => Work::Kernel {
                op: "matmul".to_owned(),
                element: "f32".to_owned(),
                shape: format!("b2 s{index} h{}", draws.below(1 << 20)),
            },
            1 => Work::Exchange { kind: "all-reduce".to_owned(), ranks: 8, ranks_per_node: 4, bytes },
            2 => Work::Transfer { route: *draws.pick(&[Route::Inside, Route::Between]), bytes },
            _ => Work::Copy { bytes },
        }
    }

    #[test]
    fn profiles_read_back_to_the_bit() {
        for seed in 0..200 {
            let profile = random(seed, seed % 7);
            assert_eq!(parse_profile(&print_profile(&profile), "f.yaml"), Ok(profile), "seed {seed}");
        }
        let long = random(1000, 5000);
        assert_eq!(parse_profile(&print_profile(&long), "f.yaml"), Ok(long));
    }

    #[test]
    fn each_sample_is_one_line() {
        let text = print_profile(&random(3, 50));
        assert_eq!(text.lines().filter(|line| line.starts_with("- { work:")).count(), 50);
    }

    #[test]
    fn samples_are_judged_at_their_line() {
        let text = "\
format: 1
device: core
issue: 1e-6
reserved: 0
sharing: [1.0, .inf]
slowdown: []
samples:
- { work: { copy: { bytes: 8 } }, median: -1e-6, spread: 0, runs: 3 }
- { work: { copy: { bytes: 4 } }, median: 1e-6, spread: 0, runs: 0 }
- { work: { copy: { bytes: 8 } }, median: 1e-6, spread: 0, runs: 3 }
- { work: { exchange: { kind: all-reduce, ranks: 2, ranks_per_node: 4, bytes: 8 } }, median: 1e-6, spread: 0, runs: 3 }
";
        assert_eq!(
            parse_profile(text, "f.yaml").unwrap_err().to_string(),
            "error: f.yaml:5: `sharing[1]` must be finite and above 0, not inf\n\
             error: f.yaml:8: `samples[0].median` must be finite and 0 or more, not -0.000001\n\
             error: f.yaml:9: `samples[1].runs` must be at least 1\n\
             error: f.yaml:10: `samples[2]` measures the same as `samples[0]`\n\
             error: f.yaml:11: `ranks_per_node` (4) must be from 1 to `ranks` (2)"
        );
        assert_eq!(
            parse_profile(&text.replace("copy: { bytes: 4 }", "copi: { bytes: 4 }"), "f.yaml").unwrap_err().to_string(),
            "error: f.yaml:9: unknown value `copi` of `samples[1].work`\n  help: did you mean `copy`?  \
             (values here: kernel, exchange, transfer, copy)"
        );
    }
}

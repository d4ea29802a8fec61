//! profile.yaml: thousands of samples, each on a line; saved often, so printed without a serialiser.

use std::fmt::{self, Write as _};

use super::locate::Segment;
use super::parse::{Checks, FORMAT, Range, keys, parse};
use super::print::{scalar, word};
use crate::error::Mistakes;
use crate::op::{Addend, OpKind, Write};
use crate::profile::{Profile, Sample, Shape, State, Work};

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
    check_state(&profile, &mut checks);
    for (index, sample) in profile.samples.iter().enumerate() {
        check_sample(sample, index, &mut checks);
    }
    let told = profile.samples.iter().position(|sample| sample.way.is_some());
    if let (Some(index), true) = (told, profile.library.is_empty()) {
        let path: [Segment; 3] = ["samples".into(), index.into(), "way".into()];
        checks.wrong_but(&path, "a way of no library", "add `library: \"cuBLASLt 13.1.0\"`, or whose it is");
    }
    let order = sorted(&profile);
    for pair in order.windows(2) {
        if profile.samples[pair[0]].work == profile.samples[pair[1]].work {
            let path: [Segment; 2] = ["samples".into(), pair[1].into()];
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

fn check_state(profile: &Profile, checks: &mut Checks) {
    if let Some(issue) = profile.issue_recorded {
        checks.within(&keys(["issue_recorded"]), issue.0, Range::NotNegative);
    }
    let Some(State { sustained, clock_mhz, power_watts }) = profile.state else { return };
    checks.within(&keys(["state", "sustained"]), sustained.0, Range::NotNegative);
    for (key, value) in [("clock_mhz", clock_mhz), ("power_watts", power_watts)] {
        if let Some(value) = value {
            checks.within(&keys(["state", key]), value, Range::Positive);
        }
    }
}

fn check_sample(sample: &Sample, index: usize, checks: &mut Checks) {
    let path = |key: &str| -> [Segment; 3] { ["samples".into(), index.into(), key.into()] };
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
    check_work(&sample.work, index, checks);
    let is_product = matches!(sample.work, Work::Kernel { op: OpKind::MatMul, .. });
    if sample.way.is_some() && !is_product {
        checks.wrong(&path("way"), "only products have ways".to_owned());
    }
}

fn check_work(work: &Work, index: usize, checks: &mut Checks) {
    let path = |work: &str, key: &str| -> [Segment; 5] {
        ["samples".into(), index.into(), "work".into(), work.into(), key.into()]
    };
    match work {
        Work::Kernel { op, shape, addend, .. } => {
            let is_product = matches!(shape, Shape::Product(_));
            if is_product != (*op == OpKind::MatMul) {
                let what = format!("`{shape}` is not a shape of `{}`", op.name());
                checks.wrong_but(&path("kernel", "shape"), what, "a matmul, and nothing else, has `m8 n4 k16 nt`");
            }
            if *addend == Addend::Present && op.addend().is_none() {
                let what = format!("`{}` takes no addend", op.name());
                checks.wrong_but(&path("kernel", "addend"), what, "products and gradients of norms do");
            }
        }
        Work::Exchange { ranks, ranks_per_node, .. } => {
            if *ranks_per_node == 0 || ranks_per_node > ranks {
                let what = format!("`ranks_per_node` ({ranks_per_node}) must be from 1 to `ranks` ({ranks})");
                checks.wrong(&path("exchange", "ranks_per_node"), what);
            }
        }
        Work::Transfer { .. } | Work::Copy { .. } => {}
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
    if !profile.source.is_empty() {
        writeln!(text, "source: {}", scalar(&profile.source))?;
    }
    if !profile.library.is_empty() {
        writeln!(text, "library: {}", scalar(&profile.library))?;
    }
    if let Some(State { sustained, clock_mhz, power_watts }) = profile.state {
        write!(text, "state: {{ sustained: {:?}", sustained.0)?;
        for (key, value) in [("clock_mhz", clock_mhz), ("power_watts", power_watts)] {
            if let Some(value) = value {
                write!(text, ", {key}: {value:?}")?;
            }
        }
        writeln!(text, " }}")?;
    }
    writeln!(text, "issue: {:?}", profile.issue.0)?;
    if let Some(issue) = profile.issue_recorded {
        writeln!(text, "issue_recorded: {:?}", issue.0)?;
    }
    writeln!(text, "reserved: {}", profile.reserved.0)?;
    if let Some(group) = profile.reserved_group {
        writeln!(text, "reserved_group: {}", group.0)?;
    }
    writeln!(text, "sharing: {:?}", profile.sharing)?;
    list("slowdown", profile.slowdown.len(), text)?;
    for slowdown in &profile.slowdown {
        let (stream, beside) = (scalar(&slowdown.stream), scalar(&slowdown.beside));
        let kernels = slowdown.kernels.map_or(String::new(), |kind| format!("kernels: {}, ", word(&kind)));
        writeln!(text, "- {{ stream: {stream}, beside: {beside}, {kernels}factor: {:?} }}", slowdown.factor)?;
    }
    list("samples", profile.samples.len(), text)?;
    for sample in &profile.samples {
        let Sample { work, median, spread, runs, way } = sample;
        text.write_str("- { work: { ")?;
        write_work(work, text)?;
        write!(text, " }}, median: {:?}, spread: {:?}, runs: {runs}", median.0, spread.0)?;
        let way = way.map_or(String::new(), |way| format!(", way: \"{way}\""));
        writeln!(text, "{way} }}")?;
    }
    Ok(())
}

fn list(key: &str, length: usize, text: &mut String) -> fmt::Result {
    writeln!(text, "{key}:{}", if length == 0 { " []" } else { "" })
}

fn write_work(work: &Work, text: &mut String) -> fmt::Result {
    match work {
        Work::Kernel { op, element, shape, write, addend } => {
            let (op, element, shape) = (op.name(), element.name(), scalar(&shape.to_string()));
            let write = match write {
                Write::Replace => String::new(),
                Write::Accumulate => format!(", write: {}", write.name()),
            };
            let addend = match addend {
                Addend::Absent => String::new(),
                Addend::Present => format!(", addend: {}", addend.name()),
            };
            write!(text, "kernel: {{ op: {op}, element: {element}, shape: {shape}{write}{addend} }}")
        }
        Work::Exchange { kind, ranks, ranks_per_node, bytes } => {
            let (kind, bytes) = (kind.name(), bytes.0);
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
    use crate::graph::Element;
    use crate::layout::ExchangeKind;
    use crate::profile::{KernelKind, Route, Slowdown};
    use crate::seed::{Draws, Seed};
    use crate::units::{Bytes, Seconds};
    use crate::ways::Way;

    fn random(seed: u64, count: u64) -> Profile {
        let mut draws = Draws::new(Seed(seed));
        let samples = (0..count)
            .map(|index| {
                let work = work(&mut draws, index);
                let is_told = matches!(work, Work::Kernel { op: OpKind::MatMul, .. }) && draws.below(2) == 0;
                Sample {
                    work,
                    median: Seconds(draws.uniform() * 1e-3),
                    spread: Seconds(draws.uniform() * 1e-6),
                    runs: 1 + draws.below(100) as u32,
                    way: is_told.then(|| Way([draws.below(100), 0, draws.below(u64::MAX), 0, 0, 0, 0, 0])),
                }
            })
            .collect();
        let mut profile = Profile {
            format: 1,
            device: "CPU: \"fast\" core".to_owned(),
            samples,
            sharing: (0..draws.below(3)).map(|_| 1.0 + draws.uniform()).collect(),
            issue: Seconds(draws.uniform() * 1e-6),
            slowdown: (0..draws.below(3))
                .map(|_| Slowdown {
                    stream: "compute".to_owned(),
                    beside: "exchange(data)".to_owned(),
                    kernels: *draws.pick(&[
                        None,
                        Some(KernelKind::Product),
                        Some(KernelKind::Attention),
                        Some(KernelKind::Memory),
                    ]),
                    factor: 1.25,
                })
                .collect(),
            issue_recorded: draws.pick(&[None, Some(Seconds(1e-6))]).to_owned(),
            reserved: Bytes(draws.below(1 << 40)),
            reserved_group: draws.pick(&[None, Some(Bytes(450 << 20))]).to_owned(),
            source: draws.pick(&["", "2 x H200: driver 580, \"NCCL\" 2.28"]).to_string(),
            library: "cuBLASLt 13.1.0".to_owned(),
            state: (draws.below(2) == 0).then(|| State {
                sustained: Seconds(2.0),
                clock_mhz: draws.pick(&[None, Some(1425.0)]).to_owned(),
                power_watts: draws.pick(&[None, Some(698.5)]).to_owned(),
            }),
        };
        profile.samples.sort_by(|left, right| left.work.cmp(&right.work));
        profile
    }

    fn work(draws: &mut Draws, index: u64) -> Work {
        let bytes = Bytes(index << 10);
        match draws.below(4) {
            0 => {
                let op = *draws.pick(&OpKind::ALL);
                let size = 1 + draws.below(1 << 20);
                let shape = if op == OpKind::MatMul {
                    format!("m{size} n{} k8 {}", index + 1, draws.pick(&["nn", "nt", "tn", "tt"]))
                } else {
                    format!("b2 h{size} s{}", index + 1)
                };
                let shape = shape.parse().expect("a shape");
                let write = *draws.pick(&Write::ALL);
                let addend = if op.addend().is_some() { *draws.pick(&Addend::ALL) } else { Addend::Absent };
                Work::Kernel { op, element: *draws.pick(&Element::ALL), shape, write, addend }
            }
            1 => {
                let kind = *draws.pick(&ExchangeKind::ALL);
                Work::Exchange { kind, ranks: 8, ranks_per_node: 4, bytes }
            }
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

    /// As profiles were written when keys were texts.
    const WORDS: &str = "\
format: 1
device: core
issue: 1e-6
reserved: 0
sharing: []
slowdown: []
samples:
- { work: { kernel: { op: layer-norm, element: f32, shape: \"b2 h768 s1024\" } }, median: 1e-6, spread: 0.0, runs: 3 }
- { work: { kernel: { op: matmul, element: bf16, shape: \"m8 n4 k16 nt\" } }, median: 1e-6, spread: 0.0, runs: 3 }
- { work: { exchange: { kind: all-to-all, ranks: 8, ranks_per_node: 4, bytes: 8 } }, median: 1e-6, spread: 0.0, runs: 3 }
";

    #[test]
    fn keys_keep_their_form() {
        let printed = print_profile(&parse_profile(WORDS, "f.yaml").unwrap());
        let samples = |text: &str| text.lines().skip_while(|line| *line != "samples:").map(str::to_owned).collect();
        let (printed, written): (Vec<String>, Vec<String>) = (samples(&printed), samples(WORDS));
        assert_eq!(printed, written);
    }

    #[test]
    fn an_unknown_word_is_named_with_its_line_and_the_nearest() {
        let said = |known: &str, written: &str| {
            parse_profile(&WORDS.replace(known, written), "f.yaml").unwrap_err().to_string()
        };
        let cases = [
            ("layer-norm", "layernorm", 8, "`layernorm`", "did you mean `layer-norm`?"),
            ("element: bf16", "element: bf61", 9, "`bf61`", "did you mean `bf16`?"),
            ("all-to-all", "all_to_all", 10, "`all_to_all`", "did you mean `all-to-all`?"),
            ("all-to-all", "slice", 10, "`slice`", "values here: all-reduce"),
            ("b2 h768 s1024", "b0 h768", 8, "b0 h768", "letters with sizes"),
            ("m8 n4 k16 nt", "b8 h4", 9, "`b8 h4` is not a shape of `matmul`", "m8 n4 k16 nt"),
            ("k16 nt\"", "k16 nt\", addend: presant", 9, "`presant`", "did you mean `present`?"),
            ("s1024\"", "s1024\", addend: present", 8, "`layer-norm` takes no addend", "products and gradients"),
            ("op: layer-norm", "op: matmul", 8, "`b2 h768 s1024` is not a shape of `matmul`", "m8 n4 k16 nt"),
        ];
        for (known, written, line, what, help) in cases {
            let said = said(known, written);
            assert!(said.starts_with(&format!("error: f.yaml:{line}: ")), "{said}");
            assert!(said.contains(what) && said.contains(help), "{said}");
        }
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

//! Reads damaged files of every format: none may panic, or take longer than ten seconds.
//!
//! `mutate [COUNT [SEED]]` reads COUNT damaged inputs of each format (a million if not said) on all processors, and
//! prints a line for each format; the last line is the memory of the process at its most. Beside it, `ir/fuzz` has
//! targets for cargo-fuzz, which learns from what the code does but needs another compiler.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program whose results are printed")]

use std::fs;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hetu_ir::file::{parse_config, parse_machines, parse_model, parse_plan, parse_profile, parse_trace, print_trace};
use hetu_ir::program::{Action, FragmentId, Phase, Span, Stream};
use hetu_ir::seed::{Draws, Seed};
use hetu_ir::trace::{Confidence, Origin, Totals, Trace, TraceEvent};
use hetu_ir::units::Seconds;

/// Longer than this is a hang.
const PATIENCE: Duration = Duration::from_secs(10);
/// Texts are cut to about so many bytes, so that a million of them are read in minutes.
const BYTES_MAX: usize = 3000;
/// What code forgets that files may hold.
const ODD: [&str; 20] = [
    "-1",
    "0",
    "1e308",
    "-1e308",
    "NaN",
    ".inf",
    "18446744073709551616",
    "4294967295",
    "null",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\t",
    "&a",
    "*a",
];
const PLAN: &str = "\
format: 1
model: m.yaml
cluster: 8xH100
batch: 16
microbatches: 4
prefetch: 1
stages: [0..4, 4..8]
layers:
  0: { data: 4 }
  1..7: { data: 2, tensor: 2, sequence: split, shard: parameters, recompute: full }
  7: { data: 4 }
";

/// A format: its name, undamaged texts, and whether a text is accepted.
struct Format {
    name: &'static str,
    texts: Vec<String>,
    accepts: fn(&str) -> bool,
}

/// What came of the inputs of a format.
#[derive(Default)]
struct Tally {
    inputs: u64,
    accepted: u64,
    panics: Vec<String>,
    slowest: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let (count, seed) = (arguments.next().unwrap_or(1_000_000), arguments.next().unwrap_or(1));
    std::panic::set_hook(Box::new(|_| {}));
    let mut failures = 0;
    for format in formats() {
        assert!((format.accepts)(&format.texts[0]), "{}: the undamaged text is refused", format.name);
        let begin = Instant::now();
        let Tally { inputs, accepted, panics, slowest } = damaged(&format, count, Seed(seed));
        failures += panics.len() + usize::from(slowest > PATIENCE);
        println!(
            "{:<8} {inputs} inputs, {accepted} accepted, {} panics, slowest {slowest:.1?}, {:.0?} in all, seed {seed}",
            format.name,
            panics.len(),
            begin.elapsed()
        );
        panics.iter().take(3).for_each(|text| println!("  {text:?}"));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    assert_eq!(failures, 0, "inputs that panicked or hung");
}

fn formats() -> Vec<Format> {
    let format = |name, texts, accepts| Format { name, texts, accepts };
    vec![
        format("model", texts("examples/models", "yaml"), |text| parse_model(text, "f").is_ok()),
        format("config", texts("examples/published/configs", "json"), |text| parse_config(text, "f", None).is_ok()),
        format("cluster", texts("examples/clusters", "yaml"), |text| parse_machines(text, "f").is_ok()),
        format("plan", vec![PLAN.to_owned()], |text| parse_plan(text, "f").is_ok()),
        format("profile", texts("examples/profiles", "yaml"), |text| parse_profile(text, "f").is_ok()),
        format("program", texts("ir/tests/cases", "txt"), |text| hetu_ir::text::parse(text).is_ok()),
        format("trace", vec![print_trace(&trace())], |text| parse_trace(text, "f").is_ok()),
    ]
}

/// Files of a folder, long ones cut behind a line.
fn texts(folder: &str, ending: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    let cut = |path| {
        let text = fs::read_to_string(path).unwrap();
        match text.char_indices().find(|&(at, letter)| letter == '\n' && at > BYTES_MAX) {
            Some((at, _)) if ending == "yaml" => text[..=at].to_owned(),
            Some(_) | None => text,
        }
    };
    paths.into_iter().map(cut).collect()
}

/// A step of one rank with one event.
fn trace() -> Trace {
    let event = TraceEvent {
        rank: 0,
        stream: Stream::Compute,
        span: Span { microbatch: Some(0), layer: Some(1), phase: Phase::Forward },
        action: Action::Compute(FragmentId(0)),
        start: Seconds(0.5),
        end: Seconds(1.5),
        confidence: Confidence::Measured,
    };
    let totals = vec![Totals::default()];
    let (step, shares) = (Seconds(2.0), [Seconds(1.0), Seconds::ZERO, Seconds::ZERO]);
    Trace { origin: Origin::Measured, digest: 7, step, events: vec![event], memory: Vec::new(), totals, shares }
}

/// Reads damaged texts on all processors.
fn damaged(format: &Format, count: u64, seed: Seed) -> Tally {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut all = Tally::default();
    thread::scope(|scope| {
        let start = |first| scope.spawn(move || read(format, (first..count).step_by(workers), seed));
        let running: Vec<_> = (0..workers as u64).map(start).collect();
        for worker in running {
            let own = worker.join().unwrap();
            all.inputs += own.inputs;
            all.accepted += own.accepted;
            all.panics.extend(own.panics);
            all.slowest = all.slowest.max(own.slowest);
        }
    });
    all
}

fn read(format: &Format, numbers: impl Iterator<Item = u64>, seed: Seed) -> Tally {
    let mut tally = Tally::default();
    for number in numbers {
        let mut draws = Draws::new(seed.derive_name(format.name).derive(number));
        let text = damage(draws.pick(&format.texts).clone(), &format.texts, &mut draws);
        let begin = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| (format.accepts)(&text))) {
            Ok(is_accepted) => tally.accepted += u64::from(is_accepted),
            Err(_) => tally.panics.push(text),
        }
        tally.inputs += 1;
        tally.slowest = tally.slowest.max(begin.elapsed());
    }
    tally
}

/// A text with one to three places damaged.
fn damage(text: String, others: &[String], draws: &mut Draws) -> String {
    let mut bytes = text.into_bytes();
    for _ in 0..=draws.below(3) {
        let at = draws.below(bytes.len() as u64 + 1) as usize;
        let end = (at + 1 + draws.below(24) as usize).min(bytes.len()).max(at);
        match draws.below(6) {
            0 if at < bytes.len() => bytes[at] = draws.below(256) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].repeat(1 + draws.below(8) as usize);
                drop(bytes.splice(at..at, again));
            }
            3 => drop(bytes.splice(at..end, draws.pick(&ODD).bytes())),
            4 => {
                let other = draws.pick(others).as_bytes();
                let from = draws.below(other.len() as u64 + 1) as usize;
                drop(bytes.splice(at..at, other[from..].iter().take(64).copied()));
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! Every operation on a GPU against the reference: prints a table, and fails if anything disagrees.
//!
//! `gpu_conformance [--seed N] [--device N] [--extent small|medium|large]... [--only TEXT] [--json FILE] [--measured]
//! [--record FILE]`: a record names the sources that ran; it is written if all cases agree.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose results are printed")]

use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use hetu_kernels::cuda::conformance::{Case, Extent, Form, Outcome, record, run, suite};
use hetu_kernels::cuda::{Choice, Device, Error};
use ir::op::{Op, Write};
use serde_json::{Value, json};

/// Work below which a rate says nothing: it is the launch that takes the time.
const SHOWN_BYTES: u64 = 16 << 20;

/// Cases that wait for the device at most: large ones take gigabytes.
const AHEAD: usize = 2;

struct Options {
    seed: u64,
    device: usize,
    extents: Vec<Extent>,
    /// Part of an operation's name; all if empty.
    only: String,
    json: Option<String>,
    record: Option<String>,
    choice: Choice,
}

/// A case that was run.
struct Row {
    case: Case,
    outcome: Result<Outcome, Error>,
}

fn main() -> ExitCode {
    let options = match Options::read(env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };
    match conform(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("{failures} cases disagree");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let mut options = Options {
            seed: now,
            device: 0,
            extents: Vec::new(),
            only: String::new(),
            json: None,
            record: None,
            choice: Choice::Expected,
        };
        while let Some(name) = arguments.next() {
            if name == "--measured" {
                options.choice = Choice::Measured;
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, not {value}"));
            match name.as_str() {
                "--seed" => options.seed = number()?,
                "--device" => options.device = number()? as usize,
                "--only" => options.only = value,
                "--json" => options.json = Some(value),
                "--record" => options.record = Some(value),
                "--extent" => options.extents.push(match value.as_str() {
                    "small" => Extent::Small,
                    "medium" => Extent::Medium,
                    "large" => Extent::Large,
                    _ => return Err(format!("--extent is small, medium or large, not {value}")),
                }),
                _ => return Err(format!("{name} is no option")),
            }
        }
        if options.extents.is_empty() {
            options.extents = vec![Extent::Small, Extent::Medium, Extent::Large];
        }
        Ok(options)
    }
}

/// Runs all cases; how many failed. The reference runs on all processors, ahead of the device.
fn conform(options: &Options) -> Result<usize, Error> {
    let device = Device::open(options.device)?.choosing(options.choice.clone());
    println!("{}, {} processors, seed {}", device.name(), device.processors(), options.seed);
    println!(
        "{:<24} {:<6} {:<6} {:<40} {:>9} {:>7} {:>10} {:>9} {:>8}",
        "op", "stored", "write", "shape", "error", "bound", "time", "GB/s", "TFLOP/s"
    );
    let forms = options.extents.iter().flat_map(|&extent| suite(extent, options.seed));
    let forms: Vec<Form> = forms.filter(|form| form.kernel().op.name().contains(&options.only)).collect();
    let count = forms.len();
    let forms = Mutex::new(forms.into_iter());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = sync_channel(AHEAD);
    let rows = thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, forms) = (sender.clone(), &forms);
            scope.spawn(move || {
                loop {
                    let next = forms.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(form) = next else { break };
                    let case = form.case();
                    let expected = case.expected();
                    if sender.send((case, expected)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut rows = Vec::with_capacity(count);
        for (case, expected) in receiver {
            let outcome = run(&device, &case, &expected);
            let row = Row { case, outcome };
            println!("{}", row.line());
            rows.push(row.record());
        }
        rows
    });
    let failures = rows.iter().filter(|row| row["passed"] != Value::Bool(true)).count();
    println!("{} of {count} cases agree (seed {})", rows.len() - failures, options.seed);
    if let Some(path) = &options.json {
        let record = json!({ "format": 1, "device": device.name(), "seed": options.seed, "cases": rows });
        if let Err(error) = fs::write(path, format!("{record:#}\n")) {
            eprintln!("{path} cannot be written: {error}");
        }
    }
    if let Some(path) = options.record.as_ref().filter(|_| failures == 0 && options.only.is_empty()) {
        let head = format!("# {} cases agreed on {}, seed {}.", rows.len(), device.name(), options.seed);
        let text = [vec![head], record::lines(), vec![String::new()]].concat().join("\n");
        if let Err(error) = fs::write(path, text) {
            eprintln!("{path} cannot be written: {error}");
        }
    }
    Ok(failures + count.abs_diff(rows.len()))
}

impl Row {
    fn passes(&self) -> bool {
        let within =
            |outcome: &Outcome| outcome.errors.iter().zip(&self.case.tolerances).all(|(error, most)| error <= most);
        self.outcome.as_ref().is_ok_and(|it| within(it) && it.faults.is_empty())
    }

    /// The output that is nearest to its bound, or farthest past it: its error and its bound.
    fn worst(&self, outcome: &Outcome) -> (f64, f64) {
        let pairs = outcome.errors.iter().copied().zip(self.case.tolerances.iter().copied());
        pairs.max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1))).unwrap_or((0.0, 1.0))
    }

    fn stored(&self) -> &'static str {
        let kernel = &self.case.kernel;
        // An update is told by its copy, and a product's factors tell more than its result.
        let operand = if let Op::AdamW { .. } = kernel.op {
            kernel.results().last()
        } else {
            kernel.inputs.get(1).or(kernel.inputs.first()).or_else(|| kernel.results().next())
        };
        operand.map_or("", |operand| operand.element.name())
    }

    fn line(&self) -> String {
        let kernel = &self.case.kernel;
        let adds = kernel.outputs.iter().any(|output| output.write == Write::Accumulate);
        let write = if adds { "adds" } else { "" };
        let head = format!("{:<24} {:<6} {write:<6} {:<40}", kernel.op.name(), self.stored(), self.case.shape());
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(error) => return format!("{head} FAILED: {error}"),
        };
        let (error, most) = self.worst(outcome);
        let seconds = outcome.time.0;
        let mut line = format!("{head} {error:>9.1e} {most:>7.0e} {:>7.1} us", seconds * 1e6);
        if kernel.bytes().0 >= SHOWN_BYTES {
            let (bytes, flops) = (kernel.bytes().0 as f64, kernel.flops().0);
            line += &format!(" {:>9.0} {:>8.1}", bytes / seconds / 1e9, flops / seconds / 1e12);
        }
        if outcome.errors.iter().zip(&self.case.tolerances).any(|(error, most)| error > most) {
            line += " DISAGREES";
        }
        line.extend(outcome.faults.iter().map(|fault| format!(" {}", format!("{fault:?}").to_uppercase())));
        line
    }

    fn record(&self) -> Value {
        let kernel = &self.case.kernel;
        let mut record = json!({
            "op": kernel.op.name(),
            "element": self.stored(),
            "write": format!("{:?}", kernel.outputs.last().map_or(Write::Replace, |output| output.write)),
            "shape": self.case.shape(),
            "passed": self.passes(),
            "bytes": kernel.bytes().0,
            "flops": kernel.flops().0,
        });
        match &self.outcome {
            Ok(outcome) => {
                record["errors"] = json!(outcome.errors);
                record["bounds"] = json!(self.case.tolerances);
                record["faults"] = json!(outcome.faults.iter().map(|fault| format!("{fault:?}")).collect::<Vec<_>>());
                record["seconds"] = json!(outcome.time.0);
            }
            Err(error) => record["failed"] = json!(error.to_string()),
        }
        record
    }
}

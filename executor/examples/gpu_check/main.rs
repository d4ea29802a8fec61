//! Trainings on GPUs against the same on CPU ranks, and how fast a larger one is. Prints a line a plan, and fails if
//! losses disagree.
//!
//! `gpu_check [--gpus N] [--only TEXT] [--skip-checks] [--skip-speed] [--dry] [--list]
//! [--limit SECONDS] [--seconds SECONDS]`
//!
//! Plans run in a process of their own, which is ended and started again behind the plan that it is stuck in or dies
//! of. A
//! case that prints nothing for `--limit` is such; after `--seconds` no other case is begun. `--only` takes the cases
//! whose names have a text in them. `--dry` runs the CPU's part alone, with every plan on the CPU.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose results are printed")]

mod cases;
mod check;
mod speed;

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use cases::{Case, cases};
use check::run;

/// A child that prints nothing for so long is ended.
const LIMIT: u64 = 240;
/// What begins a line that tells the parent which case is next.
const MARK: &str = "@case ";
const FAILED: &str = "FAILED";

fn main() -> ExitCode {
    let options = match Options::read(env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };
    let cases = cases(&options);
    match options.role {
        Role::List => {
            cases.iter().enumerate().for_each(|(index, case)| println!("{index} {}", case.name()));
            ExitCode::SUCCESS
        }
        Role::Child { from } => {
            run(&options, &cases, from);
            ExitCode::SUCCESS
        }
        Role::Parent => lead(&options, &cases),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Parent,
    Child { from: usize },
    List,
}

/// What GPUs are asked to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Checks,
    Speed,
    Both,
}

/// Who runs what should run on GPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Gpus,
    Cpu,
}

struct Options {
    gpus: u32,
    only: String,
    wanted: Wanted,
    target: Target,
    limit: u64,
    seconds: u64,
    role: Role,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            gpus: 1,
            only: String::new(),
            wanted: Wanted::Both,
            target: Target::Gpus,
            limit: LIMIT,
            seconds: u64::MAX,
            role: Role::Parent,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
            match name.as_str() {
                "--gpus" => options.gpus = number(value()?)? as u32,
                "--only" => options.only = value()?,
                "--limit" => options.limit = number(value()?)?,
                "--seconds" => options.seconds = number(value()?)?,
                "--child" => options.role = Role::Child { from: number(value()?)? as usize },
                "--list" => options.role = Role::List,
                "--dry" => (options.target, options.wanted) = (Target::Cpu, Wanted::Checks),
                "--skip-checks" => options.wanted = Wanted::Speed,
                "--skip-speed" => options.wanted = Wanted::Checks,
                _ => return Err(format!("{name} is no option; see the head of gpu_check.rs")),
            }
        }
        if ![1, 2, 4, 8].contains(&options.gpus) {
            return Err(format!("--gpus is 1, 2, 4 or 8, not {}", options.gpus));
        }
        Ok(options)
    }
}

// ---- The parent: children, one after the other.

fn lead(options: &Options, cases: &[Case]) -> ExitCode {
    let begin = Instant::now();
    let (mut next, mut failures, mut begun) = (0, Vec::new(), cases.len());
    while next < cases.len() {
        let mut child = match spawn(next) {
            Ok(child) => child,
            Err(error) => {
                eprintln!("no child process: {error}");
                return ExitCode::FAILURE;
            }
        };
        let lines = lines(&mut child);
        let mut current = next;
        let ended = loop {
            match lines.recv_timeout(Duration::from_secs(options.limit)) {
                Ok(line) => {
                    if let Some(index) = line.strip_prefix(MARK).and_then(|it| it.parse::<usize>().ok()) {
                        current = index;
                        if begin.elapsed().as_secs() >= options.seconds {
                            drop(child.kill());
                            drop(child.wait());
                            begun = current;
                            println!("not begun, as the time is up: {} cases", cases.len() - begun);
                            break true;
                        }
                        continue;
                    }
                    if line.contains(FAILED) {
                        failures.push(line.clone());
                    }
                    println!("{line}");
                }
                Err(RecvTimeoutError::Disconnected) => break child.wait().is_ok_and(|status| status.success()),
                Err(RecvTimeoutError::Timeout) => {
                    drop(child.kill());
                    drop(child.wait());
                    break false;
                }
            }
        };
        if ended {
            break;
        }
        let name = cases.get(current).map(Case::name).unwrap_or_default();
        let line = format!("{name:<78} {FAILED}: the process hung or died");
        println!("{line}");
        failures.push(line);
        next = current + 1;
    }
    println!(
        "\n{begun} of {} cases run, {} failed, {:.0} s",
        cases.len(),
        failures.len(),
        begin.elapsed().as_secs_f64()
    );
    failures.iter().for_each(|line| println!("  {line}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn spawn(from: usize) -> std::io::Result<Child> {
    let arguments = env::args().skip(1).chain(["--child".to_owned(), from.to_string()]);
    Command::new(env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()
}

fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

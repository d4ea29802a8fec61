//! `hetu-profile`: measures what work takes on this machine.

mod options;
mod store;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use hetu_profiler::catalogue::{Catalogue, label};
use hetu_profiler::measure::End;
use hetu_profiler::{Error, Limits, Request, Watcher, calibrated, gpu, measure, summary};
use indicatif::{ProgressBar, ProgressStyle};
use ir::cluster::{Cluster, Execution};
use ir::model::Model;
use ir::profile::{Profile, Sample};
use ir::units::Seconds;

use options::{ClusterOptions, Command, Devices, Options};

/// As shells say that a program was interrupted.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match (options.completions, options.command) {
        (Some(shell), _) => {
            clap_complete::generate(shell, &mut Options::command(), "hetu-profile", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        (None, Some(Command::Cluster(options))) => cluster(&options),
        (None, None) => {
            eprintln!("error: nothing to do\n  help: hetu-profile cluster");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let text = format!("{error:#}");
            eprintln!("{}{text}", if text.starts_with("error: ") { "" } else { "error: " });
            ExitCode::FAILURE
        }
    }
}

fn cluster(options: &ClusterOptions) -> Result<ExitCode> {
    executor::prepare_gpus();
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst)).context("cannot listen to Ctrl-C")?;
    let cluster = detected(options)?;
    let catalogue = catalogue(options, &cluster)?;
    let device = &cluster.device.name;
    let mut known = match (options.again, &options.only) {
        (true, None) => store::empty(device),
        (true, Some(_)) | (false, _) => store::known(&options.output, device)?,
    };
    if options.again {
        let again = catalogue.works();
        known.samples.retain(|sample| !again.contains(&sample.work));
    }
    let limits = limits(options, &cluster);
    let mut watch = Watch { path: &options.output, bar: bar(), stopped: &stopped, noisy: 0 };
    let findings = measure(Request { cluster: &cluster, catalogue: &catalogue, limits, known }, &mut watch)?;
    watch.bar.finish_and_clear();
    store::save(&options.output, &findings.profile)?;
    if watch.noisy > NOISY_SHOWN {
        eprintln!("and {} more noisy measurements", watch.noisy - NOISY_SHOWN);
    }
    if findings.end == End::Stopped {
        eprintln!("stopped: {} new measurements are kept in {}", findings.measured, options.output.display());
        return Ok(ExitCode::from(INTERRUPTED));
    }
    show(&if options.json {
        serde_json::to_string_pretty(&findings.profile)? + "\n"
    } else {
        heading(&cluster) + &summary(&catalogue, &findings.profile)
    });
    if findings.left > 0 {
        eprintln!("no time for {} more; their times will be interpolated (--budget gives more time)", findings.left);
    }
    let mut written = format!("{} ({} new measurements)", options.output.display(), findings.measured);
    if let Some(path) = &options.cluster_out {
        let cluster = calibrated(&cluster, &catalogue, &findings.profile);
        store::write(path, &ir::file::print_cluster(&cluster))?;
        written.push_str(&format!(" and {}", path.display()));
    }
    if options.json {
        eprintln!("Wrote {written}");
    } else {
        show(&format!("Wrote {written}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a result. A reader that went away has seen enough.
fn show(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn catalogue(options: &ClusterOptions, cluster: &Cluster) -> Result<Catalogue> {
    let mut catalogue = match &options.model {
        Some(path) => Catalogue::of_model(&model(path)?, cluster),
        None => Catalogue::general(cluster),
    };
    if let Some(text) = &options.only {
        catalogue.retain(|label| label.contains(text.as_str()));
    }
    Ok(catalogue)
}

fn model(path: &Path) -> Result<Model> {
    if !path.exists()
        && let Ok(model) = Model::preset(&path.to_string_lossy())
    {
        return Ok(model);
    }
    let name = path.display().to_string();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    Ok(ir::file::parse_model(ir::file::decode(&bytes, &name)?, &name)?)
}

/// The GPUs of this machine if there are any, or as the user says.
fn detected(options: &ClusterOptions) -> Result<Cluster> {
    let found = || if gpu::are_there() { Devices::Cuda } else { Devices::Cpu };
    match options.devices.unwrap_or_else(found) {
        Devices::Cuda => Ok(gpu::detect(options.ranks)?),
        Devices::Cpu => Ok(machine::detect(options.ranks)),
    }
}

fn limits(options: &ClusterOptions, cluster: &Cluster) -> Limits {
    let limits = match (options.quick, cluster.device.execution) {
        (true, _) => Limits::QUICK,
        (false, Execution::Concurrent) => Limits::GPU,
        (false, Execution::Shared { .. }) => Limits::FULL,
    };
    Limits { budget: options.budget.map_or(limits.budget, Seconds), ..limits }
}

fn heading(cluster: &Cluster) -> String {
    let ir::cluster::Device { name, execution, memory, .. } = &cluster.device;
    let ranks = cluster.devices_per_node;
    match execution {
        Execution::Shared { cores } => format!("Machine   {name}, {cores} cores, {ranks} ranks of {memory}\n\n"),
        Execution::Concurrent => format!("Machine   {ranks} x {name} of {memory}\n\n"),
    }
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {eta} left  {wide_msg}");
    ProgressBar::new(1000).with_style(style.expect("the template is valid"))
}

/// More are only counted.
const NOISY_SHOWN: usize = 5;

struct Watch<'a> {
    path: &'a Path,
    bar: ProgressBar,
    stopped: &'a AtomicBool,
    noisy: usize,
}

impl Watcher for Watch<'_> {
    fn starts(&mut self, what: &str, done: f64) {
        self.bar.set_message(what.to_owned());
        self.bar.set_position((done * 1000.0) as u64);
    }

    fn grown(&mut self, profile: &Profile) -> Result<(), Error> {
        store::save(self.path, profile)
    }

    fn noisy(&mut self, sample: &Sample) {
        self.noisy += 1;
        if self.noisy <= NOISY_SHOWN {
            let Sample { work, median, spread, .. } = sample;
            self.bar.suspend(|| eprintln!("noisy: {} took {median:.1} ± {spread:.1}", label(work)));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

//! `hetu-profile`: measures what work takes on this machine.

mod options;
mod store;

use std::io::{ErrorKind, IsTerminal, Write};
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
    if let Some(folder) = &options.man {
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(Options::command(), folder))
            .map(|()| ExitCode::SUCCESS);
        return written.unwrap_or_else(|error| {
            note(&format!("error: {}: cannot be written: {error}", folder.display()));
            ExitCode::from(2)
        });
    }
    let outcome = match (options.completions, options.command) {
        (Some(shell), _) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Options::command(), "hetu-profile", &mut text);
            show(&text).map(|()| ExitCode::SUCCESS)
        }
        (None, Some(Command::Cluster(options))) => cluster(&options),
        (None, None) => {
            note("error: nothing to do\n  help: hetu-profile cluster");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let (code, error) = match error.downcast::<WrongUse>() {
                Ok(WrongUse(error)) => (ExitCode::from(2), error),
                Err(error) => (ExitCode::FAILURE, error),
            };
            let text = format!("{error:#}");
            note(&format!("{}{text}", if text.starts_with("error: ") { "" } else { "error: " }));
            code
        }
    }
}

/// Something to be changed in a flag or file, not a failure on the way.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct WrongUse(anyhow::Error);

fn wrong_use(error: impl Into<anyhow::Error>) -> anyhow::Error {
    WrongUse(error.into()).into()
}

/// A line on standard error; if nobody listens, it is lost.
fn note(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
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
        (true, Some(_)) | (false, _) => store::known(&options.output, device).map_err(wrong_use)?,
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
        note(&format!("and {} more noisy measurements", watch.noisy - NOISY_SHOWN));
    }
    if findings.end == End::Stopped {
        note(&format!("stopped: {} new measurements are kept in {}", findings.measured, options.output.display()));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let text = if options.json {
        serde_json::to_string_pretty(&findings.profile)? + "\n"
    } else {
        heading(&cluster) + &summary(&catalogue, &findings.profile)
    };
    let mut shown = show(text.as_bytes());
    if findings.left > 0 {
        note(&format!(
            "no time for {} more; their times will be interpolated (--budget gives more time)",
            findings.left
        ));
    }
    let mut written = format!("{} ({} new measurements)", options.output.display(), findings.measured);
    if let Some(path) = &options.cluster_out {
        let cluster = calibrated(&cluster, &catalogue, &findings.profile);
        store::write(path, &ir::file::print_cluster(&cluster))?;
        written.push_str(&format!(" and {}", path.display()));
    }
    if options.json {
        note(&format!("Wrote {written}"));
    } else {
        shown = shown.and(show(format!("Wrote {written}\n").as_bytes()));
    }
    // Said last: what was measured is kept.
    shown.map(|()| ExitCode::SUCCESS)
}

/// Prints a result. A reader that went away has seen enough; what could not be written for another reason is missing.
fn show(text: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn catalogue(options: &ClusterOptions, cluster: &Cluster) -> Result<Catalogue> {
    let mut catalogue = match &options.model {
        Some(path) => {
            let model = model(path)?;
            runs_on(&model, cluster)?;
            Catalogue::of_model(&model, cluster)
        }
        None => Catalogue::general(cluster),
    };
    if let Some(text) = &options.only {
        catalogue.retain(|label| label.contains(text.as_str()));
    }
    Ok(catalogue)
}

/// Windows and heads of encoders have no kernels on GPUs. Micro-programs have one block between the outer layers, which
/// is not enough for a decoder that looks at an encoder.
fn runs_on(model: &Model, cluster: &Cluster) -> Result<()> {
    if model.decoder.is_some() {
        let help = "plan for it by the description of the devices, without --profile";
        return Err(wrong_use(anyhow::anyhow!("{}: an encoder with a decoder is not measured; {help}", model.name)));
    }
    if model.family.is_decoder() || matches!(cluster.device.execution, Execution::Shared { .. }) {
        return Ok(());
    }
    let (name, family) = (&model.name, model.family.name());
    let help = "plan for it by the description of the devices, without --profile";
    Err(wrong_use(anyhow::anyhow!("{name}: GPUs have no kernels of the family `{family}`; {help}")))
}

fn model(path: &Path) -> Result<Model> {
    if !path.exists()
        && let Ok(model) = Model::preset(&path.to_string_lossy())
    {
        return Ok(model);
    }
    let path = if path.is_dir() { &path.join("config.json") } else { path };
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}")).map_err(wrong_use)?;
    let text = ir::file::read(file, ir::file::FILE_MAX, &name).map_err(wrong_use)?;
    ir::file::parse_model(&text, &name).map_err(wrong_use)
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
            self.bar.suspend(|| note(&format!("noisy: {} took {median:.1} ± {spread:.1}", label(work))));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_measure_decoders_only() {
        let model = |name| Model::preset(name).expect("it is shipped");
        let gpus = Cluster::preset("8xH100").expect("it is shipped");
        assert!(runs_on(&model("llama-1b"), &gpus).is_ok());
        let error = runs_on(&model("bert-large"), &gpus).expect_err("it has no kernels there");
        assert!(error.to_string().starts_with("bert-large: GPUs have no kernels of the family `bert`"), "{error}");
        assert!(runs_on(&model("bert-large"), &Cluster::preset("4xCPU").expect("it is shipped")).is_ok());
        let error =
            runs_on(&model("t5-3b"), &Cluster::preset("4xCPU").expect("it is shipped")).expect_err("it is a pair");
        assert!(error.to_string().starts_with("t5-3b: an encoder with a decoder is not measured"), "{error}");
    }
}

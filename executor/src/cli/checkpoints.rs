//! The folder of checkpoints: the last two, and what a training that goes on must have in common with them.

use std::fs;
use std::path::{Path, PathBuf};

use hetu_executor::Session;
use ir::file::{Digest, digest};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Outcome};
use super::feed::text_path;
use super::inputs::Inputs;
use crate::options::Options;

const RUN_NAME: &str = "run.json";
const KEPT: usize = 2;

/// A folder of checkpoints of one training.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    run: Run,
}

/// What decides which tokens a step reads.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Run {
    format: u32,
    model: String,
    seed: u64,
    batch: u64,
    sequence: u64,
    tokenizer: String,
    held_out: String,
    /// Of the text's content.
    text: Digest,
}

impl Checkpoints {
    /// The folder of `--checkpoint`, if one was given. Without `--resume` it must hold no checkpoint yet.
    pub(crate) fn open(options: &Options, inputs: &Inputs) -> Outcome<Option<Checkpoints>> {
        let Some(folder) = options.checkpoint.clone() else { return Ok(None) };
        let checkpoints = Checkpoints { run: Run::of(options, inputs)?, folder };
        if let Some((step, path)) = checkpoints.found().last()
            && !options.resume
        {
            let what = format!("{}: there is a training of {step} steps already", path.display());
            return Err(Failure::wrong_use(what).help("add --resume to go on with it, or give another folder"));
        }
        Ok(Some(checkpoints))
    }

    /// Goes on from the last checkpoint. Gives back where it was found.
    pub(crate) fn resume(&self, session: &mut Session, steps: u64) -> Outcome<PathBuf> {
        let Some((_, path)) = self.found().pop() else {
            let what = format!("{}: there is no checkpoint to go on from", self.folder.display());
            return Err(Failure::wrong_use(what).help("leave out --resume to begin a training"));
        };
        self.check_run()?;
        session.resume(&path).map_err(Failure::wrong_use)?;
        if session.steps_done() >= steps {
            let done = session.steps_done();
            return Err(Failure::wrong_use(format!("{}: {done} of {steps} steps are done", path.display()))
                .help("ask for more: --steps counts those before the checkpoint"));
        }
        Ok(path)
    }

    /// Saves a checkpoint, then removes all but the last. Gives back where it is.
    pub(crate) fn save(&self, session: &Session) -> Outcome<PathBuf> {
        self.save_run().map_err(|error| Failure::run(format!("{}: {error}", self.folder.display())))?;
        let path = self.folder.join(format!("step-{:06}.safetensors", session.steps_done()));
        session.save(&path).map_err(Failure::run)?;
        let found = self.found();
        for (_, old) in found.iter().take(found.len().saturating_sub(KEPT)) {
            // One that stays only takes room.
            let _ = fs::remove_file(old);
        }
        Ok(path)
    }

    /// Checkpoints in the folder with their steps, the last one last.
    fn found(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<(u64, PathBuf)> =
            entries.filter_map(|entry| Some((step_of(&entry.path())?, entry.path()))).collect();
        found.sort();
        found
    }

    fn save_run(&self) -> std::io::Result<()> {
        let partial = self.folder.join("run.partial");
        let text = serde_json::to_string(&self.run).expect("words and numbers have a JSON form");
        fs::write(&partial, text + "\n")?;
        fs::rename(&partial, self.folder.join(RUN_NAME))
    }

    /// A training that goes on reads what it would have read.
    fn check_run(&self) -> Outcome<()> {
        let path = self.folder.join(RUN_NAME);
        let wrong = |what: String| Failure::wrong_use(format!("{}: {what}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let run: Run = serde_json::from_str(&text).map_err(|error| wrong(format!("not written here: {error}")))?;
        if run == self.run {
            return Ok(());
        }
        let rows = |run: &Run| {
            [
                ("model", run.model.clone()),
                ("--seed", run.seed.to_string()),
                ("batch", run.batch.to_string()),
                ("sequence", run.sequence.to_string()),
                ("--tokenizer", run.tokenizer.clone()),
                ("--held-out", run.held_out.clone()),
                ("content of --text", run.text.to_string()),
            ]
        };
        let differ = rows(&run).into_iter().zip(rows(&self.run)).filter(|(then, now)| then != now);
        let words: Vec<String> =
            differ.map(|((name, then), (_, now))| format!("{name} was {then}, is {now}")).collect();
        Err(wrong(format!("the training was another one: {}", words.join("; ")))
            .help("give what was given then, or begin a training in another folder"))
    }
}

impl Run {
    fn of(options: &Options, inputs: &Inputs) -> Outcome<Run> {
        let path = text_path(options)?;
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::wrong_use(format!("{}: cannot be read: {error}", path.display())))?;
        Ok(Run {
            format: 1,
            model: inputs.model.name.clone(),
            seed: options.seed,
            batch: inputs.plan.batch,
            sequence: inputs.model.sequence,
            tokenizer: options.tokenizer.display().to_string(),
            held_out: options.held_out.to_string(),
            text: digest(&text),
        })
    }
}

/// The step in `step-000200.safetensors`.
fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

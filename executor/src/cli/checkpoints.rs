//! The checkpoints of `--checkpoint`: when to go on from one, and what a training must have in common with it.

use std::path::PathBuf;

use hetu_executor::{CheckpointError, Folder, Freedom, Identity, Saving, Session, World};
use ir::model::{Bias, Embeddings, Model, Precision};
use ir::op::Scaling;

use super::failure::{Failure, Outcome};
use super::feed::Sources;
use super::inputs::Inputs;
use crate::options::{Options, Resume};

/// What `--allow` can name.
pub(crate) const NAMES: [&str; 12] = [
    "learning-rate",
    "warmup-steps",
    "weight-decay",
    "betas",
    "epsilon",
    "gradient-norm-max",
    "batch",
    "steps",
    "seed",
    "text",
    "tokenizer",
    "held-out",
];

/// A folder of checkpoints of one training.
pub(crate) struct Checkpoints {
    folder: Folder,
    identity: Identity,
    /// The step of the last one that this run wrote or began with, and where it is.
    last: Option<(u64, PathBuf)>,
    /// One that is written beside the training.
    under_way: Option<Saving>,
}

/// The folder of `--checkpoint`, if one was given. Without `--resume` it must hold no checkpoint yet.
pub(crate) fn open(options: &Options, world: &mut dyn World) -> Outcome<Option<Folder>> {
    let Some(path) = &options.checkpoint else { return Ok(None) };
    let folder = Folder::open(path, world).map_err(failure)?;
    if let Some(steps) = folder.last(world).map_err(failure)?
        && options.resume.is_none()
    {
        let what = format!("{}: there is a training of {steps} steps already", path.display());
        return Err(Failure::wrong_use(what).help("add --resume to go on with it, or give another folder"));
    }
    Ok(Some(folder))
}

impl Checkpoints {
    /// Of this training.
    pub(crate) fn new(folder: Folder, options: &Options, inputs: &Inputs, sources: &Sources) -> Checkpoints {
        Checkpoints { folder, identity: identity(options, inputs, sources), last: None, under_way: None }
    }

    /// Goes on from the last good checkpoint. Gives back where it was found, or none where a training begins, and what
    /// the user should know.
    pub(crate) fn resume(
        &mut self,
        session: &mut Session,
        options: &Options,
        world: &mut dyn World,
    ) -> Outcome<(Option<PathBuf>, Vec<String>)> {
        match options.resume {
            None => return Ok((None, Vec::new())),
            Some(Resume::Auto) if self.folder.last(world).map_err(failure)?.is_none() => return Ok((None, Vec::new())),
            Some(Resume::Auto | Resume::Last) => {}
        }
        let resumed = self.folder.resume(session, (&self.identity, &options.allow), world).map_err(failure)?;
        let (done, path) = (session.steps_done(), resumed.path);
        // Who is started again by one command may have been killed behind the last save: then all is done.
        let is_end = done == options.steps && options.resume == Some(Resume::Auto);
        if done >= options.steps && !is_end {
            let what = format!("{}: {done} of {} steps are done", path.display(), options.steps);
            return Err(Failure::wrong_use(what)
                .help("ask for more, with --steps and --allow steps: --steps counts those before the checkpoint"));
        }
        self.last = Some((done, path.clone()));
        let note = |words: String| format!("{words}; an earlier checkpoint is taken, this one is set aside");
        Ok((Some(path), resumed.left_out.into_iter().map(note).collect()))
    }

    /// Begins to save a checkpoint from a copy in memory, beside the training. None other is under way.
    pub(crate) fn begin(&mut self, session: &Session, world: &mut dyn World) -> Result<(), CheckpointError> {
        assert!(self.under_way.is_none(), "one copy at a time is in memory");
        self.under_way = Some(self.folder.save_beside(session, &self.identity, world)?);
        Ok(())
    }

    /// Whether something is being written beside the training.
    pub(crate) fn is_writing(&self) -> bool {
        self.under_way.as_ref().is_some_and(|saving| !saving.is_written())
    }

    /// The step of the checkpoint that was begun and is not yet one.
    pub(crate) fn under_way(&self) -> Option<u64> {
        self.under_way.as_ref().map(Saving::step)
    }

    /// Makes a checkpoint of what was begun, if something was: waits until it is written. Gives back where it is.
    pub(crate) fn finish(&mut self, world: &mut dyn World) -> Result<Option<PathBuf>, CheckpointError> {
        let Some(saving) = self.under_way.take() else { return Ok(None) };
        let step = saving.step();
        let path = self.folder.finish(saving, world)?;
        self.last = Some((step, path.clone()));
        Ok(Some(path))
    }

    /// Saves a checkpoint, if there is none of this step yet, and removes all but the last two. Gives back where it is.
    pub(crate) fn save(&mut self, session: &Session, world: &mut dyn World) -> Result<PathBuf, CheckpointError> {
        let step = session.steps_done();
        if let Some((last, path)) = &self.last
            && *last == step
        {
            return Ok(path.clone());
        }
        let path = self.folder.save(session, &self.identity, world)?;
        self.last = Some((step, path.clone()));
        Ok(path)
    }
}

/// As the tool says it.
pub(crate) fn failure(error: CheckpointError) -> Failure {
    if let CheckpointError::World(error) = error {
        return Failure::run(error);
    }
    let failure = Failure::wrong_use(&error);
    match error {
        CheckpointError::Unlike { remedy: Some(names), .. } => failure.help(format!(
            "give what was given then, or accept the difference: --allow {}; or begin a training in another folder",
            names.join(",")
        )),
        CheckpointError::Unlike { remedy: None, .. } => {
            failure.help("give what was given then, or begin a training in another folder")
        }
        CheckpointError::Taken { .. } => failure.help("give another folder, or wait for the end of the other run"),
        CheckpointError::Nothing { .. } => {
            failure.help("leave out --resume to begin a training, or begin or go on with --resume auto")
        }
        CheckpointError::Earlier { .. } => {
            failure.help("go on with the version that wrote it, or begin a training in another folder")
        }
        CheckpointError::Unseen { .. } => failure.help("give a folder of a file system that all processes share"),
        CheckpointError::AllDamaged { .. } => failure.help("begin a training in another folder"),
        CheckpointError::File { .. } => failure.help("give a folder that you may write, or make room"),
        CheckpointError::Damaged { .. }
        | CheckpointError::Model { .. }
        | CheckpointError::Elsewhere { .. }
        | CheckpointError::World(_) => failure,
    }
}

/// What a training that goes on must have in common, and what is noted for people.
fn identity(options: &Options, inputs: &Inputs, sources: &Sources) -> Identity {
    let Inputs { model, plan, programs, .. } = inputs;
    let training = &model.training;
    let precision = match plan.precision {
        Precision::Full => "f32",
        Precision::Mixed => "bf16",
    };
    model_facts(model)
        .with(Freedom::Named, "learning-rate", training.learning_rate)
        .with(Freedom::Named, "warmup-steps", training.warmup_steps)
        .with(Freedom::Named, "weight-decay", training.weight_decay)
        .with(Freedom::Named, "betas", format!("{:?}", training.betas))
        .with(Freedom::Named, "epsilon", training.epsilon)
        .with(Freedom::Named, "gradient-norm-max", training.gradient_norm_max)
        .with(Freedom::Named, "batch", plan.batch)
        .with(Freedom::Named, "steps", options.steps)
        .with(Freedom::Named, "seed", options.seed)
        .with(Freedom::Named, "text", format!("of digest {}", sources.text))
        .with(Freedom::Named, "tokenizer", &sources.tokenizer)
        .with(Freedom::Named, "held-out", options.held_out)
        .with(Freedom::Free, "name", &model.name)
        .with(Freedom::Free, "plan", format!("{:016x}", programs.digest()))
        .with(Freedom::Free, "precision", precision)
}

fn model_facts(model: &Model) -> Identity {
    let embeddings = match model.embeddings {
        Embeddings::Tied => "tied",
        Embeddings::Untied => "untied",
    };
    let identity = Identity::default()
        .with(Freedom::Fixed, "family", model.family.name())
        .with(Freedom::Fixed, "layers", model.layers)
        .with(Freedom::Fixed, "hidden", model.hidden)
        .with(Freedom::Fixed, "heads", model.heads)
        .with(Freedom::Fixed, "key_value_heads", model.groups())
        .with(Freedom::Fixed, "feed_forward", model.feed_forward)
        .with(Freedom::Fixed, "vocabulary", model.vocabulary)
        .with(Freedom::Fixed, "sequence", model.sequence)
        .with(Freedom::Fixed, "embeddings", embeddings)
        .with(Freedom::Fixed, "rotary_base", model.rotary_base)
        .with(Freedom::Fixed, "norm_epsilon", model.norm_epsilon);
    further_facts(identity, model)
}

/// Facts that models did not have from the start: noted where they are not what was meant before.
fn further_facts(mut identity: Identity, model: &Model) -> Identity {
    if let Some(size) = model.head_size {
        identity = identity.with(Freedom::Fixed, "head_size", size);
    }
    if model.attention_bias == Bias::Present {
        identity = identity.with(Freedom::Fixed, "attention_bias", "present");
    }
    if let Some(scaling) = model.rotary_scaling {
        let Scaling { factor, low_frequency_factor, high_frequency_factor, original_sequence } = scaling;
        let words = format!(
            "{{ factor: {factor}, low_frequency_factor: {low_frequency_factor}, high_frequency_factor: \
             {high_frequency_factor}, original_sequence: {original_sequence} }}"
        );
        identity = identity.with(Freedom::Fixed, "rotary_scaling", words);
    }
    identity
}

//! The text, as batches: to train on, and held out.

use std::path::Path;

use hetu_executor::Batch;
use hetu_executor::data::batch::{Rows, fill};
use hetu_executor::data::corpus::{Corpus, CorpusError, Split, Windows, read_text};
use hetu_executor::data::order::Order;
use hetu_executor::data::tokens::Tokenizer;
use ir::file::{Digest, digest};
use ir::seed::Seed;
use ir::units::Bytes;

use super::failure::{Failure, Outcome};
use super::inputs::Inputs;
use super::memory;
use crate::options::Options;

/// Windows in the order of steps.
pub(crate) struct Feed {
    windows: Windows,
    order: Order,
    inputs: Vec<i32>,
    targets: Vec<i32>,
}

/// What is trained on, and what is held out, if anything is.
pub(crate) struct Feeds {
    pub(crate) training: Feed,
    pub(crate) held_out: Option<Feed>,
    pub(crate) sources: Sources,
}

/// What the tokens came from.
pub(crate) struct Sources {
    /// Of the text's content.
    pub(crate) text: Digest,
    /// `bytes`, or the digest of the tokenizer's content.
    pub(crate) tokenizer: String,
}

/// What trainings that name no text are trained on: novels of Jane Austen, in the public domain.
const SHIPPED: &str = include_str!("../../../examples/text/austen.txt");

/// What the text is called.
pub(crate) fn text_name(options: &Options) -> String {
    match &options.text {
        Some(path) => path.display().to_string(),
        None => "the shipped text, as --text names none".to_owned(),
    }
}

fn text(options: &Options) -> Outcome<String> {
    match &options.text {
        Some(path) => read_text(path).map_err(Failure::wrong_use),
        None => Ok(SHIPPED.to_owned()),
    }
}

/// Reads and cuts the text.
pub(crate) fn read(options: &Options, inputs: &Inputs) -> Outcome<Feeds> {
    let tokenizer = if options.tokenizer == Path::new("bytes") {
        Tokenizer::Bytes
    } else {
        Tokenizer::read(&options.tokenizer).map_err(Failure::wrong_use)?
    };
    let model = inputs.model_path.display();
    let fits = tokenizer.check_fits(inputs.model.vocabulary as usize);
    fits.map_err(|error| Failure::wrong_use(format!("{model}: {error}")))?;
    let split = Split { sequence: inputs.model.sequence as usize, held_out: options.held_out };
    let size = match &options.text {
        Some(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
        None => SHIPPED.len() as u64,
    };
    let needed = Bytes(size.saturating_mul(memory::TEXT_BYTES));
    // What is not free now may be free later; what the machine has not will never be.
    memory::check("the text and its tokens", needed, memory::memory())?;
    let text = text(options)?;
    let sources = Sources {
        text: digest(&text),
        tokenizer: tokenizer.content().map_or("bytes".to_owned(), |content| format!("of digest {content}")),
    };
    let corpus = Corpus::of_text(text, &tokenizer, split).map_err(|error| match &error {
        CorpusError::TooShort { .. } => Failure::wrong_use(format!("{}: {error}", text_name(options))),
        // These name their file, or an option.
        CorpusError::Unreadable { .. }
        | CorpusError::Empty { .. }
        | CorpusError::Tokenizer(_)
        | CorpusError::NoShare { .. }
        | CorpusError::NoSequence => Failure::wrong_use(error),
    });
    let Corpus { training, held_out } = corpus?;
    let batch = inputs.plan.batch as usize;
    let seed = Seed(options.seed).derive_name("order of the text");
    let held_out = (held_out.count() > 0).then(|| Feed::new(held_out, batch, seed));
    Ok(Feeds { training: Feed::new(training, batch, seed), held_out, sources })
}

impl Feed {
    fn new(windows: Windows, batch: usize, seed: Seed) -> Feed {
        let tokens = vec![0; batch * windows.sequence()];
        let order = Order::new(windows.count(), batch, seed);
        Feed { order, inputs: tokens.clone(), targets: tokens, windows }
    }

    /// How many windows there are.
    pub(crate) fn count(&self) -> usize {
        self.windows.count()
    }

    /// How many windows a batch has.
    pub(crate) fn batch_windows(&self) -> u64 {
        self.order.global_batch() as u64
    }

    /// What its tokens take.
    pub(crate) fn bytes(&self) -> usize {
        self.windows.bytes()
    }

    /// What is read in a step, from 0.
    pub(crate) fn batch(&mut self, step: u64) -> Batch<'_> {
        let rows = Rows { step, first: 0, count: self.order.global_batch() };
        fill(&self.windows, &self.order, rows, &mut self.inputs, &mut self.targets);
        Batch { inputs: &self.inputs, patches: &[], source: &[], targets: &self.targets }
    }
    /// A batch whose rows are windows at these places of the order, which has each window once before it repeats.
    pub(crate) fn rows(&mut self, place: &dyn Fn(u64) -> u64) -> Batch<'_> {
        let (batch, sequence) = (self.batch_windows(), self.windows.sequence());
        let rows = self.inputs.chunks_exact_mut(sequence).zip(self.targets.chunks_exact_mut(sequence));
        for (row, (inputs, targets)) in (0..).zip(rows) {
            let place = place(row);
            let window = self.order.window(place / batch, (place % batch) as usize);
            inputs.copy_from_slice(self.windows.inputs(window));
            targets.copy_from_slice(self.windows.targets(window));
        }
        Batch { inputs: &self.inputs, patches: &[], source: &[], targets: &self.targets }
    }
}

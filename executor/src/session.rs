//! A session: programs loaded with their parameters, and one step after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::graph::Element;
use ir::model::Training;
use ir::op::UPDATE_CONSTANTS;
use ir::program::{Buffer, Content, Draft, Programs};
use ir::seed::Seed;
use ir::trace::Trace;
use ir::units::Seconds;
use ir::ways::Ways;
use kernels::adamw;

use crate::among;
use crate::checkpoint::tensor_name;
use crate::cpu::Processor;
use crate::cuda::Gpus;
use crate::fault::{Fault, LoadError};
use crate::host::{Host, Place, Recording};
use crate::measure;
use crate::moves;
use crate::parameters::{self, Quantity};
use crate::rate::learning_rate;
use crate::rows::{Batch, range};
use crate::world::{Processes, World as _};

/// How a session runs and trains.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Constants of the training.
    pub training: Training,
    /// Steps of the whole training: the learning rate falls until then.
    pub steps: u64,
    /// Who runs the ranks.
    pub backend: Backend,
    /// How GPUs compute products; those that it does not name as the library expects to be fastest.
    pub ways: Ways,
    /// A step in which no rank makes progress for so long is ended with [`Fault::Stalled`].
    pub patience: Seconds,
}

/// Who runs the ranks. On CPUs results are the same to the bit; on GPUs sums have another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A thread a rank, in real time.
    Threads,
    /// All ranks in one thread, in some order that the programs allow; freed memory is poisoned.
    Shuffle {
        /// Decides the order.
        seed: u64,
    },
    /// A GPU of this machine for each rank.
    Cuda {
        /// How steps reach it.
        issue: Issue,
    },
}

/// How a step reaches a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// Instruction by instruction.
    Eager,
    /// After the first step all at once, from a recording.
    Recorded,
}

/// Tokens go to a rank in pieces of so many bytes, from the stack: steps allocate nothing.
const TOKEN_BYTES: usize = 1 << 15;

const CONSTANTS_BYTES: usize = UPDATE_CONSTANTS as usize * size_of::<f32>();

/// A whole tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The size of each dimension, outermost first.
    pub shape: Vec<u64>,
    /// Its elements, the last dimension fastest.
    pub values: Vec<f32>,
}

/// Whole tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// Mean loss of the step's tokens, before the update.
    pub loss: f64,
    /// Norm of the whole gradient of the mean loss, before it was clipped.
    pub gradient_norm: f64,
    /// From the first instruction to the last.
    pub time: Seconds,
    /// What ran when; only of a traced step.
    pub trace: Option<Trace>,
}

/// Loaded programs with their parameters.
#[derive(Debug)]
pub struct Session {
    pub(crate) draft: Arc<Draft>,
    digest: u64,
    pub(crate) host: Box<dyn Host>,
    settings: Settings,
    pub(crate) processes: Processes,
    pub(crate) step: u64,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Ended,
}

impl Session {
    /// Allocates everything that steps need, and gives parameters their initial values, which depend on the seed
    /// but not on the plan.
    pub fn load(programs: &Programs, settings: &Settings, seed: Seed) -> Result<Session, LoadError> {
        Session::load_among(programs, settings, seed, &Processes::alone())
    }

    /// The same for programs that are only timed: what is resident begins as small random numbers, whatever it holds,
    /// but for second moments and what the host writes. Devices are faster with numbers that are all alike.
    pub fn load_noise(programs: &Programs, settings: &Settings, seed: Seed) -> Result<Session, LoadError> {
        let mut session = Session::unfilled(programs, settings, &Processes::alone())?;
        parameters::make_noise(&session.draft, &mut *session.host, seed);
        Ok(session)
    }

    /// The same in each of several processes, of which every one runs its part of the ranks. All load the same
    /// sessions in the same order.
    ///
    /// # Errors
    /// As [`Session::load`]; also if ranks cannot be shared out evenly, or processes load unlike programs. An error in
    /// one process ends all.
    pub fn load_among(
        programs: &Programs,
        settings: &Settings,
        seed: Seed,
        processes: &Processes,
    ) -> Result<Session, LoadError> {
        let mut session = Session::unfilled(programs, settings, processes)?;
        parameters::initialise(&session.draft, &mut *session.host, seed);
        Ok(session)
    }

    /// With all that is resident zero.
    fn unfilled(programs: &Programs, settings: &Settings, processes: &Processes) -> Result<Session, LoadError> {
        let draft = Arc::new(programs.draft().clone());
        let digest = programs.digest();
        let mut processes = processes.clone();
        let loaded = host((&draft, digest), settings, &mut processes);
        let host = loaded.inspect_err(|error| processes.fail(&error.to_string()))?;
        Ok(Session { draft, digest, host, settings: settings.clone(), processes, step: 0, state: State::Ready })
    }

    #[cfg(test)]
    pub(crate) fn of_draft(draft: Draft, digest: u64, settings: &Settings, seed: Seed) -> Result<Session, LoadError> {
        let draft = Arc::new(draft);
        let mut processes = Processes::alone();
        let mut host = host((&draft, digest), settings, &mut processes)?;
        parameters::initialise(&draft, &mut *host, seed);
        Ok(Session { draft, digest, host, settings: settings.clone(), processes, step: 0, state: State::Ready })
    }

    /// Does one step. Allocates nothing.
    ///
    /// # Panics
    /// If the batch does not have exactly the tokens of a step.
    pub fn step(&mut self, batch: Batch<'_>) -> Result<StepResult, Fault> {
        let time = self.run(batch, Recording::Nothing)?;
        Ok(self.result(time, None))
    }

    /// Does one step and says what ran when. Allocates only to hand over the trace, after the step.
    ///
    /// # Panics
    /// As [`Session::step`].
    pub fn step_traced(&mut self, batch: Batch<'_>) -> Result<StepResult, Fault> {
        let time = self.run(batch, Recording::Everything)?;
        let own = measure::trace(&self.draft, self.digest, time, &self.host.notes());
        let trace = measure::gather(own, &mut self.processes)?;
        Ok(self.result(time, Some(trace)))
    }

    /// Steps done in this training, including those before a checkpoint that it resumed.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Takes over the parameters of another session of the same model, whatever its plan: so an evaluation follows a
    /// training. All processes do so together. Takes memory for some chunks of them only.
    ///
    /// # Errors
    /// If another process is lost meanwhile.
    ///
    /// # Panics
    /// If the other session is of another model.
    pub fn copy_parameters(&mut self, from: &Session) -> Result<(), Fault> {
        let source = (&*from.draft, &*from.host);
        let lacking = among::hand_over(source, &self.draft, &mut *self.host, &mut self.processes)?;
        if let Some((layer, name)) = lacking {
            panic!("the other session has no parameter `{name}` of this shape in layer {layer}");
        }
        Ok(())
    }

    /// All parameters and moments whole, by names such as `3/attention in matrix` and, for moments,
    /// `3/attention in matrix/first moment`. Takes memory for all of them: for small models, to look at. Elements that
    /// ranks of other processes hold are zero.
    pub fn tensors(&self) -> Tensors {
        let mut tensors = Tensors::new();
        let ranks = self.host.ranks();
        for quantity in Quantity::ALL {
            for part in moves::owned(&self.draft, &ranks, ranks.clone(), quantity) {
                let region = &part.stretch.region;
                let tensor = tensors
                    .entry(tensor_name(part.key(), quantity))
                    .or_insert_with(|| Tensor { shape: region.shape(), values: vec![0.0; region.whole() as usize] });
                for run in part.stretch.runs() {
                    let whole = run.whole as usize..(run.whole + run.length) as usize;
                    part.read(&*self.host, run.local, &mut tensor.values[whole]);
                }
            }
        }
        tensors
    }

    /// Begins a training with these parameters and moments, named as by [`Session::tensors`].
    ///
    /// # Panics
    /// If one that the model has is missing, or of another shape.
    pub fn begin_with(&mut self, tensors: &Tensors) {
        for quantity in Quantity::ALL {
            let parts = moves::all(&self.draft, self.host.ranks(), quantity);
            for part in parts.values().flatten() {
                let name = tensor_name(part.key(), quantity);
                let region = &part.stretch.region;
                let found = tensors.get(&name).filter(|tensor| tensor.shape == region.shape());
                let tensor = found.unwrap_or_else(|| panic!("no tensor `{name}` of the model's shape"));
                for run in part.stretch.runs() {
                    let whole = run.whole as usize..(run.whole + run.length) as usize;
                    part.write(&mut *self.host, run.local, &tensor.values[whole]);
                }
            }
        }
        self.step = 0;
    }

    /// The parameter, as `layer/name`, of the first gradient that was not finite in a step whose gradient norm was not;
    /// none if all on the ranks of this process were, and only their squares too large.
    pub fn first_unsound_gradient(&self) -> Option<String> {
        parameters::first_unsound(&self.draft, &*self.host).map(|(layer, name)| format!("{layer}/{name}"))
    }

    fn run(&mut self, batch: Batch<'_>, recording: Recording) -> Result<Seconds, Fault> {
        if std::mem::replace(&mut self.state, State::Ended) == State::Ended {
            return Err(Fault::Ended);
        }
        self.fill(batch);
        if recording == Recording::Everything {
            // So that the clocks of all processes begin together.
            self.processes.all_say(&[])?;
        }
        let time = self.host.step(recording).inspect_err(|fault| self.processes.fail(&fault.to_string()))?;
        self.step += 1;
        self.state = State::Ready;
        Ok(time)
    }

    /// What updates read of the step to come, as it lies in memory.
    fn constants(&self) -> [u8; CONSTANTS_BYTES] {
        let Settings { training, steps, .. } = &self.settings;
        let [beta1, beta2] = training.betas;
        let step = adamw::Step {
            learning_rate: learning_rate(training, self.step, *steps),
            beta1,
            beta2,
            epsilon: training.epsilon,
            weight_decay: training.weight_decay,
            number: self.step + 1,
            gradient_norm_max: training.gradient_norm_max,
        };
        let mut bytes = [0; CONSTANTS_BYTES];
        let (words, _) = bytes.as_chunks_mut();
        let numbers = adamw::Constants::<f32>::new(&step).numbers();
        words.iter_mut().zip(numbers).for_each(|(word, number)| *word = number.to_ne_bytes());
        bytes
    }

    /// Gives every rank of this process its rows of the batch, and the constants of the step.
    fn fill(&mut self, batch: Batch<'_>) {
        let draft = Arc::clone(&self.draft);
        let tokens = draft.step.tokens() as usize;
        assert_eq!(batch.targets.len(), tokens, "targets of a step");
        let constants = self.constants();
        for rank in self.host.ranks() {
            for buffer in &draft.role(rank).buffers {
                let (source, rows) = match &buffer.content {
                    Content::Tokens(rows) => {
                        assert_eq!(batch.inputs.len(), tokens, "tokens of a step");
                        (batch.inputs, rows)
                    }
                    Content::Patches { rows, numbers } => {
                        let all = u64::from(draft.step.microbatches) * draft.step.sequences * numbers;
                        assert_eq!(batch.patches.len() as u64, all, "numbers of a step");
                        let numbers = &batch.patches[range(&draft, rank, rows, *numbers)];
                        self.write_numbers(rank, Place::of(buffer), numbers);
                        continue;
                    }
                    Content::Source { rows, numbers } => {
                        let all = u64::from(draft.step.microbatches) * draft.step.sequences * numbers;
                        assert_eq!(batch.source.len() as u64, all, "tokens of a step that are read");
                        let tokens = &batch.source[range(&draft, rank, rows, *numbers)];
                        self.write_tokens(rank, buffer.address, tokens);
                        continue;
                    }
                    Content::Targets(rows) => (batch.targets, rows),
                    Content::Constants => {
                        let place = Place { address: buffer.address, bytes: constants.len() as u64 };
                        self.host.write(rank, place, &constants);
                        continue;
                    }
                    Content::Value
                    | Content::Parameters { .. }
                    | Content::Master { .. }
                    | Content::FirstMoment { .. }
                    | Content::SecondMoment { .. }
                    | Content::Boundary
                    | Content::Scalars => continue,
                };
                self.write_tokens(rank, buffer.address, &source[range(&draft, rank, rows, draft.step.sequence)]);
            }
        }
    }

    fn write_tokens(&mut self, rank: u32, mut address: u64, tokens: &[i32]) {
        let mut space = [0; TOKEN_BYTES];
        for tokens in tokens.chunks(TOKEN_BYTES / size_of::<i32>()) {
            let (words, _) = space.as_chunks_mut();
            words.iter_mut().zip(tokens).for_each(|(word, token)| *word = token.to_ne_bytes());
            let bytes = size_of_val(tokens);
            self.host.write(rank, Place { address, bytes: bytes as u64 }, &space[..bytes]);
            address += bytes as u64;
        }
    }

    /// Writes numbers as they are computed with.
    fn write_numbers(&mut self, rank: u32, place: Place, numbers: &[f32]) {
        let is_master = |buffer: &Buffer| matches!(buffer.content, Content::Master { .. });
        let is_mixed = self.draft.role(rank).buffers.iter().any(is_master);
        let element = if is_mixed { Element::Bf16 } else { Element::F32 };
        let mut space = [0; TOKEN_BYTES];
        let mut address = place.address;
        for numbers in numbers.chunks(TOKEN_BYTES / size_of::<f32>()) {
            let bytes = numbers.len() * element.bytes() as usize;
            parameters::encode(element, numbers, 1, &mut space[..bytes]);
            self.host.write(rank, Place { address, bytes: bytes as u64 }, &space[..bytes]);
            address += bytes as u64;
        }
    }

    /// The sums over all ranks, which every rank has at the end of a step.
    fn result(&self, time: Seconds, trace: Option<Trace>) -> StepResult {
        let rank = self.host.ranks().start;
        let buffers = &self.draft.role(rank).buffers;
        let scalars = buffers.iter().find(|buffer| buffer.content == Content::Scalars).expect("every role has scalars");
        let [loss, square_norm] = [0, 1].map(|index| {
            let mut word = [0; size_of::<f32>()];
            let bytes = word.len() as u64;
            self.host.read(rank, Place { address: scalars.address + index * bytes, bytes }, &mut word);
            f64::from(f32::from_ne_bytes(word))
        });
        let loss = loss / self.draft.step.tokens() as f64;
        StepResult { loss, gradient_norm: square_norm.sqrt(), time, trace }
    }
}

/// Who runs the ranks of this process. All processes have theirs when it comes back.
fn host(
    (draft, digest): (&Arc<Draft>, u64),
    settings: &Settings,
    processes: &mut Processes,
) -> Result<Box<dyn Host>, LoadError> {
    processes.agree("programs", format!("{digest:016x}"))?;
    let (draft, patience) = (Arc::clone(draft), settings.patience);
    let host: Box<dyn Host> = match settings.backend {
        Backend::Threads => Box::new(Processor::threads(draft, patience, processes)?),
        Backend::Cuda { issue } => Box::new(Gpus::load(draft, (issue, settings.ways.clone()), patience, processes)?),
        Backend::Shuffle { .. } if !processes.is_alone() => {
            return Err(LoadError::Shuffled { processes: processes.processes() });
        }
        Backend::Shuffle { seed } => Box::new(Processor::shuffled(draft, Seed(seed))?),
    };
    processes.all_say(&[])?;
    Ok(host)
}

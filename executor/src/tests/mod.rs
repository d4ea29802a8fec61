//! Whole steps of small programs, on both backends.

pub(crate) mod builder;
mod collectives;
mod order;
mod prefetch;
mod state;
mod transfers;

use ir::model::{Precision, Training};
use ir::program::{BufferId, Draft, Programs};
use ir::seed::Seed;
use ir::units::{Bytes, Seconds};

use crate::cpu::arena::Place;
use crate::session::{Backend, Batch, Session, Settings};

fn training() -> Training {
    Training {
        batch: 1,
        precision: Precision::Full,
        learning_rate: 1e-3,
        warmup_steps: 0,
        weight_decay: 0.1,
        gradient_norm_max: 1.0,
        betas: [0.9, 0.95],
    }
}

fn settings(backend: Backend) -> Settings {
    Settings { training: training(), steps: 10, backend, patience: Seconds(20.0) }
}

/// A session of a draft that is right.
fn verified(draft: &Draft, backend: Backend) -> Session {
    let programs = Programs::verified(draft.clone(), Bytes(u64::MAX)).unwrap_or_else(|all| panic!("{all:#?}"));
    Session::load(&programs, &settings(backend), Seed(1)).unwrap()
}

fn write(session: &Session, rank: u32, id: BufferId, values: &[f32]) {
    let address = session.job.role(rank).buffers[id.index()].address;
    let place = Place { address, elements: values.len() as u64 };
    session.job.arenas.between_steps().write(rank, place).copy_from_slice(values);
}

fn read(session: &Session, rank: u32, id: BufferId, elements: u64) -> Vec<f32> {
    let address = session.job.role(rank).buffers[id.index()].address;
    session.job.arenas.between_steps().read(rank, Place { address, elements }).to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// One step's batch, of one token.
const TOKEN: Batch<'static> = Batch { inputs: &[0], targets: &[0] };

fn random(seed: Seed, elements: u64) -> Vec<f32> {
    (0..elements).map(|index| seed.normal(index) as f32).collect()
}

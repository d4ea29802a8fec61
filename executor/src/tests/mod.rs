//! Whole steps of small programs, on both backends.

pub(crate) mod builder;
mod collectives;
mod noise;
mod order;
mod prefetch;
pub(crate) mod several;
mod short;
pub(crate) mod state;
mod transfers;

use ir::model::{Precision, Training};
use ir::program::{BufferId, Draft, Programs};
use ir::seed::Seed;
use ir::units::{Bytes, Seconds};
use ir::ways::Ways;
use kernels::bf16::Bf16;

use crate::host::Place;
use crate::rows::Batch;
use crate::session::{Backend, Session, Settings};

fn training() -> Training {
    Training {
        batch: 1,
        precision: Precision::Full,
        learning_rate: 1e-3,
        warmup_steps: 0,
        weight_decay: 0.1,
        gradient_norm_max: 1.0,
        betas: [0.9, 0.95],
        epsilon: 1e-8,
    }
}

pub(crate) fn settings(backend: Backend) -> Settings {
    Settings { training: training(), steps: 10, backend, ways: Ways::default(), patience: Seconds(20.0) }
}

/// A session of a draft that is right.
pub(crate) fn verified(draft: &Draft, backend: Backend) -> Session {
    let programs = Programs::verified(draft.clone(), Bytes(u64::MAX)).unwrap_or_else(|all| panic!("{all:#?}"));
    Session::load(&programs, &settings(backend), Seed(1)).unwrap()
}

fn place(session: &Session, rank: u32, id: BufferId, elements: u64) -> Place {
    let role = session.draft.role(rank);
    Place { address: role.buffers[id.index()].address, bytes: elements * 4 }
}

fn write(session: &mut Session, rank: u32, id: BufferId, values: &[f32]) {
    let place = place(session, rank, id, values.len() as u64);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    session.host.write(rank, place, &bytes);
}

fn read(session: &Session, rank: u32, id: BufferId, elements: u64) -> Vec<f32> {
    let mut bytes = vec![0; elements as usize * 4];
    session.host.read(rank, place(session, rank, id, elements), &mut bytes);
    bytes.as_chunks().0.iter().map(|&word| f32::from_ne_bytes(word)).collect()
}

fn write_short(session: &mut Session, rank: u32, id: BufferId, values: &[f32]) {
    let place = Place { bytes: values.len() as u64 * 2, ..place(session, rank, id, 0) };
    let bytes: Vec<u8> = values.iter().flat_map(|&value| Bf16::rounded(value).0.to_ne_bytes()).collect();
    session.host.write(rank, place, &bytes);
}

fn read_short(session: &Session, rank: u32, id: BufferId, elements: u64) -> Vec<f32> {
    let mut bytes = vec![0; elements as usize * 2];
    session.host.read(rank, Place { bytes: elements * 2, ..place(session, rank, id, 0) }, &mut bytes);
    bytes.as_chunks().0.iter().map(|&word| Bf16(u16::from_ne_bytes(word)).widened()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// One step's batch, of one token.
const TOKEN: Batch<'static> = Batch { inputs: &[0], patches: &[], source: &[], targets: &[0] };

fn random(seed: Seed, elements: u64) -> Vec<f32> {
    (0..elements).map(|index| seed.normal(index) as f32).collect()
}

//! Parameters: what they start as, and how they are saved, are no matter of the plan.

use ir::graph::Init;
use ir::mesh::Mesh;
use ir::program::{Block, BlockParameter, Content, Draft, Part, Rows, StepSize};
use ir::seed::Seed;

use super::builder::Builder;
use super::{read, settings, verified};
use crate::checkpoint::{CheckpointError, Folder, Identity, tensor_name};
use crate::parameters::{self, Copies, Quantity};
use crate::rows::Batch;
use crate::session::{Backend, Session};
use crate::world::Alone;

const STEP: StepSize = StepSize { microbatches: 2, sequences: 4, sequence: 3 };

/// How a plan spreads the parameters of a layer: w (4 × 6), and b (6).
pub(crate) struct Spread {
    pub(crate) mesh: Mesh,
    w: [Vec<usize>; 2],
    b: Vec<usize>,
    shard: Vec<usize>,
    part: Part,
}

pub(crate) fn spreads() -> Vec<Spread> {
    let [none, one, two] = [vec![], vec![1], vec![2]];
    let spread = |mesh, w: [&Vec<usize>; 2], b: &Vec<usize>, shard: &Vec<usize>, part| Spread {
        mesh,
        w: w.map(Clone::clone),
        b: b.clone(),
        shard: shard.clone(),
        part,
    };
    vec![
        spread(Mesh::new(1, &[]), [&none, &none], &none, &none, Part::Whole),
        spread(Mesh::new(1, &[2]), [&none, &one], &one, &none, Part::Whole),
        spread(Mesh::new(1, &[2]), [&none, &none], &none, &one, Part::Share),
        spread(Mesh::new(1, &[3, 2]), [&two, &none], &none, &one, Part::Share),
        spread(Mesh::new(1, &[2, 2]), [&one, &two], &two, &none, Part::Whole),
    ]
}

pub(crate) fn draft(spread: &Spread) -> Draft {
    let mut builder = Builder::new(&spread.mesh, STEP);
    let extent = |axes: &[usize]| u64::from(spread.mesh.extent(axes.iter().copied().collect()));
    let w = 24 / extent(&spread.w[0]) / extent(&spread.w[1]);
    let length = w + 6 / extent(&spread.b);
    let padded = length.next_multiple_of(extent(&spread.shard));
    let parameter = |name: &str, first, dimensions: Vec<(u64, Vec<usize>)>| {
        let init = Init::Normal { deviation: 1.0 };
        BlockParameter { name: name.to_owned(), first, init, dimensions }
    };
    let block = builder.block(Block {
        layer: 2,
        parameters: vec![
            parameter("w", 0, vec![(4, spread.w[0].clone()), (6, spread.w[1].clone())]),
            parameter("b", w, vec![(6, spread.b.clone())]),
        ],
        decayed: w,
        length,
        padded,
        shard: spread.shard.clone(),
    });
    let part = spread.part;
    let elements = if part == Part::Share { padded / extent(&spread.shard) } else { padded };
    builder.buffer(0, elements, Content::Parameters { block, part });
    builder.buffer(0, elements, Content::FirstMoment { block, part });
    builder.buffer(0, elements, Content::SecondMoment { block, part });
    builder.finish()
}

/// Of b and of w.
fn wholes(session: &Session, quantity: Quantity) -> Vec<Vec<f32>> {
    let mut tensors = session.tensors();
    ["b", "w"].map(|name| tensors.remove(&tensor_name((2, name), quantity)).unwrap().values).into()
}

#[test]
fn initial_values_depend_on_seed_layer_and_name_alone() {
    let seed = Seed(1).derive(2);
    let expected = ["b", "w"].map(|name| {
        let seed = seed.derive_name(name);
        let count = if name == "w" { 24 } else { 6 };
        (0..count).map(|index| seed.normal(index) as f32).collect::<Vec<f32>>()
    });
    for spread in spreads() {
        let session = verified(&draft(&spread), Backend::Shuffle { seed: 0 });
        assert_eq!(wholes(&session, Quantity::Value), expected, "{}", spread.mesh);
        assert!(wholes(&session, Quantity::SecondMoment).iter().flatten().all(|&value| value.to_bits() == 0));
    }
}

#[test]
fn any_plan_resumes_the_checkpoint_of_any_other() {
    let all = spreads();
    for from in &all {
        for to in &all {
            let place = tempfile::tempdir().unwrap();
            let folder = Folder::open(place.path(), &mut Alone).unwrap();
            let mut saved = verified(&draft(from), Backend::Shuffle { seed: 0 });
            let batch = [0; 24];
            saved.step(Batch { inputs: &batch, patches: &[], source: &[], targets: &batch }).unwrap();
            for quantity in Quantity::ALL {
                let seed = Seed(40 + quantity as u64);
                let (ranks, host) = (saved.host.ranks(), &mut *saved.host);
                parameters::visit(&saved.draft, ranks, (quantity, Copies::All), &mut |part| {
                    let seed = seed.derive_name(&part.parameter.name);
                    for run in part.stretch.runs() {
                        let indices = run.whole..run.whole + run.length;
                        let values: Vec<f32> = indices.map(|index| seed.normal(index) as f32).collect();
                        part.write(host, run.local, &values);
                    }
                });
            }
            folder.save(&saved, &Identity::default(), &mut Alone).unwrap();
            let other = Session::of_draft(draft(to), 0, &settings(Backend::Threads), Seed(2));
            let mut resumed = other.unwrap();
            folder.resume(&mut resumed, (&Identity::default(), &[]), &mut Alone).unwrap();
            assert_eq!(resumed.steps_done(), 1);
            for quantity in Quantity::ALL {
                assert_eq!(wholes(&resumed, quantity), wholes(&saved, quantity), "{} to {}", from.mesh, to.mesh);
            }
        }
    }
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path(), &mut Alone).unwrap();
    let spread = &spreads()[0];
    folder.save(&verified(&draft(spread), Backend::Threads), &Identity::default(), &mut Alone).unwrap();
    let mut other = draft(spread);
    other.blocks[0].layer = 3;
    let mut session = verified(&other, Backend::Threads);
    let error = folder.resume(&mut session, (&Identity::default(), &[]), &mut Alone).unwrap_err();
    assert!(matches!(&error, CheckpointError::Model { name, .. } if name == "3/b"), "{error}");
}

#[test]
fn an_evaluation_takes_over_the_parameters_of_a_training() {
    let all = spreads();
    let from = Session::of_draft(draft(&all[1]), 0, &settings(Backend::Threads), Seed(5)).unwrap();
    let mut to = Session::of_draft(draft(&all[3]), 0, &settings(Backend::Threads), Seed(6)).unwrap();
    assert_ne!(wholes(&from, Quantity::Value), wholes(&to, Quantity::Value));
    to.copy_parameters(&from).unwrap();
    assert_eq!(wholes(&from, Quantity::Value), wholes(&to, Quantity::Value));
}

#[test]
fn each_rank_gets_its_rows_of_each_microbatch() {
    let mut builder = Builder::new(&Mesh::new(1, &[2, 2]), STEP);
    let rows = |microbatch| Rows { microbatch, axes: vec![1], sequences: 2 };
    let tokens = [0, 1].map(|microbatch| builder.buffer(0, 6, Content::Tokens(rows(microbatch))));
    let targets = builder.buffer(0, 6, Content::Targets(rows(1)));
    let mut session = verified(&builder.finish(), Backend::Shuffle { seed: 0 });
    let inputs: Vec<i32> = (0..24).collect();
    let following: Vec<i32> = (1..25).collect();
    session.step(Batch { inputs: &inputs, patches: &[], source: &[], targets: &following }).unwrap();
    for rank in 0..4u32 {
        let half = rank as i32 / 2;
        let of = |id| read(&session, rank, id, 6).into_iter().map(|value| value.to_bits() as i32).collect::<Vec<_>>();
        let range = |first: i32| (first..first + 6).collect::<Vec<i32>>();
        assert_eq!(of(tokens[0]), range(6 * half), "rank {rank}");
        assert_eq!(of(tokens[1]), range(12 + 6 * half), "rank {rank}");
        assert_eq!(of(targets), range(13 + 6 * half), "rank {rank}");
    }
}

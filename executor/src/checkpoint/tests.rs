//! Checkpoints while the machine stops, the disk fills, bits flip and processes come and go.

use std::fs;
use std::path::{Path, PathBuf};

use ir::seed::Seed;
use safetensors::SafeTensors;
use tempfile::TempDir;

use super::cut::{Cut, Then};
use super::folder::{Folder, Resumed};
use super::{CheckpointError, Freedom, Identity};
use crate::rows::Batch;
use crate::session::{Backend, Session, Tensors};
use crate::tests::several::in_processes;
use crate::tests::state::{draft, spreads};
use crate::tests::{settings, verified};
use crate::world::{Alone, World as _};

const TOKENS: Batch<'static> = Batch { inputs: &[0; 24], patches: &[], source: &[], targets: &[0; 24] };

/// A training of small tensors, whose values differ from step to step.
fn session(spread: usize, seed: u64) -> Session {
    Session::of_draft(draft(&spreads()[spread]), 0, &settings(Backend::Threads), Seed(seed)).unwrap()
}

fn step(session: &mut Session) {
    session.step(TOKENS).unwrap();
    let done = session.step;
    let mut tensors = session.tensors();
    for tensor in tensors.values_mut() {
        tensor.values.iter_mut().enumerate().for_each(|(index, value)| *value += (done * 100 + index as u64) as f32);
    }
    session.begin_with(&tensors);
    session.step = done;
}

fn identity() -> Identity {
    Identity::default().with(Freedom::Named, "seed", 1)
}

fn open(place: &TempDir) -> Folder {
    Folder::open(place.path(), &mut Alone).unwrap()
}

fn save(folder: &Folder, session: &Session) -> Result<PathBuf, CheckpointError> {
    folder.save(session, &identity(), &mut Alone)
}

fn resume(folder: &Folder, session: &mut Session) -> Result<Resumed, CheckpointError> {
    folder.resume(session, (&identity(), &[]), &mut Alone)
}

fn names(place: &TempDir) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// When the last step is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    BetweenSteps,
    BesideTheNext,
}

const WHEN: [When; 2] = [When::BetweenSteps, When::BesideTheNext];

/// Saves two steps as they should be, and a third in a file system that is cut. Gives back what was saved, by step.
fn saved_with(cut: &Cut, place: &TempDir, when: When) -> (Session, Vec<Tensors>) {
    let mut session = session(3, 1);
    let mut states = vec![session.tensors()];
    for _ in 0..3 {
        step(&mut session);
        states.push(session.tensors());
        if session.step < 3 {
            save(&open(place), &session).unwrap();
        }
    }
    let folder = Folder::open_with(place.path(), Box::new(cut.clone()), &mut Alone).unwrap();
    match when {
        When::BetweenSteps => drop(save(&folder, &session)),
        When::BesideTheNext => {
            let saving = folder.save_beside(&session, &identity(), &mut Alone);
            step(&mut session);
            let _ = saving.and_then(|saving| folder.finish(saving, &mut Alone));
        }
    }
    (session, states)
}

#[test]
fn wherever_a_machine_stops_a_whole_checkpoint_is_left() {
    WHEN.into_iter().for_each(a_whole_one_is_left);
}

fn a_whole_one_is_left(when: When) {
    let mut last = 0;
    for left in 0.. {
        let (cut, place) = (Cut::after(left, Then::Stop), tempfile::tempdir().unwrap());
        let (_, states) = saved_with(&cut, &place, when);
        let mut next = session(1, 2);
        let resumed = resume(&open(&place), &mut next).unwrap();
        assert_eq!(resumed.left_out, [""; 0], "{left}: nothing damaged has a name");
        assert!(next.step == 2 || next.step == 3, "{left}: {}", next.step);
        assert_eq!(next.tensors(), states[next.step as usize], "{left}");
        assert!(next.step >= last, "{left}: once it is whole it stays");
        last = next.step;
        assert!(names(&place).iter().all(|name| name == ".lock" || name.starts_with("step-")), "{:?}", names(&place));
        if !cut.was_reached() {
            assert!(left > 10 && last == 3, "{left} changes");
            return;
        }
    }
}

#[test]
fn a_save_that_fails_costs_nothing_and_the_next_one_is_whole() {
    WHEN.into_iter().for_each(a_failed_one_costs_nothing);
}

fn a_failed_one_costs_nothing(when: When) {
    for left in 0.. {
        let (cut, place) = (Cut::after(left, Then::RefuseOnce), tempfile::tempdir().unwrap());
        let (mut session, _) = saved_with(&cut, &place, when);
        assert!(open(&place).steps().contains(&2), "{left}: the one before is still there");
        step(&mut session);
        save(&open(&place), &session).unwrap();
        let mut next = self::session(0, 2);
        resume(&open(&place), &mut next).unwrap();
        assert_eq!((next.step, next.tensors()), (session.step, session.tensors()), "{left}");
        let steps = open(&place).steps().len();
        assert!((2..4).contains(&steps) && names(&place).len() == steps + 1, "{left}: {:?}", names(&place));
        if !cut.was_reached() {
            return;
        }
    }
}

#[test]
fn the_checkpoint_before_a_damaged_one_is_taken() {
    let flip = |path: &Path, index: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[index] ^= 4;
        fs::write(path, bytes).unwrap();
    };
    let size = |place: &TempDir, name: &str| fs::metadata(place.path().join("step-000003").join(name)).unwrap().len();
    let never = || Cut::after(usize::MAX, Then::Stop);
    let place = tempfile::tempdir().unwrap();
    saved_with(&never(), &place, When::BetweenSteps);
    let (pieces, manifest) = ("pieces-00000.safetensors", "manifest.json");
    let (data, text) = (size(&place, pieces) as usize, size(&place, manifest) as usize);
    for (name, index) in [(pieces, data - 1), (pieces, data - 200), (manifest, 3), (manifest, text / 2)] {
        let place = tempfile::tempdir().unwrap();
        let (_, states) = saved_with(&never(), &place, When::BetweenSteps);
        flip(&place.path().join("step-000003").join(name), index);
        let mut next = session(1, 2);
        let folder = open(&place);
        let resumed = resume(&folder, &mut next).unwrap();
        assert_eq!((next.step, next.tensors()), (2, states[2].clone()), "{name} at {index}");
        assert!(resumed.left_out[0].contains(name), "{:?}", resumed.left_out);
        assert_eq!(names(&place), [".lock", "damaged-step-000003", "step-000002"]);
        step(&mut next);
        save(&folder, &next).unwrap();
        fs::remove_file(place.path().join("step-000003").join(name)).unwrap();
        fs::write(place.path().join("step-000002").join(manifest), "").unwrap();
        let error = resume(&folder, &mut next).unwrap_err();
        assert!(matches!(&error, CheckpointError::AllDamaged { reasons } if reasons.len() == 2), "{error}");
    }
}

#[test]
fn a_folder_has_one_writer_and_one_training() {
    let place = tempfile::tempdir().unwrap();
    let folder = open(&place);
    assert!(matches!(Folder::open(place.path(), &mut Alone), Err(CheckpointError::Taken { .. })));
    let mut session = session(0, 1);
    assert!(matches!(resume(&folder, &mut session), Err(CheckpointError::Nothing { .. })));
    save(&folder, &session).unwrap();
    drop(folder);
    let other = Identity::default().with(Freedom::Named, "seed", 2);
    let error = open(&place).resume(&mut session, (&other, &[]), &mut Alone).unwrap_err();
    assert!(error.to_string().contains("seed was 1, is 2"), "{error}");
    open(&place).resume(&mut session, (&other, &["seed".to_owned()]), &mut Alone).unwrap();
    fs::write(place.path().join("step-000004.safetensors"), "").unwrap();
    assert!(matches!(Folder::open(place.path(), &mut Alone), Err(CheckpointError::Earlier { .. })));
}

#[test]
fn processes_save_together_and_any_number_of_them_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let make = |seed| {
        let mut session = session(4, seed);
        step(&mut session);
        session
    };
    let expected = make(1).tensors();
    let halves = |seed| vec![(make(seed), 0..2), (make(seed), 2..4)];
    in_processes(halves(1), |session, mut world| {
        let folder = Folder::open(place.path(), &mut world).unwrap();
        folder.save(&session, &identity(), &mut world).unwrap();
    });
    let saved = place.path().join("step-000001");
    assert!(saved.join("pieces-00001.safetensors").exists());
    let sizes: u64 = (0..2)
        .map(|process| {
            let bytes = fs::read(saved.join(format!("pieces-{process:05}.safetensors"))).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            file.tensors().iter().map(|(_, view)| view.data().len() as u64).sum::<u64>()
        })
        .sum();
    assert_eq!(sizes, 3 * 30 * 4, "each element stands there once");
    for spread in 0..spreads().len() {
        let mut alone = session(spread, 3);
        resume(&open(&place), &mut alone).unwrap();
        assert_eq!(alone.tensors(), expected, "spread {spread}");
    }
    let thirds = vec![(make(5), 0..1), (make(5), 1..3), (make(5), 3..4)];
    let parts = in_processes(thirds, |mut session, mut world| {
        let folder = Folder::open(place.path(), &mut world).unwrap();
        folder.resume(&mut session, (&identity(), &[]), &mut world).unwrap();
        session.tensors()
    });
    for (name, tensor) in expected {
        for index in 0..tensor.values.len() {
            let bits = parts.iter().map(|part| part[&name].values[index].to_bits()).find(|&bits| bits != 0);
            assert_eq!(bits.unwrap_or(0), tensor.values[index].to_bits(), "{name} at {index}");
        }
    }
}

#[test]
fn if_one_process_cannot_save_none_has_saved() {
    let place = tempfile::tempdir().unwrap();
    let halves = vec![(session(4, 1), 0..2), (session(4, 1), 2..4)];
    let errors = in_processes(halves, |session, mut world| {
        let full = Box::new(Cut::after(if world.process() == 1 { 1 } else { usize::MAX }, Then::RefuseOnce));
        let folder = Folder::open_with(place.path(), full, &mut world).unwrap();
        folder.save(&session, &identity(), &mut world).unwrap_err().to_string()
    });
    assert!(errors[0].starts_with("process 1: ") && errors[1].contains("pieces-00001"), "{errors:?}");
    assert_eq!(names(&place), [".lock"]);
}

#[test]
fn files_of_pieces_are_safetensors_with_the_names_of_parameters() {
    let place = tempfile::tempdir().unwrap();
    let path = save(&open(&place), &verified(&draft(&spreads()[0]), Backend::Threads)).unwrap();
    let bytes = fs::read(path.join("pieces-00000.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("2/w").unwrap().shape(), [4, 6]);
    assert_eq!(file.tensor("2/b/second moment").unwrap().shape(), [6]);
    assert_eq!(file.len(), 6);
}

//! Several processes in one: threads, each with a session that knows only some of the ranks.

use std::ops::Range;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use ir::seed::Seed;
use ir::units::Seconds;

use super::settings;
use super::state::{draft, spreads};
use crate::fault::Fault;
use crate::host::{Host, Notes, Place, Recording};
use crate::parameters::{self, Copies, Quantity};
use crate::session::{Backend, Session};
use crate::world::{Processes, World, WorldError};

/// Some ranks of a host, as a process has them.
#[derive(Debug)]
struct Portion(Box<dyn Host>, Range<u32>);

impl Host for Portion {
    fn ranks(&self) -> Range<u32> {
        self.1.clone()
    }

    fn step(&mut self, recording: Recording) -> Result<Seconds, Fault> {
        self.0.step(recording)
    }

    fn read(&self, rank: u32, place: Place, into: &mut [u8]) {
        assert!(self.1.contains(&rank));
        self.0.read(rank, place, into);
    }

    fn write(&mut self, rank: u32, place: Place, from: &[u8]) {
        assert!(self.1.contains(&rank));
        self.0.write(rank, place, from);
    }

    fn notes(&self) -> Vec<Notes> {
        self.0.notes()
    }
}

/// Threads that speak to each other as processes do.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    process: u32,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
    barrier: Arc<Barrier>,
}

impl World for Threads {
    fn process(&self) -> u32 {
        self.process
    }

    fn processes(&self) -> u32 {
        self.said.lock().unwrap().len() as u32
    }

    fn all_say(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError> {
        self.said.lock().unwrap()[self.process as usize] = own.to_vec();
        self.barrier.wait();
        let said = self.said.lock().unwrap().clone();
        self.barrier.wait();
        Ok(said)
    }
}

/// Does the same in several processes, each with its ranks of a plan.
pub(crate) fn in_processes<T: Send>(
    states: Vec<(Session, Range<u32>)>,
    act: impl Fn(Session, Threads) -> T + Sync,
) -> Vec<T> {
    let count = states.len();
    let (said, barrier) = (Arc::new(Mutex::new(vec![Vec::new(); count])), Arc::new(Barrier::new(count)));
    thread::scope(|scope| {
        let handles = states.into_iter().zip(0..).map(|((mut session, ranks), process)| {
            let world = Threads { process, said: Arc::clone(&said), barrier: Arc::clone(&barrier) };
            let act = &act;
            scope.spawn(move || {
                let idle: Box<dyn Host> = Box::new(Portion(session.host, ranks));
                session.host = idle;
                act(session, world)
            })
        });
        let handles: Vec<_> = handles.collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    })
}

/// Every rank's parts of the values, in all forms.
fn parts(session: &Session) -> Vec<(u32, String, Vec<f32>)> {
    let mut parts = Vec::new();
    parameters::visit(&session.draft, session.host.ranks(), (Quantity::Value, Copies::All), &mut |part| {
        let mut values = vec![0.0; part.stretch.length as usize];
        part.read(&*session.host, part.stretch.first, &mut values);
        parts.push((part.rank, part.parameter.name.clone(), values));
    });
    parts
}

#[test]
fn an_evaluation_gets_what_other_processes_hold() {
    let make = |spread: usize, seed| {
        Session::of_draft(draft(&spreads()[spread]), 0, &settings(Backend::Threads), Seed(seed)).unwrap()
    };
    // Plans of two ranks: columns of one matrix each, or the halves of a block.
    for (from, to) in [(1, 2), (2, 1), (2, 2)] {
        let expected = parts(&make(to, 5));
        let training = [0..1, 1..2].map(|ranks| (make(from, 5), ranks)).into();
        let found = in_processes(training, |training, world| {
            let mut evaluation = make(to, 6);
            let ranks = training.host.ranks();
            evaluation.host = Box::new(Portion(evaluation.host, ranks));
            evaluation.processes = Processes::new(world, 0);
            evaluation.copy_parameters(&training).unwrap();
            parts(&evaluation)
        });
        assert_eq!(found.concat(), expected, "{from} to {to}");
    }
}

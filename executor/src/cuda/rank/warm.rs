//! The first use of all that a step uses, before any step.

use ir::program::Action;
use kernels::cuda::Error;

use super::Rank;
use crate::cuda::moves::{Command, Move};

impl Rank {
    /// Uses every kernel, and every communicator in every way, once, in the order that all ranks have.
    pub(crate) fn warm(&self) -> Result<(), Error> {
        for (instr, command) in self.role().code.iter().zip(&self.commands) {
            match command {
                Command::Compute(launches) if launches.is_first => {
                    self.launch(launches, self.stream(instr.stream))?;
                }
                Command::Compute(_) | Command::Move(_) | Command::Signal(_) | Command::Wait(_) | Command::Free => {}
            }
        }
        self.device.synchronize()?;
        let role = self.role();
        for communicator in 0..self.communicators.len() {
            // Members do the same in the same order: by collective, each once; of a route there is one way.
            let mut seen: Vec<Action> = Vec::new();
            let mut here: Vec<(u32, usize)> = Vec::new();
            for (index, (instr, command)) in role.code.iter().zip(&self.commands).enumerate() {
                let Command::Move(moved) = command else { continue };
                let (used, order) = match (&**moved, instr.action) {
                    (Move::Exchange { communicator, .. }, Action::Exchange(id)) => (*communicator, id.0),
                    (
                        Move::Send { communicator, .. } | Move::Receive { communicator, .. },
                        Action::Send(id) | Action::Receive(id),
                    ) => (Some(*communicator), id.0),
                    (Move::Exchange { .. } | Move::Send { .. } | Move::Receive { .. }, _) => continue,
                };
                if used == Some(communicator) && !seen.contains(&instr.action) {
                    seen.push(instr.action);
                    here.push((order, index));
                }
            }
            here.sort_unstable();
            for (_, index) in self.distinct(here) {
                let instr = &role.code[index];
                if let Command::Move(moved) = &self.commands[index] {
                    self.make(moved, instr)?;
                }
                self.stream(instr.stream).synchronize()?;
            }
        }
        self.device.synchronize()?;
        self.clear()
    }

    /// Of transfers on one route the first of each size; all collectives.
    fn distinct(&self, moves: Vec<(u32, usize)>) -> Vec<(u32, usize)> {
        let mut sizes = Vec::new();
        let is_new = |&(_, index): &(u32, usize)| match &self.commands[index] {
            Command::Move(moved) => match **moved {
                Move::Exchange { .. } => true,
                Move::Send { bytes, .. } | Move::Receive { bytes, .. } => {
                    let is_new = !sizes.contains(&bytes);
                    sizes.push(bytes);
                    is_new
                }
            },
            Command::Compute(_) | Command::Signal(_) | Command::Wait(_) | Command::Free => false,
        };
        moves.into_iter().filter(is_new).collect()
    }
}

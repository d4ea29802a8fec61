//! The order of passes in each stage.

use ir::plan::Schedule;
use ir::program::Direction;

/// One pass of a stage over one microbatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) direction: Direction,
    pub(crate) microbatch: u16,
}

/// The turns of `stage` of `stages`.
///
/// 1F1B: as many forward turns ahead as there are stages behind, then one of each, then what is left (Narayanan et
/// al. 2021, §2.2). Backward turns are in the order of the microbatches in both schedules, so both sum gradients in
/// the same order.
pub(crate) fn turns(schedule: Schedule, stages: u32, stage: u32, microbatches: u32) -> Vec<Turn> {
    let ahead = match schedule {
        Schedule::AllForward => microbatches,
        Schedule::OneForwardOneBackward => (stages - 1 - stage).min(microbatches),
    };
    let turn = |direction, microbatch: u32| Turn { direction, microbatch: microbatch as u16 };
    let mut turns: Vec<Turn> = (0..ahead).map(|microbatch| turn(Direction::Forward, microbatch)).collect();
    for microbatch in 0..microbatches {
        if ahead + microbatch < microbatches {
            turns.push(turn(Direction::Forward, ahead + microbatch));
        }
        turns.push(turn(Direction::Backward, microbatch));
    }
    turns
}

/// Microbatches whose saved tensors `stage` holds at once, at most: those that it is ahead, and the one that it turns.
pub fn in_flight(schedule: Schedule, stages: u32, stage: u32, microbatches: u32) -> u32 {
    match schedule {
        Schedule::AllForward => microbatches,
        Schedule::OneForwardOneBackward => (stages - stage).min(microbatches),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, turn by turn.
    fn held_at_most(schedule: Schedule, stages: u32, stage: u32, microbatches: u32) -> u32 {
        let (mut held, mut most) = (0, 0);
        for turn in turns(schedule, stages, stage, microbatches) {
            match turn.direction {
                Direction::Forward => held += 1,
                Direction::Backward => held -= 1,
            }
            most = most.max(held);
        }
        most
    }

    #[test]
    fn a_stage_holds_what_its_turns_hold() {
        for schedule in [Schedule::OneForwardOneBackward, Schedule::AllForward] {
            for (stages, microbatches) in (1..=6).flat_map(|stages| (1..=9).map(move |count| (stages, count))) {
                for stage in 0..stages {
                    let held = held_at_most(schedule, stages, stage, microbatches);
                    let place = format!("{schedule:?}, stage {stage} of {stages}, {microbatches} microbatches");
                    assert_eq!(in_flight(schedule, stages, stage, microbatches), held, "{place}");
                }
            }
        }
    }
}

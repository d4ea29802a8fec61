//! Pass 5: layers × microbatches as tasks, each where it is due: nothing overlaps but by chance.

use ir::program::Direction;

use crate::layer::Purpose;
use crate::step::task::{Need, StageFacts, Task};

/// All tasks of a stage's step, in order.
pub(crate) fn schedule(facts: &StageFacts) -> Vec<Task> {
    let mut tasks = vec![Task::Clear];
    for (id, &visit) in facts.visits.iter().enumerate() {
        let needs = facts.needs(visit);
        if needs.gathers == Need::Yes && facts.comes_to_layer(id) {
            tasks.push(Task::Gather(id));
        }
        if facts.receives(visit) {
            tasks.push(Task::Receive(id));
        }
        tasks.push(Task::Pass(id));
        let is_last = facts.is_last_backward(visit);
        let collects = visit.turn.direction == Direction::Backward && needs.collects == Need::Yes;
        if is_last || collects {
            tasks.push(Task::Reduce(id));
        }
        if collects {
            tasks.push(Task::Add(id));
        }
        if is_last && needs.joins == Need::Yes {
            tasks.push(Task::Join(id));
        }
        if facts.sends(visit) {
            tasks.push(Task::Send(id));
        }
        tasks.push(Task::Leave(id));
    }
    let blocks = 0..facts.instances.len();
    if facts.purpose == Purpose::Training {
        tasks.push(Task::JoinTies);
        tasks.extend(blocks.clone().map(Task::Square));
    }
    if facts.scalars == Need::Yes {
        tasks.push(Task::JoinScalars);
    }
    if facts.purpose == Purpose::Training {
        tasks.extend(blocks.map(Task::Update));
    }
    tasks
}

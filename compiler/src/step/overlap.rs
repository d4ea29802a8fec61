//! Pass 6: tasks move to where they run beside others. Nothing else decides what overlaps.
//!
//! - **Gathers** begin as many visits ahead of their use as the plan's `prefetch` says.
//! - **What comes next is received before what was made is sent**: if its memory were that of what is sent, two stages
//!   could wait for each other.
//! - **Joins over Tensor wait until all passes are done.** What they join comes from the reduction over Data. On
//!   their stream stand also the exchanges inside the next passes, which would wait for that reduction, and every
//!   stage behind them.

use crate::step::task::{StageFacts, Task, VisitId};

/// The same tasks, moved.
pub(crate) fn overlap(facts: &StageFacts, mut tasks: Vec<Task>) -> Vec<Task> {
    // Sorting is stable: what has one place stays in its order.
    tasks.sort_by_key(|&task| place(facts, task));
    tasks
}

/// Where among the tasks of a visit something stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Clear,
    Gather,
    Receive,
    Pass,
    ReceiveNext,
    Send,
    Leave,
    Join,
    End,
}

/// The visit with which a task is done, and where among its tasks.
fn place(facts: &StageFacts, task: Task) -> (VisitId, Slot) {
    let behind = facts.visits.len();
    match task {
        Task::Clear => (0, Slot::Clear),
        Task::Gather(id) => (id.saturating_sub(facts.prefetch as usize), Slot::Gather),
        Task::Receive(id) if id > 0 && facts.sends(facts.visits[id - 1]) => (id - 1, Slot::ReceiveNext),
        Task::Receive(id) => (id, Slot::Receive),
        Task::Pass(id) | Task::Reduce(id) => (id, Slot::Pass),
        Task::Send(id) => (id, Slot::Send),
        Task::Leave(id) => (id, Slot::Leave),
        Task::Join(_) => (behind, Slot::Join),
        Task::JoinTies | Task::Square(_) | Task::JoinScalars | Task::Update(_) => (behind, Slot::End),
    }
}

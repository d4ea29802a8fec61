//! Pass 6: tasks move to where they run beside others. Nothing else decides what overlaps.
//!
//! - **Gathers** begin as many visits ahead of their use as the plan's `prefetch` says.
//! - **Shares of gradients are added** as many visits later: at once, the computation would wait for their reduction.
//! - **What comes next is received before what was made is sent**: if its memory were that of what is sent, two stages
//!   could wait for each other.
//! - **Joins over Tensor wait until all passes are done.** What they join comes from the reduction over Data. On
//!   their stream stand also the exchanges inside the next passes, which would wait for that reduction, and every
//!   stage behind them.
//! - **Reductions over Data** wait, too, in trainers that begin them when all passes are over.

use ir::software::Reduction;

use crate::step::task::{Need, StageFacts, Task, VisitId};

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
    Add,
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
        Task::Reduce(id)
            if facts.reduction == Reduction::Behind && facts.needs(facts.visits[id]).collects == Need::No =>
        {
            (behind, Slot::Join)
        }
        Task::Pass(id) | Task::Reduce(id) => (id, Slot::Pass),
        Task::Add(id) => ((id + facts.prefetch as usize).min(behind), Slot::Add),
        Task::Send(id) => (id, Slot::Send),
        Task::Leave(id) => (id, Slot::Leave),
        Task::Join(_) => (behind, Slot::Join),
        Task::JoinTies | Task::Square(_) | Task::JoinScalars | Task::Update(_) => (behind, Slot::End),
    }
}

#[cfg(test)]
mod tests {
    use crate::layer::Purpose;
    use crate::layer::layers::Layers;
    use crate::layer::library::Library;
    use crate::layer::{Setting, compute_element};
    use crate::step::transfers::Transfers;
    use crate::step::{Job, emitters};
    use crate::tests::{plan, strategy, tiny};
    use ir::plan::{Plan, Sequence, Shard, Strategy};
    use ir::program::{Action, Instr};
    use ir::software::{Reduction, Software};

    /// The tasks of each stage as they are due and as they overlap, as words.
    fn both(plan: &Plan) -> Vec<[Vec<String>; 2]> {
        let graph = tiny().graph();
        let mesh = crate::mesh(plan).expect("the degrees nest");
        let setting = Setting::new(&graph, &mesh, plan, Purpose::Training);
        assert_eq!(setting.compute, compute_element(plan.precision));
        let mut library = Library::default();
        let layers = Layers::new(setting, plan, &mut library);
        let transfers = Transfers::new(setting, plan);
        let job = Job { setting, plan, layers: &layers, transfers: &transfers };
        let lines = |text: String| text.lines().map(|line| line.trim().to_owned()).collect();
        let both = |emitter: &crate::step::emit::Emitter<'_>| {
            [emitter.scheduled(), emitter.overlapped()].map(|tasks| lines(emitter.facts.print(&tasks)))
        };
        emitters(job, &library.collectives).0.iter().map(both).collect()
    }

    fn place_of(tasks: &[String], word: &str) -> usize {
        let found = tasks.iter().position(|task| *task == word);
        found.unwrap_or_else(|| panic!("{word} is not among\n{}", tasks.join("\n")))
    }

    fn sharded() -> Strategy {
        Strategy { shard: Shard::Parameters, ..strategy(2, 1) }
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_added() {
        for [mut due, mut overlapped] in both(&plan(&[2, 2], vec![sharded(); 4])) {
            due.sort();
            overlapped.sort();
            assert_eq!(due, overlapped);
        }
    }

    #[test]
    fn gathers_begin_as_many_visits_ahead_as_the_plan_says() {
        for depth in 0..3 {
            let plan = Plan { prefetch: depth, ..plan(&[4], vec![sharded(); 4]) };
            let [[due, overlapped]] = both(&plan).try_into().expect("one stage");
            assert_eq!(place_of(&due, "gather       m0 L3 F") + 1, place_of(&due, "pass         m0 L3 F"));
            let gather = place_of(&overlapped, "gather       m0 L3 F");
            let passes = overlapped[gather..]
                .iter()
                .filter(|task| task.starts_with("pass"))
                .take_while(|task| !task.contains("L3"));
            assert_eq!(passes.count(), depth as usize, "{}", overlapped.join("\n"));
        }
    }

    #[test]
    fn shares_are_added_as_many_visits_later_as_the_plan_says() {
        for depth in 0..3 {
            let plan = Plan { prefetch: depth, ..plan(&[4], vec![sharded(); 4]) };
            let [[due, overlapped]] = both(&plan).try_into().expect("one stage");
            assert_eq!(place_of(&due, "reduce       m0 L3 B") + 1, place_of(&due, "add          m0 L3 B"));
            let reduce = place_of(&overlapped, "reduce       m0 L3 B");
            let add = place_of(&overlapped, "add          m0 L3 B");
            let passes = overlapped[reduce..add].iter().filter(|task| task.starts_with("pass")).count();
            assert_eq!(passes, depth as usize, "{}", overlapped.join("\n"));
        }
    }

    #[test]
    fn joins_over_tensor_wait_for_all_passes() {
        let split = Strategy { sequence: Sequence::Split, shard: Shard::Optimizer, ..strategy(2, 2) };
        let [[due, overlapped]] = both(&plan(&[4], vec![split; 4])).try_into().expect("one stage");
        let last_pass =
            |tasks: &[String]| tasks.iter().rposition(|task| task.starts_with("pass")).expect("there are passes");
        assert!(place_of(&due, "join         m1 L2 B") < last_pass(&due));
        assert!(place_of(&overlapped, "join         m1 L2 B") > last_pass(&overlapped));
    }

    #[test]
    fn reductions_that_wait_for_all_passes_are_all_there() {
        let graph = tiny().graph();
        let plan = plan(&[4], vec![strategy(2, 1); 4]);
        let behind = Software { reduction: Reduction::Behind, ..Software::preset("hetu").expect("it is shipped") };
        let ours = Software { reduction: Reduction::Beside, ..behind.clone() };
        let exchanges = |software: &Software| {
            let programs = crate::compile_as(&graph, &plan, software).expect("it is legal");
            let code = &programs.roles()[0].code;
            let is_exchange = |instr: &&Instr| matches!(instr.action, Action::Exchange(_));
            let last_pass = code
                .iter()
                .rposition(|instr| instr.span.microbatch.is_some() && matches!(instr.action, Action::Compute(_)));
            let behind = code[last_pass.expect("there are passes")..].iter().filter(is_exchange).count();
            (code.iter().filter(is_exchange).count(), behind)
        };
        let (count, behind) = exchanges(&behind);
        assert_eq!((count, count), (exchanges(&ours).0, behind));
        assert!(exchanges(&ours).1 < count);
    }

    #[test]
    fn a_stage_receives_what_comes_next_before_it_sends() {
        let stages = both(&plan(&[2, 2], vec![strategy(1, 1); 4]));
        let [due, overlapped] = &stages[0];
        assert!(place_of(due, "send         m1 L1 F") < place_of(due, "receive      m0 L1 B"));
        assert!(place_of(overlapped, "send         m1 L1 F") > place_of(overlapped, "receive      m0 L1 B"));
    }
}

//! How fast a plan runs, and where its time goes.

use std::collections::BTreeMap;
use std::time::Instant;

use hetu_executor::{Backend, Issue};
use ir::program::{Action, Programs};
use ir::trace::Trace;

use crate::cases::{Case, model};
use crate::check::{Step, compiled, load, step};

/// Steps that are not timed, and that are.
const WARM: usize = 3;
const TIMED: usize = 8;
/// Fragments shown of a traced step.
const SHOWN: usize = 14;

pub(crate) fn speed(case: &Case) -> Result<String, String> {
    let model = model(case.model);
    let graph = model.graph();
    let programs = compiled(&graph, &case.plan)?;
    let begin = Instant::now();
    let mut session = load(&model, &programs, Backend::Cuda { issue: case.issue })
        .map_err(|error| format!("arena {}: {error}", programs.peak()))?;
    println!("  {}: arena {}, loaded in {:.1} s", case.name(), programs.peak(), begin.elapsed().as_secs_f64());
    let mut times = Vec::new();
    let mut losses = Vec::new();
    for number in 0..WARM + TIMED {
        let result = step(&model, case.plan.batch, &mut session, Step::Plain)?;
        losses.push(result.loss);
        if number >= WARM {
            times.push(result.time.0);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    if case.issue == Issue::Eager {
        let trace = step(&model, case.plan.batch, &mut session, Step::Traced)?.trace;
        show(&programs, &trace.ok_or("the traced step has no trace")?);
    }
    let tokens = (case.plan.batch * model.sequence) as f64;
    // As planners count it: products of parameters, and attention of which half is masked; recomputation is not work.
    let multiplied: u64 = graph.layers.iter().skip(1).map(|kind| graph.kinds[kind.index()].parameter_count()).sum();
    let attention = 6.0 * f64::from(model.layers) * model.hidden as f64 * model.sequence as f64;
    let flops = (6.0 * multiplied as f64 + attention) * tokens;
    let ranks = f64::from(programs.mesh().rank_count());
    if losses.iter().any(|loss| !loss.is_finite()) {
        return Err(format!("losses {losses:?}"));
    }
    Ok(format!(
        "{:.1} ms [{:.1}..{:.1}], {:.0} tokens/s, {:.0} TFLOP/s a GPU, loss {:.3} .. {:.3}",
        median * 1e3,
        times[0] * 1e3,
        times[times.len() - 1] * 1e3,
        tokens / median,
        flops / median / ranks / 1e12,
        losses[0],
        losses[losses.len() - 1],
    ))
}

/// Where the time of a traced step goes: totals of each rank, and the first rank's most costly work.
pub(crate) fn show(programs: &Programs, trace: &Trace) {
    for totals in &trace.totals {
        println!(
            "    rank {}: step {:.1} ms, compute {:.1}, exchange {:.1}, transfer {:.1}, hidden {:.1}, idle {:.1}",
            totals.rank,
            trace.step.0 * 1e3,
            totals.compute.0 * 1e3,
            totals.exchange.0 * 1e3,
            totals.transfer.0 * 1e3,
            totals.hidden.0 * 1e3,
            totals.idle.0 * 1e3
        );
    }
    let mut by_name: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for event in trace.events.iter().filter(|event| event.rank == 0) {
        let name = match event.action {
            Action::Compute(id) => programs.fragment(id).name.clone(),
            Action::Exchange(id) => {
                let collective = programs.collective(id);
                let bytes = collective.source_bytes();
                format!("{} {} {bytes}", collective.exchange.name(), collective.axis.name())
            }
            Action::Send(_) => "send".to_owned(),
            Action::Receive(_) => "receive".to_owned(),
            Action::Free | Action::Signal(_) | Action::Wait(_) => continue,
        };
        let entry = by_name.entry(name).or_default();
        entry.0 += 1;
        entry.1 += (event.end - event.start).0;
    }
    let mut rows: Vec<(String, (usize, f64))> = by_name.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (name, (count, time)) in rows.iter().take(SHOWN) {
        println!("    {:>9.2} ms {count:>5} x {:>8.1} us  {name}", time * 1e3, time * 1e6 / *count as f64);
    }
}

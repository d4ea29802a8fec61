//! No execution of given programs can be faster than this.

use ir::cluster::Execution;
use ir::program::{Action, Draft, PerStream, Programs, Stream};
use ir::units::Seconds;

use crate::fleet::Seats;
use crate::model::CostModel;
use crate::prices::Prices;
use crate::simulate::{Deadlock, ideal_step};

/// The larger of two bounds on a step of `programs`: the busiest resource of any role (a stream, or the thread where
/// a rank is one), and the longest chain of instructions that wait for each other, when nothing slows anything.
pub fn lower_bound(programs: &Programs, model: &CostModel) -> Result<Seconds, Deadlock> {
    let chain = ideal_step(programs.draft(), model)?;
    Ok(chain.max(busiest(programs.draft(), model)))
}

fn busiest(draft: &Draft, model: &CostModel) -> Seconds {
    let prices = Prices::of_draft(draft, Seats::alike(model));
    let roles = (0..draft.roles.len()).map(|role| {
        let times = stream_times(draft, role, &prices);
        match model.cluster().device.execution {
            Execution::Concurrent => times.values().iter().copied().fold(0.0, f64::max),
            Execution::Shared { .. } => {
                let served = Stream::ALL.into_iter().filter(|stream| !matches!(stream, Stream::Send(_)));
                served.map(|stream| times[stream]).sum()
            }
        }
    });
    Seconds(roles.fold(0.0, f64::max))
}

fn stream_times(draft: &Draft, index: usize, prices: &Prices) -> PerStream<f64> {
    let role = &draft.roles[index];
    let mut times = PerStream::all(0.0);
    for instr in &role.code {
        times[instr.stream] += match instr.action {
            Action::Compute(id) => prices.fragment_price(index, id).price.time,
            Action::Exchange(id) => prices.exchange(index, id).price.time,
            Action::Send(id) | Action::Receive(id) => {
                let bytes = role.buffers[role.operands(instr)[0].index()].bytes;
                prices.transfer(bytes, prices.lane_of(draft, id)).time
            }
            Action::Free | Action::Signal(_) | Action::Wait(_) => 0.0,
        };
    }
    times
}

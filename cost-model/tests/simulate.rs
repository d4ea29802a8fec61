//! Simulated times against what is known without a simulator.

mod specimen;

use hetu_cost_model::{CostModel, Detail, lower_bound, simulate};
use ir::cluster::Execution;
use ir::mesh::Axis;
use ir::plan::Schedule;
use ir::profile::{Route, Work};
use ir::program::{Action, Direction, Stream};
use ir::seed::{Draws, Seed};
use ir::trace::{Confidence, Trace};
use ir::units::{Bytes, BytesPerSecond, Seconds};
use specimen::{BUFFER, Pipeline, Specimen, cluster, sample};

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{found} is not {expected}");
}

fn exactly(found: f64, expected: f64) {
    assert_eq!(found.to_bits(), expected.to_bits(), "{found} is not {expected}");
}

const DATA: Stream = Stream::Exchange(Axis::Data);
const TENSOR: Stream = Stream::Exchange(Axis::Tensor);

#[test]
fn one_stage_takes_the_sum_of_its_kernels_exactly() {
    let mut specimen = Specimen::new(1, &[1]);
    let times = [0.1, 0.7, 1e-5, 0.3];
    for time in times {
        let fragment = specimen.fragment(&[time], 0);
        specimen.compute(0, fragment, &[]);
    }
    let trace = specimen.trace();
    let sum: f64 = times.iter().sum();
    exactly(trace.step.0, sum);
    near(trace.totals[0].compute.0, sum);
    near(trace.shares[Confidence::Measured as usize].0, sum);
    exactly(trace.totals[0].idle.0, 0.0);
}

#[test]
fn a_ring_all_reduce_sends_almost_twice_its_bytes() {
    for ranks in [2, 4, 8] {
        let mut specimen = Specimen::new(1, &[ranks]);
        specimen.cluster.inside.latency = Seconds(1e-3);
        let reduce = specimen.all_reduce(&[1], Axis::Data);
        let fragment = specimen.fragment(&[0.0], 0);
        let value = specimen.compute(0, fragment, &[]);
        specimen.order(0, Stream::Compute, DATA);
        specimen.push(0, DATA, Action::Exchange(reduce), &[value]);
        let n = f64::from(ranks);
        near(specimen.step(), 2.0 * (n - 1.0) / n + 2.0 * (n - 1.0) * 1e-3);
    }
}

#[test]
fn across_nodes_the_slowest_link_bounds() {
    let model = |between: f64| {
        let mut cluster = cluster(Execution::Concurrent);
        cluster.between.rate = BytesPerSecond(between);
        CostModel::new(&cluster, None)
    };
    let work = |ranks, ranks_per_node| {
        let (kind, bytes) = ("all-reduce".to_owned(), Bytes(BUFFER));
        Work::Exchange { kind, ranks, ranks_per_node, bytes }
    };
    let rate = BUFFER as f64;
    // 8 links between nodes of a 64th each are slower than one inside; of a half each they are not.
    near(model(rate / 64.0).price(&work(16, 8)).0.0, 2.0 * 15.0 / 16.0 * 8.0);
    near(model(rate / 2.0).price(&work(16, 8)).0.0, 2.0 * 15.0 / 16.0);
    near(model(rate / 2.0).price(&work(16, 1)).0.0, 2.0 * 15.0 / 16.0 * 2.0);
}

#[test]
fn pipelines_with_free_communication_take_m_plus_s_minus_1_passes() {
    for schedule in [Schedule::AllForward, Schedule::OneForwardOneBackward] {
        for (stages, microbatches) in [(1, 1), (2, 4), (4, 8), (8, 8), (8, 64), (3, 2)] {
            let passes = vec![(0.25, 0.5); stages];
            let mut specimen = Pipeline { schedule, microbatches, passes, ranks: 1 }.specimen();
            for route in [Route::Inside, Route::Between] {
                specimen.profile.samples.push(sample(Work::Transfer { route, bytes: Bytes(BUFFER) }, 0.0));
            }
            exactly(specimen.step(), (microbatches + stages - 1) as f64 * 0.75);
        }
    }
}

/// A kernel of `compute` seconds beside exchanges of 1 s, each on its own stream.
fn beside(compute: f64, exchanges: &[(usize, Axis)]) -> Specimen {
    let mut specimen = Specimen::new(1, &[2, 2]);
    let first = specimen.fragment(&[0.0], 0);
    let long = specimen.fragment(&[compute], 0);
    let values: Vec<_> = exchanges.iter().map(|_| specimen.compute(0, first, &[])).collect();
    for (&(mesh_axis, axis), value) in exchanges.iter().zip(values) {
        let reduce = specimen.all_reduce(&[mesh_axis], axis);
        specimen.order(0, Stream::Compute, Stream::Exchange(axis));
        specimen.push(0, Stream::Exchange(axis), Action::Exchange(reduce), &[value]);
    }
    if compute > 0.0 {
        specimen.compute(0, long, &[]);
    }
    specimen
}

#[test]
fn independent_streams_take_the_longer_of_both() {
    for compute in [0.5, 3.0] {
        let mut specimen = beside(compute, &[(1, Axis::Data)]);
        specimen.slow_nothing();
        let trace = specimen.trace();
        near(trace.step.0, f64::max(1.0, compute));
        near(trace.totals[0].hidden.0, f64::min(1.0, compute));
    }
}

#[test]
fn streams_side_by_side_slow_each_other_while_both_run() {
    let mut specimen = beside(4.0, &[(1, Axis::Data)]);
    specimen.slow(Stream::Compute, DATA, 2.0);
    specimen.slow(DATA, Stream::Compute, 1.0);
    // In the second of the exchange half a second of the kernel is done; 3.5 remain.
    near(specimen.step(), 4.5);
    let mut specimen = beside(4.0, &[(1, Axis::Data)]);
    specimen.slow(Stream::Compute, DATA, 1.0);
    specimen.slow(DATA, Stream::Compute, 1.5);
    let trace = specimen.trace();
    near(trace.step.0, 4.0);
    near(trace.totals[0].exchange.0, 1.5);
}

#[test]
fn exchanges_on_one_link_share_it() {
    near(beside(0.0, &[(1, Axis::Data), (2, Axis::Tensor)]).step(), 2.0);
    // A half beside a whole: both at half speed until the half is there after 1 s; then half a second alone.
    let mut specimen = Specimen::new(1, &[2, 2]);
    let fragment = specimen.fragment(&[0.0], 0);
    let values = [0, 1].map(|_| specimen.compute(0, fragment, &[]));
    let half = specimen.all_reduce_of(BUFFER / 2, &[1], Axis::Data);
    let whole = specimen.all_reduce(&[2], Axis::Tensor);
    for (stream, id, value) in [(DATA, half, values[0]), (TENSOR, whole, values[1])] {
        specimen.order(0, Stream::Compute, stream);
        specimen.push(0, stream, Action::Exchange(id), &[value]);
    }
    near(specimen.step(), 1.5);
}

#[test]
fn a_measured_pair_takes_the_place_of_sharing_a_link() {
    let mut specimen = beside(0.0, &[(1, Axis::Data), (2, Axis::Tensor)]);
    specimen.slow(DATA, TENSOR, 1.25);
    specimen.slow(TENSOR, DATA, 1.25);
    near(specimen.step(), 1.25);
}

/// Two buffers sent between two stages at once: forward by the first, backward by `second`.
fn two_transfers(second: usize) -> Specimen {
    let mut specimen = Specimen::new(2, &[1]);
    let fragment = specimen.fragment(&[0.0], 0);
    for (direction, sender) in [(Direction::Forward, 0), (Direction::Backward, second)] {
        let receiver = 1 - sender;
        let value = specimen.compute(sender, fragment, &[]);
        specimen.order(sender, Stream::Compute, Stream::Send(direction));
        specimen.send(sender, receiver, direction, value);
        let value = specimen.value(receiver);
        specimen.receive(receiver, sender, direction, value);
    }
    specimen
}

#[test]
fn links_carry_both_directions_at_once() {
    near(two_transfers(1).step(), 1.0);
    near(two_transfers(0).step(), 2.0);
}

#[test]
fn a_transfer_is_as_slow_as_its_slower_side() {
    // The stage in the middle sends to both others over its one link, whose receivers are otherwise idle.
    let mut specimen = Specimen::new(3, &[1]);
    let fragment = specimen.fragment(&[0.0], 0);
    for (direction, receiver) in [(Direction::Forward, 2), (Direction::Backward, 0)] {
        let value = specimen.compute(1, fragment, &[]);
        specimen.order(1, Stream::Compute, Stream::Send(direction));
        specimen.send(1, receiver, direction, value);
        let value = specimen.value(receiver);
        specimen.receive(receiver, 1, direction, value);
    }
    let trace = specimen.trace();
    for event in trace.events.iter().filter(|event| event.stream != Stream::Compute) {
        near(event.end.0, 2.0);
    }
    near(trace.totals[0].transfer.0, 2.0);
}

#[test]
fn transfers_between_nodes_take_the_link_between_them() {
    let mut specimen = two_transfers(1);
    specimen.cluster.devices_per_node = 1;
    near(specimen.step(), 2.0);
}

#[test]
fn small_kernels_are_bound_by_their_issue() {
    let mut specimen = Specimen::new(1, &[1]);
    specimen.profile.issue = Seconds(4.0);
    let fragment = specimen.fragment(&[1.0; 10], 0);
    specimen.compute(0, fragment, &[]);
    specimen.compute(0, fragment, &[]);
    near(specimen.step(), 81.0);
}

#[test]
fn behind_a_long_kernel_issue_is_hidden() {
    let mut specimen = Specimen::new(1, &[1]);
    specimen.profile.issue = Seconds(1.0);
    let long = specimen.fragment(&[100.0], 0);
    let short = specimen.fragment(&[0.5; 10], 0);
    specimen.compute(0, long, &[]);
    specimen.compute(0, short, &[]);
    near(specimen.step(), 106.0);
}

#[test]
fn a_thread_does_one_stream_at_a_time() {
    let mut specimen = beside(4.0, &[(1, Axis::Data), (2, Axis::Tensor)]);
    specimen.cluster.device.execution = Execution::Shared { cores: 8 };
    let trace = specimen.trace();
    near(trace.step.0, 6.0);
    near(trace.totals[0].hidden.0, 0.0);
    near(trace.totals[0].idle.0, 0.0);
    // Exchanges come before the long kernel in the code.
    let last = trace.events.last().expect("events");
    assert_eq!(last.stream, Stream::Compute);
}

#[test]
fn ranks_that_share_cores_slow_each_other() {
    let mut specimen = Specimen::new(2, &[2]);
    specimen.cluster.device.execution = Execution::Shared { cores: 2 };
    for (role, time) in [(0, 1.0), (1, 2.0)] {
        let fragment = specimen.fragment(&[time], 0);
        specimen.compute(role, fragment, &[]);
    }
    // Four ranks on two cores until the first two are done after 2 s, then two on two for the other second.
    near(specimen.step(), 3.0);
    specimen.profile.sharing = vec![1.0, 1.5, 2.0, 4.0];
    near(specimen.step(), 4.0 + 1.5 * 1.0);
}

#[test]
fn exchanges_slow_by_ranks_outside_of_their_group() {
    // Two groups of two on two cores: the price is that of one group, and both are at work.
    let mut specimen = beside(0.0, &[(1, Axis::Data)]);
    specimen.cluster.device.execution = Execution::Shared { cores: 2 };
    near(specimen.step(), 2.0);
    specimen.profile.sharing = vec![1.0, 1.5, 2.0, 2.25];
    near(specimen.step(), 1.5);
}

#[test]
fn a_send_takes_no_time_of_its_thread() {
    let mut specimen = Specimen::new(2, &[1]);
    specimen.cluster.device.execution = Execution::Shared { cores: 2 };
    let [first, long] = [0.0, 5.0].map(|time| specimen.fragment(&[time], 0));
    let value = specimen.compute(0, first, &[]);
    let send = Stream::Send(Direction::Forward);
    specimen.order(0, Stream::Compute, send);
    specimen.send(0, 1, Direction::Forward, value);
    specimen.compute(0, long, &[]);
    let value = specimen.value(1);
    specimen.receive(1, 0, Direction::Forward, value);
    let trace = specimen.trace();
    near(trace.step.0, 5.0);
    near(trace.totals[0].transfer.0, 1.0);
    near(trace.totals[0].idle.0, 0.0);
    near(trace.totals[1].idle.0, 4.0);
    // With nothing else to do it is idle while the other copies one after the other.
    let mut specimen = two_transfers(0);
    specimen.cluster.device.execution = Execution::Shared { cores: 2 };
    let trace = specimen.trace();
    near(trace.totals[0].idle.0, 2.0);
    near(trace.totals[1].idle.0, 0.0);
}

#[test]
fn an_exchange_of_all_stages_waits_for_the_last() {
    for execution in [Execution::Concurrent, Execution::Shared { cores: 8 }] {
        let mut specimen = Specimen::new(3, &[1]);
        specimen.cluster.device.execution = execution;
        let reduce = specimen.all_reduce(&[0], Axis::Pipeline);
        let stream = Stream::Exchange(Axis::Pipeline);
        for role in 0..3 {
            let fragment = specimen.fragment(&[role as f64], 0);
            let value = specimen.compute(role, fragment, &[]);
            specimen.order(role, Stream::Compute, stream);
            specimen.push(role, stream, Action::Exchange(reduce), &[value]);
        }
        near(specimen.step(), 2.0 + 2.0 * 2.0 / 3.0);
    }
}

fn arbitrary(seed: u64) -> Pipeline {
    let mut draws = Draws::new(Seed(seed));
    let stages = 1 + draws.below(4) as usize;
    Pipeline {
        schedule: *draws.pick(&[Schedule::AllForward, Schedule::OneForwardOneBackward]),
        microbatches: 1 + draws.below(6) as usize,
        passes: (0..stages).map(|_| (draws.uniform(), 2.0 * draws.uniform())).collect(),
        ranks: *draws.pick(&[1, 2, 4, 16]),
    }
}

#[test]
fn without_slowdowns_more_bandwidth_is_never_slower() {
    for seed in 0..200 {
        let mut steps = Vec::new();
        for rate in [1.0, 1.5, 4.0, 1000.0] {
            let mut specimen = arbitrary(seed).specimen();
            specimen.slow_nothing();
            let cluster = &mut specimen.cluster;
            for link in [&mut cluster.inside, &mut cluster.between] {
                link.rate = BytesPerSecond(link.rate.0 * rate);
            }
            steps.push(specimen.step());
        }
        assert!(steps.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-12)), "seed {seed}: {steps:?}");
    }
}

#[test]
fn no_step_is_shorter_than_its_bound() {
    for seed in 0..200 {
        for execution in [Execution::Concurrent, Execution::Shared { cores: 3 }] {
            let mut specimen = arbitrary(seed).specimen();
            specimen.cluster.device.execution = execution;
            specimen.profile.issue = Seconds(0.01);
            let (programs, model) = specimen.build();
            let step = simulate(&programs, &model, Detail::Totals).expect("no deadlock").step;
            let bound = lower_bound(&programs, &model).expect("no deadlock");
            assert!(bound.0 <= step.0 * (1.0 + 1e-12), "seed {seed}, {execution:?}: {step} is below {bound}");
            assert!(bound.0 > 0.0);
        }
    }
}

#[test]
fn totals_add_up_to_the_step() {
    for seed in 0..200 {
        for execution in [Execution::Concurrent, Execution::Shared { cores: 3 }] {
            let mut specimen = arbitrary(seed).specimen();
            specimen.cluster.device.execution = execution;
            check_totals(seed, &specimen.trace());
        }
    }
}

/// Busy and idle time of each role make the step, as its events say.
fn check_totals(seed: u64, trace: &Trace) {
    let sum: Seconds = trace.shares.iter().copied().sum();
    let events: f64 = trace.events.iter().map(|event| event.end.0 - event.start.0).sum();
    assert!((sum.0 - events).abs() < 1e-9 * events.max(1.0), "seed {seed}: shares {sum}, events {events}");
    for totals in &trace.totals {
        let own = || trace.events.iter().filter(|event| event.rank == totals.rank);
        let busy: f64 = own().map(|event| event.end.0 - event.start.0).sum();
        let found = totals.compute.0 + totals.exchange.0 + totals.transfer.0;
        assert!((busy - found).abs() < 1e-9 * busy.max(1.0), "seed {seed}: {totals:?}, events {busy}");
        assert!(totals.hidden.0 <= totals.exchange.0 + totals.transfer.0 + 1e-9, "seed {seed}: {totals:?}");
        assert!(totals.idle.0 <= trace.step.0 - totals.compute.0 + 1e-9, "seed {seed}: {totals:?}");
        for stream in Stream::ALL {
            let mut end = Seconds::ZERO;
            for event in own().filter(|event| event.stream == stream) {
                assert!(event.start >= end && event.end >= event.start, "seed {seed}: {event:?} begins before {end}");
                end = event.end;
            }
        }
    }
}

#[test]
fn equal_programs_give_equal_traces() {
    let trace = |seed| arbitrary(seed).specimen().trace();
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

#[test]
fn memory_never_exceeds_what_was_placed_and_ends_empty() {
    for seed in 0..50 {
        let mut specimen = arbitrary(seed).specimen();
        let (programs, _) = specimen.build();
        let trace = specimen.trace();
        for (role, totals) in programs.roles().iter().zip(&trace.totals) {
            let samples: Vec<_> = trace.memory.iter().filter(|sample| sample.rank == totals.rank).collect();
            assert!(samples.windows(2).all(|pair| pair[0].time < pair[1].time), "seed {seed}");
            assert!(samples.iter().all(|sample| sample.live <= role.arena), "seed {seed}");
            assert_eq!(samples.last().map(|sample| sample.live), Some(Bytes::ZERO), "seed {seed}");
        }
    }
}

#[test]
fn a_serial_program_holds_as_much_as_its_code_says() {
    let mut specimen = Specimen::new(1, &[1]);
    let fragment = specimen.fragment(&[1.0], 0);
    let sum = specimen.fragment(&[1.0], 2);
    let values = [0, 1].map(|_| specimen.compute(0, fragment, &[]));
    let total = specimen.compute(0, sum, &values);
    for value in values {
        specimen.push(0, Stream::Compute, Action::Free, &[value]);
    }
    specimen.push(0, Stream::Compute, Action::Free, &[total]);
    let live: Vec<_> = specimen.trace().memory.iter().map(|sample| (sample.time.0, sample.live.0 / BUFFER)).collect();
    assert_eq!(live, [(0.0, 1), (1.0, 2), (2.0, 3), (3.0, 0)]);
}

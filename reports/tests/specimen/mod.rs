//! A made-up job: two stages of four ranks each, with the shape of a real step. Shared by tests and the example.

use std::collections::BTreeMap;

use hetu_reports::{CandidatePoint, Report, Standing, StepRecord};
use ir::graph::Element;
use ir::layout::{Exchange, Reduce};
use ir::mesh::{Axis, Mesh};
use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::{
    Action, Buffer, BufferId, Collective, CollectiveId, Content, Direction, Draft, Fragment, FragmentId, Instr, Phase,
    Programs, Role, RoleId, Span, StageId, StepSize, Stream, Transfer, TransferId,
};
use ir::seed::Seed;
use ir::trace::{Confidence, MemorySample, Origin, Totals, Trace, TraceEvent};
use ir::units::{Bytes, Seconds};

const STAGES: u32 = 2;
const LAYERS: u16 = 12;
const MICROBATCHES: u16 = 8;
const RANKS: u32 = 4;
const FRAGMENTS: [&str; 5] = ["attention", "feed-forward", "attention gradient", "feed-forward gradient", "adamw"];
const GATHER: Action = Action::Exchange(CollectiveId(0));
const SCATTER: Action = Action::Exchange(CollectiveId(1));
const REDUCE: Action = Action::Exchange(CollectiveId(2));
const JOIN: Action = Action::Exchange(CollectiveId(3));

/// All that a report needs, owned.
pub(crate) struct Job {
    /// The plan.
    pub plan: Plan,
    /// Programs without code, with the names that traces refer to.
    pub programs: Programs,
    /// One rank a stage.
    pub predicted: Trace,
    /// All ranks, with noise.
    pub measured: Trace,
    /// Steps with falling loss.
    pub steps: Vec<StepRecord>,
    /// Plans of all kinds.
    pub candidates: Vec<CandidatePoint>,
    layers: Vec<String>,
    model: Vec<(String, String)>,
    cluster: Vec<(String, String)>,
}

impl Job {
    /// The same job each time.
    pub(crate) fn new() -> Job {
        let programs = Programs::verified(draft(), Bytes(u64::MAX)).expect("programs without code have no violations");
        let layers: Vec<String> = (0..LAYERS).map(|layer| format!("block {layer}")).collect();
        let rows = |rows: &[(&str, &str)]| rows.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        Job {
            plan: plan(),
            predicted: Clock::trace(&programs, Origin::Predicted),
            measured: Clock::trace(&programs, Origin::Measured),
            programs,
            steps: steps(),
            candidates: candidates(),
            layers,
            model: rows(&[("name", "gpt <small> & \"quoted\""), ("layers", "12"), ("parameters", "124.4 M")]),
            cluster: rows(&[("devices", "8 in 1 node"), ("memory", "24 GiB each"), ("links", "300 GB/s inside")]),
        }
    }

    /// A report with everything in it.
    pub(crate) fn report(&self) -> Report<'_> {
        Report {
            title: "A made-up job of 12 layers on 8 devices",
            model: &self.model,
            cluster: &self.cluster,
            plan: &self.plan,
            layers: &self.layers,
            programs: &self.programs,
            predicted: Some(&self.predicted),
            measured: Some(&self.measured),
            steps: &self.steps,
            between: None,
            candidates: &self.candidates,
            choice: None,
            verdict: None,
            capacity: Bytes(24 << 30),
            unlike: None,
        }
    }
}

fn plan() -> Plan {
    let strategy = |layer: u16| Strategy {
        data: if layer < 3 { 4 } else { 2 },
        tensor: if layer < 3 { 1 } else { 2 },
        sequence: if layer < 3 { Sequence::Whole } else { Sequence::Split },
        shard: if layer < 6 { Shard::Parameters } else { Shard::Optimizer },
        recompute: match layer {
            0..2 => Recompute::Full,
            2..5 => Recompute::Selective,
            _ => Recompute::Nothing,
        },
    };
    Plan {
        batch: 64,
        microbatches: u32::from(MICROBATCHES),
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Mixed,
        stages: vec![0..6, 6..12],
        strategies: (0..LAYERS).map(strategy).collect(),
        prefetch: 1,
    }
}

const SPAN: Span = Span { microbatch: None, layer: None, phase: Phase::Forward };

fn draft() -> Draft {
    let fragment = |name: &&str| Fragment {
        name: (*name).to_owned(),
        bindings: Vec::new(),
        kernels: Vec::new(),
        scratch: None,
        scratch_bound: Bytes::ZERO,
    };
    let collective = |exchange, axis| Collective { exchange, axis, shape: vec![1024], element: Element::F32 };
    let role = |stage| {
        // One buffer that is sent again and again, and one that all is received into.
        let buffer = |place: u64| Buffer { bytes: Bytes(256), address: 256 * place, content: Content::Boundary };
        let (sends, receives) = if stage == 0 { (0, MICROBATCHES) } else { (MICROBATCHES, 0) };
        let [there, back] = if stage == 0 { Direction::ALL } else { [Direction::Backward, Direction::Forward] };
        let instr = |stream, action, place| Instr { stream, span: SPAN, action, operands: (place, 1) };
        let id = |first: u16, microbatch: u16| TransferId(u32::from(first + microbatch));
        let code = (0..MICROBATCHES).flat_map(|microbatch| {
            let send = instr(Stream::Send(there), Action::Send(id(sends, microbatch)), 0);
            [send, instr(Stream::Receive(back), Action::Receive(id(receives, microbatch)), 1)]
        });
        Role {
            id: RoleId(stage),
            stages: vec![StageId(stage)],
            buffers: vec![buffer(0), buffer(1)],
            code: code.collect(),
            operand_list: vec![BufferId(0), BufferId(1)],
            arena: Bytes(512),
            live_bound: Bytes(512),
        }
    };
    let mesh = Mesh::new(STAGES, &[2, 2]);
    Draft {
        role_of: Draft::roles_along(&mesh),
        mesh,
        step: StepSize { microbatches: u32::from(MICROBATCHES), sequences: 8, sequence: 1024 },
        fragments: FRAGMENTS.iter().map(fragment).collect(),
        collectives: vec![
            collective(Exchange::AllGather { axes: vec![1], dimension: 0 }, Axis::Data),
            collective(Exchange::ReduceScatter { axes: vec![1], dimension: 0 }, Axis::Data),
            collective(Exchange::AllReduce { axes: vec![2], reduce: Reduce::Sum }, Axis::Tensor),
            collective(Exchange::AllReduce { axes: vec![0, 1, 2], reduce: Reduce::Sum }, Axis::Pipeline),
        ],
        blocks: Vec::new(),
        transfers: Direction::ALL
            .iter()
            .flat_map(|&direction| (0..MICROBATCHES).map(move |one| transfer(direction, one)))
            .collect(),
        roles: (0..STAGES).map(role).collect(),
    }
}

/// What goes over the one cut between the two stages.
fn transfer(direction: Direction, microbatch: u16) -> Transfer {
    let (from, to) = match direction {
        Direction::Forward => (RoleId(0), RoleId(1)),
        Direction::Backward => (RoleId(1), RoleId(0)),
    };
    Transfer { from, to, direction, microbatch: Some(microbatch), layer: 6 }
}

/// Plays one rank of each stage: when each stream is free, and when each microbatch came.
struct Clock {
    seed: Option<Seed>,
    column: u32,
    count: u64,
    free: BTreeMap<(u32, Stream), f64>,
    events: Vec<TraceEvent>,
    memory: Vec<MemorySample>,
}

impl Clock {
    fn trace(programs: &Programs, origin: Origin) -> Trace {
        let columns = if origin == Origin::Measured { RANKS } else { 1 };
        let (mut events, mut memory) = (Vec::new(), Vec::new());
        for column in 0..columns {
            let seed = (origin == Origin::Measured).then(|| Seed(7).derive(u64::from(column)));
            let (free, count) = (BTreeMap::new(), 0);
            let mut clock = Clock { seed, column, count, free, events: Vec::new(), memory: Vec::new() };
            clock.play();
            events.append(&mut clock.events);
            memory.append(&mut clock.memory);
        }
        events.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
        memory.sort_by(|a, b| a.rank.cmp(&b.rank).then(a.time.0.total_cmp(&b.time.0)));
        let step = events.iter().map(|event| event.end).fold(Seconds::ZERO, Seconds::max);
        let ranks = (0..STAGES).flat_map(|stage| (0..columns).map(move |column| stage * RANKS + column));
        let totals = ranks.map(|rank| totals(&events, &memory, rank, step)).collect();
        let shares = [Seconds(0.081), Seconds(0.012), Seconds(0.003)];
        Trace { origin, digest: programs.digest(), step, events, memory, totals, shares }
    }

    fn play(&mut self) {
        let order: Vec<Vec<(Direction, u16)>> = (0..STAGES).map(one_forward_one_backward).collect();
        let mut next = vec![0; STAGES as usize];
        let mut came: BTreeMap<(u32, Direction, u16), f64> = BTreeMap::new();
        for microbatch in 0..MICROBATCHES {
            came.insert((0, Direction::Forward, microbatch), 0.0);
        }
        self.sample(0, 0.0, 0);
        self.sample(1, 0.0, 0);
        let mut alive = vec![0u64; STAGES as usize];
        while (0..STAGES as usize).any(|stage| next[stage] < order[stage].len()) {
            for stage in 0..STAGES {
                let index = stage as usize;
                let Some(&(direction, microbatch)) = order[index].get(next[index]) else { continue };
                let Some(&ready) = came.get(&(stage, direction, microbatch)) else { continue };
                let end = self.visit(stage, direction, microbatch, ready);
                next[index] += 1;
                alive[index] = if direction == Direction::Forward { alive[index] + 1 } else { alive[index] - 1 };
                self.sample(stage, end, alive[index]);
                match (direction, stage) {
                    (Direction::Forward, 0) => {
                        came.insert((1, direction, microbatch), self.send([stage, 1], direction, microbatch, end));
                    }
                    (Direction::Forward, _) => {
                        came.insert((stage, Direction::Backward, microbatch), end);
                    }
                    (_, 1) => {
                        came.insert((0, direction, microbatch), self.send([stage, 0], direction, microbatch, end));
                    }
                    (_, _) => {}
                }
            }
        }
        self.update();
    }

    fn visit(&mut self, stage: u32, direction: Direction, microbatch: u16, ready: f64) -> f64 {
        let [first, second, time] = if direction == Direction::Forward { [0, 1, 8] } else { [3, 2, 17] };
        let mut now = ready;
        let layers: Vec<u16> = (stage as u16 * 6..stage as u16 * 6 + 6).collect();
        let ordered: Vec<u16> =
            if direction == Direction::Forward { layers } else { layers.into_iter().rev().collect() };
        for layer in ordered {
            let span = Span { microbatch: Some(microbatch), layer: Some(layer), phase: direction.phase() };
            let gathers = layer < 6;
            let gathered =
                if gathers { self.run((stage, Stream::Exchange(Axis::Data)), span, GATHER, [0.0, 6e-4]) } else { 0.0 };
            for fragment in [first, second] {
                let time = f64::from(time) * 1e-4;
                let action = Action::Compute(FragmentId(fragment));
                now = self.run((stage, Stream::Compute), span, action, [now.max(gathered), time]);
                if layer >= 3 {
                    now = self.run((stage, Stream::Exchange(Axis::Tensor)), span, REDUCE, [now, 1.5e-4]);
                }
            }
            if direction == Direction::Backward && microbatch + 1 == MICROBATCHES {
                self.run((stage, Stream::Exchange(Axis::Data)), span, SCATTER, [now, 9e-4]);
            }
        }
        now
    }

    fn send(&mut self, [from, to]: [u32; 2], direction: Direction, microbatch: u16, ready: f64) -> f64 {
        let span = Span { microbatch: Some(microbatch), layer: None, phase: direction.phase() };
        let first = if direction == Direction::Forward { 0 } else { MICROBATCHES };
        let id = TransferId(u32::from(first + microbatch));
        let end = self.run((from, Stream::Send(direction)), span, Action::Send(id), [ready, 5e-4]);
        let receive = Action::Receive(id);
        self.run((to, Stream::Receive(direction)), span, receive, [ready, end - ready])
    }

    fn update(&mut self) {
        let span = |layer| Span { microbatch: None, layer, phase: Phase::Update };
        let ready = self.free.values().copied().fold(0.0, f64::max);
        for stage in 0..STAGES {
            let joined = self.run((stage, Stream::Exchange(Axis::Pipeline)), span(None), JOIN, [ready, 3e-4]);
            for layer in stage as u16 * 6..stage as u16 * 6 + 6 {
                let action = Action::Compute(FragmentId(4));
                let end = self.run((stage, Stream::Compute), span(Some(layer)), action, [joined, 4e-4]);
                if layer >= 6 {
                    self.run((stage, Stream::Exchange(Axis::Data)), span(Some(layer)), GATHER, [end, 6e-4]);
                }
            }
        }
    }

    /// Runs something once its stream is free and it is ready; `[ready, time]` in seconds. Gives back its end.
    fn run(&mut self, (stage, stream): (u32, Stream), span: Span, action: Action, [ready, time]: [f64; 2]) -> f64 {
        let free = self.free.entry((stage, stream)).or_default();
        self.count += 1;
        let noise = self.seed.map_or(1.0, |seed| {
            let unit = seed.uniform(self.count);
            if stream == Stream::Compute { 1.0 + 0.08 * unit } else { 1.0 + 0.5 * unit * unit }
        });
        let start = free.max(ready);
        let end = start + time * noise;
        *free = end;
        let rank = stage * RANKS + self.column;
        let confidence = if stream == Stream::Compute { Confidence::Measured } else { Confidence::Interpolated };
        self.events.push(TraceEvent {
            rank,
            stream,
            span,
            action,
            start: Seconds(start),
            end: Seconds(end),
            confidence,
        });
        end
    }

    fn sample(&mut self, stage: u32, time: f64, alive: u64) {
        let live = Bytes((9 << 30) + (alive << 30) * 5 - u64::from(stage) * (3 << 28));
        self.memory.push(MemorySample { rank: stage * RANKS + self.column, time: Seconds(time), live });
    }
}

fn one_forward_one_backward(stage: u32) -> Vec<(Direction, u16)> {
    let ahead = (STAGES - stage) as u16;
    let mut order: Vec<(Direction, u16)> = (0..ahead.min(MICROBATCHES)).map(|one| (Direction::Forward, one)).collect();
    for microbatch in 0..MICROBATCHES {
        order.push((Direction::Backward, microbatch));
        if microbatch + ahead < MICROBATCHES {
            order.push((Direction::Forward, microbatch + ahead));
        }
    }
    order
}

fn totals(events: &[TraceEvent], memory: &[MemorySample], rank: u32, step: Seconds) -> Totals {
    let sum = |wanted: &dyn Fn(Stream) -> bool| -> Seconds {
        events.iter().filter(|one| one.rank == rank && wanted(one.stream)).map(|one| one.end - one.start).sum()
    };
    let compute = sum(&|stream| stream == Stream::Compute);
    let exchange = sum(&|stream| matches!(stream, Stream::Exchange(_)));
    let transfer = sum(&|stream| matches!(stream, Stream::Send(_) | Stream::Receive(_)));
    let hidden = exchange * 0.45;
    let idle = (step - compute - exchange - transfer + hidden).max(Seconds::ZERO);
    let arena = memory.iter().filter(|one| one.rank == rank).map(|one| one.live).max().unwrap_or(Bytes::ZERO);
    Totals { rank, compute, exchange, transfer, hidden, idle, arena }
}

fn steps() -> Vec<StepRecord> {
    let noise = |step: u64| Seed(3).uniform(step) - 0.5;
    (1..=200)
        .map(|step| {
            let loss = 3.1 + 7.7 * (-(step as f64) / 40.0).exp() + 0.12 * noise(step);
            let time = Seconds(0.3 * (1.0 + 0.02 * noise(step + 1000)));
            let evaluation = step.is_multiple_of(25).then_some(loss + 0.08);
            StepRecord { step, loss, evaluation, time, tokens_per_second: 65_536.0 / time.0 }
        })
        .collect()
}

fn candidates() -> Vec<CandidatePoint> {
    let unit = |index: u64| Seed(11).uniform(index);
    (0..260)
        .map(|index| {
            let memory = 7.0 + 30.0 * unit(2 * index);
            let time = 0.24 + 1.2 / memory + 0.25 * unit(2 * index + 1).powi(2);
            let standing = match index {
                0 => Standing::Chosen,
                _ if memory > 24.0 => Standing::TooLarge,
                _ => Standing::Fits,
            };
            let (memory, time) = if index == 0 { (19.0, 0.295) } else { (memory, time) };
            let peak = Bytes((memory * (1u64 << 30) as f64) as u64);
            CandidatePoint {
                mark: index.to_string(),
                label: format!("plan {index}"),
                time: Seconds(time),
                peak,
                standing,
            }
        })
        .collect()
}

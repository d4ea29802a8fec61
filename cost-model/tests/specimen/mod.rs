//! Programs made by hand, whose times are known.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use hetu_cost_model::{CostModel, Detail, simulate};
use ir::cluster::{Cluster, Device, Execution, Link};
use ir::graph::Element;
use ir::layout::{Exchange, Reduce};
use ir::mesh::{Axis, Mesh};
use ir::op::{Op, Write};
use ir::plan::Schedule;
use ir::profile::{Profile, Sample, Slowdown, Work};
use ir::program::{
    Access, Action, Binding, Buffer, BufferId, Collective, CollectiveId, Content, Direction, Draft, EventId, Fragment,
    FragmentId, Instr, Kernel, Operand, Output, Phase, Programs, Role, RoleId, Span, StageId, StepSize, Stream,
    Transfer, TransferId,
};
use ir::trace::Trace;
use ir::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

/// Size of every buffer.
pub(crate) const BUFFER: u64 = 1 << 20;

/// A cluster of nodes with 8 devices, links of 1 MiB/s inside and half of it between, without latency.
pub(crate) fn cluster(execution: Execution) -> Cluster {
    let link = |name: &str, rate: f64| Link {
        name: name.to_owned(),
        rate: BytesPerSecond(rate),
        latency: Seconds(0.0),
        efficiency: 1.0,
        efficiency_of: BTreeMap::new(),
        start: Seconds::ZERO,
    };
    let device = Device {
        name: "specimen".to_owned(),
        execution,
        memory: Bytes(1 << 40),
        reserved: Bytes(0),
        f32_rate: FlopsPerSecond(1e12),
        bf16_rate: FlopsPerSecond(2e12),
        memory_rate: BytesPerSecond(1e12),
        issue: Seconds(0.0),
        product_efficiency: 1.0,
        memory_efficiency: 1.0,
        residuals: None,
        price_per_hour: None,
        currency: None,
        source: "made up".to_owned(),
    };
    let name = "specimens".to_owned();
    let (inside, between) = (link("inside", BUFFER as f64), link("between", BUFFER as f64 / 2.0));
    Cluster { format: 1, name, nodes: 64, devices_per_node: 8, device, inside, between }
}

/// Programs under construction, with the measured time of each of their fragments.
pub(crate) struct Specimen {
    pub(crate) cluster: Cluster,
    pub(crate) profile: Profile,
    draft: Draft,
    events: Vec<u32>,
}

impl Specimen {
    /// Empty programs of some stages, each of ranks along `factors`, on devices that run streams side by side.
    pub(crate) fn new(stages: u32, factors: &[u32]) -> Specimen {
        let role = |stage| Role {
            id: RoleId(stage),
            stages: vec![StageId(stage)],
            buffers: Vec::new(),
            code: Vec::new(),
            operand_list: Vec::new(),
            arena: Bytes::ZERO,
            live_bound: Bytes::ZERO,
        };
        let mesh = Mesh::new(stages, factors);
        let draft = Draft {
            role_of: Draft::roles_along(&mesh),
            mesh,
            step: StepSize { microbatches: 1, sequences: 1, sequence: 1 },
            fragments: Vec::new(),
            collectives: Vec::new(),
            blocks: Vec::new(),
            transfers: Vec::new(),
            roles: (0..stages).map(role).collect(),
        };
        let profile = Profile::new("specimen");
        Specimen { cluster: cluster(Execution::Concurrent), profile, draft, events: vec![0; stages as usize] }
    }

    /// The time of `stream` beside `beside`.
    pub(crate) fn slow(&mut self, stream: Stream, beside: Stream, factor: f64) {
        let [stream, beside] = [stream, beside].map(|stream| stream.name().to_owned());
        self.profile.slowdown.push(Slowdown { stream, beside, kernels: None, factor });
    }

    /// Nothing slows anything.
    pub(crate) fn slow_nothing(&mut self) {
        for stream in Stream::ALL {
            for beside in Stream::ALL {
                self.slow(stream, beside, 1.0);
            }
        }
    }

    /// A fragment of kernels that take so many seconds each; it reads `reads` bindings and writes one more.
    pub(crate) fn fragment(&mut self, seconds: &[f64], reads: usize) -> FragmentId {
        let id = self.draft.fragments.len();
        let output = reads as u16;
        let kernels = seconds.iter().enumerate().map(|(place, &seconds)| {
            let size = 1 + 100 * id as u64 + place as u64;
            let dimensions = vec![('n', size)];
            let kernel = Kernel {
                op: Op::Zero,
                inputs: Vec::new(),
                outputs: vec![Output {
                    operand: Operand { binding: output, offset: 0, element: Element::F32, dimensions },
                    write: Write::Replace,
                }],
                offsets: Vec::new(),
                workspace: None,
            };
            self.profile.samples.push(sample(kernel.work(), seconds));
            kernel
        });
        let kernels = kernels.collect();
        let binding = |access| Binding { bytes: Bytes(BUFFER), access };
        let mut bindings = vec![binding(Access::Read); reads];
        bindings.push(binding(Access::Write));
        let name = format!("fragment {id}");
        self.draft.fragments.push(Fragment { name, bindings, kernels, scratch: None, scratch_bound: Bytes::ZERO });
        FragmentId(id as u32)
    }

    /// An all-reduce of a buffer over some axes of the mesh.
    pub(crate) fn all_reduce(&mut self, axes: &[usize], axis: Axis) -> CollectiveId {
        self.all_reduce_of(BUFFER, axes, axis)
    }

    /// An all-reduce of the first bytes of a buffer.
    pub(crate) fn all_reduce_of(&mut self, bytes: u64, axes: &[usize], axis: Axis) -> CollectiveId {
        let exchange = Exchange::AllReduce { axes: axes.to_vec(), reduce: Reduce::Sum };
        let collective = Collective { exchange, axis, shape: vec![bytes / 4], element: Element::F32 };
        self.draft.collectives.push(collective);
        CollectiveId(self.draft.collectives.len() as u32 - 1)
    }

    /// A buffer of a role that nothing uses yet.
    pub(crate) fn value(&mut self, role: usize) -> BufferId {
        let buffers = &mut self.draft.roles[role].buffers;
        let address = buffers.len() as u64 * BUFFER;
        buffers.push(Buffer { bytes: Bytes(BUFFER), address, content: Content::Value });
        BufferId(buffers.len() as u32 - 1)
    }

    /// Adds an instruction to the code of a role.
    pub(crate) fn push(&mut self, role: usize, stream: Stream, action: Action, operands: &[BufferId]) {
        let role = &mut self.draft.roles[role];
        let operands_start = role.operand_list.len() as u32;
        role.operand_list.extend_from_slice(operands);
        let span = Span { microbatch: None, layer: None, phase: Phase::Forward };
        role.code.push(Instr { stream, span, action, operands: (operands_start, operands.len() as u16) });
    }

    /// Sends a value to another role.
    pub(crate) fn send(&mut self, role: usize, to: usize, direction: Direction, value: BufferId) {
        let stream = Stream::Send(direction);
        let transfer = self.transfer(role, (role, to, direction), stream);
        self.push(role, stream, Action::Send(transfer), &[value]);
    }

    /// Receives a value from another role: the n-th that is received is the n-th that is sent.
    pub(crate) fn receive(&mut self, role: usize, from: usize, direction: Direction, value: BufferId) {
        let stream = Stream::Receive(direction);
        let transfer = self.transfer(role, (from, role, direction), stream);
        self.push(role, stream, Action::Receive(transfer), &[value]);
    }

    /// The next transfer of these ends that `role` has not come to on this stream.
    fn transfer(&mut self, role: usize, ends: (usize, usize, Direction), stream: Stream) -> TransferId {
        let (from, to, direction) = (RoleId(ends.0 as u32), RoleId(ends.1 as u32), ends.2);
        let is_next = |&id: &usize| {
            let Transfer { from: other_from, to: other_to, direction: other, .. } = self.draft.transfers[id];
            let id = TransferId(id as u32);
            let is_done = |instr: &Instr| {
                instr.stream == stream && [Action::Send(id), Action::Receive(id)].contains(&instr.action)
            };
            (other_from, other_to, other) == (from, to, direction) && !self.draft.roles[role].code.iter().any(is_done)
        };
        let count = self.draft.transfers.len();
        let found = (0..count).find(is_next);
        TransferId(found.unwrap_or_else(|| {
            self.draft.transfers.push(Transfer { from, to, direction, microbatch: Some(count as u16), layer: 0 });
            count
        }) as u32)
    }

    /// Makes `after` wait for what `before` was given so far.
    pub(crate) fn order(&mut self, role: usize, before: Stream, after: Stream) {
        let event = EventId(self.events[role]);
        self.events[role] += 1;
        self.push(role, before, Action::Signal(event), &[]);
        self.push(role, after, Action::Wait(event), &[]);
    }

    /// Runs a fragment on values that it reads, and gives the one that it writes.
    pub(crate) fn compute(&mut self, role: usize, fragment: FragmentId, reads: &[BufferId]) -> BufferId {
        let result = self.value(role);
        let operands: Vec<BufferId> = reads.iter().copied().chain([result]).collect();
        self.push(role, Stream::Compute, Action::Compute(fragment), &operands);
        result
    }

    /// The finished draft: values that nothing frees are freed at the end, on the stream that used them last.
    pub(crate) fn draft(&mut self) -> Draft {
        for index in 0..self.draft.roles.len() {
            let role = &self.draft.roles[index];
            let freed: BTreeSet<BufferId> = role
                .code
                .iter()
                .filter(|instr| instr.action == Action::Free)
                .map(|instr| role.operands(instr)[0])
                .collect();
            let last = |id: BufferId| role.code.iter().rev().find(|instr| role.operands(instr).contains(&id));
            let frees: Vec<(BufferId, Stream)> = (0..role.buffers.len() as u32)
                .map(BufferId)
                .filter(|id| !freed.contains(id))
                .filter_map(|id| last(id).map(|instr| (id, instr.stream)))
                .collect();
            for (id, stream) in frees {
                self.push(index, stream, Action::Free, &[id]);
            }
            let role = &mut self.draft.roles[index];
            role.arena = Bytes(role.buffers.len() as u64 * BUFFER);
            role.live_bound = live_bound(role);
        }
        self.draft.clone()
    }

    /// Verified programs, and a model that knows their fragments.
    pub(crate) fn build(&mut self) -> (Programs, CostModel) {
        let programs = Programs::verified(self.draft(), Bytes(u64::MAX)).unwrap_or_else(|found| panic!("{found:#?}"));
        (programs, CostModel::new(&self.cluster, Some(&self.profile)))
    }

    /// The trace of a simulation with all details.
    pub(crate) fn trace(&mut self) -> Trace {
        let (programs, model) = self.build();
        simulate(&programs, &model, Detail::Events).unwrap_or_else(|deadlock| panic!("{deadlock}"))
    }

    /// Seconds of a simulated step.
    pub(crate) fn step(&mut self) -> f64 {
        self.trace().step.0
    }
}

/// Work that was measured to take so long.
pub(crate) fn sample(work: Work, seconds: f64) -> Sample {
    Sample { work, median: Seconds(seconds), spread: Seconds(0.0), runs: 9, way: None }
}

fn live_bound(role: &Role) -> Bytes {
    let mut alive = BTreeSet::new();
    let mut most = 0;
    for instr in &role.code {
        for &id in role.operands(instr) {
            if instr.action == Action::Free {
                alive.remove(&id);
            } else {
                alive.insert(id);
            }
        }
        most = most.max(alive.len() as u64);
    }
    Bytes(most * BUFFER)
}

/// A pipeline of stages that each do one forward and one backward pass a microbatch.
pub(crate) struct Pipeline {
    pub(crate) schedule: Schedule,
    pub(crate) microbatches: usize,
    /// Seconds of forward and backward passes of each stage.
    pub(crate) passes: Vec<(f64, f64)>,
    /// Ranks of a stage; more than one reduce the result of each pass.
    pub(crate) ranks: u32,
}

impl Pipeline {
    /// Its programs, on the cluster of specimens.
    pub(crate) fn specimen(&self) -> Specimen {
        let stages = self.passes.len();
        let mut specimen = Specimen::new(stages as u32, &[self.ranks]);
        let reduce = (self.ranks > 1).then(|| specimen.all_reduce(&[1], Axis::Tensor));
        for (stage, &(forward, backward)) in self.passes.iter().enumerate() {
            let is_first = stage == 0;
            let is_last = stage + 1 == stages;
            let forward = specimen.fragment(&[forward], usize::from(!is_first));
            let backward = specimen.fragment(&[backward], usize::from(!is_last));
            for direction in order(self.schedule, self.microbatches, stages - stage) {
                let (from, to, fragment) = match direction {
                    Direction::Forward => (stage.checked_sub(1), (!is_last).then_some(stage + 1), forward),
                    Direction::Backward => ((!is_last).then_some(stage + 1), stage.checked_sub(1), backward),
                };
                let input = from.map(|from| {
                    let input = specimen.value(stage);
                    let stream = Stream::Receive(direction);
                    specimen.receive(stage, from, direction, input);
                    specimen.order(stage, stream, Stream::Compute);
                    input
                });
                let result = specimen.compute(stage, fragment, input.as_slice());
                if let Some(input) = input {
                    specimen.push(stage, Stream::Compute, Action::Free, &[input]);
                }
                let mut ready = Stream::Compute;
                if let Some(reduce) = reduce {
                    ready = Stream::Exchange(Axis::Tensor);
                    specimen.order(stage, Stream::Compute, ready);
                    specimen.push(stage, ready, Action::Exchange(reduce), &[result]);
                    specimen.order(stage, ready, Stream::Compute);
                }
                let last = match to {
                    Some(to) => {
                        let stream = Stream::Send(direction);
                        specimen.order(stage, ready, stream);
                        specimen.send(stage, to, direction, result);
                        stream
                    }
                    None => ready,
                };
                specimen.push(stage, last, Action::Free, &[result]);
            }
        }
        specimen
    }
}

/// The passes of a stage that is `behind` stages from the end, itself included (Narayanan et al. 2021, figure 4).
fn order(schedule: Schedule, microbatches: usize, behind: usize) -> Vec<Direction> {
    let ahead = match schedule {
        Schedule::AllForward => microbatches,
        Schedule::OneForwardOneBackward => behind.min(microbatches),
    };
    let mut directions = vec![Direction::Forward; ahead];
    for _ in ahead..microbatches {
        directions.extend([Direction::Backward, Direction::Forward]);
    }
    directions.extend(vec![Direction::Backward; ahead]);
    directions
}

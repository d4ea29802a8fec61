//! One rank on its GPU: all that it needs is made at load, and a step only enqueues.
//!
//! Nothing here waits for a device while a step is issued, and nothing frees, loads or meets for the first time: such
//! calls may wait for a collective that a peer has not come to yet, and then nobody goes on.

mod warm;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ir::program::{Action, Instr, PerStream, Role, Stream};
use ir::units::{Bytes, Seconds};
use kernels::cuda::{self, Addresses, Choice, Device, Error, Event, Graph, Memory, Prepared, Window};

use super::flat::Call;
use super::launch::{Launches, launches};
use super::moves::{Beside, Command, Move, commands, event_count, moves, takes_time, words};
use super::nccl::{Communicator, Id, Use};
use super::notes::Times;
use super::shared::Shared;
use crate::fault::Head;
use crate::host::Recording;
use crate::meetings::Route;
use crate::session::Issue;

/// While a step is young its end is looked for all the time, then every so often.
const EAGER: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_micros(20);

/// How a step of this rank ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// All is done; times, if they were asked for.
    Done(Option<Times>),
    /// Not within the patience; where streams stand.
    Stalled(Vec<Head>),
    /// Another rank failed first.
    Abandoned,
}

/// A rank with all that it needs. Fields are given back in this order.
pub(crate) struct Rank {
    number: u32,
    shared: Arc<Shared>,
    /// Before communicators, as it holds their work.
    graph: Option<Graph>,
    /// By meeting, then by route; of those that this rank takes part in.
    communicators: Vec<Option<Communicator>>,
    commands: Vec<Command>,
    /// Kernels, by their place in commands.
    kernels: Vec<Prepared>,
    /// Copies of runs, likewise.
    copies: Vec<Prepared>,
    events: Vec<Event>,
    /// After each instruction that moves something: tells how far a stream has come.
    marks: Vec<Option<Event>>,
    timers: Vec<Option<[Event; 2]>>,
    /// The start of a step, and, for streams, its end.
    fork: Event,
    joins: PerStream<Option<Event>>,
    begun: Event,
    finished: Event,
    streams: PerStream<Option<cuda::Stream>>,
    staging: PerStream<Option<[u64; 2]>>,
    workspace: u64,
    arena: Memory,
    /// Workspace and staging.
    beside: Memory,
    device: Device,
    steps: u64,
}

impl Rank {
    /// Opens the rank's GPU, takes all memory, and prepares all kernels.
    pub(crate) fn new(number: u32, shared: &Arc<Shared>) -> Result<Rank, Error> {
        let draft = &*shared.draft;
        let role = draft.role(number);
        let choice = Choice::Known(Arc::clone(&shared.ways));
        let device = Device::open(shared.device(number))?.choosing(choice);
        let arena = device.allocate(role.arena)?;
        let moves = moves(shared, number, arena.address());
        let used = |stream| stream == Stream::Compute || role.code.iter().any(|instr| instr.stream == stream);
        let mut streams = PerStream::default();
        let mut joins = PerStream::default();
        for stream in Stream::ALL.into_iter().filter(|&stream| used(stream)) {
            streams[stream] = Some(device.stream()?);
            joins[stream] = Some(device.event()?);
        }
        let plan = launches(draft, role, number, arena.address());
        let mut workspace = Bytes::ZERO;
        let mut kernels = Vec::with_capacity(plan.kernels.len());
        for wanted in &plan.kernels {
            workspace = workspace.max(device.workspace(wanted.kernel));
            kernels.push(device.prepare(wanted.kernel, &wanted.offsets, draft.step.tokens())?);
        }
        let layout = Beside::new(role, workspace, &moves);
        let beside = device.allocate(layout.bytes)?;
        let base = beside.address();
        let (commands, copies) = commands(&device, role, plan.of_code, moves)?;
        let events = (0..event_count(role)).map(|_| device.event()).collect::<Result<_, _>>()?;
        let marks = commands.iter().map(|command| match command {
            Command::Move(_) => device.event().map(Some),
            Command::Compute(_) | Command::Signal(_) | Command::Wait(_) | Command::Free => Ok(None),
        });
        let rank = Rank {
            number,
            shared: Arc::clone(shared),
            graph: None,
            communicators: Vec::new(),
            marks: marks.collect::<Result<_, _>>()?,
            commands,
            kernels,
            copies,
            events,
            timers: Vec::new(),
            fork: device.event()?,
            joins,
            begun: device.timer()?,
            finished: device.timer()?,
            streams,
            staging: PerStream::from_fn(|stream| layout.staging[stream].map(|at| at.map(|place| base + place))),
            workspace: base + layout.workspace,
            arena,
            beside,
            device,
            steps: 0,
        };
        rank.clear()?;
        Ok(rank)
    }

    /// Where its arena begins, and a way to it.
    pub(crate) fn window(&self) -> (Window, u64) {
        (self.device.window(), self.arena.address())
    }

    /// Makes the communicators of all meetings and routes of this rank, in the order that all ranks have.
    pub(crate) fn connect(&mut self, ids: &[Option<Id>]) -> Result<(), Error> {
        let meetings = &self.shared.meetings;
        let groups = meetings.all.iter().map(|meeting| (meeting.members.clone(), Use::Collectives));
        let routes = meetings.routes.iter().map(|&Route { from, to, .. }| (vec![from, to], Use::Transfers));
        for ((members, purpose), id) in groups.chain(routes).zip(ids) {
            let position = members.iter().position(|&member| member == self.number);
            self.communicators.push(match (position, id) {
                (Some(position), Some(id)) => {
                    Some(Communicator::new(*id, members.len() as u32, position as u32, purpose)?)
                }
                (None, _) | (_, None) => None,
            });
        }
        Ok(())
    }

    /// All memory zero, as a host begins.
    fn clear(&self) -> Result<(), Error> {
        let stream = self.stream(Stream::Compute);
        stream.fill(self.arena.address(), 0, self.arena.bytes())?;
        stream.fill(self.beside.address(), 0, self.beside.bytes())?;
        stream.synchronize()
    }

    /// One step, to its end.
    pub(crate) fn step(&mut self, recording: Recording, control: &Control) -> Result<Ended, Error> {
        let begin = Instant::now();
        if recording == Recording::Everything {
            self.make_timers()?;
            // So that the clocks of all devices begin together.
            control.start.wait();
        }
        let compute = self.stream(Stream::Compute);
        self.begun.record(compute)?;
        match (recording, self.shared.issue) {
            (Recording::Nothing, Issue::Recorded) if self.steps > 0 => {
                if self.graph.is_none() {
                    let graph = Graph::record(self.stream(Stream::Compute), || self.issue(Marking::Nothing, control))?;
                    self.graph = Some(graph);
                }
                let graph = self.graph.as_ref().expect("the step was recorded");
                graph.launch(self.stream(Stream::Compute))?;
            }
            (Recording::Nothing, Issue::Eager | Issue::Recorded) => self.issue(Marking::Moves, control)?,
            (Recording::Everything, _) => self.issue(Marking::Everything, control)?,
        }
        self.finished.record(self.stream(Stream::Compute))?;
        self.steps += 1;
        while !self.finished.is_done()? {
            if control.abandoned.load(Ordering::Relaxed) {
                return Ok(Ended::Abandoned);
            }
            let waited = begin.elapsed();
            if waited.as_secs_f64() > control.patience.0 {
                return Ok(Ended::Stalled(self.heads()));
            }
            if waited > EAGER {
                thread::sleep(PAUSE);
            } else {
                thread::yield_now();
            }
        }
        Ok(Ended::Done(match recording {
            Recording::Nothing => None,
            Recording::Everything => Some(self.times()?),
        }))
    }

    /// Enqueues all instructions in the order of the code; other streams begin and end with the compute stream.
    fn issue(&self, marking: Marking, control: &Control) -> Result<(), Error> {
        let compute = self.stream(Stream::Compute);
        self.fork.record(compute)?;
        let others = || self.streams.iter().filter(|(stream, _)| *stream != Stream::Compute);
        for (_, stream) in others() {
            if let Some(stream) = stream {
                stream.wait(&self.fork)?;
            }
        }
        for (index, (instr, command)) in self.role().code.iter().zip(&self.commands).enumerate() {
            control.issued.store(index, Ordering::Relaxed);
            let stream = self.stream(instr.stream);
            let timers = match marking {
                Marking::Everything => self.timers[index].as_ref(),
                Marking::Moves | Marking::Nothing => None,
            };
            if let Some([before, _]) = timers {
                before.record(stream)?;
            }
            match command {
                Command::Compute(launches) => self.launch(launches, stream)?,
                Command::Move(moved) => {
                    self.make(moved, instr)?;
                    if let (Marking::Moves | Marking::Everything, Some(mark)) = (marking, &self.marks[index]) {
                        mark.record(stream)?;
                    }
                }
                Command::Signal(event) => self.events[event.index()].record(stream)?,
                Command::Wait(event) => stream.wait(&self.events[event.index()])?,
                Command::Free => {}
            }
            if let Some([_, after]) = timers {
                after.record(stream)?;
            }
        }
        control.issued.store(self.commands.len(), Ordering::Relaxed);
        for (name, stream) in others() {
            if let (Some(stream), Some(join)) = (stream, &self.joins[name]) {
                join.record(stream)?;
                compute.wait(join)?;
            }
        }
        Ok(())
    }

    fn launch(&self, launches: &Launches, stream: &cuda::Stream) -> Result<(), Error> {
        launches.list.iter().try_for_each(|launch| {
            let (inputs, outputs) = launch.operands.split_at(launch.inputs);
            let at = Addresses { inputs, outputs, workspace: self.workspace };
            self.kernels[launch.kernel].launch(stream, at)
        })
    }

    fn make(&self, moved: &Move, instr: &Instr) -> Result<(), Error> {
        let stream = self.stream(instr.stream);
        let communicator = |index: usize| self.communicators[index].as_ref().expect("this rank is a member");
        match *moved {
            Move::Exchange { communicator: used, ref flat, copies, at: [source, destination] } => {
                let Action::Exchange(id) = instr.action else { unreachable!("an exchange is one") };
                let element = self.shared.draft.collectives[id.index()].element;
                let copy = |copy: usize, from: u64, to: u64| {
                    let at = Addresses { inputs: &[from], outputs: &[to], workspace: 0 };
                    self.copies[copy].launch(stream, at)
                };
                let staging = self.staging[instr.stream].unwrap_or_default();
                let [pack, unpack] = copies;
                if let Some(pack) = pack {
                    copy(pack, source, staging[0])?;
                }
                let from = if pack.is_some() { staging[0] } else { source };
                let to = if unpack.is_some() { staging[1] } else { destination };
                let moves = used.map(communicator);
                match (flat.call, moves) {
                    (Call::Local, _) | (_, None) => {}
                    (Call::AllReduce { count, reduce }, Some(group)) => {
                        group.all_reduce(source, (count, element), reduce, stream)?;
                    }
                    (Call::AllGather { count }, Some(group)) => {
                        group.all_gather([from, to], (count, element), stream)?
                    }
                    (Call::ReduceScatter { count }, Some(group)) => {
                        group.reduce_scatter([from, to], (count, element), stream)?;
                    }
                    (Call::AllToAll { count }, Some(group)) => {
                        group.all_to_all([from, to], (count, element), stream)?
                    }
                }
                match (unpack, flat.call) {
                    (Some(unpack), Call::Local) => copy(unpack, source, destination),
                    (Some(unpack), _) => copy(unpack, staging[1], destination),
                    (None, _) if moves.is_none() && source != destination => {
                        let collective = &self.shared.draft.collectives[id.index()];
                        stream.copy(destination, source, collective.destination_bytes(1))
                    }
                    (None, _) => Ok(()),
                }
            }
            Move::Send { communicator: used, at, bytes } => communicator(used).send(at, words(bytes), 1, stream),
            Move::Receive { communicator: used, at, bytes } => communicator(used).receive(at, words(bytes), 0, stream),
        }
    }

    /// Where the streams stand that are not at their end, as far as their marks and signals tell. Of a recorded step
    /// nothing tells it: its first instruction stands for all.
    fn heads(&self) -> Vec<Head> {
        let role = self.role();
        if self.graph.is_some() {
            return vec![self.shared.head(self.number, 0)];
        }
        let head = |stream: Stream| {
            let mut head = None;
            for (index, instr) in role.code.iter().enumerate().filter(|(_, instr)| instr.stream == stream) {
                let event = match &self.commands[index] {
                    Command::Signal(event) => Some(&self.events[event.index()]),
                    Command::Compute(_) | Command::Move(_) | Command::Wait(_) | Command::Free => {
                        self.marks[index].as_ref()
                    }
                };
                match event.map(Event::is_done) {
                    Some(Ok(true)) => head = None,
                    Some(_) => return head.or(Some(index)),
                    None if takes_time(instr) => head = head.or(Some(index)),
                    None => {}
                }
            }
            head
        };
        let heads = Stream::ALL.into_iter().filter_map(head);
        heads.map(|index| self.shared.head(self.number, index)).collect()
    }

    fn make_timers(&mut self) -> Result<(), Error> {
        if self.timers.is_empty() {
            let timers =
                self.shared.draft.role(self.number).code.iter().map(|instr| {
                    takes_time(instr).then(|| Ok([self.device.timer()?, self.device.timer()?])).transpose()
                });
            self.timers = timers.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn times(&self) -> Result<Times, Error> {
        let since = |event: &Event| event.since(&self.begun);
        let of = |timers: &Option<[Event; 2]>| {
            timers.as_ref().map(|[before, after]| Ok([since(before)?, since(after)?])).transpose()
        };
        let ran: Result<Vec<Option<[Seconds; 2]>>, Error> = self.timers.iter().map(of).collect();
        Ok(Times { rank: self.number, ran: ran? })
    }

    /// Waits until nothing runs on its device.
    pub(crate) fn quiet(&self) -> Result<(), Error> {
        self.device.synchronize()
    }

    /// Closes communicators, in the order in which they were made. The devices of all ranks must be quiet.
    pub(crate) fn part(&mut self) -> Result<(), Error> {
        self.graph = None;
        self.communicators.drain(..).flatten().try_for_each(Communicator::close)
    }

    fn role(&self) -> &Role {
        self.shared.draft.role(self.number)
    }

    fn stream(&self, stream: Stream) -> &cuda::Stream {
        self.streams[stream].as_ref().expect("streams that the code uses were made")
    }
}

/// What a step is issued with beside its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marking {
    Nothing,
    /// A mark behind each move.
    Moves,
    /// The same, and the time before and after each instruction.
    Everything,
}

/// What a rank shares with whoever waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    /// Holds traced steps until all ranks are there.
    pub(crate) start: Arc<Barrier>,
    /// Tells that another rank failed.
    pub(crate) abandoned: Arc<AtomicBool>,
    /// How many instructions the host has issued.
    pub(crate) issued: Arc<AtomicUsize>,
    pub(crate) patience: Seconds,
}

//! Runs a case on a device: with poisoned results, twice, and timed.

use ir::units::{Bytes, Seconds};

use super::case::Case;
use super::{bytes_of, error, floats_of, vector};
use crate::cuda::driver::Memory;
use crate::cuda::{Addresses, Device, Error, Prepared, Stream};

/// Operands begin at multiples of this, and more, so that what is written past one is not read as another's.
const ALIGNMENT: u64 = 256;
/// What results hold before: numbers in no form.
const POISON: u8 = 0xff;
/// Launches that are not timed, and that are.
const WARM: usize = 3;
const TIMED: usize = 11;

/// How a case went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The error of each output, to be compared with the case's tolerances.
    pub errors: Vec<f64>,
    /// What else is wrong.
    pub faults: Vec<Fault>,
    /// The median time of one launch.
    pub time: Seconds,
}

/// What is wrong whatever the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A second run gave other bytes.
    Varies,
    /// Bytes beside the results were written.
    Overruns,
}

/// Runs a case and compares with what is expected.
pub fn run(device: &Device, case: &Case, expected: &[Vec<f64>]) -> Result<Outcome, Error> {
    let bench = Bench::new(device, case)?;
    let first = bench.results()?;
    let second = bench.results()?;
    let operands = case.kernel.results();
    let errors = operands.zip(&first).zip(expected).map(|((operand, bytes), expected)| {
        let bytes = &bytes[operand.offset as usize..][..operand.bytes().0 as usize];
        error(&floats_of(bytes, operand.element), expected, vector(operand))
    });
    let is_contained = case.kernel.results().zip(&first).all(|(operand, bytes)| {
        let (begin, end) = (operand.offset as usize, (operand.offset + operand.bytes().0) as usize);
        bytes[..begin].iter().chain(&bytes[end..]).all(|&byte| byte == POISON)
    });
    let faults = [(first != second, Fault::Varies), (!is_contained, Fault::Overruns)];
    let faults = faults.into_iter().filter(|&(is_so, _)| is_so).map(|(_, fault)| fault).collect();
    Ok(Outcome { errors: errors.collect(), faults, time: bench.time()? })
}

/// A case with its memory on the device.
struct Bench<'a> {
    device: &'a Device,
    case: &'a Case,
    stream: Stream,
    prepared: Prepared,
    /// Of which the addresses are; the first pieces are outputs.
    _memory: Memory,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
    workspace: u64,
}

impl<'a> Bench<'a> {
    fn new(device: &'a Device, case: &'a Case) -> Result<Bench<'a>, Error> {
        let kernel = &case.kernel;
        let mut end = 0;
        let mut place = |bytes: u64| {
            let begin = end;
            end += bytes.next_multiple_of(ALIGNMENT) + ALIGNMENT;
            begin
        };
        let inputs: Vec<u64> = kernel.inputs.iter().map(|it| place(it.offset + it.bytes().0)).collect();
        let outputs: Vec<u64> = kernel.results().map(|it| place(it.offset + it.bytes().0)).collect();
        let workspace = place(device.workspace(kernel).0);
        let memory = device.allocate(Bytes(end))?;
        let stream = device.stream()?;
        stream.fill(memory.address(), POISON, memory.bytes())?;
        let base = memory.address();
        let at = |(place, operand): (&u64, &ir::program::Operand)| base + place + operand.offset;
        let bench = Bench {
            device,
            case,
            prepared: device.prepare(kernel, &case.offsets, case.tokens)?,
            inputs: inputs.iter().zip(&kernel.inputs).map(at).collect(),
            outputs: outputs.iter().zip(kernel.results()).map(at).collect(),
            workspace: base + workspace,
            stream,
            _memory: memory,
        };
        for (index, &address) in bench.inputs.iter().enumerate() {
            bench.stream.upload(address, &case.input_bytes(index))?;
        }
        bench.stream.synchronize()?;
        Ok(bench)
    }

    fn launch(&self) -> Result<(), Error> {
        let Bench { inputs, outputs, workspace, .. } = self;
        let addresses = Addresses { inputs, outputs, workspace: *workspace };
        self.prepared.launch(&self.stream, addresses)
    }

    /// Poisons, runs once, and reads outputs with what lies before and behind them.
    fn results(&self) -> Result<Vec<Vec<u8>>, Error> {
        let operands = self.case.kernel.results().zip(&self.outputs);
        let whole = |operand: &ir::program::Operand| (operand.offset + operand.bytes().0).next_multiple_of(ALIGNMENT);
        self.stream.fill(self.workspace, POISON, self.device.workspace(&self.case.kernel))?;
        for ((operand, &address), before) in operands.clone().zip(&self.case.before) {
            self.stream.fill(address - operand.offset, POISON, Bytes(whole(operand)))?;
            if let Some(before) = before {
                self.stream.upload(address, &bytes_of(before, operand.element))?;
            }
        }
        self.launch()?;
        let read = operands.map(|(operand, &address)| {
            let mut bytes = vec![0; whole(operand) as usize];
            self.stream.download(&mut bytes, address - operand.offset).map(|()| bytes)
        });
        read.collect()
    }

    fn time(&self) -> Result<Seconds, Error> {
        let (begin, end) = (self.device.timer()?, self.device.timer()?);
        for _ in 0..WARM {
            self.launch()?;
        }
        let mut times = Vec::with_capacity(TIMED);
        for _ in 0..TIMED {
            begin.record(&self.stream)?;
            self.launch()?;
            end.record(&self.stream)?;
            end.synchronize()?;
            times.push(end.since(&begin)?);
        }
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(times[TIMED / 2])
    }
}

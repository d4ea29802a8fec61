//! The kernels on a processor: the same code and the same launches, compiled by g++, one thread after the other.
//! Threads run in ascending and in descending order; a missing barrier shows as a difference between the two.
#![allow(unsafe_code, reason = "calls compiled kernels")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use ir::op::Op;
use libloading::os::unix::Library;

use super::Addresses;
use super::conformance::{Case, Extent, bytes_of, error, floats_of, suite, vector};
use super::lower::lower;
use super::lowered::{Cores, Launch, Lowered, Request, Work};
use crate::reorder::{self, Reorder};

const SHIM: &str = include_str!("shim.hpp");
/// What results hold before.
const POISON: u8 = 0xff;
const SEED: u64 = 20;

#[derive(Clone, Copy, Debug)]
enum Order {
    Ascending,
    Descending,
}

#[test]
fn kernels_agree_with_the_reference_thread_by_thread() {
    let mut shim = Shim::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for form in suite(Extent::Small, SEED) {
        let case = form.case();
        if case.kernel.op == Op::MatMul {
            continue;
        }
        count += 1;
        let what = format!(
            "{} {:?} {}",
            case.kernel.op.name(),
            case.kernel.outputs.last().map(|output| output.write),
            case.shape()
        );
        let up = shim.run(&case, Order::Ascending);
        let down = shim.run(&case, Order::Descending);
        if up != down {
            wrong.push(format!("{what}: threads in another order give another result"));
        }
        for (index, expected) in case.expected().iter().enumerate() {
            let operand = &case.kernel.outputs[index].operand;
            let error = error(&floats_of(&up[index], operand.element), expected, vector(operand));
            if error > case.tolerances[index] {
                wrong.push(format!(
                    "{what}, output {index}: off by {error:.2e}, at most {:.0e}",
                    case.tolerances[index]
                ));
            }
        }
    }
    assert!(count > 100, "only {count} cases");
    assert!(wrong.is_empty(), "{} of {count} (seed {SEED}):\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn runs_are_copied_to_their_places() {
    let mut shim = Shim::new();
    let swaps = [([3, 5], 32), ([7, 2], 12), ([1, 9], 6), ([600, 4], 64)];
    let part = |run| Reorder { counts: [4, 1], run, first: run, from: [3 * run, 0], to: [run, 0] };
    for reorder in swaps.map(|(counts, run)| Reorder::swap(counts, run)).into_iter().chain([16, 4, 10].map(part)) {
        let bytes = reorder.bytes() * 3;
        let source: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
        let mut expected = vec![POISON; reorder.bytes() as usize];
        reorder.apply(&source, &mut expected);
        let (mut from, to) = (Aligned::new(bytes), Aligned::new(reorder.bytes()));
        from.write(0, &source);
        let at = Addresses { inputs: &[from.address()], outputs: &[to.address()], workspace: 0 };
        shim.work(&reorder::cuda::lower(&reorder), at, Order::Ascending);
        let found = to.bytes();
        assert_eq!(found[..expected.len()], expected, "{reorder:?}");
        assert!(found[expected.len()..].iter().all(|&byte| byte == POISON), "{reorder:?} writes past its end");
    }
}

/// Bytes at a multiple of 16, as bindings are.
struct Aligned(Vec<u128>);

impl Aligned {
    fn new(bytes: u64) -> Aligned {
        Aligned(vec![u128::from_ne_bytes([POISON; 16]); bytes.div_ceil(16) as usize + 2])
    }

    fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            let (word, place) = ((at as usize + index) / 16, (at as usize + index) % 16);
            let mut whole = self.0[word].to_ne_bytes();
            whole[place] = byte;
            self.0[word] = u128::from_ne_bytes(whole);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

/// Compiled kernels, by their code.
struct Shim {
    folder: PathBuf,
    libraries: BTreeMap<String, Library>,
}

type Run = unsafe extern "C" fn(entry: i32, grid: *const u64, block: u64, descends: i32, slots: *const u64);

impl Shim {
    fn new() -> Shim {
        let folder =
            std::env::temp_dir().join(format!("kernels-shim-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        Shim { folder, libraries: BTreeMap::new() }
    }

    /// The results of a case.
    fn run(&mut self, case: &Case, order: Order) -> Vec<Vec<u8>> {
        let kernel = &case.kernel;
        let request = Request { kernel, offsets: &case.offsets, tokens: case.tokens, cores: Cores::Warps };
        let lowered = lower(request).expect("every case has a kernel");
        let mut inputs: Vec<Aligned> =
            kernel.inputs.iter().map(|operand| Aligned::new(operand.offset + operand.bytes().0)).collect();
        for (index, memory) in inputs.iter_mut().enumerate() {
            memory.write(kernel.inputs[index].offset, &case.input_bytes(index));
        }
        let mut outputs: Vec<Aligned> =
            kernel.results().map(|operand| Aligned::new(operand.offset + operand.bytes().0)).collect();
        for ((memory, operand), before) in outputs.iter_mut().zip(kernel.results()).zip(&case.before) {
            if let Some(before) = before {
                memory.write(operand.offset, &bytes_of(before, operand.element));
            }
        }
        let workspace = Aligned::new(lowered.workspace);
        let place = |memory: &Aligned, offset: u64| memory.address() + offset;
        let at = Addresses {
            inputs: &inputs
                .iter()
                .zip(&kernel.inputs)
                .map(|(it, operand)| place(it, operand.offset))
                .collect::<Vec<_>>(),
            outputs: &outputs
                .iter()
                .zip(kernel.results())
                .map(|(it, operand)| place(it, operand.offset))
                .collect::<Vec<_>>(),
            workspace: workspace.address(),
        };
        self.work(&lowered, at, order);
        kernel
            .results()
            .zip(&outputs)
            .map(|(operand, memory)| {
                let (begin, end) = (operand.offset as usize, (operand.offset + operand.bytes().0) as usize);
                let bytes = memory.bytes();
                let beside = bytes[..begin].iter().chain(&bytes[end..]);
                assert!(beside.copied().all(|byte| byte == POISON), "{} writes beside its result", kernel.op.name());
                bytes[begin..end].to_vec()
            })
            .collect()
    }

    fn work(&mut self, lowered: &Lowered, at: Addresses<'_>, order: Order) {
        for work in &lowered.works {
            match work {
                // SAFETY: the caller's memory has room for the operand.
                Work::Clear(clear) => unsafe {
                    std::ptr::write_bytes(at.place(clear.place) as *mut u8, clear.value, clear.bytes as usize);
                },
                Work::Launch(launch) => {
                    let slots: Vec<u64> = launch.arguments.iter().map(|&argument| at.bits(argument)).collect();
                    let library = self.library(launch);
                    let descends = match order {
                        Order::Ascending => 0,
                        Order::Descending => 1,
                    };
                    // SAFETY: the library was compiled with this function, and kernels stay in their operands.
                    unsafe {
                        let run = library.get::<Run>(b"run").expect("the library has its function");
                        let entry = entries(launch).iter().position(|entry| entry == launch.entry);
                        let entry = entry.expect("a source has its entries") as i32;
                        run(entry, launch.grid.as_ptr(), launch.block, descends, slots.as_ptr());
                    }
                }
                Work::Product => panic!("products are not ours to test"),
            }
        }
    }

    fn library(&mut self, launch: &Launch) -> &Library {
        let calls: String = entries(launch)
            .iter()
            .map(|entry| format!("    [](void* slots) {{ shim::call({entry}, (const uint64_t*)slots); }},\n"))
            .collect();
        let text = format!(
            "{SHIM}\n#define HOST_SHIM\n{}\nstatic void (*const calls[])(void*) = {{\n{calls}}};\nextern \"C\" void \
             run(int entry, const uint64_t* grid, uint64_t block, int descends, const uint64_t* slots) {{\n    \
             shim::launch(grid, block, descends, calls[entry], (void*)slots);\n}}\n",
            launch.source.whole(),
        );
        let (folder, index) = (&self.folder, self.libraries.len());
        self.libraries.entry(text).or_insert_with_key(|text| {
            let [source, library] = ["cpp", "so"].map(|kind| folder.join(format!("kernel{index}.{kind}")));
            fs::write(&source, text).expect("temporary files can be written");
            let mut compiler = Command::new("g++");
            compiler.args(["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off", "-o"]);
            let output = compiler.arg(&library).arg(&source).output().expect("g++ is installed");
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} as C++:\n{log}", launch.source.file);
            // SAFETY: its initialisers only clear memory.
            unsafe { Library::new(&library) }.expect("what was compiled can be loaded")
        })
    }
}

/// Functions of a launch's source; only its own where others may be left out.
fn entries(launch: &Launch) -> Vec<String> {
    let whole = launch.source.whole();
    if launch.source.file == "attention/tensor.cu" {
        return vec![launch.entry.to_owned()];
    }
    let heads = whole.split("extern \"C\" __global__ void").skip(1);
    let names = heads.map(|head| {
        let head = head.trim_start();
        let head =
            if head.starts_with("__launch_bounds__") { head.split_once(")\n").map_or("", |it| it.1) } else { head };
        head.split('(').next().unwrap_or_default().trim().to_owned()
    });
    names.collect()
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.libraries.clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

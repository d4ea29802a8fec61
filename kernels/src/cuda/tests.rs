//! What can be tested without a device: every source compiles for devices, and holds its numbers in registers.

use std::collections::BTreeSet;

use super::compile::Compiler;
use super::conformance::{Extent, record, suite};
use super::lower::lower;
use super::lowered::{Cores, Request, Source, Work};
use super::{Device, Error};
use crate::reorder::{self, Reorder};

/// Sources of all cases of real sizes, for devices that compute products so.
fn sources(cores: Cores) -> BTreeSet<Source> {
    let mut sources = BTreeSet::new();
    for form in suite(Extent::Large, 1).into_iter().chain(suite(Extent::Small, 1)) {
        let kernel = form.kernel();
        let offsets = vec![0; kernel.offsets.len()];
        let lowered =
            lower(Request { kernel: &kernel, offsets: &offsets, tokens: 1, cores }).expect("every case has a kernel");
        sources.extend(lowered.works.into_iter().filter_map(|work| match work {
            Work::Launch(launch) => Some(launch.source),
            Work::Clear(_) | Work::Product => None,
        }));
    }
    // Runs of all words that there are.
    sources.extend([32, 12, 6].map(|run| Reorder::swap([3, 5], run)).iter().flat_map(|reorder| {
        let works = reorder::cuda::lower(reorder).works.into_iter();
        works.filter_map(|work| match work {
            Work::Launch(launch) => Some(launch.source),
            Work::Clear(_) | Work::Product => None,
        })
    }));
    sources
}

/// Bytes that a thread may put aside: a few numbers that live through a loop without being used there.
const SPILLED_MAX: u64 = 12;

/// Bytes of registers that a thread stores, as a line of the compiler's says.
fn spilled(line: &str) -> u64 {
    let before = line.split(" bytes spill stores").next().filter(|before| before.len() < line.len());
    before.and_then(|before| before.rsplit(' ').next()).map_or(0, |bytes| bytes.parse().expect("a number of bytes"))
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that was skipped says so")]
fn sources_compile_without_spills() {
    for (major, minor) in [(8, 0), (9, 0)] {
        let compiler = match Compiler::new(major, minor) {
            Ok(compiler) => compiler,
            Err(error) => {
                eprintln!("skipped, as there is no compiler for devices: {error}");
                return;
            }
        };
        let mut wrong = Vec::new();
        for source in sources(Cores::of(major)) {
            match compiler.compile(source.file, &source.whole()) {
                Err(error) => wrong.push(error.to_string()),
                Ok((_, log)) => {
                    let is_slow = |line: &&str| spilled(line) > SPILLED_MAX || line.contains("Performance Loss");
                    wrong.extend(log.lines().filter(is_slow).map(|line| format!("{}: {line}", source.name())));
                }
            }
        }
        assert!(wrong.is_empty(), "for {major}.{minor}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn kernels_are_those_that_last_ran_on_a_device() {
    let record = include_str!("../../gpu-record.txt");
    let stale: Vec<String> = record::lines().into_iter().filter(|line| !record.lines().any(|it| it == line)).collect();
    assert!(
        stale.is_empty(),
        "changed since they ran on a GPU: run scripts/test-gpu there and keep the record that it writes\n{}",
        stale.join("\n")
    );
}

#[test]
fn without_a_driver_the_error_says_what_to_install() {
    match Device::open(0) {
        Ok(device) => assert!(device.processors() > 0),
        Err(Error::NoDriver) => assert!(Error::NoDriver.to_string().contains("install the NVIDIA driver")),
        // There is a driver, but no device or no toolkit.
        Err(error) => assert!(error.to_string().len() > 20, "{error}"),
    }
}

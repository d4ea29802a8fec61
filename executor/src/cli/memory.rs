//! Whether this machine has the memory that a training takes, asked before it is allocated.

use std::fs;

use ir::program::Programs;
use ir::units::Bytes;

use super::failure::{Failure, Outcome};

/// Memory of this machine, or of the group of processes that it is shared out to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: Bytes,
    pub(crate) available: Bytes,
}

/// What a save, a resume or an evaluation has in its hands at once, beside the arenas.
pub(crate) const CHUNKS: Bytes = Bytes(16 << 20);
/// Bytes of a text and of its tokens while they are made, for each byte of the text: itself, and a token of 4 bytes.
pub(crate) const TEXT_BYTES: u64 = 5;

/// Arenas of all ranks.
pub(crate) fn arenas(programs: &Programs) -> Bytes {
    let ranks = u64::from(programs.mesh().ranks_per_stage());
    programs.roles().iter().map(|role| role.arena * ranks).sum()
}

/// An error if the machine could never hold so much, a note if it cannot now.
pub(crate) fn check(who: &str, needed: Bytes, memory: Option<Memory>) -> Outcome<Option<String>> {
    let Some(Memory { total, available }) = memory else { return Ok(None) };
    if needed > total {
        return Err(Failure::run(format!("{who} need {needed}, but this machine has {total}"))
            .help("plan for fewer ranks or less memory of each, with smaller `memory` in cluster.yaml, or give a shorter text"));
    }
    let note = || format!("{who} need {needed}, but only {available} of {total} are free");
    Ok((needed > available).then(note))
}

/// Whether so much more can be allocated now: a training does not begin what could end it.
pub(crate) fn has_room(more: Bytes, memory: Option<Memory>) -> bool {
    memory.is_none_or(|memory| more + CHUNKS <= memory.available)
}

/// What the system says; none where it does not say it in this way.
pub(crate) fn memory() -> Option<Memory> {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok().map(Bytes);
    let group = "/sys/fs/cgroup/memory";
    Some(match (number(&format!("{group}.max")), number(&format!("{group}.current"))) {
        (Some(limit), Some(used)) => {
            Memory { total: machine.total.min(limit), available: machine.available.min(limit.saturating_sub(used)) }
        }
        (_, None) | (None, _) => machine,
    })
}

/// The lines `MemTotal:  16384 kB` and `MemAvailable:  8192 kB`, in units of 1024 bytes.
fn of_machine(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok().map(|count: u64| Bytes(count << 10))
    };
    Some(Memory { total: field("MemTotal:")?, available: field("MemAvailable:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_counts_in_kibibytes() {
        let text = "MemTotal:       2048 kB\nMemFree:  7 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(of_machine(text), Some(Memory { total: Bytes(2 << 20), available: Bytes(1 << 20) }));
        assert_eq!(of_machine("MemTotal: many kB"), None);
    }

    #[test]
    fn more_than_there_is_is_an_error_and_more_than_is_free_a_note() {
        const ALL: &str = "all ranks together";
        let memory = Some(Memory { total: Bytes(4 << 30), available: Bytes(1 << 30) });
        assert_eq!(check(ALL, Bytes(1 << 30), memory).expect("fits"), None);
        let note = check(ALL, Bytes(2 << 30), memory).expect("may fit").expect("a note");
        assert_eq!(note, "all ranks together need 2.0 GiB, but only 1.0 GiB of 4.0 GiB are free");
        let failure = check(ALL, Bytes(5 << 30), memory).expect_err("cannot fit");
        assert!(failure.text.starts_with("error: all ranks together need 5.0 GiB"), "{}", failure.text);
        assert_eq!(check(ALL, Bytes(u64::MAX), None).expect("unknown"), None);
    }
}

//! Ranks of other processes, as those of this process meet them: by letters.
//!
//! Every process has an arena for every rank, but of ranks abroad only what they exchange is ever written there: a copy,
//! at the very address that it has at home. Before a rank tells that it has come somewhere, it sends what others will
//! read of it; and it goes on only when all have told that they have read. So exchanges are what they are within a
//! process, with the same sums in the same order.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use ir::program::{CollectiveId, TransferId};
use ir::units::Seconds;

use super::exchange;
use super::job::Job;
use super::rendezvous::Gathering;
use crate::host::Place;
use crate::world::{Hearer, Post};

/// Bytes in one letter.
const PUT_BYTES_MAX: usize = 1 << 19;

/// The way to ranks abroad.
#[derive(Debug)]
pub(crate) struct Abroad {
    post: Arc<Post>,
    /// Ranks of each process.
    each: u32,
    number: OnceLock<u32>,
}

/// What ranks tell each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Letter<'a> {
    /// Bytes at an address of a rank's arena.
    Put { rank: u32, address: u64, bytes: &'a [u8] },
    /// A member came to its next collective.
    Arrived { meeting: u32, position: u32, address: u64 },
    /// A member passed so many phases.
    Passed { meeting: u32, position: u32, phases: u64 },
    /// A sender offers what lies at its address.
    Offered { route: u32, address: u64 },
    /// The receiver has it.
    Taken { route: u32, times: [f64; 2] },
}

impl Abroad {
    /// By the letters of this process, where each process has so many ranks.
    pub(crate) fn new(post: Arc<Post>, each: u32) -> Abroad {
        Abroad { post, each, number: OnceLock::new() }
    }

    /// The ranks of this process.
    pub(crate) fn own(&self) -> Range<u32> {
        let first = self.post.process() * self.each;
        first..first + self.each
    }

    /// Lets somebody hear the letters; once, in the same order of jobs on all processes.
    pub(crate) fn open(&self, hearer: Arc<dyn Hearer>) {
        self.number.set(self.post.open(hearer)).expect("a job opens its box once");
    }

    /// No more letters are heard.
    pub(crate) fn shut(&self) {
        if let Some(&number) = self.number.get() {
            self.post.shut(number);
        }
    }

    /// A rank of this process came to a collective: sends what it brings, and tells it.
    pub(crate) fn arrive(&self, job: &Job, (rank, id): (u32, CollectiveId), source: u64) {
        let bytes = job.draft.collectives[id.index()].source_bytes().0;
        let (meeting, position) = job.meets(rank, id);
        for to in self.others(job.group(rank, id).ranks()) {
            self.put(job, rank, Place { address: source, bytes }, to);
            self.write(to, Letter::Arrived { meeting, position, address: source });
        }
    }

    /// It has joined its part of a reduction, which lies there, and tells it.
    pub(crate) fn pass_with(&self, job: &Job, (rank, id): (u32, CollectiveId), part: Place) {
        for to in self.others(job.group(rank, id).ranks()) {
            self.put(job, rank, part, to);
        }
        self.pass(job, (rank, id), 1);
    }

    /// It passed so many phases, and tells it.
    pub(crate) fn pass(&self, job: &Job, (rank, id): (u32, CollectiveId), phases: u64) {
        let (meeting, position) = job.meets(rank, id);
        for to in self.others(job.group(rank, id).ranks()) {
            self.write(to, Letter::Passed { meeting, position, phases });
        }
    }

    /// A rank of this process sends what lies there, if the receiver is abroad.
    pub(crate) fn offer(&self, job: &Job, (rank, id): (u32, TransferId), place: Place) {
        for to in self.others([job.route(rank, id).to].into_iter()) {
            self.put(job, rank, place, to);
            self.write(to, Letter::Offered { route: job.place_of_route(rank, id), address: place.address });
        }
    }

    /// A rank of this process has received, between these times; tells it to a sender abroad.
    pub(crate) fn take(&self, job: &Job, (rank, id): (u32, TransferId), times: [Seconds; 2]) {
        for to in self.others([job.route(rank, id).from].into_iter()) {
            let times = times.map(|time| time.0);
            self.write(to, Letter::Taken { route: job.place_of_route(rank, id), times });
        }
    }

    /// Does what a letter says; nothing of it if it cannot be from a process that runs the same programs.
    pub(crate) fn read(&self, job: &Job, from: u32, letter: &[u8]) {
        if Letter::parse(letter).and_then(|letter| self.apply(job, from, letter)).is_none() {
            self.post.lose(from, "its letters do not fit the programs");
        }
    }

    fn apply(&self, job: &Job, from: u32, letter: Letter<'_>) -> Option<()> {
        let is_there = |rank: u32| rank / self.each == from && rank < job.draft.mesh.rank_count();
        match letter {
            Letter::Put { rank, address, bytes } => {
                let end = address.checked_add(bytes.len() as u64)?;
                let fits = is_there(rank) && end <= job.role(rank).arena.0;
                fits.then(|| exchange::put(&job.arenas, rank, address, bytes))
            }
            Letter::Arrived { meeting, position, .. } | Letter::Passed { meeting, position, .. } => {
                let group = job.groups.get(meeting as usize)?;
                let position = position as usize;
                group.ranks().nth(position).filter(|&rank| is_there(rank))?;
                let gathering: Gathering = match letter {
                    Letter::Arrived { address, .. } => group.arrive(position, address),
                    Letter::Passed { phases, .. } => group.pass(position, phases),
                    Letter::Put { .. } | Letter::Offered { .. } | Letter::Taken { .. } => return None,
                };
                job.wake_if_complete(group, position, gathering);
                Some(())
            }
            Letter::Offered { route, address } => {
                let (route, channel) = job.channel_at(route).filter(|(route, _)| is_there(route.from))?;
                channel.post(address);
                job.wake(route.to);
                Some(())
            }
            Letter::Taken { route, times } => {
                let (route, channel) = job.channel_at(route).filter(|(route, _)| is_there(route.to))?;
                let [begin, end] = times.map(Seconds);
                channel.take(begin, end);
                job.wake(route.from);
                Some(())
            }
        }
    }

    /// The other processes of some ranks, each once.
    fn others(&self, ranks: impl Iterator<Item = u32>) -> BTreeSet<u32> {
        ranks.map(|rank| rank / self.each).filter(|&process| process != self.post.process()).collect()
    }

    fn put(&self, job: &Job, rank: u32, place: Place, to: u32) {
        let mut address = place.address;
        for bytes in exchange::lent(&job.arenas, rank, place).chunks(PUT_BYTES_MAX) {
            self.write(to, Letter::Put { rank, address, bytes });
            address += bytes.len() as u64;
        }
    }

    fn write(&self, to: u32, letter: Letter<'_>) {
        let number = *self.number.get().expect("a job opens its box before its first step");
        self.post.write(to, number, &letter.print());
    }
}

impl<'a> Letter<'a> {
    fn print(&self) -> Vec<u8> {
        let (kind, numbers, words, bytes): (u8, [u32; 2], [u64; 2], &[u8]) = match *self {
            Letter::Put { rank, address, bytes } => (0, [rank, 0], [address, 0], bytes),
            Letter::Arrived { meeting, position, address } => (1, [meeting, position], [address, 0], &[]),
            Letter::Passed { meeting, position, phases } => (2, [meeting, position], [phases, 0], &[]),
            Letter::Offered { route, address } => (3, [route, 0], [address, 0], &[]),
            Letter::Taken { route, times } => (4, [route, 0], times.map(f64::to_bits), &[]),
        };
        let mut letter = Vec::with_capacity(1 + 2 * 4 + 2 * 8 + bytes.len());
        letter.push(kind);
        numbers.iter().for_each(|number| letter.extend(number.to_le_bytes()));
        words.iter().for_each(|word| letter.extend(word.to_le_bytes()));
        letter.extend(bytes);
        letter
    }

    fn parse(letter: &'a [u8]) -> Option<Letter<'a>> {
        let (&kind, rest) = letter.split_first()?;
        let (numbers, rest) = rest.split_first_chunk::<8>()?;
        let (words, bytes) = rest.split_first_chunk::<16>()?;
        let number = |index: usize| u32::from_le_bytes(numbers.as_chunks().0[index]);
        let word = |index: usize| u64::from_le_bytes(words.as_chunks().0[index]);
        match kind {
            0 => Some(Letter::Put { rank: number(0), address: word(0), bytes }),
            1 => Some(Letter::Arrived { meeting: number(0), position: number(1), address: word(0) }),
            2 => Some(Letter::Passed { meeting: number(0), position: number(1), phases: word(0) }),
            3 => Some(Letter::Offered { route: number(0), address: word(0) }),
            4 => Some(Letter::Taken { route: number(0), times: [0, 1].map(|index| f64::from_bits(word(index))) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_as_they_were_written() {
        let letters = [
            Letter::Put { rank: 3, address: 1 << 40, bytes: &[1, 2, 3] },
            Letter::Arrived { meeting: 1, position: 2, address: 256 },
            Letter::Passed { meeting: 7, position: 0, phases: 2 },
            Letter::Offered { route: 4, address: 512 },
            Letter::Taken { route: 4, times: [0.25, 1.5] },
        ];
        for letter in letters {
            assert_eq!(Letter::parse(&letter.print()), Some(letter));
        }
        assert_eq!(Letter::parse(&[0, 1, 2]), None);
    }
}

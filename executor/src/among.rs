//! Parameters handed from one session to another whose ranks are those of several processes.
//!
//! Where each process holds all that its ranks of the other session need, as is usual, nothing but that is said.

use std::collections::BTreeSet;
use std::ops::Range;

use ir::program::Draft;

use crate::host::Host;
use crate::moves::{self, Key, Parts, Pouring, Tally};
use crate::parameters::{CHUNK, Part, Quantity, chunks};
use crate::world::{Processes, World as _, WorldError};

/// Hands the ranks of `into`, which runs `to`, the values of parameters that ranks of `from` hold; all processes call this together.
/// Takes memory for some chunks of them. Gives back a parameter that `from` lacks, if there is one.
///
/// # Errors
/// If another process is lost meanwhile, or says what it should not.
pub(crate) fn hand_over(
    (from, host): (&Draft, &dyn Host),
    to: &Draft,
    into: &mut dyn Host,
    processes: &mut Processes,
) -> Result<Option<Key>, WorldError> {
    let parts = moves::all(to, into.ranks(), Quantity::Value);
    let mut tally = Tally::default();
    for source in &moves::owned(from, &host.ranks(), host.ranks(), Quantity::Value) {
        let mut pouring = pouring(source, &parts);
        if pouring.is_unasked() {
            continue;
        }
        for range in chunks(source.stretch.range()) {
            let values = read(source, &range, host);
            tally.add(source.key(), pouring.pour(into, range.start, &values));
        }
    }
    if processes.is_alone() {
        return Ok(tally.missing(&parts).next());
    }
    let lacked = all_lack(&tally.missing(&parts).collect::<Vec<Key>>(), processes)?;
    let all = 0..from.mesh.rank_count();
    let mut sources = moves::owned(from, &all, all.clone(), Quantity::Value);
    sources.retain(|source| lacked.contains(&source.named()));
    let mut pourings: Vec<Pouring<'_, '_>> = sources.iter().map(|source| pouring(source, &parts)).collect();
    let mut tally = Tally::default();
    for round in rounds(&sources) {
        let mut said = say(&round, &sources, host, processes)?;
        for (index, range) in round {
            let values = said.next(&sources[index], &range)?;
            tally.add(sources[index].key(), pourings[index].pour(into, range.start, &values));
        }
    }
    Ok(tally.missing(&parts).find(|key| lacked.contains(key)))
}

/// From a source to all parts that have some of it.
fn pouring<'p, 'a>(source: &'p Part<'a>, parts: &'p Parts<'a>) -> Pouring<'p, 'a> {
    Pouring::new(&source.stretch, parts.get(&source.key()).map_or(&[], Vec::as_slice))
}

/// Elements of a source, as its rank has them.
fn read(source: &Part<'_>, range: &Range<u64>, host: &dyn Host) -> Vec<f32> {
    let mut values = vec![0.0; (range.end - range.start) as usize];
    source.read(host, range.start, &mut values);
    values
}

/// The parameters of which some process lacks some.
fn all_lack(own: &[Key], processes: &mut Processes) -> Result<BTreeSet<Key>, WorldError> {
    let said = processes.all_say(&serde_json::to_vec(own).expect("names have a JSON form"))?;
    let mut lacked = BTreeSet::new();
    for (said, process) in said.iter().zip(0..) {
        let reason = |error| format!("what it says of its parameters cannot be understood: {error}");
        let keys: Vec<Key> =
            serde_json::from_slice(said).map_err(|error| WorldError { process, reason: reason(error) })?;
        lacked.extend(keys);
    }
    Ok(lacked)
}

/// Elements of sources, by their index, that are said at once.
type Round = Vec<(usize, Range<u64>)>;

/// All elements of the sources, in rounds of at most a chunk.
fn rounds(sources: &[Part<'_>]) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut room = 0;
    for (index, source) in sources.iter().enumerate() {
        for range in chunks(source.stretch.range()) {
            let length = range.end - range.start;
            if length > room {
                rounds.push(Round::new());
                room = CHUNK as u64;
            }
            room -= length;
            rounds.last_mut().expect("there is a round with room").push((index, range));
        }
    }
    rounds
}

/// What each process said in a round, how much of it was taken, and how many ranks each process has.
struct Said {
    bytes: Vec<Vec<u8>>,
    taken: Vec<usize>,
    ranks_each: u32,
}

/// Says the elements of the round that ranks of this process hold, and hears all others.
fn say(round: &Round, sources: &[Part<'_>], host: &dyn Host, processes: &mut Processes) -> Result<Said, WorldError> {
    let own = host.ranks();
    let mut bytes = Vec::new();
    for (index, range) in round {
        let source = &sources[*index];
        if own.contains(&source.rank) {
            read(source, range, host).iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
    }
    let bytes = processes.all_say(&bytes)?;
    Ok(Said { taken: vec![0; bytes.len()], bytes, ranks_each: own.end - own.start })
}

impl Said {
    /// The next elements of whoever has the source: each says its own in the order in which all know the round.
    fn next(&mut self, source: &Part<'_>, range: &Range<u64>) -> Result<Vec<f32>, WorldError> {
        let process = source.rank / self.ranks_each;
        let first = self.taken[process as usize];
        let end = first + (range.end - range.start) as usize * size_of::<f32>();
        let Some(bytes) = self.bytes[process as usize].get(first..end) else {
            return Err(WorldError { process, reason: "it says too little of its parameters".to_owned() });
        };
        self.taken[process as usize] = end;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
    }
}

//! Whole parameters from what the ranks of several processes hold.
//!
//! Where the ranks of each process hold all that its other session needs, as they mostly do, nothing is sent.

use std::collections::{BTreeMap, BTreeSet};

use ir::program::Draft;

use crate::host::Host;
use crate::parameters::{self, Copies, Piece, Quantity, Whole, Wholes};
use crate::world::{Processes, World as _, WorldError};

/// What is sent at once, by all processes together.
const ROUND_ELEMENTS: u64 = 1 << 24;

/// Puts together what `to` needs of a quantity from the ranks of all processes, which call this together. Of what it
/// does not need, parts may be missing.
pub(crate) fn gather(
    (draft, host): (&Draft, &dyn Host),
    to: (&Draft, &dyn Host),
    quantity: Quantity,
    processes: &mut Processes,
) -> Result<Wholes, WorldError> {
    if processes.is_alone() || all_have((draft, host), to, quantity, processes)? {
        return Ok(parameters::gather(draft, host, quantity));
    }
    let mut wholes = Wholes::new();
    let own = host.ranks();
    for round in rounds(draft, quantity) {
        let mut said = Vec::new();
        for piece in round.iter().filter(|piece| own.contains(&piece.rank)) {
            let mut values = vec![0.0; piece.length as usize];
            piece.read(host, &mut values);
            said.extend(values.into_iter().flat_map(f32::to_le_bytes));
        }
        let said = processes.all_say(&said)?;
        // Each says its pieces in the order in which all know them.
        let mut rest: Vec<&[u8]> = said.iter().map(Vec::as_slice).collect();
        for piece in &round {
            let process = piece.rank / (own.end - own.start);
            let bytes = piece.length as usize * size_of::<f32>();
            let Some((values, after)) = rest[process as usize].split_at_checked(bytes) else {
                return Err(WorldError { process, reason: "it says too little of its parameters".to_owned() });
            };
            rest[process as usize] = after;
            let (words, _) = values.as_chunks();
            let into = &mut whole(&mut wholes, piece).values[piece.range()];
            into.iter_mut().zip(words).for_each(|(value, &word)| *value = f32::from_le_bytes(word));
        }
    }
    Ok(wholes)
}

fn whole<'a>(wholes: &'a mut Wholes, piece: &Piece<'_>) -> &'a mut Whole {
    wholes.entry(piece.key()).or_insert_with(|| {
        let shape = piece.shape();
        Whole { values: vec![0.0; shape.iter().product::<u64>() as usize], shape }
    })
}

/// All pieces of all ranks, each of one rank only, in rounds.
fn rounds(draft: &Draft, quantity: Quantity) -> Vec<Vec<Piece<'_>>> {
    let mut seen = BTreeSet::new();
    let mut rounds: Vec<Vec<Piece<'_>>> = vec![Vec::new()];
    let mut filled = 0;
    parameters::visit(draft, 0..draft.mesh.rank_count(), (quantity, Copies::Exact), &mut |piece| {
        if !seen.insert((piece.layer, &piece.parameter.name, piece.first, piece.length)) {
            return;
        }
        for skipped in (0..piece.length).step_by(ROUND_ELEMENTS as usize) {
            let part = piece.part(skipped, ROUND_ELEMENTS.min(piece.length - skipped));
            if filled + part.length > ROUND_ELEMENTS {
                rounds.push(Vec::new());
                filled = 0;
            }
            filled += part.length;
            rounds.last_mut().expect("there is a round").push(part);
        }
    });
    rounds
}

/// Whether the ranks of each process hold all that its ranks need.
fn all_have(
    (draft, host): (&Draft, &dyn Host),
    (to, ranks): (&Draft, &dyn Host),
    quantity: Quantity,
    processes: &mut Processes,
) -> Result<bool, WorldError> {
    let mut held: BTreeMap<(u32, String), Vec<(u64, u64)>> = BTreeMap::new();
    parameters::visit(draft, host.ranks(), (quantity, Copies::Exact), &mut |piece| {
        held.entry(piece.key()).or_default().push((piece.first, piece.first + piece.length));
    });
    held.values_mut().for_each(|stretches| stretches.sort_unstable());
    let mut has_all = true;
    parameters::visit(to, ranks.ranks(), (quantity, Copies::All), &mut |piece| {
        let mut reached = piece.first;
        for &(start, end) in held.get(&piece.key()).into_iter().flatten() {
            if start <= reached {
                reached = reached.max(end);
            }
        }
        has_all &= reached >= piece.first + piece.length;
    });
    Ok(processes.all_say(&[u8::from(has_all)])?.iter().all(|said| *said == [1]))
}

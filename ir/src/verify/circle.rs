//! Which of the instructions that stand wait for each other.

use std::fmt::Display;

use petgraph::algo::astar;
use petgraph::graph::DiGraph;
use petgraph::visit::EdgeRef;

use super::meeting::is_crossing;
use crate::program::{Action, Draft, Instr};

/// The head of a stream that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// The place of its role.
    pub role: usize,
    /// Its place in the code.
    pub instruction: usize,
}

/// A smallest circle of waiting among `standing`, all heads of streams when nothing can go on: each waits for the next
/// and the last for the first. Empty if there is none.
pub fn circle(draft: &Draft, standing: &[Standing]) -> Vec<Standing> {
    let mut waits = DiGraph::<Standing, ()>::new();
    for &head in standing {
        waits.add_node(head);
    }
    for node in waits.node_indices() {
        for other in waits.node_indices() {
            if waits_for(draft, waits[node], waits[other]) {
                waits.add_edge(node, other, ());
            }
        }
    }
    // Through each wait, the shortest way back to where it begins.
    let back = waits.edge_references().filter_map(|wait| {
        let way = astar(&waits, wait.target(), |node| node == wait.source(), |_| 1, |_| 0);
        way.map(|(_, nodes)| nodes)
    });
    let smallest = back.min_by_key(Vec::len).unwrap_or_default();
    let mut circle: Vec<Standing> = smallest.into_iter().map(|node| waits[node]).collect();
    let first = (0..circle.len()).min_by_key(|&place| circle[place]).unwrap_or(0);
    circle.rotate_left(first);
    circle
}

/// `a waits for b, which waits for a`.
pub fn in_words(circle: &[impl Display]) -> String {
    let Some((first, rest)) = circle.split_first() else { return String::new() };
    let mut words = first.to_string();
    for (place, next) in rest.iter().chain([first]).enumerate() {
        words.push_str(if place == 0 { " waits for " } else { ", which waits for " });
        words.push_str(&next.to_string());
    }
    words
}

/// Whether one head can only go on once the stream of the other has.
fn waits_for(draft: &Draft, waiting: Standing, other: Standing) -> bool {
    let instr = instr(draft, waiting);
    let head = self::instr(draft, other);
    let is_partner = |partner: usize| partner == other.role && instr.stream.peer() == Some(head.stream);
    match instr.action {
        Action::Wait(event) => {
            let rest = &draft.roles[other.role].code[other.instruction..];
            let signals = |instr: &Instr| instr.stream == head.stream && instr.action == Action::Signal(event);
            waiting.role == other.role && rest.iter().any(signals)
        }
        Action::Send(id) => is_partner(draft.transfers[id.index()].to.index()),
        Action::Receive(id) => is_partner(draft.transfers[id.index()].from.index()),
        Action::Exchange(id) if is_crossing(draft, id) => {
            let has_come = matches!(head.action, Action::Exchange(id) if is_crossing(draft, id));
            waiting.role != other.role && instr.stream == head.stream && !has_come
        }
        Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) => false,
    }
}

fn instr(draft: &Draft, at: Standing) -> &Instr {
    &draft.roles[at.role].code[at.instruction]
}

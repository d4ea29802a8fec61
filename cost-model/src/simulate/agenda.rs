//! What is to be looked at next: roles of which something changed, and the times at which something ends. A moment of a
//! deep pipeline concerns few of its roles, and only those are asked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A set of roles, which are visited in their order.
pub(super) struct RoleSet {
    words: Vec<u64>,
}

impl RoleSet {
    pub(super) fn new(roles: usize) -> RoleSet {
        RoleSet { words: vec![0; roles.div_ceil(64)] }
    }

    pub(super) fn insert(&mut self, role: usize) {
        self.words[role / 64] |= 1 << (role % 64);
    }

    #[cfg(test)]
    fn contains(&self, role: usize) -> bool {
        self.words[role / 64] >> (role % 64) & 1 == 1
    }

    /// The first from this one on.
    pub(super) fn first_from(&self, role: usize) -> Option<usize> {
        let (mut index, mut mask) = (role / 64, u64::MAX << (role % 64));
        while let Some(word) = self.words.get(index) {
            if word & mask != 0 {
                return Some(index * 64 + (word & mask).trailing_zeros() as usize);
            }
            (index, mask) = (index + 1, u64::MAX);
        }
        None
    }

    /// The first from this one on, which is no longer in the set.
    pub(super) fn take_from(&mut self, role: usize) -> Option<usize> {
        let first = self.first_from(role)?;
        self.words[first / 64] &= !(1 << (first % 64));
        Some(first)
    }
}

/// When something ends next for each role. What was put off stays in the heap, and is skipped when its time comes.
pub(super) struct Agenda {
    /// Seconds of each role, infinite where nothing ends.
    next: Vec<f64>,
    /// Seconds, as bits, which have the order of numbers that are not negative; and roles.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Agenda {
    pub(super) fn new(roles: usize) -> Agenda {
        Agenda { next: vec![f64::INFINITY; roles], heap: BinaryHeap::with_capacity(roles) }
    }

    /// Something ends for a role at this time, and nothing before.
    pub(super) fn put(&mut self, role: usize, time: f64) {
        if self.next[role].to_bits() != time.to_bits() {
            self.next[role] = time;
            if time < f64::INFINITY {
                self.heap.push(Reverse((time.to_bits(), role)));
            }
        }
    }

    /// The earliest time, whose roles are put into `roles` in their order; they have no next time until one is put.
    pub(super) fn take(&mut self, roles: &mut Vec<usize>) -> Option<f64> {
        roles.clear();
        let mut now = None;
        while let Some(&Reverse((time, role))) = self.heap.peek()
            && now.is_none_or(|now| now == time)
        {
            self.heap.pop();
            if self.next[role].to_bits() == time {
                self.next[role] = f64::INFINITY;
                roles.push(role);
                now = Some(time);
            }
        }
        now.map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_visited_in_their_order() {
        let mut set = RoleSet::new(130);
        [129, 3, 64].into_iter().for_each(|role| set.insert(role));
        assert_eq!((set.first_from(0), set.first_from(4), set.first_from(65)), (Some(3), Some(64), Some(129)));
        assert!(set.contains(64) && !set.contains(65));
        assert_eq!((set.take_from(0), set.take_from(0), set.first_from(130)), (Some(3), Some(64), None));
        assert_eq!((set.take_from(0), set.take_from(0)), (Some(129), None));
    }

    #[test]
    fn what_was_put_off_does_not_end_before() {
        let mut agenda = Agenda::new(3);
        for (role, time) in [(2, 1.0), (0, 2.0), (1, 1.0), (2, 3.0), (0, 1.0), (2, 1.0)] {
            agenda.put(role, time);
        }
        let mut roles = Vec::new();
        assert_eq!((agenda.take(&mut roles), roles.clone()), (Some(1.0), vec![0, 1, 2]));
        agenda.put(1, 2.5);
        assert_eq!((agenda.take(&mut roles), roles.clone()), (Some(2.5), vec![1]));
        assert_eq!(agenda.take(&mut roles), None);
    }
}

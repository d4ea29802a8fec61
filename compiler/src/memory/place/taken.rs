//! Which addresses are taken, and when: a tree of time, whose nodes stand for stretches of it.
//!
//! What lies side by side is one range, so that a node knows few of them however much was placed: programs do the same
//! at each visit to a layer.

use std::ops::Range;

use super::Lifetime;

/// Ranges of addresses that are taken at some time.
pub(super) struct Taken {
    /// Instants at which something starts, in order. Two lives that meet meet at one of these.
    starts: Vec<u32>,
    /// Leaves of the tree, a power of two: one for each of `starts`.
    width: usize,
    /// The root is 1, the halves of a node are at twice its index and one more.
    nodes: Vec<Node>,
}

/// What is taken in a stretch of time.
#[derive(Clone, Default)]
struct Node {
    /// By what lives in all of it.
    throughout: Ranges,
    /// By what lives in any of it.
    ever: Ranges,
}

/// Nodes that a life has to do with.
struct Parts {
    /// Those whose stretch it fills, while it does not fill that of the node above.
    filled: Vec<usize>,
    /// Of those, the lowest at its beginning and at its end: whatever is above any is above one of them.
    lowest: [Option<usize>; 2],
}

impl Parts {
    /// The nodes above, from below, on either side.
    fn above(&self) -> [impl Iterator<Item = usize> + use<>; 2] {
        let half = |node: usize| Some(node / 2).filter(|&above| above > 0);
        self.lowest.map(|lowest| std::iter::successors(lowest.and_then(half), move |&node| half(node)))
    }
}

impl Taken {
    /// Nothing is taken. `lifetimes` are sorted by start.
    pub(super) fn new(lifetimes: &[Lifetime]) -> Taken {
        let mut starts: Vec<u32> = lifetimes.iter().map(|lifetime| lifetime.start).collect();
        starts.dedup();
        let width = starts.len().next_power_of_two();
        Taken { starts, width, nodes: vec![Node::default(); 2 * width] }
    }

    /// Leaves that a lifetime covers.
    fn life(&self, lifetime: &Lifetime) -> Range<usize> {
        let from = self.starts.partition_point(|&start| start < lifetime.start);
        from..self.starts.partition_point(|&start| start <= lifetime.end)
    }

    /// The lowest address from which on as many bytes as a lifetime needs are free as long as it lives.
    ///
    /// A range that overlaps the bytes behind an address rules out all addresses up to its own end. In which order such
    /// ranges are found makes no difference, so each list is read as far as it matters, until none says more.
    pub(super) fn lowest_free(&self, lifetime: &Lifetime) -> u64 {
        let parts = self.parts(lifetime);
        let ever = parts.filled.iter().map(|&node| &self.nodes[node].ever.0[..]);
        let throughout = parts.above().into_iter().flatten().map(|node| &self.nodes[node].throughout.0[..]);
        let mut lists: Vec<&[Range<u64>]> = ever.chain(throughout).filter(|list| !list.is_empty()).collect();
        let mut address = 0;
        loop {
            let before = address;
            for list in &mut lists {
                while let Some((first, rest)) = list.split_first()
                    && first.start < address + lifetime.bytes
                {
                    address = address.max(first.end);
                    *list = rest;
                }
            }
            if address == before {
                return address;
            }
        }
    }

    /// Takes addresses that are free for a lifetime.
    pub(super) fn take(&mut self, lifetime: &Lifetime, range: &Range<u64>) {
        let parts = self.parts(lifetime);
        for &node in &parts.filled {
            self.nodes[node].throughout.add(range);
            self.nodes[node].ever.add(range);
        }
        for mut way in parts.above() {
            // Who is above knows all that is known below.
            while let Some(node) = way.next()
                && self.nodes[node].ever.add(range) == Added::New
            {}
        }
    }

    fn parts(&self, lifetime: &Lifetime) -> Parts {
        let life = self.life(lifetime);
        let (mut from, mut to) = (life.start + self.width, life.end + self.width);
        let mut filled = Vec::with_capacity(2 * self.width.ilog2() as usize + 1);
        let mut lowest = [None; 2];
        while from < to {
            if from % 2 == 1 {
                lowest[0].get_or_insert(from);
                filled.push(from);
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                lowest[1].get_or_insert(to);
                filled.push(to);
            }
            (from, to) = (from / 2, to / 2);
        }
        Parts { filled, lowest }
    }
}

/// Ranges in order, none of which touch.
#[derive(Clone, Default)]
struct Ranges(Vec<Range<u64>>);

/// Whether a range was known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    New,
    Known,
}

impl Ranges {
    fn add(&mut self, range: &Range<u64>) -> Added {
        let first = self.0.partition_point(|known| known.end < range.start);
        let touched = self.0[first..].iter().take_while(|known| known.start <= range.end).count();
        match touched {
            0 => self.0.insert(first, range.clone()),
            1 if self.0[first].start <= range.start && range.end <= self.0[first].end => return Added::Known,
            _ => {
                let end = self.0[first + touched - 1].end.max(range.end);
                self.0[first] = self.0[first].start.min(range.start)..end;
                self.0.drain(first + 1..first + touched);
            }
        }
        Added::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let mut ranges = Ranges::default();
        [10..20, 40..50, 30..40, 0..5, 22..25].iter().for_each(|range| assert!(ranges.add(range) == Added::New));
        assert_eq!(ranges.0, [0..5, 10..20, 22..25, 30..50]);
        assert!(ranges.add(&(20..30)) == Added::New && ranges.add(&(12..48)) == Added::Known);
        assert_eq!(ranges.0, [0..5, 10..50]);
        assert!(ranges.add(&(5..10)) == Added::New);
        assert_eq!(ranges.0, [0..50]);
    }

    #[test]
    fn only_what_lives_at_once_is_in_the_way() {
        let life = |bytes, start, end| Lifetime { bytes, start, end };
        let lives = [life(10, 0, 9), life(10, 10, 30), life(10, 20, 25)];
        let mut taken = Taken::new(&lives);
        taken.take(&lives[0], &(0..10));
        taken.take(&lives[1], &(10..20));
        assert_eq!(taken.lowest_free(&life(10, 20, 25)), 0);
        assert_eq!(taken.lowest_free(&life(11, 20, 25)), 20);
        assert_eq!(taken.lowest_free(&life(10, 0, 10)), 20);
    }
}

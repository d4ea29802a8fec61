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

/// Leaves below a node.
#[derive(Clone, Copy)]
struct Stretch {
    node: usize,
    from: usize,
    width: usize,
}

/// How a stretch lies to a life.
enum Lies {
    Outside,
    Inside,
    Across,
}

impl Stretch {
    fn halves(self) -> [Stretch; 2] {
        let width = self.width / 2;
        [0, 1].map(|half| Stretch { node: 2 * self.node + half, from: self.from + half * width, width })
    }

    fn lies(self, life: &Range<usize>) -> Lies {
        let to = self.from + self.width;
        if to <= life.start || life.end <= self.from {
            Lies::Outside
        } else if life.start <= self.from && to <= life.end {
            Lies::Inside
        } else {
            Lies::Across
        }
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

    fn whole(&self) -> Stretch {
        Stretch { node: 1, from: 0, width: self.width }
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
        let mut lists: Vec<&[Range<u64>]> = Vec::new();
        self.gather(self.whole(), &self.life(lifetime), &mut lists);
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

    /// All that is taken in a life.
    fn gather<'a>(&'a self, stretch: Stretch, life: &Range<usize>, lists: &mut Vec<&'a [Range<u64>]>) {
        let Node { throughout, ever } = &self.nodes[stretch.node];
        match stretch.lies(life) {
            Lies::Outside => {}
            Lies::Inside if ever.0.is_empty() => {}
            Lies::Inside => lists.push(&ever.0),
            Lies::Across if ever.0.is_empty() => {}
            Lies::Across => {
                lists.push(&throughout.0);
                stretch.halves().into_iter().for_each(|half| self.gather(half, life, lists));
            }
        }
    }

    /// Takes addresses that are free for a lifetime.
    pub(super) fn take(&mut self, lifetime: &Lifetime, range: Range<u64>) {
        let life = self.life(lifetime);
        self.take_in(self.whole(), &life, &range);
    }

    fn take_in(&mut self, stretch: Stretch, life: &Range<usize>, range: &Range<u64>) {
        let node = &mut self.nodes[stretch.node];
        match stretch.lies(life) {
            Lies::Outside => {}
            Lies::Inside => {
                node.throughout.add(range);
                node.ever.add(range);
            }
            Lies::Across => {
                node.ever.add(range);
                stretch.halves().into_iter().for_each(|half| self.take_in(half, life, range));
            }
        }
    }
}

/// Ranges in order, none of which touch.
#[derive(Clone, Default)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    fn add(&mut self, range: &Range<u64>) {
        let first = self.0.partition_point(|known| known.end < range.start);
        let last = first + self.0[first..].iter().take_while(|known| known.start <= range.end).count();
        if first == last {
            return self.0.insert(first, range.clone());
        }
        self.0[first] = self.0[first].start.min(range.start)..self.0[last - 1].end.max(range.end);
        self.0.drain(first + 1..last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let mut ranges = Ranges::default();
        [10..20, 40..50, 30..40, 0..5, 22..25].iter().for_each(|range| ranges.add(range));
        assert_eq!(ranges.0, [0..5, 10..20, 22..25, 30..50]);
        ranges.add(&(20..30));
        assert_eq!(ranges.0, [0..5, 10..50]);
        ranges.add(&(5..10));
        assert_eq!(ranges.0, [0..50]);
    }

    #[test]
    fn only_what_lives_at_once_is_in_the_way() {
        let life = |bytes, start, end| Lifetime { bytes, start, end };
        let lives = [life(10, 0, 9), life(10, 10, 30), life(10, 20, 25)];
        let mut taken = Taken::new(&lives);
        taken.take(&lives[0], 0..10);
        taken.take(&lives[1], 10..20);
        assert_eq!(taken.lowest_free(&life(10, 20, 25)), 0);
        assert_eq!(taken.lowest_free(&life(11, 20, 25)), 20);
        assert_eq!(taken.lowest_free(&life(10, 0, 10)), 20);
    }
}

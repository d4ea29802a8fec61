//! Where ranks meet: groups that come to collectives together, and channels from one stage to another.
//!
//! Both are counters that only grow, so nothing is reset between exchanges or steps, and a rank that is late reads
//! the same as one that is early.

use std::sync::atomic::{AtomicU64, Ordering};

use ir::units::Seconds;

/// What a member passes in one collective: it came, its part of a reduction is done, and it needs the others' memory
/// no more. A collective without a reduction passes the last two at once.
pub(crate) const PHASES: u64 = 3;

/// The members of the collectives of one stream along the same axes.
#[derive(Debug)]
pub(crate) struct Group {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    rank: u32,
    // Where its source lies in its arena, for the collective that it came to last.
    address: AtomicU64,
    // Phases passed, over all collectives.
    passed: AtomicU64,
}

impl Group {
    /// A group of these ranks, in the order in which values are added.
    pub(crate) fn new(ranks: &[u32]) -> Group {
        let member = |&rank| Member { rank, address: AtomicU64::new(0), passed: AtomicU64::new(0) };
        Group { members: ranks.iter().map(member).collect() }
    }

    /// How many members there are.
    pub(crate) fn size(&self) -> u64 {
        self.members.len() as u64
    }

    /// The ranks, in order.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.rank)
    }

    /// The place of a rank in the group.
    pub(crate) fn position(&self, rank: u32) -> usize {
        self.members.iter().position(|member| member.rank == rank).expect("a rank is in its own group")
    }

    /// A member comes to its next collective with its source at `address`.
    pub(crate) fn arrive(&self, position: usize, address: u64) -> Gathering {
        self.members[position].address.store(address, Ordering::Relaxed);
        self.pass(position, 1)
    }

    /// A member passes the next phases.
    pub(crate) fn pass(&self, position: usize, phases: u64) -> Gathering {
        let member = &self.members[position].passed;
        member.store(member.load(Ordering::Relaxed) + phases, Ordering::SeqCst);
        self.gathering(position)
    }

    /// Whether all members have passed what this one has. What they wrote before is then seen.
    pub(crate) fn gathering(&self, position: usize) -> Gathering {
        // Sequentially consistent, as the stores are: of members that pass at once, one sees that all have.
        let own = self.members[position].passed.load(Ordering::Relaxed);
        let all = self.members.iter().all(|member| member.passed.load(Ordering::SeqCst) >= own);
        if all { Gathering::Complete } else { Gathering::Waiting }
    }

    /// A member and where its source lies. Meaningful once all came, until this member passes the last phase.
    pub(crate) fn source(&self, position: usize) -> (u32, u64) {
        let member = &self.members[position];
        (member.rank, member.address.load(Ordering::Relaxed))
    }
}

/// Whether all members have come as far as one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathering {
    /// All have.
    Complete,
    /// Some have not.
    Waiting,
}

/// The way from a rank of one stage to the rank at the same place of another, in one direction of the pass.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    // What was sent last lies here in the sender's arena.
    address: AtomicU64,
    posted: AtomicU64,
    taken: AtomicU64,
    // Bits of the seconds at which the last copy began and ended.
    begin: AtomicU64,
    end: AtomicU64,
}

impl Channel {
    /// The sender offers what lies at `address`.
    pub(crate) fn post(&self, address: u64) {
        self.address.store(address, Ordering::Relaxed);
        self.posted.fetch_add(1, Ordering::Release);
    }

    /// What is offered and not yet taken.
    pub(crate) fn offer(&self) -> Option<u64> {
        let waiting = self.posted.load(Ordering::Acquire) > self.taken.load(Ordering::Relaxed);
        waiting.then(|| self.address.load(Ordering::Relaxed))
    }

    /// The receiver has copied what was offered.
    pub(crate) fn take(&self, begin: Seconds, end: Seconds) {
        self.begin.store(begin.0.to_bits(), Ordering::Relaxed);
        self.end.store(end.0.to_bits(), Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Release);
    }

    /// When the last offer was copied, if it was.
    pub(crate) fn copied(&self) -> Option<(Seconds, Seconds)> {
        let seconds = |bits: &AtomicU64| Seconds(f64::from_bits(bits.load(Ordering::Relaxed)));
        let all = self.taken.load(Ordering::Acquire) == self.posted.load(Ordering::Relaxed);
        all.then(|| (seconds(&self.begin), seconds(&self.end)))
    }
}

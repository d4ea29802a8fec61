//! The only maker of [`Programs`]: checks a draft, trusting nothing that made it.
//!
//! First everything that is named must exist and fit (`shape`, `fragment`). Then each role is read once in code order
//! with a vector clock a stream (`order`): accesses of a buffer and of its addresses must be ordered by the streams
//! and events alone, in whatever order instructions of different streams really run. Last, roles must agree on what
//! they send each other and exchange, and must all come to their end (`meeting`).

mod digest;
mod fragment;
mod meeting;
mod order;
mod shape;

use std::fmt;

use crate::parallel;
use crate::program::{Draft, Instr, Programs, Role, Span, Stream};
use crate::units::Bytes;

use meeting::Meetings;

/// No more violations than this are reported: one mistake in a layer shows in every layer.
pub const VIOLATION_COUNT_MAX: usize = 100;

impl Programs {
    /// The programs of `draft`, or all that is wrong with them (at most [`VIOLATION_COUNT_MAX`]), for ranks that have
    /// `capacity` bytes of memory each; `Bytes(u64::MAX)` is no limit.
    ///
    /// Stricter than needed in three ways: only a role's own streams and events order its accesses, not what its
    /// peers wait for; a wait must stand behind its signal in the code; and every value needs its `Free`.
    pub fn verified(draft: Draft, capacity: Bytes) -> Result<Programs, Vec<Violation>> {
        let mut report = Report::default();
        let Some(needs) = shape::check(&draft, &mut report) else { return Err(report.found) };
        let roles = draft.roles.iter().enumerate().collect();
        let roles = parallel::map(roles, |(place, role)| RoleReport::of(&draft, &needs, capacity, (place, role)));
        let mut meetings = Vec::with_capacity(roles.len());
        let mut digests = Vec::with_capacity(roles.len());
        for RoleReport { violations, followed } in roles {
            violations.into_iter().for_each(|violation| report.push(violation));
            if let Some((meeting, digest)) = followed {
                meetings.push(meeting);
                digests.push(digest);
            }
        }
        // A role that could not be followed cannot be met.
        if meetings.len() == draft.roles.len() {
            meeting::check(&draft, &meetings, &mut report);
        }
        if !report.found.is_empty() {
            return Err(report.found);
        }
        let digest = digest::of(&draft, &digests);
        Ok(Programs { draft, digest })
    }
}

/// What was found in one role alone.
struct RoleReport {
    violations: Vec<Violation>,
    /// Where it meets others, and its digest; none if what its code names is not there.
    followed: Option<(Meetings, u64)>,
}

impl RoleReport {
    fn of(draft: &Draft, needs: &[shape::Needs], capacity: Bytes, (place, role): (usize, &Role)) -> RoleReport {
        let mut report = Report::default();
        shape::check_role(draft, needs, capacity, (place, role), &mut report);
        // What follows looks up what the code names, so all of it must be there.
        let followed = !report.found.iter().any(Violation::is_structural);
        let followed = followed.then(|| {
            order::check(draft, role, &mut report);
            (Meetings::of(draft, place, role), digest::of_role(role))
        });
        RoleReport { violations: report.found, followed }
    }
}

/// What is wrong with a draft, in words for who reads its text form.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum Violation {
    #[error("{place} names {what} {index}, but there are only {count}")]
    Missing { place: String, what: &'static str, index: usize, count: usize },
    #[error("mesh: {words}")]
    Mesh { words: String },
    #[error("block {block}: {words}")]
    Block { block: usize, words: String },
    #[error("collective {collective}: {words}")]
    Collective { collective: usize, words: String },
    #[error("fragment {fragment}: {words}")]
    Fragment { fragment: usize, words: String },
    #[error("role {role}, buffer b{buffer}: {words}")]
    Buffer { role: u32, buffer: usize, words: String },
    #[error("role {role}: stands at place {place}; roles stand in the order of their numbers")]
    Role { role: u32, place: usize },
    #[error("transfer {transfer}: {words}")]
    Transfer { transfer: usize, words: String },
    #[error("role {role}: takes {arena} of memory, but a rank has only {capacity}")]
    OverCapacity { role: u32, arena: Bytes, capacity: Bytes },
    #[error("{at}: has {found} operands, but needs {needed}")]
    OperandCount { at: Place, found: usize, needed: usize },
    #[error("{at}: an instruction like this runs on another stream")]
    WrongStream { at: Place },
    #[error("{at}: b{buffer} has {found}, but {needed} are needed")]
    TooSmall { at: Place, buffer: u32, found: Bytes, needed: Bytes },
    #[error("{at}: another role has this end of the transfer")]
    WrongEnd { at: Place },
    #[error("{at}: uses b{buffer} twice, and writes it")]
    Aliased { at: Place, buffer: u32 },
    #[error("{at}: reads b{buffer}, which nothing wrote before")]
    ReadBeforeWrite { at: Place, buffer: u32 },
    #[error("{at}: reads b{buffer} without waiting for {earlier}, which writes it")]
    UnorderedRead { at: Place, buffer: u32, earlier: Place },
    #[error("{at}: writes b{buffer} without waiting for {earlier}, which uses what was there")]
    UnorderedWrite { at: Place, buffer: u32, earlier: Place },
    #[error("{at}: frees b{buffer} without waiting for {earlier}, which uses it")]
    UnorderedFree { at: Place, buffer: u32, earlier: Place },
    #[error("{at}: uses b{buffer} after it was freed")]
    UseAfterFree { at: Place, buffer: u32 },
    #[error("{at}: frees b{buffer} a second time")]
    FreedTwice { at: Place, buffer: u32 },
    #[error("{at}: frees b{buffer}, which nothing wrote")]
    FreedUnwritten { at: Place, buffer: u32 },
    #[error("{at}: frees b{buffer}, which lives longer than a step")]
    FreedResident { at: Place, buffer: u32 },
    #[error("role {role}: b{buffer} is never freed")]
    NeverFreed { role: u32, buffer: u32 },
    #[error("{at}: b{buffer} begins at addresses where b{other} still lives")]
    AddressInUse { at: Place, buffer: u32, other: u32 },
    #[error("{at}: b{buffer} begins at addresses freed by {earlier}, without waiting for it")]
    UnorderedReuse { at: Place, buffer: u32, earlier: Place },
    #[error("role {role}: b{buffer} and b{other} live always and share addresses")]
    ResidentsOverlap { role: u32, buffer: u32, other: u32 },
    #[error("role {role}: says that {found} are alive at once, but {needed} are")]
    LiveBound { role: u32, found: Bytes, needed: Bytes },
    #[error("{at}: e{event} was signalled before")]
    SignalledTwice { at: Place, event: u32 },
    #[error("{at}: waits for e{event}, which nothing before it in the code signals")]
    WaitWithoutSignal { at: Place, event: u32 },
    #[error("{at}: role {peer} does not receive what is sent")]
    SendWithoutReceive { at: Place, peer: u32 },
    #[error("{at}: role {peer} does not send what is received")]
    ReceiveWithoutSend { at: Place, peer: u32 },
    #[error("{at}: receives transfer {received}, but {sender} sends transfer {sent} then")]
    TransferOrder { at: Place, received: u32, sender: Place, sent: u32 },
    #[error("{at}: transfer {transfer} was sent or received before")]
    TransferTwice { at: Place, transfer: u32 },
    #[error("{at}: receives {received}, but {sender} sends {sent}")]
    TransferSize { at: Place, received: Bytes, sender: Place, sent: Bytes },
    #[error("{at}: is the {count}. exchange of {stream} between stages, where role 0 has another or none")]
    ExchangeOrder { at: Place, count: usize, stream: &'static str },
    #[error("role {role}: lacks exchanges of {stream} between stages: it has {found}, role 0 has {needed}")]
    ExchangeCount { role: u32, stream: &'static str, found: usize, needed: usize },
    #[error("{at}: can never begin, because what it waits for waits for it")]
    Deadlock { at: Place },
}

impl Violation {
    /// Whether something that code names is not there or not where it belongs, so that the code cannot be followed.
    fn is_structural(&self) -> bool {
        matches!(
            self,
            Violation::Missing { .. }
                | Violation::Mesh { .. }
                | Violation::Role { .. }
                | Violation::OperandCount { .. }
                | Violation::WrongStream { .. }
                | Violation::WrongEnd { .. }
                | Violation::Transfer { .. }
        )
    }
}

/// An instruction of a role.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The role.
    pub role: u32,
    /// Its index in the code.
    pub instruction: usize,
    /// Where it runs.
    pub stream: Stream,
    /// What it is part of.
    pub span: Span,
}

impl Place {
    pub(crate) fn new(role: u32, instruction: usize, instr: &Instr) -> Place {
        Place { role, instruction, stream: instr.stream, span: instr.span }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role {}, instruction {} ({} {})", self.role, self.instruction, self.stream.name(), self.span)
    }
}

/// Collects violations.
#[derive(Default)]
struct Report {
    found: Vec<Violation>,
}

impl Report {
    fn push(&mut self, violation: Violation) {
        if self.found.len() < VIOLATION_COUNT_MAX {
            self.found.push(violation);
        }
    }

    /// Reports an index that is too large; whether it is in range.
    #[inline]
    fn in_range(&mut self, place: &dyn fmt::Display, what: &'static str, index: usize, count: usize) -> bool {
        if index >= count {
            self.missing(place, what, index, count);
        }
        index < count
    }

    #[cold]
    fn missing(&mut self, place: &dyn fmt::Display, what: &'static str, index: usize, count: usize) {
        self.push(Violation::Missing { place: place.to_string(), what, index, count });
    }
}

//! Arenas: one allocation a rank, made at load; every buffer is a place in it.
//!
//! During a step, ranks write into their own arenas and read those of others, on several threads. That this is no
//! race is known from outside: verified programs order all uses of a buffer within a rank, and the rendezvous of
//! [`super::rendezvous`] orders reads between ranks. So access during a step is `unsafe`, and used in
//! [`super::kernel`] and [`super::exchange`] only. Between steps, [`Arenas::between_steps`] gives safe access.
#![allow(unsafe_code, reason = "one allocation is shared by ranks on several threads, see above")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ir::program::ALIGNMENT;
use ir::units::Bytes;

use crate::fault::LoadError;
use crate::host::Place;

/// Fills forgotten memory: as `f32` and in 16 bits it is NaN, as `i32` the token −1.
const POISON: u8 = 0xff;

mod sealed {
    use kernels::bf16::Bf16;

    /// What an arena may be read as: any bits are a value.
    pub(crate) trait Word: Copy {}
    impl Word for u8 {}
    impl Word for Bf16 {}
    impl Word for f32 {}
    impl Word for i32 {}
}
use sealed::Word;

/// The memory of one rank.
#[derive(Debug)]
pub(crate) struct Arena {
    // Invariant: `layout.size()` bytes, allocated with `layout` and freed only by `drop`.
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to the arena alone, and every access to it is through `unsafe` functions whose callers
// answer for its order.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    fn new(bytes: Bytes) -> Option<Arena> {
        let layout = Layout::from_size_align(usize::try_from(bytes.0.max(ALIGNMENT)).ok()?, ALIGNMENT as usize).ok()?;
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        Some(Arena { start: NonNull::new(start)?, layout })
    }

    /// A place as numbers to read.
    ///
    /// # Safety
    /// Nothing writes to the place while the slice lives.
    pub(crate) unsafe fn read<T: Word>(&self, place: Place) -> &[T] {
        let (start, count) = self.check::<T>(place);
        // SAFETY: the place is inside the allocation and aligned; any bits are a `T`; the caller answers for writes.
        unsafe { std::slice::from_raw_parts(start, count) }
    }

    /// A place as numbers to write.
    ///
    /// # Safety
    /// Nothing else reads or writes the place while the slice lives.
    #[allow(clippy::mut_from_ref, reason = "the caller answers for there being no other reference")]
    pub(crate) unsafe fn write<T: Word>(&self, place: Place) -> &mut [T] {
        let (start, count) = self.check::<T>(place);
        // SAFETY: the place is inside the allocation and aligned; any bits are a `T`; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts_mut(start, count) }
    }

    /// Makes a place unfit for use, so that a read of freed memory shows.
    ///
    /// # Safety
    /// As for [`Arena::write`].
    pub(crate) unsafe fn poison(&self, place: Place) {
        let (start, count) = self.check::<u8>(place);
        // SAFETY: the place is inside the allocation; the caller answers for the rest.
        unsafe { start.write_bytes(POISON, count) }
    }

    /// The start of a place that is inside the arena and aligned, and how many numbers it has.
    fn check<T: Word>(&self, place: Place) -> (*mut T, usize) {
        let word = size_of::<T>() as u64;
        let Place { address, bytes } = place;
        let end = address.checked_add(bytes);
        assert!(
            [address, bytes].iter().all(|it| it.is_multiple_of(word))
                && end.is_some_and(|end| end <= self.layout.size() as u64),
            "{place:?} is not inside an arena of {} bytes, in words of {word}",
            self.layout.size()
        );
        // SAFETY: the address is inside the allocation or one past its end.
        let start = unsafe { self.start.as_ptr().add(address as usize) };
        (start.cast(), (bytes / word) as usize)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// The arenas of all ranks.
#[derive(Debug)]
pub(crate) struct Arenas {
    ranks: Vec<Arena>,
    // Held by whoever uses the memory: a running step, or the code between two.
    gate: Mutex<()>,
}

impl Arenas {
    /// One zeroed arena for each of the sizes.
    pub(crate) fn new(sizes: impl Iterator<Item = Bytes>) -> Result<Arenas, LoadError> {
        let ranks = sizes
            .enumerate()
            .map(|(rank, bytes)| Arena::new(bytes).ok_or(LoadError::Memory { rank: rank as u32, bytes }))
            .collect::<Result<Vec<Arena>, LoadError>>()?;
        Ok(Arenas { ranks, gate: Mutex::new(()) })
    }

    /// The arena of a rank, for use in a step.
    pub(crate) fn of(&self, rank: u32) -> &Arena {
        &self.ranks[rank as usize]
    }

    /// Keeps out all but the step, until dropped.
    pub(crate) fn step(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All memory, while no step runs.
    pub(crate) fn between_steps(&self) -> Memory<'_> {
        Memory { ranks: &self.ranks, _gate: self.step() }
    }
}

/// All memory, while no step runs.
pub(crate) struct Memory<'a> {
    ranks: &'a [Arena],
    _gate: MutexGuard<'a, ()>,
}

impl Memory<'_> {
    /// Numbers of a rank, to read.
    pub(crate) fn read<T: Word>(&self, rank: u32, place: Place) -> &[T] {
        // SAFETY: the gate keeps steps out, and writes need this value mutably.
        unsafe { self.ranks[rank as usize].read(place) }
    }

    /// Numbers of a rank, to write.
    pub(crate) fn write<T: Word>(&mut self, rank: u32, place: Place) -> &mut [T] {
        // SAFETY: the gate keeps steps out, and this value is borrowed mutably as long as the slice lives.
        unsafe { self.ranks[rank as usize].write(place) }
    }

    /// Makes all memory of a rank unfit for use.
    pub(crate) fn poison(&mut self, rank: u32) {
        let arena = &self.ranks[rank as usize];
        // SAFETY: as for `write`.
        unsafe { arena.poison(Place { address: 0, bytes: arena.layout.size() as u64 }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arenas(bytes: u64) -> Arenas {
        Arenas::new([Bytes(bytes)].into_iter()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let arenas = arenas(512);
        let mut memory = arenas.between_steps();
        memory.write::<f32>(0, Place { address: 256, bytes: 8 }).copy_from_slice(&[1.0, 2.0]);
        assert_eq!(memory.read::<f32>(0, Place { address: 252, bytes: 12 }), [0.0, 1.0, 2.0]);
    }

    #[test]
    fn poison_is_not_a_number_and_not_a_token() {
        let arenas = arenas(256);
        let mut memory = arenas.between_steps();
        memory.poison(0);
        assert!(memory.read::<f32>(0, Place { address: 0, bytes: 256 }).iter().all(|value| value.is_nan()));
        assert_eq!(memory.read::<i32>(0, Place { address: 4, bytes: 4 }), [-1]);
    }

    #[test]
    #[should_panic(expected = "not inside an arena of 256 bytes")]
    fn a_place_past_the_end_is_our_error() {
        arenas(256).between_steps().read::<f32>(0, Place { address: 252, bytes: 8 });
    }
}

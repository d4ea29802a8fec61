//! Runs of bytes at regular distances, copied to places at other distances: what an exchange of an inner dimension
//! needs before and after it.

pub mod cuda;

/// For each (i, j) below `counts`, `run` bytes from `first + i·from[0] + j·from[1]` to `i·to[0] + j·to[1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    /// How many runs there are, outer and inner.
    pub counts: [u64; 2],
    /// Bytes that stay together.
    pub run: u64,
    /// Where the first run begins in the source.
    pub first: u64,
    /// Bytes between runs of the source, outer and inner.
    pub from: [u64; 2],
    /// Bytes between runs of the destination, outer and inner.
    pub to: [u64; 2],
}

impl Reorder {
    /// Exchanges the first two dimensions of `[a][b][run]`.
    pub fn swap(counts: [u64; 2], run: u64) -> Reorder {
        let [a, b] = counts;
        Reorder { counts, run, first: 0, from: [b * run, run], to: [run, a * run] }
    }

    /// Bytes that are copied.
    pub fn bytes(&self) -> u64 {
        self.counts[0] * self.counts[1] * self.run
    }

    /// Does it in plain memory: the reference.
    ///
    /// # Panics
    /// If a run lies past the end of either.
    pub fn apply(&self, from: &[u8], to: &mut [u8]) {
        let run = self.run as usize;
        for i in 0..self.counts[0] {
            for j in 0..self.counts[1] {
                let source = (self.first + i * self.from[0] + j * self.from[1]) as usize;
                let destination = (i * self.to[0] + j * self.to[1]) as usize;
                to[destination..destination + run].copy_from_slice(&from[source..source + run]);
            }
        }
    }
}

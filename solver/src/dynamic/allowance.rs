//! How much work a search may do, and how exact it must be: counted in steps of the search, never in time, so that
//! equal problems get equal answers.

/// What is left of the work that a search may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    left: u64,
    /// What was taken off so far.
    spent: u64,
}

impl Allowance {
    pub(crate) fn new(left: u64) -> Self {
        Self { left, spent: 0 }
    }

    /// Takes `amount` off what is left; false if it is more than that.
    pub(crate) fn spend(&mut self, amount: u64) -> bool {
        let suffices = amount <= self.left;
        self.spent += amount.min(self.left);
        // `u64::MAX` stands for effort without end.
        if self.left < u64::MAX {
            self.left = self.left.saturating_sub(amount);
        }
        suffices
    }

    /// What each of `count` searches may take, so that something is left after them.
    pub(crate) fn portion(&self, count: usize) -> Self {
        Self::new(if self.left < u64::MAX { self.left.div_ceil(1 + count as u64) } else { u64::MAX })
    }

    /// Puts half of what is left aside.
    pub(crate) fn halve(&mut self) -> Self {
        let half = Self::new(if self.left < u64::MAX { self.left / 2 } else { 0 });
        self.left -= half.left;
        half
    }

    /// Adds what was put aside.
    pub(crate) fn resume(&mut self, aside: Self) {
        self.left = self.left.saturating_add(aside.left);
    }

    /// Takes off what a portion has spent.
    pub(crate) fn settle(&mut self, portion: Self) {
        self.spend(portion.spent);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }
}

//! How much work a search may do, and how exact it must be: counted in steps of the search, never in time, so that
//! equal problems get equal answers.

/// What is left of the work that a search may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    left: u64,
}

impl Effort {
    pub(super) fn new(left: u64) -> Self {
        Self { left }
    }

    /// Takes `amount` off what is left; false if it is more than that.
    pub(super) fn spend(&mut self, amount: u64) -> bool {
        let suffices = amount <= self.left;
        // `u64::MAX` stands for effort without end.
        if self.left < u64::MAX {
            self.left = self.left.saturating_sub(amount);
        }
        suffices
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }
}

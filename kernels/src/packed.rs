//! The geometry of packed query, key and value rows.

/// The shape of a tensor [b s g c d] whose slots hold r queries, then the key, then the value that they share.
///
/// One query per group (r = 1) is multi-head attention; more is grouped-query attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// s, positions of one sequence.
    pub sequence: usize,
    /// g, groups of heads.
    pub groups: usize,
    /// r, query heads per group.
    pub queries: usize,
    /// d, elements of one head.
    pub head: usize,
}

impl Packed {
    /// Elements of all slots at one position.
    pub fn row(&self) -> usize {
        self.groups * (self.queries + 2) * self.head
    }

    /// Elements of all query heads at one position.
    pub fn query_row(&self) -> usize {
        self.groups * self.queries * self.head
    }

    /// b, of a packed tensor with this many elements.
    pub(crate) fn batch(&self, elements: usize) -> usize {
        let one = self.sequence * self.row();
        assert!(one > 0 && elements.is_multiple_of(one), "{elements} elements are no whole sequences of {self:?}");
        elements / one
    }
}

//! What code names: fragments and collectives of all roles.

use ir::program::{Collective, CollectiveId, Fragment, FragmentId};

/// Fragments and collectives of all layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Library {
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) collectives: Collectives,
}

impl Library {
    pub(crate) fn fragment(&mut self, fragment: Fragment) -> FragmentId {
        self.fragments.push(fragment);
        FragmentId(self.fragments.len() as u32 - 1)
    }
}

/// Collectives, equal ones once, in the order in which they were first asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collectives {
    pub(crate) all: Vec<Collective>,
}

impl Collectives {
    pub(crate) fn id(&mut self, collective: Collective) -> CollectiveId {
        let found = self.all.iter().position(|other| *other == collective);
        CollectiveId(found.unwrap_or_else(|| {
            self.all.push(collective);
            self.all.len() - 1
        }) as u32)
    }

    /// Adds the collectives of another list. Returns for each of its ids the one that it has here.
    pub(crate) fn join(&mut self, others: Collectives) -> Vec<CollectiveId> {
        others.all.into_iter().map(|collective| self.id(collective)).collect()
    }
}

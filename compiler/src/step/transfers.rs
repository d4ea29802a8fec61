//! What roles send each other in a step: numbered by a formula, so that each role finds its own without the others.

use std::collections::BTreeMap;

use ir::graph::{Context, LayerId};
use ir::plan::Plan;
use ir::program::{Direction, RoleId, StageId, Transfer, TransferId};

use crate::layer::{Purpose, Setting};

/// All transfers of a step: what crosses each cut between two stages, cut after cut; then the same of contexts; then what
/// tied blocks need.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    pub(crate) all: Vec<Transfer>,
    directions: usize,
    microbatches: usize,
    /// For each cut that a context crosses, by the stage behind it, the first of its transfers.
    contexts: BTreeMap<StageId, usize>,
    /// The first of the two between the owner of a tied block and each other role that has it.
    ties: BTreeMap<RoleId, TransferId>,
    owner: Option<RoleId>,
}

/// The role that plays a stage: one role a stage, in order.
pub(crate) fn role_of(stage: StageId) -> RoleId {
    RoleId(stage.0)
}

impl Transfers {
    /// Those of a plan.
    pub(crate) fn new(setting: Setting<'_>, plan: &Plan) -> Transfers {
        let directions = match setting.purpose {
            Purpose::Training => &Direction::ALL[..],
            Purpose::Evaluation => &Direction::ALL[..1],
        };
        let mut transfers = Transfers {
            all: Vec::new(),
            directions: directions.len(),
            microbatches: plan.microbatches as usize,
            contexts: BTreeMap::new(),
            ties: BTreeMap::new(),
            owner: None,
        };
        for (behind, stage) in plan.stages.iter().enumerate().skip(1) {
            transfers.cross(StageId(behind as u32), directions, stage.start as u16);
        }
        let graph = setting.graph;
        let mut kinds = (0..graph.layers.len() as u32).map(|layer| graph.kind(LayerId(layer)));
        if let Some(begins) = kinds.position(|kind| matches!(kind.context, Some(Context::Begins(_)))) {
            for (behind, stage) in plan.stages.iter().enumerate().skip(1) {
                if graph.kind(LayerId(stage.start)).context_taken().is_some() {
                    transfers.contexts.insert(StageId(behind as u32), transfers.all.len());
                    transfers.cross(StageId(behind as u32), directions, begins as u16);
                }
            }
        }
        transfers.add_ties(setting, plan);
        transfers
    }

    /// Adds what crosses the cut in front of a stage.
    fn cross(&mut self, stage: StageId, directions: &[Direction], layer: u16) {
        let [before, after] = [StageId(stage.0 - 1), stage].map(role_of);
        for &direction in directions {
            let (from, to) = match direction {
                Direction::Forward => (before, after),
                Direction::Backward => (after, before),
            };
            let transfer = |microbatch| Transfer { from, to, direction, microbatch: Some(microbatch as u16), layer };
            self.all.extend((0..self.microbatches).map(transfer));
        }
    }

    /// Gradients of a tied block go to its owner, and their sum comes back.
    fn add_ties(&mut self, setting: Setting<'_>, plan: &Plan) {
        let Some(tie) = setting.graph.tie.as_ref().filter(|_| setting.purpose == Purpose::Training) else { return };
        let role = |layer: LayerId| role_of(StageId(plan.stage_of(layer.0) as u32));
        let owner = role(tie.owner.0);
        self.owner = Some(owner);
        for user in tie.users.iter().map(|user| role(user.0)).filter(|&user| user != owner) {
            if !self.ties.contains_key(&user) {
                self.ties.insert(user, TransferId(self.all.len() as u32));
                let layer = tie.owner.0.0 as u16;
                let transfer = |from, to, direction| Transfer { from, to, direction, microbatch: None, layer };
                self.all.push(transfer(user, owner, Direction::Backward));
                self.all.push(transfer(owner, user, Direction::Forward));
            }
        }
    }

    /// What crosses the cut in front of a stage, which is not the first.
    pub(crate) fn across(&self, stage: StageId, direction: Direction, microbatch: u16) -> TransferId {
        let first = (stage.index() - 1) * self.directions * self.microbatches;
        self.of_cut(first, direction, microbatch)
    }

    /// What of the context does.
    ///
    /// # Panics
    /// If none crosses this cut.
    pub(crate) fn context_across(&self, stage: StageId, direction: Direction, microbatch: u16) -> TransferId {
        self.of_cut(self.contexts[&stage], direction, microbatch)
    }

    fn of_cut(&self, first: usize, direction: Direction, microbatch: u16) -> TransferId {
        let way = match direction {
            Direction::Forward => 0,
            Direction::Backward => 1,
        };
        TransferId((first + way * self.microbatches + usize::from(microbatch)) as u32)
    }

    /// The ways of tied gradients to their owner, and of their sum back, that begin or end at a role.
    pub(crate) fn ties(&self, role: RoleId) -> Vec<[TransferId; 2]> {
        let is_own = |&(&user, _): &(&RoleId, &TransferId)| self.owner == Some(role) || user == role;
        self.ties
            .iter()
            .filter(is_own)
            .map(|(_, &TransferId(first))| [TransferId(first), TransferId(first + 1)])
            .collect()
    }
}

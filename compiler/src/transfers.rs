//! What roles send each other in a step: numbered by a formula, so that each role finds its own without the others.

use ir::plan::Plan;
use ir::program::{Direction, RoleId, StageId, Transfer, TransferId};

use crate::layer::{Purpose, Setting};

/// All transfers of a step: what crosses each cut between two stages, cut after cut, then what tied blocks need.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    pub(crate) all: Vec<Transfer>,
    directions: usize,
    microbatches: usize,
    /// The first of the two of a tie between stages.
    tie: Option<TransferId>,
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
        let mut all = Vec::new();
        for (before, stage) in plan.stages.iter().enumerate().skip(1) {
            let [before, after] = [before as u32 - 1, before as u32].map(|stage| role_of(StageId(stage)));
            for &direction in directions {
                let (from, to) = match direction {
                    Direction::Forward => (before, after),
                    Direction::Backward => (after, before),
                };
                let layer = stage.start as u16;
                let transfer =
                    |microbatch| Transfer { from, to, direction, microbatch: Some(microbatch as u16), layer };
                all.extend((0..plan.microbatches).map(transfer));
            }
        }
        let mut transfers =
            Transfers { all, directions: directions.len(), microbatches: plan.microbatches as usize, tie: None };
        transfers.add_tie(setting, plan);
        transfers
    }

    /// Gradients of a tied block go to its owner, and their sum comes back.
    fn add_tie(&mut self, setting: Setting<'_>, plan: &Plan) {
        let Some(tie) = setting.graph.tie.filter(|_| setting.purpose == Purpose::Training) else { return };
        let role = |layer: u32| role_of(StageId(plan.stage_of(layer) as u32));
        let (owner, user) = (role(tie.owner.0.0), role(tie.user.0.0));
        if owner == user {
            return;
        }
        self.tie = Some(TransferId(self.all.len() as u32));
        let layer = tie.owner.0.0 as u16;
        let transfer = |from, to, direction| Transfer { from, to, direction, microbatch: None, layer };
        self.all.push(transfer(user, owner, Direction::Backward));
        self.all.push(transfer(owner, user, Direction::Forward));
    }

    /// What crosses the cut in front of a stage, which is not the first.
    pub(crate) fn across(&self, stage: StageId, direction: Direction, microbatch: u16) -> TransferId {
        let way = match direction {
            Direction::Forward => 0,
            Direction::Backward => 1,
        };
        let cut = stage.index() - 1;
        TransferId(((cut * self.directions + way) * self.microbatches + usize::from(microbatch)) as u32)
    }

    /// The way of tied gradients to their owner, and of their sum back; none if one role has all of them.
    pub(crate) fn tie(&self) -> Option<[TransferId; 2]> {
        self.tie.map(|TransferId(first)| [TransferId(first), TransferId(first + 1)])
    }
}

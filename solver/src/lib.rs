//! Which layers form a stage, and which strategy each layer uses: as bare numbers, without any model or device.
//!
//! There are three independent methods for one [`Problem`]: a dynamic program, an integer program and plain
//! enumeration. They share the problem and its score, nothing else, so that each can vouch for the others.
//!
//! The dynamic program is the one to use; it takes milliseconds, says how near the best its answer is proven to be,
//! and is exact if asked to. The integer program is for checking it on problems too large to enumerate, and as the
//! place where a new kind of rule is stated first.

mod dynamic;
mod exhaustive;
mod given;
#[cfg(feature = "ilp")]
mod ilp;
mod memory;
mod posed;
mod problem;
mod quick;

pub use memory::Shortage;
pub use posed::{Posed, StepRule};
pub use problem::{Assignment, Costs, Kind, Mistake, Problem, Score, Stage, StageScore, Violation};

/// How to solve a [`Problem`].
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// A dynamic program over stages, whose ranges of layers are solved when the search asks for them.
    DynamicProgram {
        /// The value of an answer in hand, in seconds, or infinity: give up once nothing better can exist.
        upper: f64,
        /// Relative difference from the best that does not matter; 0 for the optimum itself.
        gap: f64,
        /// About how many partial answers may be looked at; a million take a tenth of a second. Then the best
        /// answer so far must do, with what is proven of it. `u64::MAX` to go on until the gap is closed.
        effort: u64,
    },
    /// An integer program, solved by HiGHS to within a gap.
    #[cfg(feature = "ilp")]
    IntegerProgram {
        /// Seconds after which to return the best answer so far. With a finite limit, equal inputs may give
        /// different answers.
        time_limit: f64,
    },
    /// Every assignment, one after another; for small problems only.
    Exhaustive,
}

impl Method {
    /// The dynamic program as a planner uses it: prices are estimates, so an answer within a part in ten thousand is
    /// as good as the best, and one that is proven to lie within a few parts in a thousand is good enough where more
    /// would take long.
    pub const DYNAMIC: Self = Self::DynamicProgram { upper: f64::INFINITY, gap: 1e-4, effort: 1_000_000 };

    /// The same with an answer in much less time, which may be worse by some thousandths.
    pub fn rough(&self) -> Self {
        match *self {
            Self::DynamicProgram { upper, gap, effort } => {
                Self::DynamicProgram { upper, gap: gap.max(3e-3), effort: effort.min(30_000) }
            }
            #[cfg(feature = "ilp")]
            Self::IntegerProgram { .. } => self.clone(),
            Self::Exhaustive => self.clone(),
        }
    }

    /// The same when an answer of `upper` seconds is in hand; only the dynamic program makes use of it.
    pub fn below(&self, upper: f64) -> Self {
        match *self {
            Self::DynamicProgram { gap, effort, .. } => Self::DynamicProgram { upper, gap, effort },
            #[cfg(feature = "ilp")]
            Self::IntegerProgram { .. } => self.clone(),
            Self::Exhaustive => self.clone(),
        }
    }

    /// The dynamic program carried through to the optimum, however long it takes.
    pub const EXACT: Self = Self::DynamicProgram { upper: f64::INFINITY, gap: 0.0, effort: u64::MAX };
}

/// The outcome of [`solve`].
#[derive(Clone, Debug, PartialEq)]
pub enum Solved {
    /// An assignment that keeps every rule.
    Found(Answer),
    /// No assignment fits.
    Infeasible(Shortage),
    /// The search stopped without an answer: none better than the given upper value exists, or time was up.
    Stopped {
        /// No assignment is better than this many seconds.
        bound: f64,
    },
}

impl Solved {
    /// The answer, if there is one.
    pub fn found(self) -> Option<Answer> {
        match self {
            Self::Found(answer) => Some(answer),
            Self::Infeasible(_) | Self::Stopped { .. } => None,
        }
    }
}

/// An assignment and how good it is known to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The assignment.
    pub assignment: Assignment,
    /// Its value by [`Problem::score`], in seconds.
    pub objective: f64,
    /// No assignment is better than this many seconds; equals the objective if the method is exact.
    pub bound: f64,
}

impl Answer {
    /// How far from the best the answer may be, relative to its value: `(objective − bound) / objective`.
    pub fn gap(&self) -> f64 {
        if self.objective > 0.0 { (self.objective - self.bound).max(0.0) / self.objective } else { 0.0 }
    }

    /// Scores `assignment` and believes `bound` as far as it goes.
    fn scored(problem: &Problem, assignment: Assignment, bound: f64) -> Self {
        let score = problem.score(&assignment).expect("a solver's assignment keeps every rule");
        Self { assignment, objective: score.objective, bound: bound.min(score.objective) }
    }
}

/// The best assignment of `problem` by `method`.
///
/// # Panics
///
/// If [`Problem::check`] finds a mistake.
pub fn solve(problem: &Problem, method: &Method) -> Solved {
    if let Err(mistakes) = problem.check() {
        panic!("a problem must be checked before it is solved: {mistakes:?}");
    }
    match method {
        &Method::DynamicProgram { upper, gap, effort } => dynamic::solve(problem, upper, gap, effort),
        #[cfg(feature = "ilp")]
        Method::IntegerProgram { time_limit } => ilp::solve(problem, *time_limit),
        Method::Exhaustive => exhaustive::solve(problem),
    }
}

/// Seconds that no assignment of `problem` can beat; infinite if it is seen that none fits.
///
/// Cheap beside [`solve`] and valid always: per range of layers, the linear relaxation of the choice of strategies
/// under the stage's memory, without costs between layouts; over ranges, the least sum and the least maximum apart.
pub fn lower_bound(problem: &Problem) -> f64 {
    lower_bound_below(problem, f64::INFINITY)
}

/// The same in less time for who needs to know it only below `upper` seconds: from there on it may be anything that is
/// not below `upper`, and no assignment beats it either.
pub fn lower_bound_below(problem: &Problem, upper: f64) -> f64 {
    dynamic::lower_bound(problem, upper)
}

/// Seconds that no assignment of `problem` can beat, whatever memory there is: in time that grows with its layers alone.
/// No better than [`lower_bound`] is without a limit on memory, and as good where cuts are free.
pub fn quick_bound(problem: &Problem) -> f64 {
    quick::bound(problem)
}

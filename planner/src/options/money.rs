//! What plans may cost, and what is cheapest.

use clap::{Args, ValueEnum};
use ir::units::Seconds;

/// What is asked of plans: time, money, or one with a limit on the other.
#[derive(Args, Clone, Copy)]
pub(crate) struct MoneyOptions {
    /// Put the fastest plan first, or the cheapest: its step times what its devices cost (`price_per_hour` of each device
    /// in the cluster file). Fewer devices of each kind are then looked at, too: powers of two, and whole nodes.
    #[arg(long, value_enum, default_value_t, requires_if("money", "cluster"))]
    pub(crate) objective: Objective,
    /// Only plans of which a step costs no more, in the money of the cluster file.
    #[arg(long, value_name = "MONEY", requires = "cluster", value_parser = money)]
    pub(crate) max_cost: Option<f64>,
    /// Only plans whose step takes no longer, such as 1.5s or 800ms.
    #[arg(long, value_name = "TIME", requires = "cluster", value_parser = time)]
    pub(crate) max_step: Option<Seconds>,
}

/// What is least of the first plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Objective {
    /// The time of a step.
    #[default]
    Time,
    /// What a step costs.
    Money,
}

impl MoneyOptions {
    /// Whether plans on fewer devices have to be looked at.
    pub(crate) fn is_asked(self) -> bool {
        self.objective == Objective::Money || self.max_cost.is_some() || self.max_step.is_some()
    }

    /// Whether prices of devices have to be known.
    pub(crate) fn needs_prices(self) -> bool {
        self.objective == Objective::Money || self.max_cost.is_some()
    }
}

fn money(text: &str) -> Result<f64, String> {
    let amount = text.trim().parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount > 0.0);
    amount.ok_or_else(|| "give an amount of money above 0, such as 0.02".to_owned())
}

fn time(text: &str) -> Result<Seconds, String> {
    // In this order: all others end with the last.
    let units = [("ms", 1e-3), ("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    super::scaled(text, &units)
        .map(Seconds)
        .ok_or_else(|| "give a time with its unit (ms, s, min, h), such as 1.5s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_amounts_and_times() {
        assert_eq!(time("1.5s"), Ok(Seconds(1.5)));
        assert_eq!(time("800 ms"), Ok(Seconds(0.8)));
        assert_eq!(money("0.02"), Ok(0.02));
        assert!(time("1.5").is_err() && money("-1").is_err() && money("2 USD").is_err());
    }
}

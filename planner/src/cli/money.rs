//! What a plan costs: its step times what its devices cost for an hour.

use ir::cluster::Cluster;
use ir::units::Seconds;
use serde_json::{Value, json};

use super::words::thousands;

const HOUR: f64 = 3600.0;
/// Tokens of which the cost is told.
const MANY_TOKENS: f64 = 1e9;

/// What a plan costs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Of a step.
    pub(crate) step: f64,
    /// Of a billion tokens.
    many_tokens: f64,
    currency: Option<String>,
}

impl Cost {
    /// What a step of so many tokens costs on these devices of these clusters; none where a price is not known.
    pub(crate) fn of(used: &[(&Cluster, u32)], step: Seconds, tokens: f64) -> Option<Cost> {
        let price = |(cluster, count): &(&Cluster, u32)| Some(cluster.device.price_per_hour? * f64::from(*count));
        let of_hour: f64 = used.iter().map(price).sum::<Option<f64>>()?;
        let of_step = of_hour * step.0 / HOUR;
        let currency = used.first().and_then(|(cluster, _)| cluster.device.currency.clone());
        Some(Cost { step: of_step, many_tokens: of_step * MANY_TOKENS / tokens, currency })
    }

    /// Of a step, with its currency.
    pub(crate) fn cell(&self) -> String {
        self.amount(self.step)
    }

    pub(crate) fn words(&self) -> String {
        format!("{} a step, {} for a billion tokens", self.amount(self.step), self.amount(self.many_tokens))
    }

    pub(crate) fn data(&self) -> Value {
        json!({
            "cost_of_step": self.step,
            "cost_of_billion_tokens": self.many_tokens,
            "currency": self.currency,
        })
    }

    fn amount(&self, amount: f64) -> String {
        let unit = self.currency.as_ref().map_or(String::new(), |currency| format!(" {currency}"));
        format!("{}{unit}", digits(amount))
    }
}

/// An amount to three digits or more.
pub(crate) fn digits(amount: f64) -> String {
    match amount {
        n if n >= 100.0 => thousands(n.round() as u64),
        n if n >= 1.0 => format!("{n:.2}"),
        n if n > 0.0 => format!("{n:.*}", (2.0 - n.log10().floor()).min(12.0) as usize),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_its_devices_for_its_time() {
        let mut fast = Cluster::preset("8xH100").expect("a shipped device");
        let mut slow = Cluster::preset("8xA100").expect("a shipped device");
        let cost = |fast: &Cluster, slow: &Cluster| Cost::of(&[(fast, 8), (slow, 4)], Seconds(3.6), 1e6);
        assert_eq!(cost(&fast, &slow), None);
        (fast.device.price_per_hour, fast.device.currency) = (Some(3.0), Some("USD".to_owned()));
        slow.device.price_per_hour = Some(1.5);
        // 30 an hour.
        assert_eq!(
            cost(&fast, &slow).map(|cost| cost.words()),
            Some("0.0300 USD a step, 30.00 USD for a billion tokens".to_owned())
        );
        assert_eq!([0.0, 1234.5, 2.5, 0.000_123_4].map(digits), ["0", "1 235", "2.50", "0.000123"]);
    }
}

//! What a training under a plan takes: tokens, days, device-hours, money.

use ir::cluster::Cluster;
use ir::model::Model;
use ir::units::Seconds;
use serde_json::{Value, json};

use super::words::{counted, short_count, thousands};
use crate::options::TrainingOptions;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// How fast a plan trains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// Tokens of a step.
    tokens: f64,
    /// Devices that are paid for: all of the cluster.
    devices: u32,
    step: Seconds,
}

impl Speed {
    pub(crate) fn of(model: &Model, cluster: &Cluster, batch: u64, step: Seconds) -> Speed {
        Speed { tokens: batch as f64 * model.sequence as f64, devices: cluster.device_count(), step }
    }

    /// On so many devices.
    pub(crate) fn on(devices: u32, tokens: f64, step: Seconds) -> Speed {
        Speed { tokens, devices, step }
    }

    /// Of all devices together.
    pub(crate) fn tokens_per_second(self) -> f64 {
        self.tokens / self.step.0
    }

    /// Of all devices together, for a table.
    pub(crate) fn cell(self) -> String {
        short_count(self.tokens_per_second())
    }

    /// Of each device.
    pub(crate) fn of_each(self) -> f64 {
        self.tokens_per_second() / f64::from(self.devices)
    }

    /// Days of a training of so many tokens.
    pub(crate) fn days(self, tokens: f64) -> f64 {
        tokens / self.tokens_per_second() / DAY
    }

    /// In words: tokens of all devices, and of each.
    pub(crate) fn words(self) -> String {
        let all = self.tokens_per_second();
        let whole = |count: f64| thousands(count.round() as u64);
        let each = self.of_each();
        format!("{} tokens/s, {} a device", whole(all), if each < 100.0 { format!("{each:.2}") } else { whole(each) })
    }

    /// What so much training takes, in words, if it was asked.
    pub(crate) fn training(self, asked: TrainingOptions) -> Option<String> {
        let tokens = asked.tokens?;
        let seconds = tokens / self.tokens_per_second();
        let hours = self.device_hours(seconds);
        let steps = (tokens / self.tokens).ceil();
        let money =
            asked.price.map_or(String::new(), |price| format!(", {} at {price} a device-hour", rounded(hours * price)));
        Some(format!(
            "{} tokens in {} take {} days, {} device-hours{money}",
            short_count(tokens),
            counted(steps as u64, "step"),
            rounded(seconds / DAY),
            rounded(hours)
        ))
    }

    fn device_hours(self, seconds: f64) -> f64 {
        seconds / HOUR * f64::from(self.devices)
    }

    /// The same for machines; what was not asked is null.
    pub(crate) fn data(self, asked: TrainingOptions) -> Value {
        let all = self.tokens_per_second();
        let seconds = asked.tokens.map(|tokens| tokens / all);
        let hours = seconds.map(|seconds| self.device_hours(seconds));
        json!({
            "tokens_per_second": all,
            "tokens_per_second_per_device": self.of_each(),
            "training_tokens": asked.tokens,
            "training_days": seconds.map(|seconds| seconds / DAY),
            "training_device_hours": hours,
            "training_price": hours.zip(asked.price).map(|(hours, price)| hours * price),
        })
    }
}

/// A number of things that are not whole: three digits or more.
pub(crate) fn rounded(number: f64) -> String {
    match number {
        n if n >= 100.0 => thousands(n.round() as u64),
        n if n >= 1.0 => format!("{n:.1}"),
        n => format!("{n:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_device_hours_and_money_follow_from_the_step() {
        let model = Model::preset("llama3-8b").expect("a shipped model");
        let cluster = Cluster::preset("2x8xH100").expect("a shipped device");
        // A million tokens a second.
        let step = Seconds(128.0 * model.sequence as f64 / 1e6);
        let speed = Speed::of(&model, &cluster, 128, step);
        assert_eq!(speed.words(), "1 000 000 tokens/s, 62 500 a device");
        let asked = TrainingOptions { tokens: Some(864e9), price: Some(2.5) };
        assert_eq!(
            speed.training(asked).expect("it was asked"),
            "864 B tokens in 823 975 steps take 10.0 days, 3 840 device-hours, 9 600 at 2.5 a device-hour"
        );
        let data = speed.data(asked);
        assert!((data["training_price"].as_f64().expect("a number") - 9600.0).abs() < 1e-6, "{data}");
        let nothing = TrainingOptions { tokens: None, price: None };
        assert!(speed.training(nothing).is_none() && speed.data(nothing)["training_days"].is_null());
    }
}

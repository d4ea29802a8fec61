//! Axes of numbers: where they begin and end, and where their labels stand.

/// An axis of numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scale {
    /// What it shows, with the unit.
    pub(crate) label: String,
    /// Where it begins.
    pub(crate) from: f64,
    /// Where it ends.
    pub(crate) to: f64,
    /// From one label to the next.
    pub(crate) step: f64,
}

impl Scale {
    /// An axis that ends exactly at `to`, with about `labels` labels.
    pub(crate) fn exact(label: String, from: f64, to: f64, labels: u32) -> Scale {
        let to = if to > from { to } else { from + 1.0 };
        Scale { label, from, to, step: round_step((to - from) / f64::from(labels)) }
    }

    /// An axis that ends on labels, and has room for all from `from` to `to`.
    pub(crate) fn rounded(label: String, from: f64, to: f64, labels: u32) -> Scale {
        let exact = Scale::exact(label, from, to, labels);
        let from = (exact.from / exact.step).floor() * exact.step;
        let to = (exact.to / exact.step - 1e-9).ceil() * exact.step;
        Scale { from, to, ..exact }
    }

    /// An axis of whole numbers.
    pub(crate) fn whole(label: String, from: f64, to: f64, labels: u32) -> Scale {
        let exact = Scale::exact(label, from, to, labels);
        Scale { step: exact.step.max(1.0), ..exact }
    }

    /// Where a value stands: 0 at the beginning, 1 at the end.
    pub(crate) fn share(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    /// Places of the labels, with their texts.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let first = (self.from / self.step - 1e-9).ceil() as i64;
        let last = (self.to / self.step + 1e-9).floor() as i64;
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        (first..=last)
            .map(|index| {
                let value = index as f64 * self.step;
                (value, format!("{value:.digits$}").replace('-', "−"))
            })
            .collect()
    }
}

/// The next larger of 1, 2 and 5 times a power of ten.
fn round_step(raw: f64) -> f64 {
    let power = 10f64.powi(raw.log10().floor() as i32);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * 0.999).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn labels_are_round_and_inside() {
        assert_eq!(texts(&Scale::exact(String::new(), 0.0, 41.3, 5)), ["0", "10", "20", "30", "40"]);
        assert_eq!(texts(&Scale::rounded(String::new(), 1.13, 1.98, 5)), ["1.0", "1.2", "1.4", "1.6", "1.8", "2.0"]);
        assert_eq!(texts(&Scale::whole(String::new(), 1.0, 3.0, 8)), ["1", "2", "3"]);
    }

    #[test]
    fn an_empty_range_still_has_an_axis() {
        let scale = Scale::exact(String::new(), 0.0, 0.0, 5);
        assert!(scale.share(0.0).abs() < 1e-12 && scale.ticks().len() > 1);
    }
}

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
    /// How far apart equal differences stand.
    pub(crate) spacing: Spacing,
}

/// What takes equal space along an axis.
#[derive(Clone, Debug, Default)]
pub(crate) enum Spacing {
    /// Equal differences.
    #[default]
    Even,
    /// Equal ratios, with labels at these places.
    Logarithmic(Vec<f64>),
}

impl Scale {
    /// An axis that ends exactly at `to`, with about `labels` labels.
    pub(crate) fn exact(label: String, from: f64, to: f64, labels: u32) -> Scale {
        let to = if to > from { to } else { from + 1.0 };
        Scale { label, from, to, step: round_step((to - from) / f64::from(labels)), spacing: Spacing::Even }
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

    /// An axis of equal ratios around values above 0, with labels at powers of ten, or, where these are few, at 1, 2 and
    /// 5 times such powers, or at round numbers of equal differences.
    pub(crate) fn logarithmic(label: String, values: &[f64]) -> Scale {
        let (least, most) = ends(values);
        let (from, to) = (least / ROOM, most * ROOM);
        let (first, last) = (from.log10().floor() as i32, to.log10().ceil() as i32);
        let of_factors = |factors: &'static [f64]| -> Vec<f64> {
            let places = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
            places.filter(|place| (from..=to).contains(place)).collect()
        };
        let step = round_step((to - from) / 6.0);
        let even = || (0..).map(|index| (from / step).ceil() * step + f64::from(index) * step);
        let places = [of_factors(&[1.0]), of_factors(&[1.0, 2.0, 5.0])].into_iter().find(|places| places.len() > 2);
        let places = places.unwrap_or_else(|| even().take_while(|place| *place <= to).collect());
        Scale { label, from, to, step, spacing: Spacing::Logarithmic(places) }
    }

    /// The same with a label at each value.
    pub(crate) fn logarithmic_at(label: String, values: &[f64]) -> Scale {
        Scale { spacing: Spacing::Logarithmic(values.to_vec()), ..Scale::logarithmic(label, values) }
    }

    /// Where a value stands: 0 at the beginning, 1 at the end.
    pub(crate) fn share(&self, value: f64) -> f64 {
        match self.spacing {
            Spacing::Even => (value - self.from) / (self.to - self.from),
            Spacing::Logarithmic(_) => (value / self.from).ln() / (self.to / self.from).ln(),
        }
    }

    /// Places of the labels, with their texts.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        if let Spacing::Logarithmic(places) = &self.spacing {
            return places.iter().map(|&place| (place, scaled(place))).collect();
        }
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

/// Room beside the outermost values of an axis of equal ratios.
const ROOM: f64 = 1.25;

/// The least and the largest value above 0.
fn ends(values: &[f64]) -> (f64, f64) {
    let above = || values.iter().copied().filter(|value| *value > 0.0 && value.is_finite());
    (above().reduce(f64::min).unwrap_or(1.0), above().reduce(f64::max).unwrap_or(1.0))
}

/// A number in as few letters as can be: `512`, `0.02`, `20k`, `1.5M`.
fn scaled(value: f64) -> String {
    let (scale, unit) = match value {
        value if value >= 1e9 => (1e9, "G"),
        value if value >= 1e6 => (1e6, "M"),
        value if value >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let rounded = (value / scale * 1e6).round() / 1e6;
    format!("{rounded}{unit}")
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
    fn equal_ratios_take_equal_space() {
        let scale = Scale::logarithmic("tokens/s".to_owned(), &[1_000.0, 30_000.0]);
        assert_eq!(texts(&scale), ["1000", "2000", "5000", "10k", "20k"]);
        let [first, second, third] = [1e3, 4e3, 16e3].map(|value| scale.share(value));
        assert!(((second - first) - (third - second)).abs() < 1e-12 && first > 0.0 && third < 1.0);
        assert_eq!(
            texts(&Scale::logarithmic(String::new(), &[1.0, 1e6])),
            ["1", "10", "100", "1000", "10k", "100k", "1M"]
        );
        assert_eq!(texts(&Scale::logarithmic(String::new(), &[60.0, 63.0])), ["50", "60", "70"]);
        assert_eq!(texts(&Scale::logarithmic_at(String::new(), &[8.0, 16.0, 32.0])), ["8", "16", "32"]);
        assert!(Scale::logarithmic(String::new(), &[]).share(1.0).is_finite());
    }

    #[test]
    fn an_empty_range_still_has_an_axis() {
        let scale = Scale::exact(String::new(), 0.0, 0.0, 5);
        assert!(scale.share(0.0).abs() < 1e-12 && scale.ticks().len() > 1);
    }
}

//! The few numbers of a description that steps of runs can say.

use ir::software::{Host, Rates};
use ir::units::Seconds;

/// What a fit may change.
pub(super) type Values = (Rates, Host);

/// One number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Products,
    Fp8,
    Attention,
    Memory,
    Inside,
    Between,
    Pass,
    Exchange,
}

/// Rates stay between these: what is farther off is no rate of the described device.
const TIMES: [f64; 2] = [0.2, 3.0];
/// Seconds of the host.
const TIME: [f64; 2] = [1e-6, 2e-2];
/// What the host takes for a pass where a description says nothing, to begin with.
const PASS: f64 = 2e-4;
/// The same for an exchange.
const EXCHANGE: f64 = 1e-5;

impl Number {
    pub(super) const ALL: [Number; 8] = [
        Number::Products,
        Number::Fp8,
        Number::Attention,
        Number::Memory,
        Number::Inside,
        Number::Between,
        Number::Pass,
        Number::Exchange,
    ];

    /// Its place in the file.
    pub(super) fn key(self) -> &'static str {
        match self {
            Number::Products => "rates.products",
            Number::Fp8 => "rates.fp8",
            Number::Attention => "rates.attention",
            Number::Memory => "rates.memory",
            Number::Inside => "rates.inside",
            Number::Between => "rates.between",
            Number::Pass => "host.pass",
            Number::Exchange => "host.exchange",
        }
    }

    pub(super) fn is_time(self) -> bool {
        match self {
            Number::Pass | Number::Exchange => true,
            Number::Products | Number::Fp8 | Number::Attention | Number::Memory | Number::Inside | Number::Between => {
                false
            }
        }
    }

    /// Where a fit begins: what is described, or what is usual where nothing is.
    pub(super) fn of(self, (rates, host): &Values) -> f64 {
        match self {
            Number::Products => rates.products,
            Number::Fp8 => rates.fp8,
            Number::Attention => rates.attention,
            Number::Memory => rates.memory,
            Number::Inside => rates.inside,
            Number::Between => rates.between,
            Number::Pass if host.pass.0 > 0.0 => host.pass.0,
            Number::Pass => PASS,
            Number::Exchange => host.exchange.or(host.kernel).map_or(EXCHANGE, |time| time.0),
        }
    }

    pub(super) fn set(self, value: f64, (rates, host): &mut Values) {
        match self {
            Number::Products => rates.products = value,
            Number::Fp8 => rates.fp8 = value,
            Number::Attention => rates.attention = value,
            Number::Memory => rates.memory = value,
            Number::Inside => rates.inside = value,
            Number::Between => rates.between = value,
            Number::Pass => host.pass = Seconds(value),
            Number::Exchange => host.exchange = Some(Seconds(value)),
        }
    }

    /// Between which values it is looked for.
    pub(super) fn range(self) -> [f64; 2] {
        if self.is_time() { TIME } else { TIMES }
    }

    /// How far from where it begins a number is expected, as a logarithm: rates within a half, times within five times.
    pub(super) fn spread(self) -> f64 {
        if self.is_time() { 5f64.ln() } else { 1.5f64.ln() }
    }
}

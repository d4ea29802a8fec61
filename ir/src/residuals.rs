//! How far measured steps were from those that a description predicts.

use serde::{Deserialize, Serialize};

/// How many times as long as predicted measured steps took: where 5 % and 95 % of them lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residuals {
    /// Only of devices whose name begins so; of all if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// The 5 % quantile.
    pub low: f64,
    /// The 95 % quantile.
    pub high: f64,
    /// Which runs these were, as the end of "5 to 95 % of …".
    pub from: String,
}

//! software.yaml, read with its rules.

use super::cluster::check_residuals;
use super::locate::Segment;
use super::parse::{Checks, Range, keys, parse};
use crate::error::{Mistake, Mistakes, nearest, shown};
use crate::software::Software;

/// The trainer that `text` describes, or everything that is wrong with it; `file` names it in messages.
pub fn parse_software(text: &str, file: &str) -> Result<Software, Mistakes> {
    let software: Software = parse(text, file)?;
    let mut checks = Checks::new(text, file);
    checks.name(&keys(["name"]), &software.name);
    let rates = software.rates;
    let rates = [
        ("products", rates.products),
        ("fp8", rates.fp8),
        ("attention", rates.attention),
        ("memory", rates.memory),
        ("inside", rates.inside),
        ("between", rates.between),
    ];
    for (key, times) in rates {
        checks.within(&keys(["rates", key]), times, Range::Positive);
    }
    for (index, residuals) in software.residuals.iter().enumerate() {
        check_residuals(&["residuals".into(), Segment::Index(index)], residuals, &mut checks);
    }
    let passes = software.passes;
    let passes = [
        ("forward", passes.forward),
        ("backward", passes.backward),
        ("logit", passes.logit),
        ("parameter", passes.parameter),
    ];
    for (key, bytes) in passes {
        checks.within(&keys(["passes", key]), bytes, Range::NotNegative);
    }
    if let Some(share) = software.memory_efficiency {
        checks.within(&keys(["memory_efficiency"]), share, Range::Share);
    }
    for rate in &software.attention_rates {
        checks.name(&keys(["attention_rates"]), &rate.device);
        checks.within(&keys(["attention_rates"]), rate.forward.0.min(rate.backward.0), Range::Positive);
    }
    let host = software.host;
    checks.within(&keys(["host", "pass"]), host.pass.0, Range::NotNegative);
    checks.within(&keys(["host", "exchange"]), host.exchange.map_or(0.0, |time| time.0), Range::NotNegative);
    checks.within(&keys(["host", "kernel"]), host.kernel.map_or(0.0, |time| time.0), Range::NotNegative);
    let held = software.memory;
    let held = [("score", held.score), ("residual", held.residual), ("unused", held.unused)];
    for (key, value) in held {
        checks.within(&keys(["memory", key]), value, Range::NotNegative);
    }
    checks.finish().map(|()| software)
}

/// The trainer as a file that [`parse_software`] reads back.
pub fn print_software(software: &Software) -> String {
    serde_yaml::to_string(software).expect("a trainer has only names and numbers")
}

/// A trainer's name and its file.
const TRAINERS: [(&str, &str); 7] = [
    ("hetu", include_str!("../../../examples/software/hetu.yaml")),
    ("megatron-2021", include_str!("../../../examples/software/megatron-2021.yaml")),
    ("megatron-2022", include_str!("../../../examples/software/megatron-2022.yaml")),
    ("megatron-2025", include_str!("../../../examples/software/megatron-2025.yaml")),
    ("deepspeed-2021", include_str!("../../../examples/software/deepspeed-2021.yaml")),
    ("mosaicml-2023", include_str!("../../../examples/software/mosaicml-2023.yaml")),
    ("torchtitan-2024", include_str!("../../../examples/software/torchtitan-2024.yaml")),
];

impl Software {
    /// The shipped description with this name, such as `megatron-2021`.
    pub fn preset(name: &str) -> Result<Software, Mistakes> {
        if let Some((_, text)) = TRAINERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return parse_software(text, name);
        }
        let listed: Vec<&str> = Software::presets().collect();
        let listed = listed.join(", ");
        let help = match nearest(name, Software::presets()) {
            Some(near) => format!("did you mean `{near}`?  (software: {listed})"),
            None => format!("give a file, or one of: {listed}"),
        };
        Err(Mistake::new(&shown(name), "no such software file, and no shipped software of this name").help(help).into())
    }

    /// Names that [`Software::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        TRAINERS.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shipped_trainer_is_valid_and_reads_back() {
        for name in Software::presets() {
            let software = Software::preset(name).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(software.name, name);
            assert_eq!(parse_software(&print_software(&software), name), Ok(software));
        }
    }

    #[test]
    fn residuals_have_an_order_and_rates_are_above_nothing() {
        let text = "format: 1\nname: x\nsource: a guess\nrates: { products: 0 }\nresiduals:\n  - { low: 0.9, high: 1.2, from: two runs }\n  - { device: H, low: 1.3, high: 1.2, from: one run }\n";
        let said = parse_software(text, "s.yaml").expect_err("two are wrong").to_string();
        assert!(said.contains("s.yaml:4: `rates.products` must be"), "{said}");
        assert!(said.contains("s.yaml:7: `high` (1.2) is below `low` (1.3)"), "{said}");
        let text = text.replace("products: 0", "products: 0.5").replace("low: 1.3", "low: 1.1");
        let software = parse_software(&text, "s.yaml").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!((software.rates.products - 0.5).abs() < 1e-12);
        assert_eq!((software.rates.attention, software.residuals[1].high), (1.0, 1.2));
        assert_eq!(parse_software(&print_software(&software), "s.yaml"), Ok(software));
    }

    #[test]
    fn impossible_numbers_are_said_at_their_line() {
        let text = "format: 1\nname: x\nsource: a guess\nhost:\n  pass: -1 ms\nmemory: { unused: -2 }\n";
        let said = parse_software(text, "s.yaml").expect_err("two are wrong").to_string();
        assert!(said.contains("s.yaml:5: `host.pass` must be finite and 0 or more"), "{said}");
        assert!(said.contains("s.yaml:6: `memory.unused` must be finite and 0 or more"), "{said}");
        let said = Software::preset("megatron-2020").expect_err("there is none").to_string();
        assert!(said.contains("did you mean `megatron-202"), "{said}");
    }
}

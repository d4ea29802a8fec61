//! What was measured, on a screen.

use std::collections::BTreeMap;

use ir::op::OpKind;
use ir::profile::{KernelKind, Profile, Sample, Slowdown, State, Work};
use ir::program::Stream;
use ir::units::Bytes;

use crate::catalogue::Catalogue;

/// A row for each kind of work: how many were measured, from the shortest to the longest median, and the rate that
/// the largest reaches.
pub fn summary(catalogue: &Catalogue, profile: &Profile) -> String {
    let mut groups: BTreeMap<(u8, &str), Vec<&Sample>> = BTreeMap::new();
    for sample in &profile.samples {
        groups.entry(group(&sample.work)).or_default().push(sample);
    }
    let mut rows = vec![["work", "count", "shortest", "longest", "largest reaches"].map(str::to_owned)];
    for ((_, name), samples) in groups {
        let by_time = |a: &&&Sample, b: &&&Sample| a.median.0.total_cmp(&b.median.0);
        let shortest = samples.iter().min_by(by_time).expect("a group has samples");
        let longest = samples.iter().max_by(by_time).expect("a group has samples");
        let times = [shortest, longest].map(|sample| format!("{:.1}", sample.median));
        let [shortest, longest_time] = times;
        rows.push([name.to_owned(), samples.len().to_string(), shortest, longest_time, rate(catalogue, longest)]);
    }
    let mut text = aligned(&rows);
    if let Some(State { sustained, clock_mhz, power_watts }) = profile.state {
        let number = |name: &str, value: Option<f64>, unit: &str| {
            value.map_or(String::new(), |value| format!(", {name} {value:.0} {unit}"))
        };
        let (clock, power) = (number("clock", clock_mhz, "MHz"), number("power", power_watts, "W"));
        text.push_str(&format!("\nsustained       {sustained:.1} of load{clock}{power}\n"));
        let recorded = profile.issue_recorded.map_or(String::new(), |issue| format!(", {issue:.2} recorded"));
        text.push_str(&format!("instruction     {:.2}{recorded}\n", profile.issue));
        text.push_str(&format!("reserved        {} a rank\n", profile.reserved));
        slowdowns(profile, &mut text);
    }
    let sharing: Vec<String> = profile.sharing.iter().map(|factor| format!("{factor:.2}")).collect();
    if !sharing.is_empty() {
        text.push_str(&format!("\nranks at once   take longer by   {}\n", sharing.join("  ")));
        text.push_str(&format!("instruction     {:.2}\n", profile.issue));
        text.push_str(&format!("reserved        {} a rank\n", profile.reserved));
    }
    text
}

/// By how much kernels and exchanges slow each other; axes are alike, and one stands for all.
fn slowdowns(profile: &Profile, text: &mut String) {
    let kinds = [
        (KernelKind::Product, "products"),
        (KernelKind::Attention, "attention"),
        (KernelKind::Memory, "other kernels"),
    ];
    for (kind, name) in kinds {
        let of = |is_wanted: &dyn Fn(&Slowdown) -> bool| {
            profile.slowdown.iter().find(|it| it.kernels == Some(kind) && is_wanted(it)).map(|it| it.factor)
        };
        let compute = Stream::Compute.name();
        if let (Some(kernel), Some(exchange)) = (of(&|it| it.stream == compute), of(&|it| it.beside == compute)) {
            text.push_str(&format!(
                "{name} beside exchanges take {kernel:.2} times as long, the exchanges {exchange:.2}\n"
            ));
        }
    }
}

fn group(work: &Work) -> (u8, &'static str) {
    match work {
        Work::Kernel { op, .. } => (u8::from(*op != OpKind::MatMul), op.name()),
        Work::Exchange { kind, .. } => (2, kind.name()),
        Work::Transfer { .. } => (3, "transfer"),
        Work::Copy { .. } => (4, "copy"),
    }
}

fn rate(catalogue: &Catalogue, sample: &Sample) -> String {
    let moved = |bytes: Bytes| format!("{}", bytes / sample.median);
    match &sample.work {
        Work::Kernel { op, .. } => match catalogue.amounts.get(&sample.work) {
            Some(amount) if KernelKind::of(*op) != KernelKind::Memory => {
                format!("{}", amount.flops / sample.median)
            }
            Some(amount) => moved(amount.bytes),
            None => String::new(),
        },
        Work::Exchange { bytes, .. } | Work::Transfer { bytes, .. } | Work::Copy { bytes } => moved(*bytes),
    }
}

/// Columns: names to the left, numbers to the right.
fn aligned(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line.push_str(&format!("   {cell:>width$}"));
        }
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

//! That there is no plan, what comes nearest, and what would help.

use std::cmp::Ordering;
use std::path::Path;

use hetu_planner::{NoPlan, Outer};
use ir::units::Bytes;
use solver::{Shortage, StageScore};

use super::failure::Failure;
use super::words::{SizeUnit, counted};

/// The end of a search that found nothing.
pub(crate) fn failure(model: &Path, reason: &NoPlan) -> Failure {
    let model = model.display();
    match reason {
        NoPlan::NothingLegal { batch, devices } => {
            let help = if *batch < u64::from(*devices) {
                format!("use a batch of at least {devices} sequences, or fewer devices")
            } else {
                "use a batch that is a multiple of the devices, or sizes of the model that they divide".to_owned()
            };
            Failure::negative(format!("error: {model}: {reason}")).help(help)
        }
        NoPlan::NothingFits { outer, shortage } => {
            Failure::negative(format!("error: {model}: {reason}\n{}", least(outer, shortage)))
                .help(help(&shortage.need))
        }
    }
}

fn least(outer: &Outer, shortage: &Shortage) -> String {
    let StageScore { bytes_state, bytes_saved, bytes_transient, .. } = shortage.need;
    let needed = Bytes(shortage.need.bytes());
    let unit = SizeUnit::of(needed);
    let by = match shortage.excess_bytes().cmp(&0) {
        Ordering::Greater => format!("{} too much", Bytes(shortage.excess_bytes())),
        Ordering::Equal | Ordering::Less => "by estimate; placed in memory with its gaps it is too much".to_owned(),
    };
    let stage = if outer.stages == 1 { String::new() } else { format!(" in stage {}", shortage.stage) };
    let part = |name: &str, bytes: u64, what: &str| format!("    {name:<10}{:>12}  {what}\n", unit.show(Bytes(bytes)));
    let mut text = format!("  least found: {}{stage}, {by}\n", unit.show(needed));
    text += &part("state", bytes_state, "parameters, gradients, moments");
    text += &part("saved", bytes_saved, "kept from forward to backward");
    text += &part("transient", bytes_transient, "while one layer runs");
    text += &format!(
        "    with {} of {}, {} of {}, layers {}..{}",
        counted(u64::from(outer.stages), "stage"),
        counted(u64::from(outer.ranks), "device"),
        counted(u64::from(outer.microbatches), "microbatch"),
        counted(outer.sequences, "sequence"),
        shortage.start,
        shortage.end,
    );
    text
}

/// What frees the largest part.
fn help(need: &StageScore) -> &'static str {
    let most = need.bytes_state.max(need.bytes_saved).max(need.bytes_transient);
    if most == need.bytes_state {
        "the state is the largest part: more devices to share it, devices with more memory, or a smaller model"
    } else if most == need.bytes_saved {
        "what is saved is the largest part: a shorter `sequence`, more devices, or devices with more memory"
    } else {
        "what one layer needs while it runs is the largest part: a shorter `sequence`, a smaller `vocabulary` or \
         `feed_forward`, or more devices to share a layer"
    }
}

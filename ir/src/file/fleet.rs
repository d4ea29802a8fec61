//! cluster.yaml with `parts`: unlike devices, read with their rules.

use serde::{Deserialize, Serialize};

use super::cluster::{DEVICES_MAX, PARTS, check_counts, check_device, check_link, line_of_parts, parse_alike};
use super::digest::{Digest, digest};
use super::locate::Segment;
use super::parse::{Checks, FORMAT, keys, parse};
use super::print_cluster;
use crate::cluster::{Cluster, Device, Execution, Link};
use crate::error::{Mistakes, shown};
use crate::fleet::{Fleet, Machines};

/// More parts than this are refused: every order of them along a pipeline is looked at.
const PARTS_MAX: usize = 4;

/// A fleet as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "cluster")]
struct Form {
    format: u32,
    name: String,
    parts: Vec<Part>,
    between: Link,
}

/// A part as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "part")]
struct Part {
    /// That of its device if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    nodes: u32,
    devices_per_node: u32,
    device: Device,
    inside: Link,
    /// The link that joins the parts if it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    between: Option<Link>,
}

/// The devices that `text` describes, alike or not, or everything that is wrong with them; `file` names it in messages.
pub fn parse_machines(text: &str, file: &str) -> Result<Machines, Mistakes> {
    match line_of_parts(text) {
        Some(_) => parse_fleet(text, file).map(Machines::Unlike),
        None => parse_alike(text, file).map(|cluster| Machines::Alike(Box::new(cluster))),
    }
}

fn parse_fleet(text: &str, file: &str) -> Result<Fleet, Mistakes> {
    let form: Form = parse(text, file)?;
    let mut checks = Checks::new(text, file);
    checks.name(&keys(["name"]), &form.name);
    check_link(&keys(["between"]), &form.between, &mut checks);
    let count = form.parts.len();
    if !(1..=PARTS_MAX).contains(&count) {
        checks.wrong(&keys([PARTS]), format!("a cluster has 1 to {PARTS_MAX} parts, not {count}"));
    }
    for (index, part) in form.parts.iter().enumerate() {
        let at = |key: &str| vec![PARTS.into(), index.into(), key.into()];
        check_counts(&at("")[..2], [part.nodes, part.devices_per_node], &mut checks);
        check_device(&at("device"), &part.device, &mut checks);
        check_link(&at("inside"), &part.inside, &mut checks);
        part.between.iter().for_each(|link| check_link(&at("between"), link, &mut checks));
        part.name.iter().for_each(|name| checks.name(&at("name"), name));
        check_together(&form.parts, index, &mut checks);
    }
    let parts: Vec<Cluster> = form.parts.into_iter().map(|part| part.cluster(&form.between)).collect();
    let devices = parts.iter().map(|part| u64::from(part.nodes) * u64::from(part.devices_per_node)).sum::<u64>();
    if devices > DEVICES_MAX {
        checks.wrong(&keys([PARTS]), format!("a cluster has at most {DEVICES_MAX} devices, not {devices}"));
    }
    checks.finish().map(|()| Fleet { name: form.name, parts, between: form.between })
}

/// What a part must have in common with the first, and not with any before it.
fn check_together(parts: &[Part], index: usize, checks: &mut Checks) {
    let part = &parts[index];
    let at = |keys: &[&str]| -> Vec<Segment> {
        let keys = keys.iter().map(|key| Segment::from(*key));
        [PARTS.into(), index.into()].into_iter().chain(keys).collect()
    };
    if parts[..index].iter().any(|other| other.name() == part.name()) {
        let path = if part.name.is_some() { at(&["name"]) } else { at(&["device", "name"]) };
        let what = format!("two parts are called `{}`", shown(part.name()));
        checks.wrong_but(&path, what, "give each part a `name` of its own");
    }
    let is_shared = |part: &Part| matches!(part.device.execution, Execution::Shared { .. });
    if is_shared(part) != is_shared(&parts[0]) {
        let what = "GPUs and CPU ranks cannot be parts of one cluster";
        checks.wrong_but(&at(&["device", "execution"]), what, "describe each in a file of its own");
    }
    let money = |part: &Part| part.device.currency.clone().filter(|_| part.device.price_per_hour.is_some());
    let mut known = parts[..index].iter().filter(|part| part.device.price_per_hour.is_some()).map(money);
    if part.device.price_per_hour.is_some() && known.any(|other| other != money(part)) {
        let what = "prices of parts are in unlike money";
        checks.wrong_but(&at(&["device", "price_per_hour"]), what, "give all parts one `currency`");
    }
}

impl Part {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.device.name)
    }

    fn cluster(self, joined_by: &Link) -> Cluster {
        Cluster {
            format: FORMAT,
            name: self.name().to_owned(),
            nodes: self.nodes,
            devices_per_node: self.devices_per_node,
            device: self.device,
            inside: self.inside,
            between: self.between.unwrap_or_else(|| joined_by.clone()),
        }
    }
}

/// The fleet as a file that [`parse_machines`] reads back.
pub fn print_fleet(fleet: &Fleet) -> String {
    let part = |part: &Cluster| Part {
        name: Some(part.name.clone()).filter(|name| *name != part.device.name),
        nodes: part.nodes,
        devices_per_node: part.devices_per_node,
        device: part.device.clone(),
        inside: part.inside.clone(),
        between: Some(part.between.clone()).filter(|link| *link != fleet.between),
    };
    let parts = fleet.parts.iter().map(part).collect();
    let form = Form { format: FORMAT, name: fleet.name.clone(), parts, between: fleet.between.clone() };
    serde_yaml::to_string(&form).expect("a fleet has only names and numbers")
}

impl Fleet {
    /// The digest of the fleet's content, whatever the comments and layout of its file.
    pub fn digest(&self) -> Digest {
        digest(&print_fleet(self))
    }
}

impl Machines {
    /// The digest of the content, whatever the comments and layout of its file.
    pub fn digest(&self) -> Digest {
        match self {
            Machines::Alike(cluster) => digest(&print_cluster(cluster)),
            Machines::Unlike(fleet) => fleet.digest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse_cluster;

    const MIXED: &str = include_str!("../../../examples/clusters/mixed-2x8xH100-4x8xA100.yaml");

    fn fleet(text: &str) -> Result<Fleet, String> {
        match parse_machines(text, "m.yaml").map_err(|mistakes| mistakes.to_string())? {
            Machines::Unlike(fleet) => Ok(fleet),
            Machines::Alike(cluster) => Err(format!("{} is alike", cluster.name)),
        }
    }

    fn said(from: &str, to: &str) -> String {
        assert!(MIXED.contains(from), "{from}");
        fleet(&MIXED.replacen(from, to, 1)).expect_err("it is wrong")
    }

    #[test]
    fn parts_are_clusters_that_print_and_read_back() {
        let mixed = fleet(MIXED).unwrap();
        assert_eq!(mixed.device_count(), 48);
        assert_eq!(mixed.parts.iter().map(Cluster::device_count).collect::<Vec<_>>(), [16, 32]);
        assert_eq!((mixed.part("A100-80GB"), mixed.part("B200")), (Some(1), None));
        assert_eq!(fleet(&print_fleet(&mixed)), Ok(mixed));
    }

    #[test]
    fn what_is_wrong_with_a_part_is_said_at_its_line() {
        let line = |needle: &str| MIXED.lines().position(|line| line.contains(needle)).expect("it is there") + 1;
        let (nodes, device) = (line("- nodes: 4"), line("name: A100-80GB"));
        assert_eq!(
            said("- nodes: 4", "- nodes: 0"),
            format!("error: m.yaml:{nodes}: `parts[1].nodes` must be at least 1")
        );
        assert_eq!(
            said("name: A100-80GB", "name: H100"),
            format!("error: m.yaml:{device}: two parts are called `H100`\n  help: give each part a `name` of its own")
        );
        let unknown = said("- nodes: 4", "- node: 4");
        assert!(unknown.starts_with(&format!("error: m.yaml:{nodes}: unknown key `node`")), "{unknown}");
        let cores =
            said("name: A100-80GB\n      execution: concurrent", "name: A\n      execution: { shared: { cores: 2 } }");
        assert!(cores.contains("GPUs and CPU ranks cannot be parts of one cluster"), "{cores}");
        let money = said("currency: USD", "currency: EUR");
        assert!(money.contains("prices of parts are in unlike money"), "{money}");
        let price = said("price_per_hour: ", "price_per_hour: -");
        assert!(price.contains("`parts[0].device.price_per_hour` must be finite and 0 or more"), "{price}");
    }

    #[test]
    fn whoever_wants_equal_devices_says_so() {
        let said = parse_cluster(MIXED, "m.yaml").unwrap_err().to_string();
        let line = MIXED.lines().position(|line| line.starts_with("parts:")).expect("it has parts") + 1;
        assert!(said.starts_with(&format!("error: m.yaml:{line}: this is a cluster of unlike parts")), "{said}");
    }
}

//! Clusters and models by name: `8xH100` is a node of eight, `64x8xH100` are 64 of them; `llama3-70b` is that model.
//!
//! The numbers are those of the files in `examples`, which are compiled in: one truth.

use super::cluster::unlike;
use super::{parse_cluster, parse_machines, parse_model, print_fleet};
use crate::cluster::Cluster;
use crate::error::{Mistake, Mistakes, nearest, shown};
use crate::fleet::{Fleet, Machines};
use crate::model::Model;

/// The device's name and its file.
const DEVICES: [(&str, &str); 7] = [
    ("V100-16GB", include_str!("../../../examples/clusters/8xV100-16GB.yaml")),
    ("V100-32GB", include_str!("../../../examples/clusters/8xV100-32GB.yaml")),
    ("A100-40GB", include_str!("../../../examples/clusters/8xA100-40GB.yaml")),
    ("A100-80GB", include_str!("../../../examples/clusters/8xA100-80GB.yaml")),
    ("H100", include_str!("../../../examples/clusters/8xH100.yaml")),
    ("H200", include_str!("../../../examples/clusters/8xH200.yaml")),
    ("CPU", include_str!("../../../examples/clusters/4xCPU.yaml")),
];

/// Other names of the same devices; where there are two sizes of memory, the short name is the larger.
const ALIASES: [(&str, &str); 4] =
    [("V100", "V100-32GB"), ("A100", "A100-80GB"), ("H100-80GB", "H100"), ("H200-141GB", "H200")];

impl Cluster {
    /// The cluster with this name: `H200`, `8xA100-80GB`, or `64x8xH100` (nodes, devices of each, device).
    pub fn preset(name: &str) -> Result<Cluster, Mistakes> {
        if name.contains(PLUS) {
            return Err(unlike(&shown(name)).into());
        }
        let (counts, device) = name.rsplit_once('x').unwrap_or(("1", name));
        let Some(text) = file_of(device) else { return Err(unknown(name, counts, device).into()) };
        let mut cluster = parse_cluster(text, device).expect("shipped clusters are valid: a test reads each");
        let (nodes, devices) = counts.split_once('x').unwrap_or(("1", counts));
        let (Ok(nodes), Ok(devices_per_node)) = (nodes.parse(), devices.parse()) else {
            let what = format!("`{}` are not counts of nodes and devices", shown(counts));
            return Err(Mistake::new(&shown(name), what).help(FORM).into());
        };
        (cluster.nodes, cluster.devices_per_node) = (nodes, devices_per_node);
        let device = &cluster.device.name;
        cluster.name = if nodes == 1 {
            format!("{devices_per_node}x{device}")
        } else {
            format!("{nodes}x{devices_per_node}x{device}")
        };
        // Read once more as a file, so that counts obey the same rules.
        parse_cluster(&super::print_cluster(&cluster), &shown(name))
    }

    /// Names of devices that [`Cluster::preset`] knows.
    pub fn preset_devices() -> impl Iterator<Item = &'static str> {
        DEVICES.iter().map(|(name, _)| *name)
    }
}

/// Between the names of parts.
const PLUS: char = '+';

impl Machines {
    /// The devices with this name: that of a [`Cluster::preset`], or several with a `+` between them, which are parts of
    /// unlike devices, joined by the slowest of their links between nodes.
    pub fn preset(name: &str) -> Result<Machines, Mistakes> {
        let parts = name.split(PLUS).map(|part| Cluster::preset(part.trim())).collect::<Result<Vec<Cluster>, _>>()?;
        if let [cluster] = &parts[..] {
            return Ok(Machines::Alike(Box::new(cluster.clone())));
        }
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let name = names.join("+");
        let between =
            parts.iter().skip(1).fold(&parts[0].between, |slowest, part| slowest.slower(&part.between)).clone();
        let named = parts.iter().map(|part| {
            let is_only = parts.iter().filter(|other| other.device.name == part.device.name).count() == 1;
            Cluster { name: if is_only { part.device.name.clone() } else { part.name.clone() }, ..part.clone() }
        });
        let fleet = Fleet { between, parts: named.collect(), name };
        // Read once more as a file, so that parts obey the same rules.
        parse_machines(&print_fleet(&fleet), &shown(&fleet.name))
    }
}

/// A model's name and its file, the smallest first.
const MODELS: [(&str, &str); 16] = [
    ("tiny-gpt", include_str!("../../../examples/models/tiny-gpt.yaml")),
    ("tiny-llama", include_str!("../../../examples/models/tiny-llama.yaml")),
    ("gpt2-124m", include_str!("../../../examples/models/gpt2-124m.yaml")),
    ("bert-large", include_str!("../../../examples/models/bert-large.yaml")),
    ("vit-huge-32", include_str!("../../../examples/models/vit-huge-32.yaml")),
    ("bert-huge-32", include_str!("../../../examples/models/bert-huge-32.yaml")),
    ("swin-huge-32", include_str!("../../../examples/models/swin-huge-32.yaml")),
    ("llama-1b", include_str!("../../../examples/models/llama-1b.yaml")),
    ("gpt3-1.3b", include_str!("../../../examples/models/gpt3-1.3b.yaml")),
    ("t5-3b", include_str!("../../../examples/models/t5-3b.yaml")),
    ("gpt3-6.7b", include_str!("../../../examples/models/gpt3-6.7b.yaml")),
    ("llama2-7b", include_str!("../../../examples/models/llama2-7b.yaml")),
    ("llama3-8b", include_str!("../../../examples/models/llama3-8b.yaml")),
    ("llama3-70b", include_str!("../../../examples/models/llama3-70b.yaml")),
    ("gpt3-175b", include_str!("../../../examples/models/gpt3-175b.yaml")),
    ("llama3-405b", include_str!("../../../examples/models/llama3-405b.yaml")),
];

impl Model {
    /// The shipped model with this name, such as `llama3-70b`.
    pub fn preset(name: &str) -> Result<Model, Mistakes> {
        let text = MODELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, text)| *text);
        let Some(text) = text else {
            let listed: Vec<&str> = Model::presets().collect();
            let listed = listed.join(", ");
            let help = match nearest(name, Model::presets()) {
                Some(near) => format!("did you mean `{near}`?  (models: {listed})"),
                None => format!("give a file, or one of: {listed}"),
            };
            return Err(Mistake::new(&shown(name), "no such model file, and no shipped model of this name")
                .help(help)
                .into());
        };
        parse_model(text, name)
    }

    /// Names that [`Model::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|(name, _)| *name)
    }
}

const FORM: &str = "write 8xH100, or 64x8xH100 for 64 nodes of 8";

fn file_of(device: &str) -> Option<&'static str> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(device));
    let device = alias.map_or(device, |(_, name)| name);
    DEVICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(device)).map(|(_, text)| *text)
}

fn unknown(name: &str, counts: &str, device: &str) -> Mistake {
    let listed: Vec<&str> = Cluster::preset_devices().collect();
    let listed = listed.join(", ");
    let help = match nearest(device, Cluster::preset_devices()) {
        Some(near) => format!("did you mean `{}x{near}`?  (devices: {listed})", shown(counts)),
        None => format!("{FORM}  (devices: {listed})"),
    };
    Mistake::new(&shown(name), "no such cluster file, and no preset with this device").help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Execution;
    use crate::file::print_cluster;

    #[test]
    fn each_shipped_cluster_is_valid_and_is_its_own_preset() {
        for (device, text) in DEVICES {
            let cluster = parse_cluster(text, device).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(cluster.device.name, device);
            assert_eq!(Cluster::preset(&cluster.name), Ok(cluster.clone()));
            assert_eq!(parse_cluster(&print_cluster(&cluster), device), Ok(cluster));
        }
    }

    #[test]
    fn each_shipped_model_is_valid_and_has_its_own_name() {
        for name in Model::presets() {
            assert_eq!(Model::preset(name).unwrap_or_else(|mistakes| panic!("{mistakes}")).name, name);
        }
        let said = Model::preset("llama3-7b").unwrap_err().to_string();
        assert!(said.contains("llama3-7b: no such model file") && said.contains("did you mean `llama"), "{said}");
        let sizes: Vec<u64> =
            Model::presets().map(|name| Model::preset(name).unwrap().graph().parameter_count()).collect();
        assert!(sizes[3..].is_sorted(), "{sizes:?}");
    }

    #[test]
    fn presets_are_counts_and_a_device() {
        let cluster = Cluster::preset("64x8xh100").unwrap();
        assert_eq!((cluster.nodes, cluster.devices_per_node, cluster.name.as_str()), (64, 8, "64x8xH100"));
        assert_eq!(cluster.device.execution, Execution::Concurrent);
        assert_eq!(Cluster::preset("H200").unwrap().device_count(), 1);
        assert_eq!(Cluster::preset("4xA100-40GB").unwrap().name, "4xA100-40GB");
        assert_eq!(Cluster::preset("8xV100").unwrap().name, "8xV100-32GB");
    }

    #[test]
    fn presets_with_a_plus_are_parts() {
        let Machines::Unlike(fleet) = Machines::preset("2x8xH100+4x8xA100").unwrap() else { panic!("it has parts") };
        assert_eq!((fleet.name.as_str(), fleet.device_count()), ("2x8xH100+4x8xA100-80GB", 48));
        assert_eq!(fleet.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["H100", "A100-80GB"]);
        assert_eq!(fleet.between.name, "InfiniBand HDR");
        assert!(matches!(Machines::preset("8xH100"), Ok(Machines::Alike(_))));
        let Machines::Unlike(same) = Machines::preset("8xH100+4xH100").unwrap() else { panic!("it has parts") };
        assert_eq!(same.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["8xH100", "4xH100"]);
        assert!(Machines::preset("8xH100+").is_err() && Machines::preset("8xH100+8xH100").is_err());
        assert!(Cluster::preset("8xH100+8xA100").unwrap_err().to_string().contains("unlike parts"));
    }

    #[test]
    fn an_unknown_preset_names_the_nearest() {
        let said = |name: &str| Cluster::preset(name).unwrap_err().to_string();
        assert_eq!(
            said("8xH10"),
            "error: 8xH10: no such cluster file, and no preset with this device\n  help: did you mean `8xH100`?  \
             (devices: V100-16GB, V100-32GB, A100-40GB, A100-80GB, H100, H200, CPU)"
        );
        assert_eq!(
            said("axH100"),
            "error: axH100: `a` are not counts of nodes and devices\n  help: write 8xH100, or 64x8xH100 for 64 nodes of 8"
        );
        for name in ["", "x", "0xH100", "9999999x9999999xH100", "-1xH100", "1x2x3xH100", "8x"] {
            assert!(Cluster::preset(name).is_err(), "{name}");
        }
    }
}

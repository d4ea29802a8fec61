//! What a plan was made for: its model and its devices, and whether those before us are the same.

use super::digest::{Digest, digest};
use super::{print_cluster, print_model};
use crate::cluster::Cluster;
use crate::error::{Mistake, Mistakes, shown};
use crate::fleet::Fleet;
use crate::model::Model;
use crate::plan::{Devices, Plan, PlanFile, Reference};
use crate::ways::Ways;

impl PlanFile {
    /// A plan for a model and a cluster, each with the path at which the plan's reader will find it.
    pub fn new(plan: Plan, model: (&Model, &str), cluster: (&Cluster, &str)) -> PlanFile {
        let refer = |path: &str, digest: Digest| Reference { path: path.to_owned(), digest: Some(digest) };
        PlanFile {
            plan,
            model: refer(model.1, model.0.digest()),
            cluster: refer(cluster.1, cluster.0.digest()),
            devices: Some(Devices { cluster: cluster.0.name.clone(), device: cluster.0.device.name.clone() }),
            parts: Vec::new(),
            predicted: None,
            ways: Ways::default(),
        }
    }

    /// A plan whose stages lie on parts of a fleet, `parts` being the place of that of each stage.
    pub fn on_parts(plan: Plan, model: (&Model, &str), fleet: (&Fleet, &str), parts: &[usize]) -> PlanFile {
        let (fleet, path) = fleet;
        let mut used: Vec<usize> = parts.to_vec();
        used.sort_unstable();
        used.dedup();
        let devices: Vec<&str> = used.iter().map(|&part| fleet.parts[part].device.name.as_str()).collect();
        PlanFile {
            cluster: Reference { path: path.to_owned(), digest: Some(fleet.digest()) },
            devices: Some(Devices { cluster: fleet.name.clone(), device: devices.join(" + ") }),
            parts: parts.iter().map(|&part| fleet.parts[part].name.clone()).collect(),
            ..PlanFile::new(plan, model, (&fleet.parts[0], path))
        }
    }

    /// Whether this plan was made for `model` and `cluster`, and has a strategy for each layer and a device for each
    /// rank; `file` is the plan's name in messages.
    pub fn check(&self, model: &Model, cluster: &Cluster, file: &str) -> Result<(), Mistakes> {
        let mut mistakes = self.mistakes(model, cluster.digest(), file);
        if !self.parts.is_empty() {
            let what = format!("its stages lie on parts, but `{}` has none", shown(&self.cluster.path));
            mistakes.push(Mistake::new(file, what).help("leave out `parts`, or refer to a cluster that has them"));
        }
        let (ranks, devices) = (self.plan.rank_count(), cluster.device_count());
        if ranks > devices {
            mistakes.push(Mistake::new(file, format!("needs {ranks} devices, but the cluster has {devices}")));
        }
        if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
    }

    /// The same for a fleet: the place of the part of each stage.
    pub fn check_parts(&self, model: &Model, fleet: &Fleet, file: &str) -> Result<Vec<usize>, Mistakes> {
        let mut mistakes = self.mistakes(model, fleet.digest(), file);
        let names: Vec<&str> = fleet.parts.iter().map(|part| part.name.as_str()).collect();
        if self.parts.len() != self.plan.stages.len() {
            let what =
                format!("says of {} of {} stages on which part they lie", self.parts.len(), self.plan.stages.len());
            let help = format!("write `parts: [..]` with one of these for each stage: {}", names.join(", "));
            return Err(Mistakes(vec![Mistake::new(file, what).help(help)]));
        }
        let mut free: Vec<u32> = fleet.parts.iter().map(Cluster::device_count).collect();
        let ranks = self.plan.rank_count() / self.plan.stages.len() as u32;
        let mut parts = Vec::new();
        for (stage, name) in self.parts.iter().enumerate() {
            let Some(part) = fleet.part(name) else {
                let what = format!("stage {stage} lies on `{}`, which is no part of the cluster", shown(name));
                mistakes.push(Mistake::new(file, what).help(format!("parts are: {}", names.join(", "))));
                continue;
            };
            if free[part] < ranks {
                let (name, all) = (shown(name), fleet.parts[part].device_count());
                let what =
                    format!("stage {stage} needs {ranks} devices of `{name}`, of whose {all} {} are left", free[part]);
                mistakes.push(Mistake::new(file, what));
            }
            free[part] = free[part].saturating_sub(ranks);
            parts.push(part);
        }
        if mistakes.is_empty() { Ok(parts) } else { Err(Mistakes(mistakes)) }
    }

    /// What is wrong with the plan for a model, and devices whose content has this digest.
    fn mistakes(&self, model: &Model, cluster: Digest, file: &str) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (kind, reference, found) in [("model", &self.model, model.digest()), ("cluster", &self.cluster, cluster)] {
            if let Some(digest) = reference.digest.filter(|digest| *digest != found) {
                let path = shown(&reference.path);
                let what = format!("made for a {kind} with digest {digest}, but `{path}` now has {found}");
                mistakes.push(Mistake::new(file, what).help(format!("plan again, or restore the {kind} file")));
            }
        }
        let (planned, layers) = (self.plan.strategies.len(), model.layer_count() as usize);
        if planned != layers {
            let what = format!("has strategies for {planned} layers, but the model has {layers}");
            let help = format!("layer 0 is the embedding, 1 to {} the blocks, {} the head", layers - 2, layers - 1);
            mistakes.push(Mistake::new(file, what).help(help));
        }
        mistakes
    }
}

impl Model {
    /// The digest of the model's content, whatever the comments and layout of its file.
    pub fn digest(&self) -> Digest {
        digest(&print_model(self))
    }
}

impl Cluster {
    /// The digest of the cluster's content, whatever the comments and layout of its file.
    pub fn digest(&self) -> Digest {
        digest(&print_cluster(self))
    }
}

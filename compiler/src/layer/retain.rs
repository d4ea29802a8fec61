//! Pass 2: what is kept from the forward to the backward pass, and what is computed again.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::{Class, LayerKind, Node, TensorId};
use ir::plan::Recompute;
use ir::software::Repeat;

use crate::layer::differentiate::Differentiated;

/// What a layer keeps, and its backward pass with the recomputation that this needs.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    /// Results of the forward pass that are kept, besides the layer's input.
    pub(crate) kept: BTreeSet<TensorId>,
    /// The backward pass; every recomputation stands directly before its first use.
    pub(crate) backward: Vec<Node>,
}

/// Keeps what the backward pass reads, but for what `recompute` drops. Where everything is repeated, the whole forward
/// pass stands before the backward pass.
pub(crate) fn retain(
    kind: &LayerKind,
    differentiated: &Differentiated,
    recompute: Recompute,
    repeat: Repeat,
) -> Retained {
    let makers: BTreeMap<TensorId, &Node> =
        kind.nodes.iter().flat_map(|node| node.outputs.iter().map(move |&output| (output, node))).collect();
    let is_dropped = |node: &Node| match recompute {
        Recompute::Nothing => false,
        Recompute::Selective => node.op.is_cheap(),
        Recompute::Full => true,
    };
    let mut pass = Pass {
        makers: &makers,
        is_dropped: &is_dropped,
        kept: BTreeSet::new(),
        done: BTreeSet::new(),
        nodes: Vec::new(),
    };
    if (recompute, repeat) == (Recompute::Full, Repeat::Everything) {
        for &output in kind.nodes.iter().flat_map(|node| &node.outputs) {
            pass.need(output);
        }
    }
    for node in &differentiated.backward {
        for &input in &node.inputs {
            pass.need(input);
        }
        pass.nodes.push(node.clone());
    }
    let is_stored = |id: &TensorId| matches!(kind.tensor(*id).class, Class::Activation | Class::Statistic);
    let kept = pass.kept.into_iter().filter(is_stored).collect();
    Retained { kept, backward: pass.nodes }
}

struct Pass<'a> {
    makers: &'a BTreeMap<TensorId, &'a Node>,
    is_dropped: &'a dyn Fn(&Node) -> bool,
    kept: BTreeSet<TensorId>,
    done: BTreeSet<TensorId>,
    nodes: Vec<Node>,
}

impl Pass<'_> {
    /// Makes sure that `tensor` is there in the backward pass: kept, or computed again from what is there.
    fn need(&mut self, tensor: TensorId) {
        let Some(&maker) = self.makers.get(&tensor) else { return };
        if self.done.contains(&tensor) {
            return;
        }
        if !(self.is_dropped)(maker) {
            self.kept.insert(tensor);
            return;
        }
        for &input in &maker.inputs {
            self.need(input);
        }
        self.done.extend(&maker.outputs);
        self.nodes.push(maker.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::differentiate::differentiate;
    use crate::tests::tiny;

    fn kept(recompute: Recompute) -> Vec<String> {
        let graph = tiny().graph();
        let kind = &graph.kinds[1];
        let retained = retain(kind, &differentiate(kind), recompute, Repeat::Needed);
        retained.kept.iter().map(|&id| kind.tensor(id).name.clone()).collect()
    }

    #[test]
    fn full_recomputation_keeps_nothing_but_the_input() {
        assert!(kept(Recompute::Full).is_empty());
    }

    #[test]
    fn repeating_everything_computes_each_operation_once_more() {
        let graph = tiny().graph();
        let kind = &graph.kinds[1];
        let differentiated = differentiate(kind);
        let count = |repeat| retain(kind, &differentiated, Recompute::Full, repeat).backward.len();
        assert_eq!(count(Repeat::Everything), kind.nodes.len() + differentiated.backward.len());
        // The last product, and the sum with the residual stream behind it, are read by nobody.
        assert_eq!(count(Repeat::Everything), count(Repeat::Needed) + 2);
    }

    #[test]
    fn selective_recomputation_drops_norms_and_activations() {
        let all = kept(Recompute::Nothing);
        let dropped: Vec<_> = all.iter().filter(|name| !kept(Recompute::Selective).contains(name)).cloned().collect();
        assert_eq!(
            dropped,
            [
                "attention norm result",
                "attention norm inverse deviation",
                "feed-forward norm result",
                "feed-forward norm inverse deviation",
                "active"
            ]
        );
    }
}

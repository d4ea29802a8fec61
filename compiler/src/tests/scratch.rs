//! Scratch, never committed.
use std::time::Instant;

use crate::fragment::Library;
use crate::layer::{Purpose, Setting};
use crate::schedule::{Layers, schedule};
use ir::plan::*;
use ir::program::{Draft, StepSize};

pub(crate) fn large() -> (ir::graph::Graph, Plan) {
    let model = ir::file::parse_model(include_str!("../../../examples/models/llama3-70b.yaml"), "llama3-70b.yaml")
        .expect("valid");
    let graph = model.graph();
    let strategy = Strategy {
        data: 16,
        tensor: 8,
        sequence: Sequence::Split,
        shard: Shard::Optimizer,
        recompute: Recompute::Selective,
    };
    let plan = Plan {
        batch: 1024,
        microbatches: 64,
        schedule: Schedule::OneForwardOneBackward,
        precision: model.training.precision,
        stages: vec![0..11, 11..21, 21..31, 31..41, 41..51, 51..61, 61..71, 71..82],
        strategies: vec![strategy; 82],
        prefetch: 1,
    };
    (graph, plan)
}

#[test]
#[ignore]
fn phases() {
    let (graph, plan) = large();
    for _ in 0..3 {
        let t = Instant::now();
        let mesh = crate::mesh(&plan).unwrap();
        let setting = Setting {
            graph: &graph,
            mesh: &mesh,
            sequences: plan.microbatch_sequences(),
            compute: crate::compute_element(plan.precision),
            purpose: Purpose::Training,
        };
        let mut library = Library::default();
        let layers = Layers::new(setting, &plan, &mut library);
        eprintln!("layers {:?}", t.elapsed());
        let t = Instant::now();
        let (writers, blocks) = schedule(setting, &plan, &layers, &mut library);
        eprintln!("schedule {:?}", t.elapsed());
        let t = Instant::now();
        let mut roles: Vec<_> =
            writers.into_iter().enumerate().map(|(s, w)| crate::arena::arena(s as u32, w)).collect();
        eprintln!("arena {:?}", t.elapsed());
        let t = Instant::now();
        for role in &mut roles {
            crate::synchronize::synchronize(role, &library.fragments);
        }
        eprintln!("synchronize {:?}", t.elapsed());
        for role in &roles {
            eprintln!(
                "  {} buffers {} code {} operands, ratio {:.4}",
                role.buffers.len(),
                role.code.len(),
                role.operand_list.len(),
                role.arena.as_f64() / role.live_bound.as_f64()
            );
        }
        let step = StepSize {
            microbatches: plan.microbatches,
            sequences: plan.microbatch_sequences(),
            sequence: graph.sequence,
        };
        let draft = Draft {
            step,
            fragments: library.fragments,
            collectives: library.collectives,
            blocks,
            roles,
            mesh: mesh.clone(),
        };
        let t = Instant::now();
        let programs = crate::verified(draft).unwrap();
        eprintln!("verify {:?} digest {:x}", t.elapsed(), programs.digest());
    }
}

#[test]
#[ignore]
fn dump() {
    let (graph, plan) = large();
    let mesh = crate::mesh(&plan).unwrap();
    let setting = Setting {
        graph: &graph,
        mesh: &mesh,
        sequences: plan.microbatch_sequences(),
        compute: crate::compute_element(plan.precision),
        purpose: Purpose::Training,
    };
    let mut library = Library::default();
    let layers = Layers::new(setting, &plan, &mut library);
    let (writers, _) = schedule(setting, &plan, &layers, &mut library);
    for (stage, writer) in writers.into_iter().enumerate() {
        let mut out = String::new();
        let mut start = vec![u32::MAX; writer.buffers.len()];
        for (index, instr) in writer.code.iter().enumerate() {
            let (s, c) = instr.operands;
            for &op in &writer.operands[s as usize..s as usize + c as usize] {
                if start[op.index()] == u32::MAX {
                    start[op.index()] = index as u32;
                }
                if instr.action == ir::program::Action::Free {
                    out += &format!(
                        "{} {} {} {}\n",
                        writer.buffers[op.index()].bytes.0,
                        start[op.index()],
                        index,
                        instr.span
                    );
                }
            }
        }
        std::fs::write(format!("/tmp/perf/life{stage}.txt"), out).unwrap();
    }
}

use crate::place::Lifetime;
use ir::seed::{Draws, Seed};
use ir::model::*;

pub(crate) fn lifetimes(writer: &crate::writer::Writer) -> Vec<Lifetime> {
    let mut start = vec![u32::MAX; writer.buffers.len()];
    let mut all = vec![];
    for (index, instr) in writer.code.iter().enumerate() {
        let (s, c) = instr.operands;
        for &op in &writer.operands[s as usize..s as usize + c as usize] {
            if start[op.index()] == u32::MAX { start[op.index()] = index as u32; }
            if instr.action == ir::program::Action::Free {
                all.push(Lifetime { bytes: writer.buffers[op.index()].bytes.0, start: start[op.index()], end: index as u32 });
            }
        }
    }
    all.sort_by_key(|l| l.start);
    all
}

pub(crate) fn random_plan(seed: u64) -> (ir::graph::Graph, Plan) {
    let mut d = Draws::new(Seed(seed));
    let below = |d: &mut Draws, n: u64| d.below(n);
    let big = below(&mut d, 2) == 0;
    let layers = 2 + below(&mut d, 10) as u32;
    let model = Model {
        family: if below(&mut d, 2) == 0 { Family::Llama } else { Family::Gpt },
        embeddings: if below(&mut d, 2) == 0 { Embeddings::Tied } else { Embeddings::Untied },
        layers,
        hidden: if big { 1024 << below(&mut d, 4) } else { 64 << below(&mut d, 3) },
        heads: 8,
        key_value_heads: Some(8),
        feed_forward: if big { 4096 << below(&mut d, 3) } else { 64 << below(&mut d, 5) },
        vocabulary: if big { 32000 << below(&mut d, 3) } else { 64 << below(&mut d, 7) },
        sequence: 64 << below(&mut d, if big { 7 } else { 4 }),
        ..super::tiny()
    };
    let mut model = model;
    if model.family == Family::Gpt { model.key_value_heads = None; }
    let graph = model.graph();
    let count = graph.layers.len() as u64;
    let stages = 1 + below(&mut d, count.min(8));
    let mut cuts: Vec<u32> = vec![0, count as u32];
    while (cuts.len() as u64) < stages + 1 { let c = 1 + below(&mut d, count - 1) as u32; if !cuts.contains(&c) { cuts.push(c); } }
    cuts.sort();
    let microbatches = 1 << below(&mut d, 6);
    let batch = microbatches as u64 * (8 << below(&mut d, 2));
    let ranks = 1 << below(&mut d, 4);
    let options = crate::strategies(&graph.kinds[1], ranks, batch / microbatches as u64);
    let mixed = below(&mut d, 3) == 0;
    let first = options[below(&mut d, options.len() as u64) as usize].clone();
    let mut strategies: Vec<Strategy> = (0..count).map(|_| if mixed { options[below(&mut d, options.len() as u64) as usize].clone() } else { first.clone() }).collect();
    if mixed && graph.tie.is_some() { let s = strategies[0].clone(); *strategies.last_mut().unwrap() = s; }
    let plan = Plan {
        batch, microbatches: microbatches as u32,
        schedule: if below(&mut d, 2) == 0 { Schedule::AllForward } else { Schedule::OneForwardOneBackward },
        precision: if below(&mut d, 2) == 0 { Precision::Full } else { Precision::Mixed },
        stages: cuts.windows(2).map(|w| w[0]..w[1]).collect(),
        strategies, prefetch: below(&mut d, 3) as u32,
    };
    (graph, plan)
}

#[test]
#[ignore]
fn corpus() {
    use super::slots::place_slots;
    let count: u64 = std::env::var("N").ok().map_or(200, |n| n.parse().unwrap());
    let mut worst: Vec<Vec<(f64, u64, usize)>> = vec![vec![]; 8];
    for seed in 0..count {
        let (graph, plan) = random_plan(seed);
        let mesh = crate::mesh(&plan).unwrap();
        let setting = Setting { graph: &graph, mesh: &mesh, sequences: plan.microbatch_sequences(), compute: crate::compute_element(plan.precision), purpose: Purpose::Training };
        let mut library = Library::default();
        let layers = Layers::new(setting, &plan, &mut library);
        let (writers, _) = schedule(setting, &plan, &layers, &mut library);
        for (stage, writer) in writers.into_iter().enumerate() {
            let resident: u64 = writer.buffers.iter().filter(|b| b.is_resident()).map(|b| b.bytes.0).sum();
            let l = lifetimes(&writer);
            let b = crate::place::live_bound(&l);
            let r = |size: u64| (size + resident) as f64 / (b + resident) as f64;
            let old = crate::place::place(&l);
            let ops: [&dyn Fn(&Lifetime) -> (u64, u32); 4] = [&|l| (l.bytes, 0), &|l| (l.bytes, (l.end - l.start).ilog2()), &|l| (l.bytes, l.end - l.start), &|l| (l.bytes, ((l.end - l.start) > 60) as u32)];
            let mut best = f64::MAX;
            for (i, o) in ops.iter().enumerate() { let (s, _) = place_slots(&l, o); let x = r(s); best = best.min(x); worst[i].push((x, seed, stage)); }
            worst[4].push((best, seed, stage));
            worst[5].push((r(old.size), seed, stage));
            worst[6].push((best.min(r(old.size)), seed, stage));
        }
    }
    for (i, name) in ["bytes", "ilog", "len", "60", "best of slots", "old", "all"].iter().enumerate() {
        worst[i].sort_by(|a, b| b.0.total_cmp(&a.0));
        let over = |x: f64| worst[i].iter().filter(|a| a.0 > x).count();
        eprintln!("{name}: of {} over 1.005 {} 1.01 {} 1.02 {} worst {:?}", worst[i].len(), over(1.005), over(1.01), over(1.02), &worst[i][..6.min(worst[i].len())]);
    }
}

#[test]
#[ignore]
fn one() {
    let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let stage: usize = std::env::var("STAGE").unwrap().parse().unwrap();
    let (graph, plan) = random_plan(seed);
    eprintln!("{:?}", Plan { strategies: vec![], ..plan.clone() });
    eprintln!("{:?}", plan.strategies);
    let mesh = crate::mesh(&plan).unwrap();
    let setting = Setting { graph: &graph, mesh: &mesh, sequences: plan.microbatch_sequences(), compute: crate::compute_element(plan.precision), purpose: Purpose::Training };
    let mut library = Library::default();
    let layers = Layers::new(setting, &plan, &mut library);
    let (writers, _) = schedule(setting, &plan, &layers, &mut library);
    let l = lifetimes(&writers[stage]);
    let resident: u64 = writers[stage].buffers.iter().filter(|b| b.is_resident()).map(|b| b.bytes.0).sum();
    eprintln!("{} lifetimes, resident {} bound {} old {}", l.len(), resident / 256, crate::place::live_bound(&l) / 256, crate::place::place(&l).size / 256);
    let mut out = String::new();
    for x in &l { out += &format!("{} {} {} x\n", x.bytes, x.start, x.end); }
    std::fs::write("/tmp/perf/one.txt", out).unwrap();
}

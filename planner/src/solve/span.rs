//! The fastest strategies for one span of layers in one stage: exact, under the stage's memory and a limit on what
//! happens once a step.
//!
//! Three ideas keep it fast. The largest transient is guessed — every value it may have is tried — which leaves one
//! sum per resource. Prices per byte and per tick of the step (Lagrange multipliers) turn the sums into a shortest
//! route through the layouts, whose cost-to-go bounds what any partial choice can still become. And the labels of
//! the dynamic program are cut at a bound that starts just above the relaxation and widens until an answer lies
//! below it; what lies below is then the optimum, and few labels were ever made.

use super::ticks::{Choice, Sort, StageClass, undominated};
use std::cell::OnceCell;

/// The layouts next to a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The layout that the first layer must have; none if the span opens the pipeline.
    pub(super) first: Option<usize>,
    /// The layout of the layer after the span; none if the span closes the pipeline.
    pub(super) next: Option<usize>,
}

/// Strategies for a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Ticks for one microbatch, with what the cuts cost.
    pub(super) time: i64,
    /// Ticks once a step.
    pub(super) step: i64,
    pub(super) strategies: Vec<usize>,
}

/// The fastest point of the layers `sorts` with at most `step_limit` ticks once a step.
pub(super) fn fastest(class: &StageClass, sorts: &[Sort], ends: Ends, step_limit: i64) -> Option<Point> {
    let mut relaxations: Vec<(f64, Relaxation<'_>)> = transient_limits(class, sorts)
        .into_iter()
        .filter_map(|transient| Relaxation::new(class, sorts, ends, step_limit, transient))
        .map(|relaxation| (relaxation.bound(), relaxation))
        .collect();
    relaxations.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let best = widen(&relaxations, sorts.len());
    let crossing = [ends.first, ends.next].into_iter().flatten().map(|layout| class.boundary[layout]).sum::<i64>();
    best.map(|point| Point { time: point.time + crossing, ..point })
}

/// The best point of all relaxations, which come with their bounds, in ascending order.
fn widen(relaxations: &[(f64, Relaxation<'_>)], layer_count: usize) -> Option<Point> {
    let (least, _) = relaxations.first()?;
    let mut width = 1.0 + FIRST_WIDTH * least.max(0.0) / (layer_count * layer_count) as f64;
    let mut best: Option<Point> = None;
    loop {
        let below = best.as_ref().map_or(f64::INFINITY, |point| point.time as f64);
        let mut cut = (least + width).min(below);
        let mut was_cut = false;
        for (bound, relaxation) in relaxations {
            if *bound >= cut {
                was_cut = true;
                break;
            }
            let (point, some_cut) = relaxation.solve(cut);
            was_cut |= some_cut;
            // What wastes no memory is bounded by its time, what wastes some lies lower: a point above the cut may
            // come through, and is the best only if it turns out below a later one.
            if let Some(point) = point.filter(|point| best.as_ref().is_none_or(|best| point.time < best.time)) {
                cut = cut.min(point.time as f64);
                best = Some(point);
            }
        }
        let proven = best.as_ref().is_some_and(|point| point.time as f64 <= cut);
        if proven || !was_cut {
            return best;
        }
        width *= WIDENING;
    }
}

/// Every value that the largest transient of the layers may have.
fn transient_limits(class: &StageClass, sorts: &[Sort]) -> Vec<u64> {
    let least = |&sort: &Sort| class.choices(sort).iter().map(|choice| choice.transient).min();
    let floor = sorts.iter().filter_map(least).max().unwrap_or(0);
    let mut distinct = sorts.to_vec();
    distinct.dedup();
    let all = distinct.iter().flat_map(|&sort| class.choices(sort)).map(|choice| choice.transient);
    let mut limits: Vec<u64> = all.filter(|&transient| transient >= floor && transient <= class.capacity).collect();
    limits.sort_unstable();
    limits.dedup();
    limits
}

/// What a unit of each quantity costs on a route.
#[derive(Clone, Copy, Debug)]
struct Prices {
    time: f64,
    byte: f64,
    step: f64,
}

/// What a route takes, all layers together.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    time: i64,
    step: i64,
    bytes: u64,
}

/// One of the two limited resources.
#[derive(Clone, Copy, Debug)]
enum Resource {
    Bytes,
    Step,
}

/// A span whose largest transient is given, and its best prices.
struct Relaxation<'a> {
    class: &'a StageClass,
    ends: Ends,
    step_limit: i64,
    /// Bytes left beside the transient.
    budget: u64,
    /// For each layer, its entry in `lists`.
    layers: Vec<usize>,
    lists: Vec<Vec<Choice>>,
    prices: Prices,
    /// Least cost at `prices` from each layer to the end, by layout of the layer before: `layer * layouts + layout`.
    to_go: Vec<f64>,
    /// What each layer can do after a layer of each layout, at `layer * layouts + layout`, by the least cost to the
    /// end at `prices`; made when first needed.
    extensions: OnceCell<Vec<Vec<Extension>>>,
}

impl<'a> Relaxation<'a> {
    /// The relaxation with its prices; none if the layers do not fit.
    fn new(class: &'a StageClass, sorts: &[Sort], ends: Ends, step_limit: i64, transient: u64) -> Option<Self> {
        let mut distinct: Vec<Sort> = sorts.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let allowed = |&sort: &Sort| -> Vec<Choice> {
            let under = class.choices(sort).iter().filter(|choice| choice.transient <= transient);
            undominated(&under.map(|choice| Choice { transient: 0, ..*choice }).collect::<Vec<_>>())
        };
        let lists: Vec<Vec<Choice>> = distinct.iter().map(allowed).collect();
        let layers = sorts.iter().map(|sort| distinct.binary_search(sort).expect("every sort is listed")).collect();
        let prices = Prices { time: 1.0, byte: 0.0, step: 0.0 };
        let budget = class.capacity - transient;
        let mut this = Self {
            class,
            ends,
            step_limit,
            budget,
            layers,
            lists,
            prices,
            to_go: Vec::new(),
            extensions: OnceCell::new(),
        };
        this.settle_prices()?;
        this.to_go = this.costs_to_go(this.prices);
        Some(this)
    }

    /// Climbs to good prices, one resource at a time; none if a resource cannot suffice.
    fn settle_prices(&mut self) -> Option<()> {
        const ROUNDS: usize = 3;
        self.prices.byte = self.climb(Resource::Bytes)?;
        if self.most_steps() <= self.step_limit {
            return Some(());
        }
        for _ in 0..ROUNDS {
            let price = self.climb(Resource::Step)?;
            let before = std::mem::replace(&mut self.prices.step, price);
            if price <= before {
                break;
            }
            self.prices.byte = self.climb(Resource::Bytes)?;
        }
        Some(())
    }

    /// The best price of one resource at the present price of the other, by intersecting the lines of two routes:
    /// one that exceeds the limit and one that keeps it.
    fn climb(&self, resource: Resource) -> Option<f64> {
        let at = |price: f64| match resource {
            Resource::Bytes => Prices { byte: price, ..self.prices },
            Resource::Step => Prices { step: price, ..self.prices },
        };
        let (only, limit) = match resource {
            Resource::Bytes => (Prices { time: 0.0, byte: 1.0, step: 0.0 }, self.budget as f64),
            Resource::Step => (Prices { time: 0.0, byte: 0.0, step: 1.0 }, self.step_limit as f64),
        };
        let line = |prices: Prices| {
            let totals = self.route(prices)?.0;
            let amount = match resource {
                Resource::Bytes => totals.bytes as f64,
                Resource::Step => totals.step as f64,
            };
            Some((cost(at(0.0), &totals), amount))
        };
        let mut over = line(at(0.0))?;
        if over.1 <= limit {
            return Some(0.0);
        }
        let mut within = line(only)?;
        if within.1 > limit {
            return None;
        }
        loop {
            let price = (within.0 - over.0) / (over.1 - within.1);
            let between = line(at(price))?;
            // No route lies below the two: the price is where they meet.
            if between.0 + price * between.1 >= (over.0 + price * over.1) * (1.0 - 1e-12) {
                return Some(price.max(0.0));
            }
            if between.1 > limit { over = between } else { within = between }
        }
    }

    /// Least cost from each layer to the end; see `to_go`.
    fn costs_to_go(&self, prices: Prices) -> Vec<f64> {
        let (count, layouts) = (self.layers.len(), self.class.boundary.len());
        let least: Vec<Vec<f64>> = self.lists.iter().map(|list| least_costs(list, prices, layouts)).collect();
        let mut to_go = vec![0.0; (count + 1) * layouts];
        if let Some(next) = self.ends.next {
            for layout in 0..layouts {
                to_go[count * layouts + layout] = prices.time * self.class.transitions[layout][next] as f64;
            }
        }
        let mut onward = vec![0.0; layouts];
        for layer in (0..count).rev() {
            let (here, after) = to_go.split_at_mut((layer + 1) * layouts);
            for layout in 0..layouts {
                onward[layout] = least[self.layers[layer]][layout] + after[layout];
            }
            for (before, row) in self.class.transitions.iter().enumerate() {
                let costs = row.iter().zip(&onward).map(|(&ticks, &onward)| prices.time * ticks as f64 + onward);
                here[layer * layouts + before] = costs.fold(f64::INFINITY, f64::min);
            }
        }
        to_go
    }

    /// The cheapest route at these prices: its totals and strategies. None if the first layer has no strategy in
    /// the layout it must have.
    fn route(&self, prices: Prices) -> Option<(Totals, Vec<usize>)> {
        let layouts = self.class.boundary.len();
        let to_go = self.costs_to_go(prices);
        let mut totals = Totals::default();
        let mut strategies = Vec::with_capacity(self.layers.len());
        let mut last: Option<usize> = None;
        for (layer, &list) in self.layers.iter().enumerate() {
            let rest = &to_go[(layer + 1) * layouts..(layer + 2) * layouts];
            let price = |choice: &Choice| {
                let moved = last.map_or(0.0, |last| prices.time * self.class.transitions[last][choice.layout] as f64);
                moved + choice_cost(prices, choice) + rest[choice.layout]
            };
            let open = self.lists[list].iter().filter(|choice| self.admits(layer, choice));
            let (_, choice) = open.map(|choice| (price(choice), choice)).min_by(|(a, _), (b, _)| a.total_cmp(b))?;
            totals.time += choice.time + last.map_or(0, |last| self.class.transitions[last][choice.layout]);
            totals.step += choice.step;
            totals.bytes = totals.bytes.saturating_add(choice.bytes);
            strategies.push(choice.strategy);
            last = Some(choice.layout);
        }
        if let (Some(last), Some(next)) = (last, self.ends.next) {
            totals.time += self.class.transitions[last][next];
        }
        Some((totals, strategies))
    }

    fn admits(&self, layer: usize, choice: &Choice) -> bool {
        layer > 0 || self.ends.first.is_none_or(|first| first == choice.layout)
    }

    /// What the limits are worth at the prices.
    fn worth(&self) -> f64 {
        self.prices.byte * self.budget as f64 + self.prices.step * self.step_limit as f64
    }

    /// Ticks below which no choice lies.
    fn bound(&self) -> f64 {
        let rest = &self.to_go[self.class.boundary.len()..];
        let open = self.lists[self.layers[0]].iter().filter(|choice| self.admits(0, choice));
        let cost =
            open.map(|choice| choice_cost(self.prices, choice) + rest[choice.layout]).fold(f64::INFINITY, f64::min);
        cost - self.worth() - 1e-13 * cost
    }

    /// The fastest point among those that come through below `cut`, and whether others were cut off.
    fn solve(&self, cut: f64) -> (Option<Point>, bool) {
        let free = self.prices.byte <= 0.0 && self.prices.step <= 0.0;
        match self.route(self.prices) {
            Some((totals, strategies)) if free && totals.bytes <= self.budget && totals.step <= self.step_limit => {
                (Some(Point { time: totals.time, step: totals.step, strategies }), false)
            }
            _ => self.labelled(cut),
        }
    }

    /// The dynamic program over layers, without labels that must end at `cut` or above.
    fn labelled(&self, cut: f64) -> (Option<Point>, bool) {
        let layouts = self.class.boundary.len();
        let ceiling = cut + self.worth();
        let extensions = self.extensions.get_or_init(|| self.extensions());
        let rests = self.least_rests();
        let keep = if self.most_steps() > self.step_limit { pareto } else { pareto_without_step };
        let mut history: Vec<(u32, u32)> = Vec::new();
        let mut labels = vec![Label { time: 0, step: 0, bytes: 0, layout: 0, parent: NO_PARENT, strategy: 0 }];
        let mut was_cut = false;
        for layer in 0..self.layers.len() {
            let rest = rests[layer + 1];
            let mut reached: Vec<Vec<Label>> = vec![Vec::new(); layouts];
            let mut parent = if layer == 0 { NO_PARENT } else { (history.len() - labels.len()) as u32 };
            for alike in labels.chunk_by(|one, other| one.layout == other.layout) {
                let extensions = &extensions[layer * layouts + alike[0].layout];
                for label in alike {
                    let cost = cost(self.prices, &label.totals());
                    let affordable = extensions.partition_point(|extension| cost + extension.to_go < ceiling);
                    was_cut |= affordable < extensions.len();
                    for &Extension { moved, choice, .. } in &extensions[..affordable] {
                        let time = label.time + moved + choice.time;
                        let step = label.step + choice.step;
                        let bytes = label.bytes.saturating_add(choice.bytes);
                        if bytes.saturating_add(rest.bytes) <= self.budget && step + rest.step <= self.step_limit {
                            let (layout, strategy) = (choice.layout, choice.strategy as u32);
                            reached[layout].push(Label { time, step, bytes, layout, parent, strategy });
                        }
                    }
                    parent = parent.wrapping_add(u32::from(layer > 0));
                }
            }
            labels = reached.into_iter().flat_map(keep).collect();
            history.extend(labels.iter().map(|label| (label.parent, label.strategy)));
        }
        let end = |label: &Label| self.ends.next.map_or(0, |next| self.class.transitions[label.layout][next]);
        let base = history.len() - labels.len();
        let finished = labels.iter().enumerate().map(|(index, label)| (label.time + end(label), label.step, index));
        let point =
            finished.min().map(|(time, step, index)| Point { time, step, strategies: trace(&history, base + index) });
        (point, was_cut)
    }

    /// See the field.
    fn extensions(&self) -> Vec<Vec<Extension>> {
        let layouts = self.class.boundary.len();
        let to_go = &self.to_go;
        let mut extensions = Vec::with_capacity(self.layers.len() * layouts);
        for (layer, &list) in self.layers.iter().enumerate() {
            for before in 0..layouts {
                let open = self.lists[list].iter().filter(|choice| self.admits(layer, choice));
                let mut here: Vec<Extension> = open
                    .map(|&choice| {
                        let moved = if layer == 0 { 0 } else { self.class.transitions[before][choice.layout] };
                        let rest = to_go[(layer + 1) * layouts + choice.layout];
                        let to_go = self.prices.time * moved as f64 + choice_cost(self.prices, &choice) + rest;
                        Extension { to_go, moved, choice }
                    })
                    .collect();
                here.sort_by(|one, other| one.to_go.total_cmp(&other.to_go));
                extensions.push(here);
            }
        }
        extensions
    }

    /// The least that the layers from each one on can take.
    fn least_rests(&self) -> Vec<Totals> {
        let mut rests = vec![Totals::default(); self.layers.len() + 1];
        for (layer, &list) in self.layers.iter().enumerate().rev() {
            let step = self.lists[list].iter().map(|choice| choice.step).min().unwrap_or(0);
            let bytes = self.lists[list].iter().map(|choice| choice.bytes).min().unwrap_or(0);
            let after = rests[layer + 1];
            rests[layer] = Totals { time: 0, step: after.step + step, bytes: after.bytes.saturating_add(bytes) };
        }
        rests
    }

    /// The most ticks once a step that any choice takes.
    fn most_steps(&self) -> i64 {
        let most = |&list: &usize| self.lists[list].iter().map(|choice| choice.step).max().unwrap_or(0);
        self.layers.iter().map(most).sum()
    }
}

/// How far above the relaxation the first cut lies, relative to it, times the square of the layer count: the more
/// layers can be combined, the closer their sums come to the relaxation.
const FIRST_WIDTH: f64 = 1e-2;

/// How much wider each next cut is.
const WIDENING: f64 = 2.5;

/// A way to go on from a layout.
#[derive(Clone, Copy)]
struct Extension {
    /// Least cost of this and all later layers.
    to_go: f64,
    /// Ticks to change the layout.
    moved: i64,
    choice: Choice,
}

/// A choice for the first layers.
#[derive(Clone, Copy, Debug)]
struct Label {
    time: i64,
    step: i64,
    bytes: u64,
    layout: usize,
    parent: u32,
    strategy: u32,
}

const NO_PARENT: u32 = u32::MAX;

impl Label {
    fn totals(&self) -> Totals {
        Totals { time: self.time, step: self.step, bytes: self.bytes }
    }
}

/// The strategies that led to a label.
fn trace(history: &[(u32, u32)], last: usize) -> Vec<usize> {
    let mut strategies = Vec::new();
    let mut at = last as u32;
    while at != NO_PARENT {
        let (parent, strategy) = history[at as usize];
        strategies.push(strategy as usize);
        at = parent;
    }
    strategies.reverse();
    strategies
}

/// Labels of one layout that no other one matches in bytes and time.
fn pareto_without_step(mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_unstable_by_key(|label| (label.bytes, label.time, label.step));
    let mut fastest = i64::MAX;
    labels.retain(|label| {
        let better = label.time < fastest;
        fastest = fastest.min(label.time);
        better
    });
    labels
}

/// Labels of one layout that no other one matches in bytes, time and step.
fn pareto(mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_unstable_by_key(|label| (label.bytes, label.time, label.step));
    // Time and step of those kept so far, all with fewer bytes: time ascends, step descends.
    let mut stairs: Vec<(i64, i64)> = Vec::new();
    labels.retain(|label| {
        let at = stairs.partition_point(|&(time, _)| time <= label.time);
        if at > 0 && stairs[at - 1].1 <= label.step {
            return false;
        }
        let start = stairs.partition_point(|&(time, _)| time < label.time);
        let end = start + stairs[start..].partition_point(|&(_, step)| step >= label.step);
        stairs.splice(start..end, [(label.time, label.step)]);
        true
    });
    labels
}

fn cost(prices: Prices, totals: &Totals) -> f64 {
    prices.time * totals.time as f64 + prices.byte * totals.bytes as f64 + prices.step * totals.step as f64
}

fn choice_cost(prices: Prices, choice: &Choice) -> f64 {
    cost(prices, &Totals { time: choice.time, step: choice.step, bytes: choice.bytes })
}

/// Least cost of a list's choices by layout; infinite for a layout without any.
fn least_costs(list: &[Choice], prices: Prices, layouts: usize) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; layouts];
    for choice in list {
        least[choice.layout] = least[choice.layout].min(choice_cost(prices, choice));
    }
    least
}

//! A range whose largest transient is given: prices for what is scarce, routes through the layouts, and a quick
//! choice of strategies.
//!
//! Prices per byte and per tick of the step (Lagrange multipliers) turn the sums into a shortest route through the
//! layouts, whose cost-to-go bounds what any partial choice can still become. Where the price is right, two routes
//! cost the same, one of which exceeds what there is and one of which does not: layers of one followed by layers of
//! the other are nearly the best choice, and changing a layer here and there makes it better still.

use super::ticks::{Choice, StageClass};

/// The layouts next to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The layout that the first layer must have; none if the range opens the pipeline.
    pub(crate) first: Option<usize>,
    /// The layout of the layer after the range; none if the range closes the pipeline.
    pub(crate) next: Option<usize>,
}

/// What a unit of each quantity costs on a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prices {
    pub(crate) time: f64,
    pub(crate) byte: f64,
    pub(crate) step: f64,
}

impl Prices {
    pub(crate) fn of(self, choice: &Choice) -> f64 {
        self.of_totals(Totals { time: choice.time, step: choice.step, bytes: choice.bytes })
    }

    pub(crate) fn of_totals(self, totals: Totals) -> f64 {
        self.time * totals.time as f64 + self.byte * totals.bytes as f64 + self.step * totals.step as f64
    }
}

/// What the layers of a range may do.
pub(crate) struct Menus<'a> {
    /// For each layer, its entry in `lists`.
    pub(crate) layers: &'a [usize],
    pub(crate) lists: Vec<Vec<Choice>>,
}

/// What the layers of a range may take, beside the largest transient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    /// Ticks once a step.
    pub(crate) step: i64,
}

/// What a route takes, all layers together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) time: i64,
    pub(crate) step: i64,
    pub(crate) bytes: u64,
}

/// The best price per byte at a price of the step, and the mixture of routes that uses up the bytes.
struct Balance {
    byte: f64,
    /// Ticks of the mixture.
    time: f64,
    /// Ticks once a step of the mixture.
    step: f64,
    routes: Vec<Route>,
}

/// A choice for each layer.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) totals: Totals,
    pub(crate) choices: Vec<Choice>,
}

/// A range whose largest transient is given, and its best prices.
pub(crate) struct Relaxation<'a> {
    pub(crate) class: &'a StageClass,
    pub(crate) ends: Ends,
    pub(crate) step_limit: i64,
    /// Bytes left beside the transient.
    pub(crate) budget: u64,
    /// For each layer, its entry in `lists`.
    pub(crate) layers: &'a [usize],
    pub(crate) lists: Vec<Vec<Choice>>,
    pub(crate) prices: Prices,
    /// Least cost from each layer to the end at `prices`, at `layer * layouts + layout before the layer`.
    pub(crate) to_go: Vec<f64>,
    /// Routes on both sides of the limits.
    routes: Vec<Route>,
}

impl<'a> Relaxation<'a> {
    /// None if the resources cannot suffice. `menus` have the choices under the transient.
    pub(crate) fn new(class: &'a StageClass, menus: Menus<'a>, ends: Ends, limits: Limits) -> Option<Self> {
        let Menus { layers, lists } = menus;
        let Limits { bytes: budget, step: step_limit } = limits;
        let prices = Prices { time: 1.0, byte: 0.0, step: 0.0 };
        let (to_go, routes) = (Vec::new(), Vec::new());
        let mut this = Self { class, ends, step_limit, budget, layers, lists, prices, to_go, routes };
        this.settle_prices()?;
        this.to_go = this.costs_to_go(&this.menus(this.prices), this.prices);
        Some(this)
    }

    /// Finds the best prices; none if the resources cannot suffice.
    ///
    /// The bound is concave in the prices. For a price of the step, [`Self::balance`] gives the best price per byte
    /// and a mixture of routes, whose line bounds the bound at all other prices of the step. The best price of the
    /// step is where two such lines meet and none lies below: one exceeds the limit, one keeps it.
    fn settle_prices(&mut self) -> Option<()> {
        // Mixtures are rounded, so that one at the limit may seem to exceed it.
        let limit = self.step_limit as f64 * (1.0 + 1e-9);
        let mut over = self.balance(Prices { time: 1.0, byte: 0.0, step: 0.0 })?;
        if over.step <= limit || self.most_steps() <= self.step_limit {
            self.prices.byte = over.byte;
            self.routes = over.routes;
            return Some(());
        }
        let mut within = self.balance(Prices { time: 0.0, byte: 0.0, step: 1.0 })?;
        if within.step > limit {
            return None;
        }
        loop {
            let price = (within.time - over.time) / (over.step - within.step);
            let between = self.balance(Prices { time: 1.0, byte: 0.0, step: price.max(0.0) })?;
            let meeting = over.time + price * over.step;
            let is_met = between.time + price * between.step >= meeting - 1e-9 * meeting.abs();
            if is_met || between.step >= over.step || between.step <= within.step {
                self.prices = Prices { time: 1.0, byte: between.byte, step: price.max(0.0) };
                self.routes = [over.routes, within.routes, between.routes].concat();
                return Some(());
            }
            if between.step > limit { over = between } else { within = between }
        }
    }

    /// The best price per byte at prices without one, by intersecting the lines of two routes: one that exceeds the
    /// budget and one that keeps it. None if the budget cannot suffice.
    fn balance(&self, free: Prices) -> Option<Balance> {
        let budget = self.budget as f64;
        let line = |route: &Route| (free.of_totals(route.totals), route.totals.bytes as f64);
        let mut over = self.route(free)?;
        if over.totals.bytes <= self.budget {
            let (time, step) = (over.totals.time as f64, over.totals.step as f64);
            return Some(Balance { byte: 0.0, time, step, routes: vec![over] });
        }
        let mut within = self.route(Prices { time: 0.0, byte: 1.0, step: 0.0 })?;
        if within.totals.bytes > self.budget {
            return None;
        }
        loop {
            let ((cost_over, bytes_over), (cost_within, bytes_within)) = (line(&over), line(&within));
            let byte = (cost_within - cost_over) / (bytes_over - bytes_within);
            let between = self.route(Prices { byte, ..free })?;
            let (cost, bytes) = line(&between);
            // No route lies below the two: the price is where they meet.
            if cost + byte * bytes >= (cost_over + byte * bytes_over) * (1.0 - 1e-12) {
                let share = (budget - bytes_within) / (bytes_over - bytes_within);
                let mix = |over: i64, within: i64| share * over as f64 + (1.0 - share) * within as f64;
                let time = mix(over.totals.time, within.totals.time);
                let step = mix(over.totals.step, within.totals.step);
                return Some(Balance { byte: byte.max(0.0), time, step, routes: vec![over, within] });
            }
            if between.totals.bytes > self.budget { over = between } else { within = between }
        }
    }

    /// Least cost from each layer to the end, see `to_go`, when `menus` are the cheapest choices.
    fn costs_to_go(&self, menus: &[Cheapest], prices: Prices) -> Vec<f64> {
        let (count, layouts) = (self.layers.len(), self.class.boundary.len());
        let moved: Vec<f64> =
            self.class.transitions.iter().flatten().map(|&ticks| prices.time * ticks as f64).collect();
        let mut to_go = vec![0.0; (count + 1) * layouts];
        if let Some(next) = self.ends.next {
            for layout in 0..layouts {
                to_go[count * layouts + layout] = moved[layout * layouts + next];
            }
        }
        let mut onward = vec![0.0; layouts];
        for layer in (0..count).rev() {
            let (here, after) = to_go.split_at_mut((layer + 1) * layouts);
            for ((onward, cheapest), after) in onward.iter_mut().zip(&menus[self.layers[layer]]).zip(after) {
                *onward = cheapest.map_or(f64::INFINITY, |(cost, _)| cost) + *after;
            }
            for (before, row) in moved.chunks(layouts).enumerate() {
                let mut least = f64::INFINITY;
                for (moved, onward) in row.iter().zip(&onward) {
                    let cost = moved + onward;
                    least = if cost < least { cost } else { least };
                }
                here[layer * layouts + before] = least;
            }
        }
        to_go
    }

    /// The cheapest choices of each list at these prices.
    fn menus(&self, prices: Prices) -> Vec<Cheapest> {
        let layouts = self.class.boundary.len();
        self.lists.iter().map(|list| cheapest(list, prices, layouts)).collect()
    }

    /// The cheapest route at these prices. None if the first layer has no strategy in the layout it must have.
    fn route(&self, prices: Prices) -> Option<Route> {
        let layouts = self.class.boundary.len();
        let menus = self.menus(prices);
        let to_go = self.costs_to_go(&menus, prices);
        let mut choices: Vec<Choice> = Vec::with_capacity(self.layers.len());
        for (layer, &list) in self.layers.iter().enumerate() {
            let rest = &to_go[(layer + 1) * layouts..(layer + 2) * layouts];
            let last = choices.last().map(|choice: &Choice| choice.layout);
            let price = |(cost, choice): &(f64, Choice)| {
                let moved = last.map_or(0.0, |last| prices.time * self.class.transitions[last][choice.layout] as f64);
                moved + cost + rest[choice.layout]
            };
            let open = menus[list].iter().flatten().filter(|(_, choice)| self.admits(layer, choice));
            let (_, choice) = open.map(|one| (price(one), one.1)).min_by(|(a, _), (b, _)| a.total_cmp(b))?;
            choices.push(choice);
        }
        Some(Route { totals: self.totals(&choices), choices })
    }

    fn totals(&self, choices: &[Choice]) -> Totals {
        let mut totals = Totals::default();
        for (layer, choice) in choices.iter().enumerate() {
            totals.time += choice.time + self.moved(Some(choice), choices.get(layer + 1));
            totals.step += choice.step;
            totals.bytes = totals.bytes.saturating_add(choice.bytes);
        }
        totals
    }

    /// Ticks to get from one layer's layout to the next one's, or to that after the range.
    fn moved(&self, from: Option<&Choice>, to: Option<&Choice>) -> i64 {
        let Some(from) = from else { return 0 };
        let to = to.map(|choice| choice.layout).or(self.ends.next);
        to.map_or(0, |to| self.class.transitions[from.layout][to])
    }

    pub(crate) fn admits(&self, layer: usize, choice: &Choice) -> bool {
        layer > 0 || self.ends.first.is_none_or(|first| first == choice.layout)
    }

    fn keeps_limits(&self, totals: &Totals) -> bool {
        totals.bytes <= self.budget && totals.step <= self.step_limit
    }

    /// What the limits are worth at the prices.
    pub(crate) fn worth(&self) -> f64 {
        self.prices.byte * self.budget as f64 + self.prices.step * self.step_limit as f64
    }

    /// Ticks below which no choice lies.
    pub(crate) fn bound(&self) -> f64 {
        let rest = &self.to_go[self.class.boundary.len()..];
        let open = self.lists[self.layers[0]].iter().filter(|choice| self.admits(0, choice));
        let cost = open.map(|choice| self.prices.of(choice) + rest[choice.layout]).fold(f64::INFINITY, f64::min);
        cost - self.worth() - 1e-13 * cost
    }

    /// The most ticks once a step that any choice takes.
    pub(crate) fn most_steps(&self) -> i64 {
        let most: Vec<i64> =
            self.lists.iter().map(|list| list.iter().map(|choice| choice.step).max().unwrap_or(0)).collect();
        self.layers.iter().map(|&list| most[list]).sum()
    }

    /// A good route within the limits, if one is easily seen.
    pub(crate) fn quick_route(&self) -> Option<Route> {
        let mut best: Option<Route> = None;
        for (index, one) in self.routes.iter().enumerate() {
            for (other_index, other) in self.routes.iter().enumerate() {
                if index != other_index || self.routes.len() == 1 {
                    self.splice(one, other, &mut best);
                }
            }
        }
        best.map(|route| self.improved(route))
    }

    /// Replaces `best` by the fastest route that begins like `one`, ends like `other`, and keeps the limits, if that
    /// is faster.
    fn splice(&self, one: &Route, other: &Route, best: &mut Option<Route>) {
        let count = self.layers.len();
        let mut least = best.as_ref().map_or(i64::MAX, |best| best.totals.time);
        let mut first_count = None;
        let mut totals = other.totals;
        for layer in 0..=count {
            if self.keeps_limits(&totals) && totals.time < least {
                (least, first_count) = (totals.time, Some(layer));
            }
            if layer < count {
                let (gone, come) = (&other.choices[layer], &one.choices[layer]);
                let before = layer.checked_sub(1).map(|before| &one.choices[before]);
                let after = other.choices.get(layer + 1);
                totals.time += come.time + self.moved(before, Some(come)) + self.moved(Some(come), after)
                    - gone.time
                    - self.moved(before, Some(gone))
                    - self.moved(Some(gone), after);
                totals.step += come.step - gone.step;
                totals.bytes = totals.bytes.saturating_add(come.bytes).saturating_sub(gone.bytes);
            }
        }
        if let Some(first_count) = first_count {
            let choices = [&one.choices[..first_count], &other.choices[first_count..]].concat();
            let totals = self.totals(&choices);
            *best = Some(Route { totals, choices });
        }
    }

    /// The route after single layers were changed for the better until none is left to change.
    fn improved(&self, mut route: Route) -> Route {
        loop {
            let time = route.totals.time;
            for layer in 0..self.layers.len() {
                self.improve(&mut route, layer);
            }
            if route.totals.time == time {
                return route;
            }
        }
    }

    /// Takes the fastest choice at one layer that keeps the limits.
    fn improve(&self, route: &mut Route, layer: usize) {
        let before = layer.checked_sub(1).map(|before| route.choices[before]);
        let after = route.choices.get(layer + 1).copied();
        let here = route.choices[layer];
        let spare = self.budget - (route.totals.bytes - here.bytes);
        let spare_step = self.step_limit - (route.totals.step - here.step);
        let time = |choice: &Choice| {
            choice.time + self.moved(before.as_ref(), Some(choice)) + self.moved(Some(choice), after.as_ref())
        };
        let open = self.lists[self.layers[layer]]
            .iter()
            .filter(|choice| choice.bytes <= spare && choice.step <= spare_step && self.admits(layer, choice));
        if let Some((least, choice)) = open.map(|choice| (time(choice), choice)).min_by_key(|(time, _)| *time)
            && least < time(&here)
        {
            route.totals.time += least - time(&here);
            route.totals.step += choice.step - here.step;
            route.totals.bytes = route.totals.bytes - here.bytes + choice.bytes;
            route.choices[layer] = *choice;
        }
    }
}

/// The cheapest choice of each layout and its cost, if there is any.
type Cheapest = Vec<Option<(f64, Choice)>>;

/// The cheapest of a list's choices by layout.
fn cheapest(list: &[Choice], prices: Prices, layouts: usize) -> Cheapest {
    let mut cheapest: Cheapest = vec![None; layouts];
    for choice in list {
        let cost = prices.of(choice);
        let least = &mut cheapest[choice.layout];
        if least.is_none_or(|(least, _)| cost < least) {
            *least = Some((cost, *choice));
        }
    }
    cheapest
}

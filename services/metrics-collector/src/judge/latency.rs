//! Latencies, put to the same test as errors: a request "fails" if it took longer than an edge.
//!
//! The edges are those buckets' of the histogram that lie nearest to the control's 50th, 90th and 99th percentile,
//! chosen from what was seen before the first tick that is weighed on them, and never changed; and the edge at the
//! latency that is promised ([`Objectives::latency_ms`](meshward_model::Objectives::latency_ms)). Each edge is a
//! [`Stream`] of its own with its own past; their e-values are averaged, which is an e-value again. Errors keep three
//! quarters of all money and latencies get one, if there were histograms when the canary got its first weight;
//! otherwise errors have everything. No quantile is interpolated in the decision.
//!
//! Two alike groups differ in latency by more than in errors (caches, zones), so a canary may have
//! [`LEAST_SLOW_RATIO`] times as many slow requests as the control in any case.

use meshward_model::{JudgeOptions, TickSample};

use super::{evidence::log_add, sentence, stream::Stream};

/// Part of the money that latencies get.
const PART: f64 = 0.25;
/// Shares of slow requests whose nearest edges are tested.
const TAILS: [f64; 3] = [0.5, 0.1, 0.01];
/// Control requests from which edges are chosen.
const ENOUGH: u64 = 200;
/// rho0 of slow requests, at least.
pub const LEAST_SLOW_RATIO: f64 = 1.25;

/// Requests of one tick that took longer than each edge; as long as the edges.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowTick {
    /// The tick's end and all requests that were timed; the errors are ignored.
    pub requests: TickSample,
    /// Upper edges of the finite buckets in milliseconds, ascending.
    pub edges_ms: Vec<f64>,
    /// Canary requests beyond each edge.
    pub canary: Vec<u64>,
    /// Control requests beyond each edge.
    pub control: Vec<u64>,
}

impl SlowTick {
    /// The requests that took longer than the first edge which is not below `latency_ms`, as if they were errors; `None`
    /// if there is no such edge. Those certainly took longer than `latency_ms`.
    #[must_use]
    pub fn beyond(&self, latency_ms: f64) -> Option<TickSample> {
        let index = self.edges_ms.iter().position(|edge_ms| *edge_ms >= latency_ms)?;
        let (canary_errors, control_errors) = (*self.canary.get(index)?, *self.control.get(index)?);
        Some(TickSample { canary_errors, control_errors, ..self.requests })
    }
}

/// All edges.
#[derive(Clone, Debug)]
pub struct Latencies {
    options: JudgeOptions,
    edges: Vec<Edge>,
    /// Whether there were histograms when the first tick was weighed; `None` before.
    used: Option<bool>,
    chosen: bool,
}

/// One edge and what was counted beyond it.
#[derive(Clone, Debug)]
struct Edge {
    edge_ms: f64,
    stream: Stream,
    /// Requests and slow ones, of all ticks.
    control: (u64, u64),
    /// Of the ticks that were weighed.
    weighed: [(u64, u64); 2],
}

impl Latencies {
    /// Nothing seen.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Self {
        Self { options, edges: Vec::new(), used: None, chosen: false }
    }

    /// A tick in which nothing was exposed.
    pub fn learn(&mut self, tick: &SlowTick) {
        self.meet(tick);
        for (edge, sample) in self.samples(tick) {
            edge.stream.learn(&sample, 0.0);
            edge.control = plus(edge.control, (sample.control_requests, sample.control_errors));
        }
    }

    /// A tick with a weight.
    pub fn weigh(&mut self, tick: Option<&SlowTick>, minutes: f64) {
        let used = *self.used.get_or_insert(tick.is_some() || !self.edges.is_empty());
        let Some(tick) = tick.filter(|_| used) else { return };
        self.meet(tick);
        if !self.chosen {
            self.choose();
        }
        let chosen = self.chosen;
        for (edge, sample) in self.samples(tick) {
            edge.control = plus(edge.control, (sample.control_requests, sample.control_errors));
            if chosen {
                edge.stream.weigh(&sample, minutes);
                let arms =
                    [(sample.canary_requests, sample.canary_errors), (sample.control_requests, sample.control_errors)];
                edge.weighed = [plus(edge.weighed[0], arms[0]), plus(edge.weighed[1], arms[1])];
            }
        }
    }

    /// The evidence of errors and latencies together, as logarithms.
    #[must_use]
    pub fn combined(&self, log_errors: f64) -> f64 {
        if self.used != Some(true) {
            return log_errors;
        }
        log_add((1.0 - PART).ln() + log_errors, PART.ln() + self.log_value())
    }

    /// If latencies say more than errors do: a sentence about the edge that says most.
    #[must_use]
    pub fn blame(&self, log_errors: f64) -> Option<String> {
        if self.used != Some(true) || PART.ln() + self.log_value() < (1.0 - PART).ln() + log_errors {
            return None;
        }
        let worst = self.edges.iter().max_by(|a, b| a.stream.log_value().total_cmp(&b.stream.log_value()))?;
        Some(sentence::beyond(worst.edge_ms, worst.weighed[0], worst.weighed[1]))
    }

    /// The edges that are tested, in milliseconds; none until they are chosen.
    #[must_use]
    pub fn edges_ms(&self) -> Vec<f64> {
        self.edges.iter().filter(|_| self.chosen).map(|edge| edge.edge_ms).collect()
    }

    /// The mean of the edges' e-values; 1 without edges.
    fn log_value(&self) -> f64 {
        if !self.chosen {
            return 0.0;
        }
        let sum = self.edges.iter().map(|edge| edge.stream.log_value()).fold(f64::NEG_INFINITY, log_add);
        sum - (self.edges.len() as f64).ln()
    }

    /// Takes the edges of the first histogram.
    fn meet(&mut self, tick: &SlowTick) {
        if !self.edges.is_empty() {
            return;
        }
        let edge = |edge_ms: &f64| Edge {
            edge_ms: *edge_ms,
            stream: Stream::new(self.options).tolerating(LEAST_SLOW_RATIO),
            control: (0, 0),
            weighed: [(0, 0); 2],
        };
        let least = self.options.objectives.negligible_latency_ms.unwrap_or_default();
        self.edges = tick.edges_ms.iter().filter(|edge_ms| **edge_ms >= least).map(edge).collect();
    }

    /// Keeps the edges that are nearest to the tails, once enough was seen.
    fn choose(&mut self) {
        if self.edges.first().is_none_or(|edge| edge.control.0 < ENOUGH) {
            return;
        }
        let distance =
            |edge: &Edge, tail: f64| ((edge.control.1 as f64 + 0.5) / edge.control.0 as f64 / tail).ln().abs();
        let nearest = |tail: f64| {
            let by_distance = |a: &&Edge, b: &&Edge| distance(a, tail).total_cmp(&distance(b, tail));
            self.edges.iter().min_by(by_distance).map(|edge| edge.edge_ms)
        };
        let promised = self.options.objectives.latency_ms;
        let promised =
            self.edges.iter().map(|edge| edge.edge_ms).find(|edge_ms| promised.is_some_and(|ms| *edge_ms >= ms));
        let kept: Vec<f64> = TAILS.into_iter().filter_map(nearest).chain(promised).collect();
        self.edges.retain(|edge| kept.contains(&edge.edge_ms));
        self.chosen = true;
    }

    /// Each edge with its counts of this tick, as if slow requests were errors.
    fn samples<'a>(&'a mut self, tick: &'a SlowTick) -> impl Iterator<Item = (&'a mut Edge, TickSample)> {
        self.edges.iter_mut().filter_map(|edge| {
            let index = tick.edges_ms.iter().position(|edge_ms| *edge_ms == edge.edge_ms)?;
            let (canary_errors, control_errors) = (*tick.canary.get(index)?, *tick.control.get(index)?);
            Some((edge, TickSample { canary_errors, control_errors, ..tick.requests }))
        })
    }
}

fn plus(one: (u64, u64), two: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(two.0), one.1.saturating_add(two.1))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// 1,000 requests in each arm; beyond 10, 100 and 1,000 ms.
    fn tick(canary: [u64; 3], control: [u64; 3]) -> SlowTick {
        let requests = TickSample {
            end: Timestamp::UNIX_EPOCH,
            canary_requests: 1000,
            canary_errors: 0,
            control_requests: 1000,
            control_errors: 0,
        };
        SlowTick { requests, edges_ms: vec![10.0, 100.0, 1000.0], canary: canary.into(), control: control.into() }
    }

    fn judged(canary: [u64; 3]) -> Latencies {
        let mut latencies = Latencies::new(JudgeOptions::default());
        let control = |index: u64| [500 + index % 3, 100 + index % 2, 10 + index % 3];
        (0..20).for_each(|index| latencies.learn(&tick(control(index), control(index + 1))));
        for index in 0..8_u32 {
            latencies.weigh(Some(&tick(canary, control(u64::from(index)))), f64::from(index) / 4.0);
        }
        latencies
    }

    #[test]
    fn a_slower_canary_is_seen_at_any_edge_and_an_equal_one_is_not() {
        let bound = 100_f64.ln();
        assert!(judged([500, 100, 10]).combined(0.0) < 0.5, "equal");
        assert!(judged([550, 110, 11]).combined(0.0) < 0.5, "a little slower");
        for (name, canary, edge) in [("the tail", [500, 100, 60], "1000 ms"), ("the middle", [800, 200, 10], "100 ms")]
        {
            let slow = judged(canary);
            assert!(slow.combined(0.0) > bound, "{name}: {}", slow.combined(0.0));
            let sentence = slow.blame(0.0).expect("latencies are to blame");
            assert!(sentence.contains(&format!("took longer than {edge}")), "{name}: {sentence}");
        }
    }

    #[test]
    fn without_histograms_errors_have_all_the_money() {
        let mut latencies = Latencies::new(JudgeOptions::default());
        latencies.weigh(None, 0.0);
        assert!((latencies.combined(3.0) - 3.0).abs() < 1e-12);
        latencies.weigh(Some(&tick([900, 900, 900], [500, 100, 10])), 0.25);
        assert!((latencies.combined(3.0) - 3.0).abs() < 1e-12, "who comes late has no stake");
        assert_eq!(latencies.blame(3.0), None);
    }
}

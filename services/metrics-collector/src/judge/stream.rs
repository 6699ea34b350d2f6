//! One count that is compared: errors, or requests slower than an edge.
//!
//! A stream learns from ticks before the change, weighs those after it, and keeps what both need: the control's past
//! and the evidence. It takes its terms for a tick from earlier ticks alone.
//!
//! **Several nulls.** What an unchanged canary may do is not one ratio but a belief in cells ([`super::before`]): alike
//! with this probability, up to 1.4 times as often with that. Each cell i has its own e-process E_i against the cell's
//! largest ratio, and the stream's value is their harmonic mean, 1 / sum(p_i / E_i). Of alike groups Ville's bound holds
//! whatever the p_i are: each E_i is fair to them, and a harmonic mean is no more than the arithmetic one. A canary of
//! cell i makes the mean reach 1 / alpha only if E_i >= p_i / alpha, that is with probability alpha / p_i at most; as it
//! is of that cell with probability p_i, each cell adds alpha at most to what all histories together may go wrong.
//! Without a time before there is one cell, and the value is its e-process.

use meshward_model::{JudgeOptions, TickSample};

use super::{
    before::{Before, Likely},
    control::{Control, LEAST_TOLERATED},
    evidence::{Evidence, Terms, Tolerated, log_add},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Stream {
    options: JudgeOptions,
    /// rho0 if nothing is known of the time before.
    least_ratio: f64,
    control: Control,
    before: Before,
    /// None before the first tick that is weighed: then the time before is over.
    nulls: Vec<(Likely, Evidence)>,
}

impl Stream {
    /// Nothing seen.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Self {
        let (control, before) = (Control::default(), Before::default());
        Self { options, least_ratio: LEAST_TOLERATED, control, before, nulls: Vec::new() }
    }

    /// The same, with a larger ratio that is tolerated in any case.
    #[must_use]
    pub fn tolerating(self, least_ratio: f64) -> Self {
        Self { least_ratio, ..self }
    }

    /// A tick with a weight. `minutes` since the first of them, at the tick's start.
    pub fn weigh(&mut self, tick: &TickSample, minutes: f64) {
        if self.nulls.is_empty() {
            self.nulls = self.ratios().into_iter().map(|likely| (likely, Evidence::new())).collect();
        }
        let (control, tolerance) = (&self.control, self.options.tolerance);
        let excess = control.excess(tolerance);
        for (Likely { ratio, .. }, evidence) in &mut self.nulls {
            let terms = Terms {
                tolerated: Tolerated { ratio: *ratio, excess },
                burst_ratio: control.is_bursty().then(|| control.tolerated_ratio(*ratio, tolerance)),
                caution: control.caution(),
                log_bound: -self.options.alpha.ln(),
            };
            evidence.observe(tick, minutes, &terms);
        }
        self.control.push(tick);
    }

    /// A tick in which nothing was exposed. `log_evidence` is what the test says of the time before, after this tick.
    pub fn learn(&mut self, tick: &TickSample, log_evidence: f64) {
        self.control.push(tick);
        if self.nulls.is_empty() {
            self.before.push(tick, log_evidence);
        }
    }

    /// What an unchanged canary may do: fixed as soon as the first tick is weighed.
    #[must_use]
    pub fn ratios(&self) -> Vec<Likely> {
        if self.nulls.is_empty() {
            return self.before.ratios(self.control.caution(), self.least_ratio);
        }
        self.nulls.iter().map(|(likely, _)| *likely).collect()
    }

    /// The largest ratio that is feared: of those that an unchanged canary needs with more than alpha.
    #[must_use]
    pub fn tolerated_ratio(&self) -> f64 {
        let likely = self.ratios().into_iter().filter(|likely| likely.probability > self.options.alpha);
        likely.map(|likely| likely.ratio).fold(self.least_ratio, f64::max)
    }

    /// Natural logarithm of the e-value.
    #[must_use]
    pub fn log_value(&self) -> f64 {
        let doubt = |(likely, evidence): &(Likely, Evidence)| likely.probability.ln() - evidence.log_value();
        -self.nulls.iter().map(doubt).reduce(log_add).unwrap_or(0.0)
    }

    /// The control's past.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The groups differed before the change.
    #[must_use]
    pub fn differed(&self) -> bool {
        self.before.differed(self.control.caution())
    }

    /// The time before the change.
    #[must_use]
    pub fn before(&self) -> &Before {
        &self.before
    }
}

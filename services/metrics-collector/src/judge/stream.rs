//! One count that is compared: errors, or requests slower than an edge.
//!
//! A stream learns from ticks before the change, weighs those after it, and keeps what both need: the control's past
//! and the evidence. It takes its terms for a tick from earlier ticks alone.

use meshward_model::{JudgeOptions, TickSample};

use super::{
    before::Before,
    control::{Control, LEAST_TOLERATED},
    evidence::{Evidence, Terms, Tolerated},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Stream {
    options: JudgeOptions,
    /// rho0 if nothing is known of the time before.
    least_ratio: f64,
    evidence: Evidence,
    control: Control,
    before: Before,
    /// rho0, once the time before is over.
    ratio: Option<f64>,
}

impl Stream {
    /// Nothing seen.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Self {
        let (evidence, control, before) = (Evidence::new(), Control::default(), Before::default());
        Self { options, least_ratio: LEAST_TOLERATED, evidence, control, before, ratio: None }
    }

    /// The same, with a larger ratio that is tolerated in any case.
    #[must_use]
    pub fn tolerating(self, least_ratio: f64) -> Self {
        Self { least_ratio, ..self }
    }

    /// A tick with a weight. `minutes` since the first of them, at the tick's start.
    pub fn weigh(&mut self, tick: &TickSample, minutes: f64) {
        let ratio = self.tolerated_ratio();
        self.ratio = Some(ratio);
        let terms = Terms {
            tolerated: Tolerated { ratio, excess: self.options.tolerance },
            burst_ratio: self.control.is_bursty().then(|| self.control.tolerated_ratio(ratio, self.options.tolerance)),
            caution: self.control.caution(),
            log_bound: -self.options.alpha.ln(),
        };
        self.evidence.observe(tick, minutes, &terms);
        self.control.push(tick);
    }

    /// A tick in which nothing was exposed. `log_evidence` is what the test says of the time before, after this tick.
    pub fn learn(&mut self, tick: &TickSample, log_evidence: f64) {
        self.control.push(tick);
        if self.ratio.is_none() {
            self.before.push(tick, log_evidence);
        }
    }

    /// rho0: fixed as soon as the first tick is weighed.
    #[must_use]
    pub fn tolerated_ratio(&self) -> f64 {
        self.ratio.unwrap_or_else(|| self.before.tolerated_ratio(self.control.caution()).max(self.least_ratio))
    }

    /// Natural logarithm of the e-value.
    #[must_use]
    pub fn log_value(&self) -> f64 {
        self.evidence.log_value()
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

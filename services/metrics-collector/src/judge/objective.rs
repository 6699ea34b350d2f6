//! Absolute limits: an error rate, or a share of slow requests, that the canary may not exceed whatever the comparison
//! with the control says.
//!
//! The comparison asks for a canary that is worse than its control by a ratio; a limit asks for one that breaks what
//! was promised to users. It needs a **healthy control**: if both arms are above the limit, the change is not to blame.
//! So two claims must each hold at alpha / 10, within one step (whose weight is one, so both averages are over the same
//! moments): the canary's rate is above the limit, and the control's is below it. If both have the same rate, one of
//! the claims is false, whatever that rate is: a false alarm takes a chance of alpha / 10 in each step.
//!
//! Each claim is an e-process of its own: a mixture of likelihood ratios of a fixed rate beyond the limit against the
//! limit. Its logarithm is divided by the caution for errors that come in clusters, as in
//! [`evidence`](super::evidence).

use meshward_model::TickSample;

use super::{MIN_ERRORS, evidence::log_add};

/// Part of alpha that one step may spend on each claim.
const PART_OF_ALPHA: f64 = 0.1;
/// Rates that the canary is taken to have, as multiples of the limit; and the control, as fractions.
const ABOVE: [f64; 6] = [1.25, 1.5, 2.0, 4.0, 10.0, 50.0];
const BELOW: [f64; 4] = [0.01, 0.1, 0.3, 0.6];

/// One limit, and what was counted in the current step.
#[derive(Clone, Debug)]
pub struct Objective {
    limit: f64,
    canary: (u64, u64),
    control: (u64, u64),
    caution: f64,
}

impl Objective {
    /// Nothing counted; `limit` is above 0 and below 1.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self { limit, canary: (0, 0), control: (0, 0), caution: 1.0 }
    }

    /// A step begins.
    pub fn reset(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Adds a tick; `caution` is how many errors are taken for one, as far as earlier ticks tell.
    pub fn add(&mut self, tick: &TickSample, caution: f64) {
        let plus = |sum: (u64, u64), requests: u64, errors: u64| {
            (sum.0.saturating_add(requests), sum.1.saturating_add(errors))
        };
        self.canary = plus(self.canary, tick.canary_requests, tick.canary_errors);
        self.control = plus(self.control, tick.control_requests, tick.control_errors);
        self.caution = self.caution.max(caution);
    }

    /// The canary is above the limit, and the control below it.
    #[must_use]
    pub fn is_broken(&self, alpha: f64) -> bool {
        let bound = -(alpha * PART_OF_ALPHA).ln();
        let above = ABOVE.map(|multiple| (self.limit * multiple).min(f64::midpoint(self.limit, 1.0)));
        let below = BELOW.map(|fraction| self.limit * fraction);
        self.canary.1 >= MIN_ERRORS
            && self.log_evidence(self.canary, &above) >= bound
            && self.log_evidence(self.control, &below) >= bound
    }

    /// The limit, and requests and errors of both arms in this step: canary, control.
    #[must_use]
    pub fn seen(&self) -> (f64, (u64, u64), (u64, u64)) {
        (self.limit, self.canary, self.control)
    }

    fn log_evidence(&self, (requests, errors): (u64, u64), rates: &[f64]) -> f64 {
        let good = requests.saturating_sub(errors) as f64;
        let gain = |rate: &f64| {
            let of_errors = if errors == 0 { 0.0 } else { errors as f64 * (rate / self.limit).ln() };
            (of_errors + good * ((1.0 - rate) / (1.0 - self.limit)).ln()) / self.caution.max(1.0)
        };
        rates.iter().map(gain).fold(f64::NEG_INFINITY, log_add) - (rates.len() as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn broken(limit: f64, canary: (u64, u64), control: (u64, u64), caution: f64) -> bool {
        let mut objective = Objective::new(limit);
        let tick = TickSample {
            end: Timestamp::UNIX_EPOCH,
            canary_requests: canary.0,
            canary_errors: canary.1,
            control_requests: control.0,
            control_errors: control.1,
        };
        objective.add(&tick, caution);
        objective.is_broken(0.01)
    }

    #[test]
    fn only_a_canary_above_beside_a_control_below_breaks_it() {
        assert!(broken(0.01, (5000, 100), (45_000, 90), 1.0), "2 % beside 0.2 %");
        for (why, canary, control) in [
            ("at the limit", (5000, 50), (45_000, 90)),
            ("hardly above", (5000, 60), (45_000, 90)),
            ("both above: an incident", (5000, 200), (45_000, 1800)),
            ("the control is at the limit", (5000, 200), (45_000, 430)),
            ("too little control to know", (5000, 200), (100, 0)),
            ("too few errors", (20, 2), (45_000, 90)),
            ("nothing", (0, 0), (0, 0)),
        ] {
            assert!(!broken(0.01, canary, control, 1.0), "{why}");
        }
        assert!(broken(0.9, (5000, 4990), (5000, 10), 1.0), "a limit near 1");
        assert!(!broken(0.01, (5000, 100), (45_000, 90), 8.0), "errors that come in eights say less");
    }

    #[test]
    fn arms_with_the_same_rate_hardly_ever_break_it() {
        // A common rate on either side of the limit, over and over, looked at after each of 40 ticks.
        let mut chance = 1_u64;
        let mut random = move || {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let mut alarms = 0;
        for run in 0..300_u32 {
            let rate = 0.005 * (1.0 + f64::from(run % 5));
            let mut objective = Objective::new(0.01);
            let mut draw = |requests: u64| (0..requests).filter(|_| random() < rate).count() as u64;
            let looks = (0..40).map(|_| {
                let tick = TickSample {
                    end: Timestamp::UNIX_EPOCH,
                    canary_requests: 150,
                    canary_errors: draw(150),
                    control_requests: 150,
                    control_errors: draw(150),
                };
                objective.add(&tick, 1.0);
                objective.is_broken(0.01)
            });
            alarms += u32::from(looks.collect::<Vec<_>>().contains(&true));
        }
        assert!(alarms <= 1, "{alarms} of 300; the bound is 0.3");
    }
}

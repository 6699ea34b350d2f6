//! How many canary requests a step needs before "nothing was found" means something.
//!
//! Suppose the canary fails `effect` more often than the control: p1 = p_b + effect. With r = (1 - s) / s control
//! requests beside each canary request, the logarithm of a bet on ratio m grows in the mean, per canary request, by
//! `G = p1 ln m + (p1 + r p_b) ln D - delta (m D - 1)` and varies by `V = p1 (ln m + ln D)^2 + r p_b (ln D)^2`. To
//! reach 1 / alpha it must first make up for its share of the money: `T = ln(1 / alpha) - ln(share)`. With nine chances
//! in ten it is there after n requests where `n G = T + 1.28 sqrt(n V)`, a quadratic in sqrt(n). The ratio that is
//! quickest counts. Three errors are needed in any case. As long as it is not known that errors are independent, the
//! judge is more careful than this, and the chance is smaller.

use meshward_model::JudgeOptions;

use super::{
    MIN_ERRORS,
    control::Control,
    evidence::{Tolerated, log_cost, ratios},
};

/// Quantile of the normal distribution for nine chances in ten.
const POWER_QUANTILE: f64 = 1.2816;
/// More than any step will see: the effect is within the tolerance, so it cannot be detected.
pub const UNREACHABLE: u64 = 1_000_000_000_000;

/// Canary requests with which a canary that is worse by the detectable effect would have been called a regression
/// with 90 % probability, once it is known that errors are independent. `share` is the canary's, 0 to 1; `ratio` is
/// the ratio of error rates that is tolerated. At most [`UNREACHABLE`].
#[must_use]
pub fn required_requests(share: f64, control: &Control, ratio: f64, options: &JudgeOptions) -> u64 {
    let (base, tolerated) = (control.error_rate(), Tolerated { ratio, excess: options.tolerance });
    let canary = (base + options.detectable_effect).min(1.0);
    if share <= 0.0 || share >= 1.0 {
        return UNREACHABLE;
    }
    let control_errors = base * (1.0 - share) / share;
    let needed = |(ratio, log_prior): (f64, f64)| {
        let threshold = -options.alpha.ln() - log_prior;
        let on_control = log_cost(share, tolerated.ratio, ratio);
        let on_canary = ratio.ln() + on_control;
        let growth = canary * on_canary + control_errors * on_control - tolerated.log_price(share, ratio);
        let variance = canary * on_canary * on_canary + control_errors * on_control * on_control;
        let noise = POWER_QUANTILE * variance.sqrt();
        let root = (noise + (noise * noise + 4.0 * growth * threshold).sqrt()) / (2.0 * growth);
        if growth > 0.0 { root * root } else { f64::INFINITY }
    };
    let requests = ratios().map(needed).fold(f64::INFINITY, f64::min).max(MIN_ERRORS as f64 / canary);
    // A float beyond the range of u64 becomes its maximum.
    (requests.ceil() as u64).min(UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use meshward_model::TickSample;

    use super::{super::control::LEAST_TOLERATED, *};

    fn required(share: f64, control: (u64, u64), effect: f64) -> u64 {
        let mut past = Control::default();
        past.push(&TickSample {
            end: Timestamp::UNIX_EPOCH,
            canary_requests: 0,
            canary_errors: 0,
            control_requests: control.0,
            control_errors: control.1,
        });
        required_requests(
            share,
            &past,
            LEAST_TOLERATED,
            &JudgeOptions { detectable_effect: effect, ..JudgeOptions::default() },
        )
    }

    #[test]
    fn the_sample_by_share_and_effect() {
        let good = (100_000, 100);
        let cases = [(0.1, 0.05), (0.3, 0.05), (0.5, 0.05), (0.9, 0.05), (0.1, 0.01), (0.1, 0.5)];
        let needed = cases.map(|(share, effect)| required(share, good, effect));
        assert_eq!(needed, [182, 270, 412, 2249, 1523, 15]);
    }

    #[test]
    fn what_cannot_be_detected_needs_an_unreachable_sample() {
        assert_eq!(required(0.1, (1000, 600), 0.05), UNREACHABLE, "5 points beside 60 % are within the tolerance");
        assert_eq!(required(0.0, (1000, 1), 0.05), UNREACHABLE);
        assert_eq!(required(1.0, (1000, 1), 0.05), UNREACHABLE);
    }
}

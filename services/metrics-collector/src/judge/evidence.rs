//! The evidence against the canary: a conditional e-process.
//!
//! Take one tick: canary n_c requests, k_c errors; control n_b, k_b. Given K = k_c + k_b, and if the canary fails at
//! most rho0 times as often as the control, k_c is at most Binomial(K, theta0) with theta0 = s rho0 / (1 - s + s
//! rho0), s = n_c / (n_c + n_b). The base rate drops out, so an incident that hits both arms cancels, and s may
//! change with every tick.
//!
//! A bet on the alternative "m rho0 times as often" multiplies its stake by the likelihood ratio
//! (theta1/theta0)^k_c ((1-theta1)/(1-theta0))^k_b = m^k_c D^K with D = (1 - s + s rho0) / (1 - s + s m rho0). Its
//! expectation under the null is at most 1, so a portfolio of such bets that starts with 1 in total exceeds 1/alpha
//! *ever* with probability at most alpha (Ville). The portfolio:
//!
//! - six ratios m, each with its part;
//! - onset: four fifths of the money are bet from the first tick. The rest is set aside and enters little by little,
//!   so that a fault that begins late meets fresh money: at minute t, the part t / (15 + t) of that rest has entered.
//!   The weights of all onsets sum to exactly that rest however long it lasts, so Ville's bound needs no horizon; the
//!   first 15 minutes get about as much as everything after them. What has not entered is kept as cash.
//!
//! **Tolerance.** A canary that fails rarely more often than the control, by up to delta of its requests, is not
//! worse either. A ratio 1 + delta / p_b, with the control's past rate p_b, would say so too, but it grows without
//! end beside a control without errors, and a large ratio hides almost everything where the control is small: with 0
//! errors in 20,000 control requests it is 11, and at a weight of 90 % thousands of requests with 5 % errors would
//! pass. So rho0 stays, and the excess is paid for instead: delta n_c tolerated errors lift a bet's expectation by
//! at most the factor e^(delta n_c (m D - 1)), because (1 + a + b) <= (1 + a)(1 + b), and each bet is divided by
//! that. The bound holds for every canary rate up to 1.1 p + delta, whatever p is and however it moves. Where 1.1 times
//! the past rate covers a part of what is tolerated already, so much less is paid
//! ([`Control::excess`](super::control::Control::excess)).
//!
//! All onsets of one ratio gain the same factor in a tick, so one sum per ratio is enough: with S the logarithm of the
//! ratio's gain since the start, a stake w that enters when the gain is S' is worth w e^(S - S'). The cost per tick
//! does not depend on how many onsets there are, and each tick can be one.
//!
//! **Bursts.** Errors that come in clusters break the binomial. When the control's dispersion says so, from *past*
//! ticks only, a tick is bet on by its error share Y = k_c / K alone: factor 1 + lambda (Y - theta0), lambda = f /
//! theta0, which needs no more than E[Y] <= theta0. Each ratio has its fraction f; as the choice is made before the
//! tick, each product stays a fair bet.
//!
//! **Caution.** Whether errors come in clusters is not known at first. Until it is, the logarithm of each factor of a
//! counted tick is divided by the caution phi >= 1 ([`Control::caution`](super::control::Control::caution)): as if
//! phi errors were one. If errors are independent the factor's expectation stays at most 1 (x^(1/phi) is concave);
//! if they come in clusters of phi it is exactly the bet on clusters.
//!
//! **One tick alone never decides.** What happens in one tick may have one cause that is not the change (a node that
//! dies, a storm of retries that hits one arm). If the portfolio was worth less than 2 before a tick, it keeps no
//! more than the square root of 1 / alpha after it; the rest is given away, which can only lower expectations. A
//! second tick has to agree, and by more than one stray error. What cannot wait is for the catastrophe guard.

use meshward_model::TickSample;

use super::share;

/// Ratios that are bet on, each with the fraction that it stakes in a bursty tick and its part of the money. Small
/// ratios need most errors to be seen, so they have most: what a large one lacks it makes up for with an error or two.
const BETS: [(f64, f64, f64); 6] =
    [(1.5, 0.1, 0.25), (2.0, 0.25, 0.35), (3.0, 0.5, 0.15), (6.0, 0.75, 0.1), (15.0, 0.95, 0.075), (50.0, 0.95, 0.075)];
/// Below this the evidence before a tick is so little that the tick stands alone.
const LITTLE: f64 = 2.0;
/// Part of the money that is bet from the first tick.
const AT_START: f64 = 0.8;
/// Minutes after which half of the money for later onsets has entered.
const HALF_ENTERED_MINUTES: f64 = 15.0;

/// The ratios that are bet on, times the tolerated one, each with the logarithm of its share of all money at the
/// start: what the sample size must overcome beside 1 / alpha.
pub(super) fn ratios() -> impl Iterator<Item = (f64, f64)> {
    BETS.iter().map(|(ratio, _, part)| (*ratio, (AT_START * part).ln()))
}

/// Logarithm of D: what each error costs a bet on `ratio`, wherever it falls.
pub(super) fn log_cost(share: f64, tolerated: f64, ratio: f64) -> f64 {
    let odds = |ratio: f64| 1.0 - share + share * ratio;
    (odds(tolerated) / odds(ratio * tolerated)).ln()
}

/// What a canary may do that is still called equal: fail `ratio` times as often as the control, and `excess` on top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerated {
    /// rho0, at least 1.
    pub ratio: f64,
    /// delta, a fraction of the canary's requests.
    pub excess: f64,
}

impl Tolerated {
    /// Logarithm of what a bet on `ratio` pays for each canary request.
    pub(super) fn log_price(&self, share: f64, ratio: f64) -> f64 {
        self.excess * (ratio * log_cost(share, self.ratio, ratio).exp() - 1.0)
    }
}

/// How one tick is bet on. All of it comes from what was known before the tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What an equal canary may do.
    pub tolerated: Tolerated,
    /// Chooses the bet on shares, with the ratio that it tolerates.
    pub burst_ratio: Option<f64>,
    /// phi: how many errors are taken for one, at least 1.
    pub caution: f64,
    /// Logarithm of 1 / alpha, which one tick alone may not reach.
    pub log_bound: f64,
}

/// The portfolio. It is worth 1 before the first tick.
#[derive(Clone, Debug)]
pub struct Evidence {
    bets: [Bet; BETS.len()],
    /// Money for later onsets that has entered, 0 to a fifth.
    entered: f64,
}

/// All stakes on one ratio.
#[derive(Clone, Copy, Debug)]
struct Bet {
    ratio: f64,
    fraction: f64,
    part: f64,
    /// Logarithm of what a stake of 1 from the first tick is worth.
    log_gain: f64,
    /// Logarithm of the stakes, each divided by the gain at its entry.
    log_stakes: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self::new()
    }
}

impl Evidence {
    /// Nothing seen.
    #[must_use]
    pub fn new() -> Self {
        let bets = BETS.map(|(ratio, fraction, part)| Bet {
            ratio,
            fraction,
            part,
            log_gain: 0.0,
            log_stakes: (AT_START * part).ln(),
        });
        Self { bets, entered: 0.0 }
    }

    /// Takes a tick. `minutes` since the canary got its first traffic, at the start of the tick. A tick without
    /// requests in one arm says nothing.
    pub fn observe(&mut self, tick: &TickSample, minutes: f64, terms: &Terms) {
        let before = self.log_value();
        let fresh = self.enter(minutes);
        let share = share(tick.canary_requests, tick.control_requests)
            .filter(|_| tick.canary_requests > 0 && tick.control_requests > 0);
        let log_factor = |bet: &Bet| match (share, terms.burst_ratio) {
            (None, _) => 0.0,
            (Some(share), Some(ratio)) => bet.log_gain_of_share(tick, share, ratio),
            (Some(share), None) => bet.log_ratio(tick, share, terms.tolerated) / terms.caution,
        };
        for bet in &mut self.bets {
            if fresh > 0.0 {
                let stake = (fresh * bet.part).ln() - bet.log_gain;
                bet.log_stakes = log_add(bet.log_stakes, stake);
            }
            bet.log_gain += log_factor(bet);
        }
        if before < LITTLE.ln() {
            self.keep(terms.log_bound / 2.0);
        }
    }

    /// Natural logarithm of the e-value.
    #[must_use]
    pub fn log_value(&self) -> f64 {
        let cash = (1.0 - AT_START - self.entered).max(f64::MIN_POSITIVE).ln();
        self.bets.iter().map(|bet| bet.log_gain + bet.log_stakes).fold(cash, log_add)
    }

    /// Gives away what makes the portfolio worth more than this.
    fn keep(&mut self, log_most: f64) {
        let excess = self.log_value() - log_most;
        if excess > 0.0 {
            self.bets.iter_mut().for_each(|bet| bet.log_stakes -= excess);
        }
    }

    /// Moves the money that is due by now; says how much.
    fn enter(&mut self, minutes: f64) -> f64 {
        let minutes = minutes.max(0.0);
        let due = (1.0 - AT_START) * minutes / (HALF_ENTERED_MINUTES + minutes);
        let fresh = (due - self.entered).max(0.0);
        self.entered += fresh;
        fresh
    }
}

impl Bet {
    fn log_ratio(&self, tick: &TickSample, share: f64, tolerated: Tolerated) -> f64 {
        let (canary, control) = (tick.canary_errors as f64, tick.control_errors as f64);
        let price = tick.canary_requests as f64 * tolerated.log_price(share, self.ratio);
        canary * self.ratio.ln() + (canary + control) * log_cost(share, tolerated.ratio, self.ratio) - price
    }

    fn log_gain_of_share(&self, tick: &TickSample, share: f64, tolerated: f64) -> f64 {
        let errors = tick.canary_errors as f64 + tick.control_errors as f64;
        if errors == 0.0 {
            return 0.0;
        }
        let theta0 = share * tolerated / (1.0 - share + share * tolerated);
        let fraction_of_errors = tick.canary_errors as f64 / errors;
        (1.0 - self.fraction + self.fraction * fraction_of_errors / theta0).ln()
    }
}

/// ln(e^a + e^b) without overflow.
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Independent errors, no limit for a tick.
    fn terms(ratio: f64, excess: f64, burst_ratio: Option<f64>) -> Terms {
        Terms { tolerated: Tolerated { ratio, excess }, burst_ratio, caution: 1.0, log_bound: f64::INFINITY }
    }

    fn tick(canary: (u64, u64), control: (u64, u64)) -> TickSample {
        TickSample {
            end: Timestamp::UNIX_EPOCH,
            canary_requests: canary.0,
            canary_errors: canary.1,
            control_requests: control.0,
            control_errors: control.1,
        }
    }

    /// Canary errors that one tick needs for 100, given the canary's share in percent and the control's errors.
    fn errors_needed(percent: u64, control_errors: u64, tolerated: f64) -> u64 {
        let enough = |errors: &u64| {
            let mut evidence = Evidence::new();
            let sample = tick((percent * 1000, *errors), ((100 - percent) * 1000, control_errors));
            evidence.observe(&sample, 0.0, &terms(tolerated, 0.0, None));
            evidence.log_value() >= 100_f64.ln()
        };
        (0..1000).find(enough).expect("some number of errors is enough")
    }

    /// Without tolerance, as such tables are usually given, and with the least tolerated ratio, 1.1.
    #[test]
    fn errors_needed_by_weight_and_control_errors() {
        let control_errors = [0, 1, 3, 10, 30];
        let needed = |tolerated: f64| {
            [10, 30, 50].map(|percent| control_errors.map(|errors| errors_needed(percent, errors, tolerated)))
        };
        assert_eq!(needed(1.0), [[4, 4, 6, 8, 13], [6, 8, 11, 17, 31], [10, 14, 19, 32, 62]]);
        assert_eq!(needed(1.1), [[4, 5, 6, 9, 14], [7, 9, 11, 19, 34], [11, 15, 20, 35, 67]]);
        assert_eq!(errors_needed(1, 0, 1.1), 3);
    }

    #[test]
    fn the_money_for_later_onsets_never_exceeds_its_part() {
        let mut evidence = Evidence::new();
        let quiet = tick((0, 0), (0, 0));
        for minute in 0..100_000_u32 {
            evidence.observe(&quiet, f64::from(minute), &terms(1.1, 0.0, None));
        }
        assert!(evidence.entered < 1.0 - AT_START);
        assert!(evidence.log_value().abs() < 1e-6, "without bets nothing is won or lost: {}", evidence.log_value());
    }

    #[test]
    fn a_late_fault_is_seen_in_spite_of_a_long_good_past() {
        let mut evidence = Evidence::new();
        for minute in 0..120_u32 {
            evidence.observe(&tick((1_000, 5), (9_000, 45)), f64::from(minute), &terms(1.1, 0.0, None));
        }
        assert!(evidence.log_value() < 0.0);
        evidence.observe(&tick((1_000, 60), (9_000, 45)), 120.0, &terms(1.1, 0.0, None));
        assert!(evidence.log_value() > 100_f64.ln());
    }

    #[test]
    fn the_tolerated_excess_is_no_evidence_and_more_of_it_is() {
        let after = |canary_errors: u64| {
            let mut evidence = Evidence::new();
            let sample = tick((9_000, canary_errors), (1_000, 0));
            (0..60_u32).for_each(|at| evidence.observe(&sample, at.into(), &terms(1.1, 0.0005, None)));
            evidence.log_value()
        };
        assert!(after(4) < 0.0, "0.044 % beside a control without errors");
        assert!(after(450) > 100_f64.ln(), "5 % beside a small control without errors");
    }

    #[test]
    fn one_bursty_tick_cannot_win_more_than_its_stake_allows() {
        let mut evidence = Evidence::new();
        evidence.observe(&tick((1_000, 500), (9_000, 0)), 0.0, &terms(1.1, 0.0, Some(1.1)));
        assert!(evidence.log_value() < 10_f64.ln(), "one cluster of errors is one piece of evidence");
        let mut independent = Evidence::new();
        independent.observe(&tick((1_000, 500), (9_000, 0)), 0.0, &terms(1.1, 0.0, None));
        assert!(independent.log_value() > 100_f64.ln());
    }

    #[test]
    fn caution_takes_several_errors_for_one_and_one_tick_wins_no_more_than_it_may() {
        let sample = tick((1_000, 40), (9_000, 10));
        let after = |caution: f64, log_bound: f64| {
            let mut evidence = Evidence::new();
            evidence.observe(&sample, 0.0, &Terms { caution, log_bound, ..terms(1.1, 0.0, None) });
            evidence.log_value()
        };
        assert!(after(5.0, f64::INFINITY) < after(1.0, f64::INFINITY) / 3.0);
        assert!(after(1.0, 5.0) < 2.6, "{}", after(1.0, 5.0));
    }
}

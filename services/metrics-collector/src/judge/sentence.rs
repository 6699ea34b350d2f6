//! The one sentence with which each verdict explains itself.

use meshward_model::{JudgeOptions, Weight};

use super::{Sum, guard::Window, objective::Objective, sample::UNREACHABLE, stream::Stream};

pub(super) fn regression(sum: &Sum, log_evidence: f64, options: &JudgeOptions) -> String {
    format!("{}; {}", counts(sum), evidence(log_evidence, options))
}

/// `what` says what it was instead of errors.
pub(super) fn other(what: &str, log_evidence: f64, options: &JudgeOptions) -> String {
    format!("{what}; {}", evidence(log_evidence, options))
}

/// Requests beyond an edge.
pub(super) fn beyond(edge_ms: f64, canary: (u64, u64), control: (u64, u64)) -> String {
    format!(
        "{} of {} canary requests took longer than {edge_ms} ms, {} of {} control requests did",
        number(canary.1),
        number(canary.0),
        number(control.1),
        number(control.0),
    )
}

/// More of something else than of errors.
pub(super) fn counted(name: &str, sum: &Sum) -> String {
    format!(
        "{} {name} in {} canary requests, {} in {} control requests; at this share {:.1} were expected",
        number(sum.canary_errors),
        number(sum.canary_requests),
        number(sum.control_errors),
        number(sum.control_requests),
        sum.expected_errors,
    )
}

/// `slower_ms` is the latency that is promised; `None` = errors.
pub(super) fn objective_broken(objective: &Objective, slower_ms: Option<f64>) -> String {
    let (limit, canary, control) = objective.seen();
    let what = slower_ms.map_or("failed".to_owned(), |edge_ms| format!("took longer than {edge_ms} ms"));
    format!(
        "{} of {} canary requests {what} in this step, {} of {} control requests did: the objective is at most {}",
        number(canary.1),
        number(canary.0),
        number(control.1),
        number(control.0),
        percent(limit),
    )
}

pub(super) fn negligible(step: &Sum, limit: f64) -> String {
    format!("{}; up to {} is called negligible", counts(step), percent(limit))
}

fn percent(fraction: f64) -> String {
    format!("{} %", (fraction * 1e6).round() / 1e4)
}

pub(super) fn nothing_exposed(step: &Sum) -> String {
    format!(
        "nothing is exposed yet; before the change {} and {} requests of the same groups do not differ",
        number(step.canary_requests),
        number(step.control_requests),
    )
}

pub(super) fn not_comparable(errors: &Stream) -> String {
    let total = errors.before().total();
    let [canary_requests, canary_errors, control_requests, control_errors] =
        [total.canary.0, total.canary.1, total.control.0, total.control.1].map(|count| number(count as u64));
    format!(
        "before the change {canary_errors} of {canary_requests} requests of the canary's group failed, \
         {control_errors} of {control_requests} of the control's: up to {:.1} times as often is not called a \
         regression, and whether it may go on is for a person to say",
        errors.tolerated_ratio(),
    )
}

pub(super) fn catastrophe(window: &Window) -> String {
    format!(
        "{} of the last {} canary requests failed, {} of {} control requests did: stopped at once",
        number(window.canary_errors),
        number(window.canary_requests),
        number(window.control_errors),
        number(window.control_requests),
    )
}

pub(super) fn no_tick_yet() -> String {
    "no whole tick of this step is over yet".to_owned()
}

pub(super) fn no_traffic(step: &Sum, weight: Weight) -> String {
    if step.control_requests == 0 {
        return "neither canary nor control had a request in this step".to_owned();
    }
    let control = number(step.control_requests);
    format!("the canary had no request in this step (weight {weight}), the control had {control}")
}

pub(super) fn no_control_by_plan(step: &Sum) -> String {
    let (errors, requests) = (number(step.canary_errors), number(step.canary_requests));
    format!(
        "{errors} errors in {requests} canary requests; at 100 % there is no control to compare with, so nothing \
         is judged"
    )
}

pub(super) fn no_control(step: &Sum) -> String {
    let requests = number(step.canary_requests);
    format!("the control had no request in this step, the canary had {requests}: nothing to compare with")
}

pub(super) fn share_is_off(step: &Sum, weight: Weight) -> String {
    let share = step.share().unwrap_or(0.0) * 100.0;
    let requests = number(step.canary_requests.saturating_add(step.control_requests));
    format!("the canary got {share:.1} % of {requests} requests where {weight} were asked: the step is held")
}

pub(super) fn suspicious(step: &Sum, log_evidence: f64, options: &JudgeOptions) -> String {
    format!("{}; {}: not enough to roll back, too much to go on", counts(step), evidence(log_evidence, options))
}

pub(super) fn sample_too_small(step: &Sum, seconds: f64, required: u64, options: &JudgeOptions) -> String {
    let effect = points(options.detectable_effect);
    if required >= UNREACHABLE {
        return format!("{}; beside so many errors an effect of {effect} cannot be detected", counts(step));
    }
    let rate = step.canary_requests as f64 / seconds;
    let left = required.saturating_sub(step.canary_requests) as f64 / rate;
    format!(
        "{}; {} canary requests are needed to see {effect}: about {} more at {rate:.1} canary requests a second",
        counts(step),
        number(required),
        span(left),
    )
}

pub(super) fn healthy(step: &Sum, log_evidence: f64, required: u64, options: &JudgeOptions) -> String {
    let (effect, required) = (points(options.detectable_effect), number(required));
    format!("{}; {}; {required} requests were needed to see {effect}", counts(step), evidence(log_evidence, options))
}

/// "8 errors in 120 canary requests, 10 in 1,080 control requests; at this share 1.8 were expected".
fn counts(sum: &Sum) -> String {
    let errors = if sum.canary_errors == 1 { "error" } else { "errors" };
    format!(
        "{} {errors} in {} canary requests, {} in {} control requests; at this share {:.1} were expected",
        number(sum.canary_errors),
        number(sum.canary_requests),
        number(sum.control_errors),
        number(sum.control_requests),
        sum.expected_errors,
    )
}

fn evidence(log_evidence: f64, options: &JudgeOptions) -> String {
    let bound = number((1.0 / options.alpha).round() as u64);
    let value = log_evidence.exp();
    let value = match value {
        _ if value > 1e6 => "over 1,000,000".to_owned(),
        _ if value >= 10.0 => number(value.floor() as u64),
        _ => format!("{value:.1}"),
    };
    format!("evidence {value} against {bound}")
}

fn points(effect: f64) -> String {
    format!("+{} percentage points", (effect * 10_000.0).round() / 100.0)
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{} s", s.ceil()),
        s if s < 5400.0 => format!("{} min", (s / 60.0).ceil()),
        s => format!("{} h", number((s / 3600.0).ceil() as u64)),
    }
}

/// With commas between thousands.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_for_people() {
        assert_eq!([0, 999, 1080, 1_000_000].map(number), ["0", "999", "1,080", "1,000,000"]);
        assert_eq!([1.2, 600.0, 7300.0].map(span), ["2 s", "10 min", "3 h"]);
        assert_eq!([0.05, 0.0005].map(points), ["+5 percentage points", "+0.05 percentage points"]);
    }
}

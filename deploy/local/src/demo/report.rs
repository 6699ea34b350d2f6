//! What was promised, whether it held, and the figures.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use meshward_proto::rollout::v1::Deployment;
use serde::Serialize;
use serde_json::Value;

use super::policies;

use crate::load::{Load, LoadReport};

/// Everything that the demo found; `--report` writes it as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// All of it held.
    pub ok: bool,
    /// What was promised.
    pub checks: Vec<Check>,
    /// The releases, in order.
    pub releases: Vec<ReleaseReport>,
    /// Every request, by phase.
    pub load: LoadReport,
    /// How long it took.
    pub seconds: Seconds,
}

/// One promise.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was promised.
    pub promise: String,
    /// It held.
    pub held: bool,
    /// The figures, or what was seen instead.
    pub detail: String,
}

/// Durations in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    /// Until mesh and services were ready.
    pub start: f64,
    /// The main job itself.
    pub run: f64,
}

/// One release.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseReport {
    /// "good", "bad", "refused".
    pub name: &'static str,
    /// What its answers say.
    pub version: &'static str,
    /// Deployment.
    pub deployment_id: String,
    /// Trace that covers it in all services.
    pub trace_id: String,
    /// State at its end.
    pub outcome: String,
    /// State of the version in the registry.
    pub version_state: String,
    /// Why it ended so.
    pub reason: String,
    /// From deployment to end.
    pub seconds: f64,
    /// Step by step.
    pub steps: Vec<StepLine>,
    /// Share and requests per judged step, as Envoy counted them.
    #[serde(skip)]
    pub measured: Vec<(Option<f64>, u64)>,
    /// The orchestrator was killed in the middle of a step.
    pub orchestrator_killed: bool,
    /// If it was taken back.
    pub rollback: Option<Rollback>,
    /// Requests sent while it was released.
    pub requests: u64,
    /// Of those, answered with an error, or not at all.
    pub failed_requests: u64,
    /// Of those, lost: no answer of the application.
    pub lost_requests: u64,
    /// Answered by the application without any version's mark.
    pub answered_by_neither: u64,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct StepLine {
    /// Asked, 0 to 1.
    pub weight: f64,
    /// Really measured at Envoy, 0 to 1.
    pub share: Option<f64>,
    /// On how many requests.
    pub requests: u64,
    /// From the write to the proof.
    pub seconds_to_live: Option<f64>,
    /// The last verdict at the step.
    pub verdict: String,
    /// Its one sentence.
    pub explanation: String,
}

/// How a version was taken back.
#[derive(Debug, Clone, Serialize)]
pub struct Rollback {
    /// `None` = no request failed.
    pub seconds_from_first_failure_to_verdict: Option<f64>,
    /// From the verdict until the proxies had the old version again, proven.
    pub seconds_from_verdict_to_live: f64,
    /// The orchestrator's own sentence.
    pub report: String,
}

impl ReleaseReport {
    /// A release that begins.
    #[must_use]
    pub fn new(name: &'static str, version: &'static str, deployment: &Deployment) -> Self {
        Self {
            name,
            version,
            deployment_id: deployment.id.clone(),
            trace_id: deployment.trace_id.clone(),
            outcome: String::new(),
            version_state: String::new(),
            reason: String::new(),
            seconds: 0.0,
            steps: Vec::new(),
            measured: Vec::new(),
            orchestrator_killed: false,
            rollback: None,
            requests: 0,
            failed_requests: 0,
            lost_requests: 0,
            answered_by_neither: 0,
        }
    }

    /// Takes over what the load saw in these phases.
    pub fn take_load(&mut self, load: &Load, phases: &[&str]) {
        let report = load.snapshot();
        for phase in phases.iter().filter_map(|name| report.phase(name)) {
            self.requests += phase.sent;
            self.failed_requests += phase.failed;
            self.lost_requests += phase.lost.total();
            self.answered_by_neither += phase.answered_by_neither;
        }
    }

    /// At 100 % there are no cohorts any more: the share is that of the answers.
    pub fn last_share(&mut self, load: &Load, phase: &str, version: &str) {
        let report = load.snapshot();
        if let (Some(step), Some(phase)) = (self.steps.last_mut(), report.phase(phase)) {
            step.share = phase.share_of(version);
            step.requests = phase.completed;
        }
    }
}

/// Notes a promise and whether it held.
pub(super) fn check(checks: &mut Vec<Check>, promise: impl Into<String>, held: bool, detail: impl Into<String>) {
    checks.push(Check { promise: promise.into(), held, detail: detail.into() });
}

/// Percentage points that the share may be off.
const TOLERANCE: f64 = 0.015;
/// The share may be off by 1.5 points, or by four standard deviations where a short run has too few requests for that.
#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn tolerance(step: &StepLine, enough: u64) -> f64 {
    if enough >= 5_000 {
        return TOLERANCE;
    }
    TOLERANCE.max(4.0 * (step.weight * (1.0 - step.weight) / step.requests.max(1) as f64).sqrt())
}

/// The promises of a good change.
pub fn good(checks: &mut Vec<Check>, release: &ReleaseReport, enough: u64, live: &Value) {
    check(
        checks,
        "the good change is promoted",
        release.outcome == "PROMOTED",
        format!("{}: {}", release.outcome, release.reason),
    );
    check(checks, "its version is the active one", release.version_state == "ACTIVE", &*release.version_state);
    check(
        checks,
        "it is promoted although the orchestrator is killed on the way",
        release.orchestrator_killed,
        "SIGKILL in the second step",
    );
    check(checks, "every step was taken", release.steps.len() == 5, format!("{} of 5", release.steps.len()));
    for step in &release.steps {
        let off = step.share.map(|share| (share - step.weight).abs());
        let held = off.is_some_and(|off| off <= tolerance(step, enough)) && step.requests >= enough;
        let detail = format!("{} measured on {} requests", percent(step.share), step.requests);
        check(
            checks,
            format!("{} is really {0}, within 1.5 points on {enough} requests or more", percent(Some(step.weight))),
            held,
            detail,
        );
        check(
            checks,
            format!("{} is proven live", percent(Some(step.weight))),
            step.seconds_to_live.is_some(),
            step.seconds_to_live.map_or_else(|| "never".into(), |seconds| format!("after {seconds:.3} s")),
        );
    }
    for step in release.steps.iter().rev().skip(1) {
        check(
            checks,
            format!("{} is judged healthy", percent(Some(step.weight))),
            step.verdict == "HEALTHY",
            &*step.explanation,
        );
    }
    let approved: Value = serde_yaml::from_str(&policies::good()).unwrap_or_default();
    let ours =
        live["metadata"]["annotations"].as_object().is_some_and(|all| all.keys().any(|key| key.contains("meshward")));
    let equal = live["spec"] == approved["spec"] && !ours;
    check(checks, "the live object is the approved version", equal, if equal { "equal" } else { "different" });
    no_loss(checks, release);
}

/// No request may be lost by a change of a step.
fn no_loss(checks: &mut Vec<Check>, release: &ReleaseReport) {
    let held = release.lost_requests == 0 && release.answered_by_neither == 0 && release.requests > 0;
    let detail =
        format!("{} lost, {} by neither, of {}", release.lost_requests, release.answered_by_neither, release.requests);
    check(
        checks,
        format!("no request of the {} change is lost or answered by neither version", release.name),
        held,
        detail,
    );
}

/// The promises of a change that is taken back.
pub fn rolled_back(checks: &mut Vec<Check>, release: &ReleaseReport, differences: &[String], verdict: &str) {
    let name = release.name;
    let state = format!("{}: {}", release.outcome, release.reason);
    check(checks, format!("the {name} change is rolled back by itself"), release.outcome == "ROLLED_BACK", state);
    check(checks, "at the first step", release.steps.len() == 1, format!("{} steps", release.steps.len()));
    if !verdict.is_empty() {
        let said = release.steps.first().map(|step| step.verdict.clone()).unwrap_or_default();
        check(checks, format!("because of the verdict {verdict}"), said == verdict, said);
    }
    check(
        checks,
        format!("the {name} version is quarantined"),
        release.version_state == "QUARANTINED",
        &*release.version_state,
    );
    let detail = if differences.is_empty() { "nothing differs".to_owned() } else { differences.join("; ") };
    check(
        checks,
        format!("after the {name} change everything is byte for byte what it was"),
        differences.is_empty(),
        detail,
    );
    no_loss(checks, release);
}

/// The promises of a change that Envoy refuses.
pub fn refused(checks: &mut Vec<Check>, release: &ReleaseReport, differences: &[String]) {
    rolled_back(checks, release, differences, "");
    let words = crate::stack::ENVOY_REFUSAL;
    check(checks, "with Envoy's own words as the reason", release.reason.contains(words), &*release.reason);
    check(
        checks,
        "and no request failed",
        release.failed_requests == 0,
        format!("{} of {}", release.failed_requests, release.requests),
    );
}

/// Input that must not get through.
pub fn turned_away(checks: &mut Vec<Check>, refusals: Vec<super::refusals::Refusal>) {
    for refusal in refusals {
        check(checks, format!("{} is refused, and nothing is stored", refusal.what), refusal.held, refusal.answer);
    }
}

/// One trace for all.
pub fn traced(checks: &mut Vec<Check>, seen: &BTreeSet<String>, services: &[&str]) {
    let held = services.iter().all(|service| seen.contains(*service));
    check(
        checks,
        "one trace covers the deployment in all five services",
        held,
        seen.iter().cloned().collect::<Vec<_>>().join(", "),
    );
}

impl Report {
    /// Everything together.
    #[must_use]
    pub fn new(checks: Vec<Check>, releases: [ReleaseReport; 3], load: LoadReport) -> Self {
        let ok = !checks.is_empty() && checks.iter().all(|check| check.held);
        Self { ok, checks, releases: releases.into(), load, seconds: Seconds::default() }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for release in &self.releases {
            release.write(&mut text);
        }
        let _ = writeln!(text, "\nWhat was promised:");
        for Check { promise, held, detail } in &self.checks {
            let mark = if *held { "ok  " } else { "FAIL" };
            let _ = writeln!(text, "  {mark} {promise} ({})", shortened(detail));
        }
        let Seconds { start, run } = self.seconds;
        let _ = writeln!(text, "\nMesh and services were ready after {start:.1} s; the main job took {run:.1} s.");
        let verdict = if self.ok { "All of it holds." } else { "NOT all of it holds." };
        let _ = writeln!(text, "{verdict}");
        text
    }
}

impl ReleaseReport {
    fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nThe {} change ({}): {} after {:.1} s",
            self.name, self.version, self.outcome, self.seconds
        );
        let _ = writeln!(text, "  {:>7} {:>9} {:>9} {:>11}  verdict", "asked", "measured", "requests", "live after");
        for step in &self.steps {
            let live = step.seconds_to_live.map_or_else(|| "-".into(), |seconds| format!("{seconds:.3} s"));
            let (asked, measured) = (percent(Some(step.weight)), percent(step.share));
            let verdict =
                if step.verdict.is_empty() { String::new() } else { format!("{}: {}", step.verdict, step.explanation) };
            let _ = writeln!(text, "  {asked:>7} {measured:>9} {:>9} {live:>11}  {verdict}", step.requests);
        }
        let _ = writeln!(
            text,
            "  requests: {}, failed {}, lost {}, by neither version {}",
            self.requests, self.failed_requests, self.lost_requests, self.answered_by_neither
        );
        let Some(rollback) = &self.rollback else { return };
        let _ = writeln!(text, "  reason: {}", self.reason);
        if let Some(seconds) = rollback.seconds_from_first_failure_to_verdict {
            let _ = writeln!(text, "  first failure to verdict: {seconds:.2} s");
        }
        let _ = writeln!(
            text,
            "  verdict to proven live: {:.2} s; {}",
            rollback.seconds_from_verdict_to_live, rollback.report
        );
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.2} %", share * 100.0))
}

fn shortened(detail: &str) -> String {
    const MOST: usize = 200;
    if detail.chars().count() <= MOST {
        detail.to_owned()
    } else {
        detail.chars().take(MOST).chain("…".chars()).collect()
    }
}

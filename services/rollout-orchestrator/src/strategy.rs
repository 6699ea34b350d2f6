//! How a version is released: the strategy as it was asked for, with every default filled in and every bound checked.

use std::time::Duration;

use meshward_model::{Audience, JudgeOptions, Mechanism, Mesh, Weight};
use serde::{Deserialize, Serialize};

/// A canary: weights that rise to 100 %.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// In order; the last is 100 %, which is promotion.
    pub steps: Vec<Step>,
    /// How often the judge looks.
    pub analysis_interval: Duration,
    /// How long a write may take to be proven live.
    pub propagation_timeout: Duration,
    /// Share of the concerned proxies on which a step must be proven live before it counts.
    #[serde(default = "every_proxy")]
    pub propagation_quorum: Weight,
    /// How long missing data or evidence holds a step before `on_no_data` is done.
    pub hold_timeout: Duration,
    /// What is done then.
    pub on_no_data: OnNoData,
    /// How the judge weighs.
    pub judge: JudgeOptions,
    /// Mechanism that was asked for; `None` = the best one.
    pub mechanism: Option<Mechanism>,
    /// To whom the canary is given, where the mechanism has to be told or can be.
    #[serde(default)]
    pub audience: Audience,
}

/// One weight, held and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is asked.
    pub weight: Weight,
    /// Minimum time at the weight after it is proven live.
    pub bake_time: Duration,
    /// Wait for a person after the verdict.
    pub gate: bool,
}

/// What is done when the judge has had no data for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNoData {
    /// Hold until a person decides.
    Pause,
    /// Take the version back.
    Rollback,
    /// Go on without a verdict.
    Proceed,
}

/// What is wrong with a strategy: a field and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Field within the strategy, e.g. "steps[1].weight_bp".
    pub field: String,
    /// What is wrong and how to mend it.
    pub problem: String,
}

fn every_proxy() -> Weight {
    Weight::FULL
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            steps: Self::default_steps(Duration::from_secs(300)),
            analysis_interval: Duration::from_secs(15),
            propagation_timeout: Duration::from_secs(60),
            propagation_quorum: every_proxy(),
            hold_timeout: Duration::from_secs(600),
            on_no_data: OnNoData::Pause,
            judge: JudgeOptions::default(),
            mechanism: None,
            audience: Audience::default(),
        }
    }
}

impl Strategy {
    /// 10, 30, 50, 90 and 100 %: the last judged step keeps a tenth of the traffic as control (`judge.md`: a judge without a
    /// concurrent control rolls back healthy changes whenever an incident comes by).
    #[must_use]
    pub fn default_steps(bake_time: Duration) -> Vec<Step> {
        let weights = [1_000, 3_000, 5_000, 9_000, 10_000];
        let step = |bp| Step { weight: Weight::from_basis_points(bp).unwrap_or(Weight::FULL), bake_time, gate: false };
        weights.into_iter().map(step).collect()
    }

    /// Everything that is wrong with it; empty = it can be run.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut add = |field: String, problem: String| found.push(Violation { field, problem });
        if self.steps.len() < 2 || self.steps.len() > 100 {
            add("steps".into(), format!("a canary has 2 to 100 steps, not {}", self.steps.len()));
        }
        for (index, pair) in self.steps.windows(2).enumerate() {
            let [before, after] = pair else { continue };
            if after.weight <= before.weight {
                let problem = format!("weights rise from step to step: {} comes after {}", after.weight, before.weight);
                add(format!("steps[{}].weight_bp", index + 1), problem);
            }
        }
        if self.steps.first().is_some_and(|step| step.weight == Weight::ZERO) {
            add("steps[0].weight_bp".into(), "a step exposes somebody: at least 1 basis point".into());
        }
        if let Some(last) = self.steps.last().filter(|last| last.weight != Weight::FULL) {
            let problem = format!("the last step is 10000 (promotion), not {}", last.weight.basis_points());
            add(format!("steps[{}].weight_bp", self.steps.len() - 1), problem);
        }
        if self.steps.last().is_some_and(|last| last.gate) {
            let problem =
                "the last step is promotion, which nothing follows: put the gate on the step before".to_owned();
            add(format!("steps[{}].gate", self.steps.len() - 1), problem);
        }
        for (index, step) in self.steps.iter().enumerate() {
            bounded(&mut add, format!("steps[{index}].bake_time"), step.bake_time, (1, 86_400));
        }
        bounded(&mut add, "analysis_interval".into(), self.analysis_interval, (1, 300));
        bounded(&mut add, "propagation_timeout".into(), self.propagation_timeout, (1, 3_600));
        bounded(&mut add, "hold_timeout".into(), self.hold_timeout, (1, 86_400));
        if self.propagation_quorum == Weight::ZERO {
            add("propagation_quorum_bp".into(), "a step is proven on somebody: at least 1 basis point".into());
        }
        found
    }

    /// What is wrong with the audience for a mechanism, the one that was asked for or the one that was planned: one that
    /// goes unheard would not be whom the canary is given to.
    #[must_use]
    pub fn audience_violations(&self, mechanism: Mechanism, mesh: Mesh) -> Vec<Violation> {
        let Audience { header, namespaces } = &self.audience;
        let takes_header = mechanism == Mechanism::Header;
        let takes_namespaces = matches!(mechanism, Mechanism::Namespace | Mechanism::Instance);
        let name = format!("{mechanism:?}").to_uppercase();
        let mut found = Vec::new();
        let mut add = |field: &str, problem: String| found.push(Violation { field: field.into(), problem });
        if header.is_some() && !takes_header {
            add("audience.header", format!("{name} asks for no header: leave it out, or ask for HEADER"));
        }
        if !namespaces.is_empty() && !takes_namespaces {
            let problem = format!("{name} asks for no namespaces: leave them out, or ask for NAMESPACE or INSTANCE");
            add("audience.namespaces", problem);
        }
        // Linkerd's HEADER has the ids of traces and of clients to go by.
        if header.is_none() && takes_header && mesh == Mesh::Istio {
            add(
                "audience.header",
                "HEADER gives the version to the requests with a header or a cookie: name it".into(),
            );
        }
        found
    }
}

fn bounded(add: &mut impl FnMut(String, String), field: String, value: Duration, (least, most): (u64, u64)) {
    if value < Duration::from_secs(least) || value > Duration::from_secs(most) {
        add(field, format!("{least} s to {most} s, not {} s", value.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use meshward_model::{HeaderMatch, HeaderValue};

    use super::*;

    fn bp(value: i64) -> Weight {
        Weight::from_basis_points(value).unwrap()
    }

    #[test]
    fn the_default_can_be_run() {
        assert_eq!(Strategy::default().violations(), []);
    }

    #[test]
    fn one_that_was_stored_before_there_were_quorums_and_audiences_is_for_all_on_every_proxy() {
        let mut stored = serde_json::to_value(Strategy::default()).unwrap();
        for younger in ["propagation_quorum", "audience"] {
            stored.as_object_mut().unwrap().remove(younger).expect(younger);
        }
        assert_eq!(serde_json::from_value::<Strategy>(stored).unwrap(), Strategy::default());
    }

    #[test]
    fn an_audience_goes_with_a_mechanism_that_asks_for_it() {
        let header = HeaderMatch { name: "x-beta".into(), is_cookie: false, value: HeaderValue::Any };
        let (header, places) = (Some(header), vec!["web".to_owned()]);
        let (unheard, both) = (["audience.header"], ["audience.header", "audience.namespaces"]);
        for (header, namespaces, mechanism, mesh, fields) in [
            (&None, vec![], Mechanism::Request, Mesh::Istio, &[][..]),
            (&header, vec![], Mechanism::Header, Mesh::Istio, &[]),
            (&header, vec![], Mechanism::Header, Mesh::Linkerd, &[]),
            (&None, vec![], Mechanism::Header, Mesh::Istio, &unheard),
            (&None, vec![], Mechanism::Header, Mesh::Linkerd, &[]),
            (&header, vec![], Mechanism::Weight, Mesh::Linkerd, &unheard),
            (&header, vec![], Mechanism::None, Mesh::Istio, &unheard),
            (&None, places.clone(), Mechanism::Namespace, Mesh::Istio, &[]),
            (&None, vec![], Mechanism::Namespace, Mesh::Istio, &[]),
            (&None, places.clone(), Mechanism::Instance, Mesh::Istio, &[]),
            (&None, places.clone(), Mechanism::Subset, Mesh::Istio, &both[1..]),
            (&header, places.clone(), Mechanism::Shadow, Mesh::Istio, &both),
        ] {
            let audience = Audience { header: header.clone(), namespaces };
            let strategy = Strategy { audience, ..Strategy::default() };
            let found = strategy.audience_violations(mechanism, mesh);
            let found: Vec<_> = found.into_iter().map(|violation| violation.field).collect();
            assert_eq!(found, fields, "{mechanism:?} on {mesh:?} for {:?}", strategy.audience);
        }
    }

    #[test]
    fn each_slip_is_named_with_its_field() {
        type Spoil = fn(&mut Strategy);
        let table: [(&str, Spoil); 11] = [
            ("steps[4].gate", |s| s.steps[4].gate = true),
            ("steps", |s| s.steps.truncate(0)),
            ("steps", |s| s.steps.drain(..4).for_each(drop)),
            ("steps[1].weight_bp", |s| s.steps[1].weight = s.steps[0].weight),
            ("steps[0].weight_bp", |s| s.steps[0].weight = Weight::ZERO),
            ("steps[4].weight_bp", |s| s.steps[4].weight = bp(9_500)),
            ("steps[2].bake_time", |s| s.steps[2].bake_time = Duration::ZERO),
            ("analysis_interval", |s| s.analysis_interval = Duration::from_secs(301)),
            ("propagation_timeout", |s| s.propagation_timeout = Duration::ZERO),
            ("propagation_quorum_bp", |s| s.propagation_quorum = Weight::ZERO),
            ("hold_timeout", |s| s.hold_timeout = Duration::from_secs(86_401)),
        ];
        for (field, spoil) in table {
            let mut strategy = Strategy::default();
            spoil(&mut strategy);
            let fields: Vec<_> = strategy.violations().into_iter().map(|violation| violation.field).collect();
            assert_eq!(fields, [field]);
        }
    }
}

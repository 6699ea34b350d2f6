//! Istio's kinds. VirtualService and AuthorizationPolicy can be exposed step by step; every kind can be put in place
//! all at once.

mod authorization_policy;
mod cohort;
mod direct;
mod steps;
mod virtual_service;

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Target, Weight};

use serde_json::{Map, Value};

use super::{Desired, Dialect, Question, Unsupported};

pub use cohort::Cohort;
pub(crate) use virtual_service::qualified;

/// The dialect.
pub struct Istio;

/// A kind that can be exposed step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    VirtualService,
    AuthorizationPolicy,
}

impl Kind {
    fn of(target: &Target) -> Option<Self> {
        match (target.group(), target.kind.as_str()) {
            ("networking.istio.io", "VirtualService") => Some(Self::VirtualService),
            ("security.istio.io", "AuthorizationPolicy") => Some(Self::AuthorizationPolicy),
            _ => None,
        }
    }
}

impl Dialect for Istio {
    fn needs_neighbours(&self, question: &Question<'_>) -> bool {
        let all_at_once = question.weights.iter().all(|weight| *weight == Weight::FULL);
        Kind::of(question.target) == Some(Kind::VirtualService) && question.baseline.object.is_some() && !all_at_once
    }

    fn plan(&self, question: &Question<'_>) -> Result<ExposurePlan, Unsupported> {
        let all_at_once = question.weights.iter().all(|weight| *weight == Weight::FULL);
        match (question.wanted, Kind::of(question.target)) {
            (Some(Mechanism::None), _) => direct::plan(question),
            (None, _) if all_at_once => direct::plan(question),
            (_, Some(Kind::VirtualService)) => virtual_service::plan(question),
            (_, Some(Kind::AuthorizationPolicy)) => authorization_policy::plan(question),
            (_, None) => Err(Unsupported::new(
                format!("{} cannot be exposed step by step yet", question.target.kind),
                "VirtualService and AuthorizationPolicy can; this kind can be released all at once: mechanism NONE \
                 with the weight 100 %",
            )),
        }
    }

    fn render(&self, intent: &ExposureIntent) -> Result<Vec<Desired>, Unsupported> {
        let desired = match (intent.mechanism, Kind::of(&intent.target)) {
            _ if intent.weight == Weight::FULL => direct::approved(&intent.target, &intent.canary),
            (Mechanism::None, _) => return Err(direct::only_full()),
            (_, Some(Kind::VirtualService)) => virtual_service::step(intent)?,
            (Mechanism::Request, Some(Kind::AuthorizationPolicy)) => authorization_policy::step(intent)?,
            (mechanism, _) => {
                return Err(Unsupported::new(
                    format!("{} is not exposed by {mechanism:?}", intent.target.kind),
                    "ask for a plan and use its mechanism",
                ));
            }
        };
        Ok(vec![desired])
    }
}

/// The names of the top-level fields that differ, except one.
fn differing_fields(stable: &Value, canary: &Value, except: &str) -> Vec<String> {
    let empty = Map::new();
    let fields = |spec: &'_ Value| spec.as_object().unwrap_or(&empty).keys().cloned().collect::<Vec<_>>();
    let mut names: Vec<_> = fields(stable).into_iter().chain(fields(canary)).collect();
    names.sort();
    names.dedup();
    names.retain(|name| name != except && stable[name.as_str()] != canary[name.as_str()]);
    names
}

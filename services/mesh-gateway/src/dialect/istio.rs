//! Istio's kinds. VirtualService can be exposed step by step; every kind can be put in place all at once.

mod cohort;
mod direct;
mod virtual_service;

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Weight};

use super::{Desired, Dialect, Question, Unsupported};

pub use cohort::Cohort;
pub(crate) use virtual_service::qualified;

/// The dialect.
pub struct Istio;

const VIRTUAL_SERVICE: (&str, &str) = ("networking.istio.io", "VirtualService");

impl Dialect for Istio {
    fn needs_neighbours(&self, question: &Question<'_>) -> bool {
        let all_at_once = question.weights.iter().all(|weight| *weight == Weight::FULL);
        is_virtual_service(question.target) && question.baseline.object.is_some() && !all_at_once
    }

    fn plan(&self, question: &Question<'_>) -> Result<ExposurePlan, Unsupported> {
        let all_at_once = question.weights.iter().all(|weight| *weight == Weight::FULL);
        match question.wanted {
            Some(Mechanism::None) => direct::plan(question),
            None if all_at_once => direct::plan(question),
            _ if is_virtual_service(question.target) => virtual_service::plan(question),
            _ => Err(Unsupported::new(
                format!("{} cannot be exposed step by step yet", question.target.kind),
                "VirtualService can; this kind can be released all at once: mechanism NONE with the weight 100 %",
            )),
        }
    }

    fn render(&self, intent: &ExposureIntent) -> Result<Vec<Desired>, Unsupported> {
        let desired = match intent.mechanism {
            _ if intent.weight == Weight::FULL => direct::approved(&intent.target, &intent.canary),
            Mechanism::None => return Err(direct::only_full()),
            _ if is_virtual_service(&intent.target) => virtual_service::step(intent)?,
            mechanism => {
                return Err(Unsupported::new(
                    format!("{} is not exposed by {mechanism:?}", intent.target.kind),
                    "ask for a plan and use its mechanism",
                ));
            }
        };
        Ok(vec![desired])
    }
}

fn is_virtual_service(target: &meshward_model::Target) -> bool {
    (target.group(), target.kind.as_str()) == VIRTUAL_SERVICE
}

//! Istio's kinds. All but WorkloadGroup and ProxyConfig, which are read when something is made, can be exposed step by
//! step; every kind can be put in place all at once.

mod authorization_policy;
mod callers;
mod cohort;
mod destination_rule;
mod endpoints;
mod gateway;
mod instance;
mod placed;
mod refused;
mod shadow;
mod virtual_service;

use meshward_model::{ExposureIntent, Mechanism, Mesh, Target, Weight};
use serde_json::{Map, Value};

use super::{
    Capability, Desired, Dialect, Need, Newcomers, Phase, Planned, PodCohorts, Question, Readers, Unsupported, Wanted,
    capabilities::mechanism_name, direct, steps,
};
use crate::object;

pub use cohort::Cohort;
pub(crate) use destination_rule::effective_policy;
use endpoints::{service_entry, workload_entry};
use instance::Scope;
pub(crate) use virtual_service::qualified;

/// The dialect.
pub struct Istio;

/// Every kind that Istio defines.
const KINDS: [(&str, &str); 15] = [
    ("networking.istio.io", "VirtualService"),
    ("networking.istio.io", "DestinationRule"),
    ("networking.istio.io", "Gateway"),
    ("networking.istio.io", "ServiceEntry"),
    ("networking.istio.io", "WorkloadEntry"),
    ("networking.istio.io", "WorkloadGroup"),
    ("networking.istio.io", "Sidecar"),
    ("networking.istio.io", "EnvoyFilter"),
    ("networking.istio.io", "ProxyConfig"),
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "PeerAuthentication"),
    ("security.istio.io", "RequestAuthentication"),
    ("telemetry.istio.io", "Telemetry"),
    ("extensions.istio.io", "WasmPlugin"),
    ("extensions.istio.io", "TrafficExtension"),
];

/// A kind that can be exposed step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    VirtualService,
    AuthorizationPolicy,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    Gateway,
    /// One that only its pods' labels can share out.
    Scoped(Scope),
}

impl Kind {
    fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("networking.istio.io", "VirtualService") => Some(Self::VirtualService),
            ("security.istio.io", "AuthorizationPolicy") => Some(Self::AuthorizationPolicy),
            ("networking.istio.io", "DestinationRule") => Some(Self::DestinationRule),
            ("networking.istio.io", "ServiceEntry") => Some(Self::ServiceEntry),
            ("networking.istio.io", "WorkloadEntry") => Some(Self::WorkloadEntry),
            ("networking.istio.io", "Gateway") => Some(Self::Gateway),
            _ => Scope::of(group, kind).map(Self::Scoped),
        }
    }

    fn of_target(target: &Target) -> Option<Self> {
        Self::of(target.group(), &target.kind)
    }

    /// How it can be exposed, best first; besides all at once.
    fn mechanisms(self) -> &'static [Mechanism] {
        match self {
            Self::VirtualService => {
                &[Mechanism::Request, Mechanism::Weight, Mechanism::Namespace, Mechanism::Instance, Mechanism::Header]
            }
            Self::AuthorizationPolicy => &[Mechanism::Request, Mechanism::Instance, Mechanism::Shadow],
            Self::Scoped(_) | Self::Gateway => &[Mechanism::Instance],
            Self::DestinationRule => &[Mechanism::Subset, Mechanism::Instance, Mechanism::Namespace],
            Self::ServiceEntry => &[Mechanism::Weight, Mechanism::Namespace],
            Self::WorkloadEntry => &[Mechanism::Weight],
        }
    }

    /// Refuses a mechanism that is not one of the kind's, also one that the audience asks for.
    fn check_wanted(self, question: &Question<'_>) -> Result<(), Unsupported> {
        let of_audience = question.audience.header.as_ref().map(|_| Mechanism::Header);
        match question.wanted.or(of_audience).filter(|wanted| !self.mechanisms().contains(wanted)) {
            None => Ok(()),
            Some(other) => {
                let names: Vec<_> = self.mechanisms().iter().map(|mechanism| mechanism_name(*mechanism)).collect();
                Err(Unsupported::new(
                    format!("{self:?} is not exposed by {} yet", mechanism_name(other)),
                    format!("leave the mechanism out, or ask for {} or NONE", names.join(", ")),
                ))
            }
        }
    }
}

impl Dialect for Istio {
    fn labelling_kinds(&self) -> Vec<Need> {
        instance::labelling_kinds()
    }

    fn newcomers(&self, target: &Target, live: &Value) -> Option<Newcomers> {
        instance::newcomers(target, live)
    }

    fn capabilities(&self) -> Vec<Capability> {
        let row = |(group, kind): (&'static str, &'static str)| {
            let steps = Kind::of(group, kind).map_or(&[][..], Kind::mechanisms).iter().copied();
            Capability { mesh: Mesh::Istio, group, kind, mechanisms: steps.chain([Mechanism::None]).collect() }
        };
        KINDS.into_iter().map(row).collect()
    }

    fn needs(&self, question: &Question<'_>) -> Vec<Need> {
        let is_direct = match question.wanted {
            None => direct::is_all_at_once(question),
            wanted => wanted == Some(Mechanism::None),
        };
        match Kind::of_target(question.target).filter(|_| !is_direct) {
            Some(Kind::AuthorizationPolicy) if question.wanted == Some(Mechanism::Request) => {
                authorization_policy::needs(question)
            }
            Some(Kind::AuthorizationPolicy) if question.wanted == Some(Mechanism::Shadow) => shadow::needs(question),
            Some(Kind::AuthorizationPolicy) => {
                let mut all = authorization_policy::needs(question);
                let by_pods = instance::needs(question, Scope::AuthorizationPolicy);
                all.retain(|need| !by_pods.contains(need));
                [by_pods, all].concat()
            }
            Some(Kind::Scoped(scope)) => instance::needs(question, scope),
            Some(Kind::DestinationRule) => destination_rule::needs(question),
            Some(Kind::ServiceEntry) => service_entry::needs(question),
            Some(Kind::Gateway) => gateway::needs(question),
            Some(Kind::VirtualService) if question.baseline.object.is_some() => virtual_service::needs(question),
            _ => Vec::new(),
        }
    }

    fn plan(&self, question: &Question<'_>) -> Result<Planned, Unsupported> {
        let all_at_once = || direct::plan(question, virtual_service::hosts(question.target, question.canary));
        match (question.wanted, Kind::of_target(question.target)) {
            (Some(Mechanism::None), _) => all_at_once(),
            (None, _) if direct::is_all_at_once(question) => all_at_once(),
            (_, Some(kind)) => {
                kind.check_wanted(question)?;
                match kind {
                    Kind::VirtualService => virtual_service::plan(question),
                    Kind::AuthorizationPolicy => plan_authorization(question),
                    Kind::DestinationRule => destination_rule::plan(question),
                    Kind::ServiceEntry => service_entry::plan(question),
                    Kind::WorkloadEntry => workload_entry::plan(question),
                    Kind::Gateway => gateway::plan(question),
                    Kind::Scoped(scope) => instance::plan(question, scope),
                }
            }
            (_, None) => Err(refused::step_by_step(&question.target.kind)),
        }
    }

    fn render(&self, intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
        match (intent.mechanism, Kind::of_target(&intent.target)) {
            (Mechanism::None, _) => direct::render(intent),
            (_, Some(Kind::VirtualService)) => virtual_service::render(intent),
            (Mechanism::Request, Some(Kind::AuthorizationPolicy)) => authorization_policy::render(intent),
            (Mechanism::Instance, Some(Kind::Scoped(_) | Kind::AuthorizationPolicy)) => instance::render(intent),
            (Mechanism::Subset | Mechanism::Instance | Mechanism::Namespace, Some(Kind::DestinationRule)) => {
                destination_rule::render(intent)
            }
            (Mechanism::Instance, Some(Kind::Gateway)) => gateway::render(intent),
            (Mechanism::Weight | Mechanism::Namespace, Some(Kind::ServiceEntry)) => service_entry::render(intent),
            (Mechanism::Weight, Some(Kind::WorkloadEntry)) => workload_entry::render(intent),
            (Mechanism::Shadow, _) => shadow::render(intent),
            (mechanism, _) => Err(Unsupported::new(
                format!("{} is not exposed by {mechanism:?}", intent.target.kind),
                "ask for a plan and use its mechanism",
            )),
        }
    }

    fn undo(&self, intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
        Ok(match (intent.mechanism, Kind::of_target(&intent.target)) {
            (Mechanism::None, _) => direct::undo(intent),
            (Mechanism::Request, Some(Kind::AuthorizationPolicy)) => authorization_policy::undo(intent),
            (_, Some(Kind::VirtualService)) => virtual_service::undo(intent),
            (Mechanism::Instance, Some(Kind::Scoped(_) | Kind::AuthorizationPolicy)) => {
                return instance::undo(intent);
            }
            (_, Some(Kind::DestinationRule)) => destination_rule::undo(intent),
            (Mechanism::Namespace, Some(Kind::ServiceEntry)) => placed::undo(intent),
            (_, Some(Kind::WorkloadEntry)) => workload_entry::undo(intent),
            (_, Some(Kind::Gateway)) => gateway::undo(intent),
            (Mechanism::Shadow, _) => shadow::undo(intent),
            _ => direct::undo(intent),
        })
    }

    fn through(&self, intent: &ExposureIntent) -> Vec<Target> {
        virtual_service::through(intent)
    }

    fn readers(&self, intent: &ExposureIntent, target: &Target) -> Readers {
        match (intent.mechanism, Kind::of_target(&intent.target)) {
            (Mechanism::Namespace, Some(Kind::ServiceEntry)) => placed::readers(intent, target),
            _ => Readers::default(),
        }
    }

    fn older(&self, intent: &ExposureIntent, target: &Target) -> Vec<Value> {
        match (intent.mechanism, Kind::of_target(&intent.target)) {
            (Mechanism::Namespace, Some(Kind::ServiceEntry)) => placed::older(intent, target),
            (Mechanism::Subset, _) => destination_rule::older(intent, target),
            (_, Some(Kind::VirtualService)) => virtual_service::older(intent, target),
            _ => Vec::new(),
        }
    }

    fn divided(&self, intent: &ExposureIntent) -> Option<PodCohorts> {
        if intent.mechanism != Mechanism::Instance {
            return None;
        }
        match Kind::of_target(&intent.target)? {
            Kind::AuthorizationPolicy | Kind::Scoped(_) => instance::divided(intent),
            Kind::Gateway => Some(gateway::divided(intent)),
            // Before and at the end one version is everybody's, and not only these pods' proxies must have it.
            _ => {
                let is_shared = ![Weight::ZERO, Weight::FULL].contains(&intent.weight);
                is_shared.then(|| callers::divided(intent, Some(intent.weight)))
            }
        }
    }
}

/// By request ids where that is exact, else by pods.
fn plan_authorization(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let by_pods = || {
        let mut versions = question.baseline.object.iter().chain([question.canary]);
        versions.try_for_each(authorization_policy::check_dry_run)?;
        instance::plan(question, Scope::AuthorizationPolicy)
    };
    match question.wanted {
        Some(Mechanism::Instance) => by_pods(),
        Some(Mechanism::Shadow) => shadow::plan(question),
        Some(_) => authorization_policy::plan(question),
        None => authorization_policy::plan(question).or_else(|by_request| {
            by_pods().map_err(|by_pods| Unsupported {
                reason: format!("{}; by pods: {}", by_request.reason, by_pods.reason),
                would_work: by_request.would_work,
            })
        }),
    }
}

/// A helper that says what a version says, or a part of it. Of the version's labels and annotations it has those that
/// Istio itself reads (e.g. `istio.io/rev`): others belong to who manages the object, and would make the helper theirs.
fn copy_of(helper: &Target, version: &Value, spec: Value) -> Desired {
    let mut object = steps::with_spec(helper, spec);
    for field in ["labels", "annotations"] {
        let map = of_istio(version, field);
        if !map.is_empty() {
            object["metadata"][field] = map.into();
        }
    }
    Desired { target: helper.clone(), wanted: Wanted::Helper(object) }
}

fn of_istio(object: &Value, field: &str) -> Map<String, Value> {
    let map = object::metadata_map(object, field).into_iter().flatten();
    map.filter(|(key, _)| is_read_by_istio(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(super) fn is_read_by_istio(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, _)| is_istio_domain(domain))
}

fn is_istio_domain(domain: &str) -> bool {
    domain == "istio.io" || domain.ends_with(".istio.io")
}

/// The neighbours of a kind.
fn neighbours_of<'a>(question: &Question<'a>, kind: &str) -> impl Iterator<Item = &'a Value> {
    question.neighbours.iter().filter(move |object| object["kind"] == kind)
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

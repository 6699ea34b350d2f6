//! VirtualService: by request ids where it can be, by blended destination weights where it must be; by a header, by the
//! pods that call or by the namespaces that call where that is asked for.
//!
//! All but the last change the one object in place. A second VirtualService for the same host would not do: sidecars let
//! the older one win whole, and gateways concatenate the routes of both. Only one that is shown to certain namespaces
//! wins over one that is shown to all ([`consumers`]). One that shall be gone is released like a change to what the mesh
//! does without it ([`removed`]).

mod bindings;
mod callers;
mod consumers;
mod delegates;
mod header;
mod narrow;
mod removed;
mod request;
pub(super) mod weight;

use std::borrow::Cow;

use meshward_model::{Alternative, ExposureIntent, Mechanism, MetricsTarget, Target, Weight};
use serde_json::{Value, json};

use super::differing_fields;
pub(super) use bindings::{check_shared_hosts as check_gateways, is_bound_to_mesh as bound_to_mesh, overlap};
pub(super) use narrow::{CANARY_SERIES, Condition, REQUEST_ID, STABLE_SERIES, check_route, narrow};

use crate::{
    dialect::{
        Need, Phase, Planned, Question, Unsupported, direct,
        steps::{ALL_AT_ONCE, step},
    },
    object,
};

/// The objects that a plan must know.
pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    let mut needs = vec![Need::all(&question.target.api_version, "VirtualService")];
    needs.extend(removed::needs(question));
    match question.wanted {
        Some(Mechanism::Instance) => needs.push(super::callers::pods_needed(question)),
        Some(Mechanism::Namespace) => needs.extend(super::callers::namespaces_needed(question)),
        _ => {}
    }
    needs
}

/// What a plan is about.
#[derive(Clone, Copy)]
struct Pair<'a> {
    question: &'a Question<'a>,
    stable: &'a Value,
    canary: &'a Value,
}

impl Pair<'_> {
    /// The hosts of a delegate are those of its roots.
    fn check_shared_hosts(&self) -> Result<(), Unsupported> {
        let Self { question, canary, .. } = *self;
        bindings::check_shared_hosts(question.target, canary, question.neighbours)?;
        let roots = if delegates::is_delegate(canary) { delegates::roots(question) } else { Vec::new() };
        let check = |root: &Value| {
            bindings::check_shared_hosts(&target_of(question, root), object::spec(root), question.neighbours)
        };
        roots.into_iter().try_for_each(check)
    }

    /// Generated routes name the root that they come from and not the delegate.
    fn roots(&self) -> Value {
        if !delegates::is_delegate(self.canary) {
            return Value::Null;
        }
        let roots = delegates::roots(self.question).into_iter().map(|root| {
            let target = target_of(self.question, root);
            json!({"namespace": target.namespace, "name": target.name})
        });
        json!({"roots": roots.collect::<Vec<_>>()})
    }
}

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let Some(baseline) = &question.baseline.object else {
        return Err(Unsupported::new(
            format!("{} does not exist, so there is no version to share the traffic with", question.target),
            "create it all at once (mechanism NONE, 100 %)",
        ));
    };
    if question.canary.is_null() {
        removed::check(question, baseline)?;
    }
    let (stable, canary) = versions(baseline, question.canary);
    let pair = Pair { question, stable, canary: &canary };
    match question.wanted {
        None if question.audience.header.is_some() => header::plan(&pair),
        None => request::plan(&pair).or_else(|refusal| weight::plan(&pair).map_err(|_| refusal)),
        Some(Mechanism::Header) => header::plan(&pair),
        Some(Mechanism::Weight) => weight::plan(&pair),
        Some(Mechanism::Namespace) => consumers::plan(&pair),
        Some(Mechanism::Instance) => callers::plan(&pair),
        Some(_) => request::plan(&pair),
    }
}

/// The specs of both versions; one that is gone is what does the same.
fn versions<'a>(baseline: &'a Value, canary: &'a Value) -> (&'a Value, Cow<'a, Value>) {
    let stable = object::spec(baseline);
    let canary = match canary.is_null() {
        true => Cow::Owned(removed::instead(stable)),
        false => Cow::Borrowed(object::spec(canary)),
    };
    (stable, canary)
}

/// The object while the deployment lasts, as far as it says for which hosts it is.
fn standing<'a>(question: &Question<'a>) -> &'a Value {
    question.baseline.object.as_ref().filter(|_| question.canary.is_null()).unwrap_or(question.canary)
}

/// The hosts whose requests the object governs; those of a delegate are its roots'.
fn governed(question: &Question<'_>) -> Vec<String> {
    if !delegates::is_delegate(object::spec(standing(question))) {
        return hosts(question.target, standing(question));
    }
    let of = |root: &Value| hosts(&target_of(question, root), root);
    let mut all: Vec<_> = delegates::roots(question).into_iter().flat_map(of).collect();
    all.sort();
    all.dedup();
    all
}

fn target_of(question: &Question<'_>, other: &Value) -> Target {
    let text = |field: &str| other["metadata"][field].as_str().unwrap_or_default().to_owned();
    Target { namespace: text("namespace"), name: text("name"), ..question.target.clone() }
}

/// The objects that a delegate's routes are generated from.
pub(super) fn through(intent: &ExposureIntent) -> Vec<Target> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let root = |root: &Value| Target {
        namespace: text(&root["namespace"]),
        name: text(&root["name"]),
        ..intent.target.clone()
    };
    intent.baseline.facts["roots"].as_array().into_iter().flatten().map(root).collect()
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(baseline) = &intent.baseline.object else {
        let is_final = intent.weight == Weight::FULL;
        return if is_final { Ok(direct::at_the_end(intent)) } else { Err(direct::only_full()) };
    };
    let (stable, canary) = versions(baseline, &intent.canary);
    let canary = &*canary;
    match (intent.mechanism, intent.weight) {
        (Mechanism::Namespace, _) => return Ok(consumers::render(intent, stable, canary)),
        (Mechanism::Instance, _) => return Ok(callers::render(intent, stable, canary)),
        (_, Weight::FULL) => return Ok(direct::at_the_end(intent)),
        _ => {}
    }
    let spec = match (intent.weight, intent.mechanism) {
        (Weight::ZERO, _) => stable.clone(),
        (_, Mechanism::Weight) => weight::blend(stable, canary, intent.weight),
        (_, Mechanism::Header) => header::compose(stable, canary, &intent.baseline.facts),
        _ => request::compose(stable, canary, intent.weight),
    };
    Ok(vec![Phase::Objects(vec![step(&intent.target, spec)])])
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    match intent.mechanism {
        Mechanism::Namespace => consumers::undo(intent),
        Mechanism::Instance => callers::undo(intent),
        _ => direct::undo(intent),
    }
}

/// What the object is between the first and the last step, where it does not tell the weight.
pub(super) fn older(intent: &ExposureIntent, target: &Target) -> Vec<Value> {
    let Some(baseline) = intent.baseline.object.as_ref().filter(|_| intent.is_about(target)) else {
        return Vec::new();
    };
    let (stable, canary) = versions(baseline, &intent.canary);
    let canary = &*canary;
    match intent.mechanism {
        Mechanism::Header => vec![header::compose(stable, canary, &intent.baseline.facts)],
        Mechanism::Instance => vec![callers::compose(&intent.target, stable, canary)],
        Mechanism::Namespace => vec![consumers::counted(stable, STABLE_SERIES)],
        _ => Vec::new(),
    }
}

fn metrics_target(question: &Question<'_>, mechanism: Mechanism, canary: &str, control: &str) -> MetricsTarget {
    MetricsTarget {
        hosts: governed(question),
        canary_series: canary.to_owned(),
        control_series: control.to_owned(),
        ..MetricsTarget::uncounted(question.target.mesh, mechanism, &question.target.cluster)
    }
}

/// Why the others were not chosen.
fn alternatives(pair: &Pair<'_>, chosen: Mechanism) -> Vec<Alternative> {
    let unless = |check: Result<(), Unsupported>, possible: &str| match check {
        Ok(()) => possible.to_owned(),
        Err(unsupported) => sentence(&unsupported.reason),
    };
    let request = unless(request::check(pair), "Would do and is better: sticky, a share of the requests, and counted.");
    let weight = unless(
        weight::check(pair.stable, pair.canary),
        "Would do, but is not sticky: two requests with one id can get different versions.",
    );
    let fixed = [
        (Mechanism::Request, request),
        (Mechanism::Weight, weight),
        (Mechanism::Namespace, "Serves whole namespaces of callers, not a share of the requests.".to_owned()),
        (Mechanism::Instance, "Divides the pods that call, of one namespace, and not the requests.".to_owned()),
        (Mechanism::Header, "A header or a cookie chooses who (A/B), not how many.".to_owned()),
        (Mechanism::Subset, "Is for DestinationRule.".to_owned()),
        (Mechanism::Shadow, "Istio has no dry run of routes.".to_owned()),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody.".to_owned()),
    ];
    let others = fixed.into_iter().filter(|(mechanism, _)| *mechanism != chosen);
    others.map(|(mechanism, reason)| Alternative { mechanism, reason }).collect()
}

fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// The hosts of an object, fully qualified as Istio does it: a name without a dot belongs to the object's namespace.
pub(super) fn hosts(target: &Target, object: &Value) -> Vec<String> {
    let names = object["spec"]["hosts"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
    names.map(|host| qualified(host, &target.namespace)).collect()
}

/// A host as Istio understands it in an object of this namespace.
pub(crate) fn qualified(host: &str, namespace: &str) -> String {
    if host == "*" || host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") }
}

fn matches(route: &Value) -> &[Value] {
    route["match"].as_array().map_or(&[], Vec::as_slice)
}

/// The routes of one protocol ("http", "tcp" or "tls").
pub(super) fn routes<'a>(spec: &'a Value, protocol: &str) -> &'a [Value] {
    spec[protocol].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;

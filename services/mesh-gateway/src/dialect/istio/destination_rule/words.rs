//! What a plan for a DestinationRule tells people.

use meshward_model::{Alternative, Mechanism, Weight};
use serde_json::Value;

use super::{
    Rule,
    policy::{parts_of, subsets},
    virtual_services::Ways,
};
use crate::{
    dialect::istio::{
        Cohort,
        virtual_service::{CANARY_SERIES, STABLE_SERIES, routes},
    },
    object::{full_name, spec},
};

/// Who gets the canary at a step.
pub(super) fn exposed(weight: Weight) -> String {
    let cohort = Cohort::of(weight);
    let regex = cohort.regex().unwrap_or_default();
    format!(
        "Requests for the host whose x-request-id matches {regex}: {} of random ids; of connections that are no \
         requests, {weight} of new ones.",
        cohort.nominal_share()
    )
}

/// What a plan must admit; `exposed` is the rule as it will be.
pub(super) fn not_covered(rule: &Rule<'_>, exposed: &Value, ways: &Ways<'_>) -> Vec<String> {
    let touches =
        |part: &str| [rule.stable, rule.canary].iter().any(|version| parts_of(version, part).next().is_some());
    let mut sentences = Vec::new();
    sentences.extend(pool_not_covered(rule));
    if touches("connectionPool") {
        sentences.push(
            "Limits hold for each version by itself: a small share hardly reaches those of the new version, and until the \
             end both together admit more than either."
                .to_owned(),
        );
    }
    if touches("outlierDetection") {
        sentences.push(
            "Each version finds out by itself which endpoints to eject, from its own share of the requests.".to_owned(),
        );
    }
    if leaves_to_the_mesh(rule, exposed) {
        sentences.push(
            "A defaultTrafficPolicy of the mesh, if it has one, is not given to the canary on ports where the new version \
             removes something and leaves connectionPool or outlierDetection out."
                .to_owned(),
        );
    }
    sentences.push("Callers without a sidecar are not governed by a DestinationRule at all.".to_owned());
    sentences.push(
        "Callers in the mesh can choose their version: their sidecar keeps a request id that they send.".to_owned(),
    );
    sentences.extend(changed(rule, ways));
    sentences.extend(ways.not_covered.iter().cloned());
    sentences
}

/// What is said of the VirtualServices that are changed or made.
fn changed(rule: &Rule<'_>, ways: &Ways<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    if !ways.edited.is_empty() {
        let names = ways.edited.iter().map(|object| full_name(object)).collect::<Vec<_>>().join(", ");
        sentences.push(format!(
            "Until the end VirtualService {names} is changed as well; the statPrefix of its routes to the host is \
             \"{CANARY_SERIES}\" or \"{STABLE_SERIES}\"."
        ));
    }
    if ways.helper.is_some() {
        sentences.push(format!(
            "{} has no VirtualService, so one is made until the end; whoever creates another one meanwhile finds it \
             without effect on sidecars.",
            rule.host
        ));
    }
    let splits_connections = |spec: &Value| ["tcp", "tls"].iter().any(|protocol| !routes(spec, protocol).is_empty());
    if ways.edited.iter().map(|object| spec(object)).chain(&ways.helper).any(splits_connections) {
        sentences.push(
            "Connections that are no requests are drawn anew each time, and open ones stay with their version until their \
             proxy closes them, a drain time (drainDuration of its ProxyConfig) after a step."
                .to_owned(),
        );
    }
    sentences
}

/// Whether the twins have settings for a port, in place of what the mesh would give to all.
fn leaves_to_the_mesh(rule: &Rule<'_>, exposed: &Value) -> bool {
    let added = &subsets(exposed)[subsets(rule.stable).len()..];
    let settings = added.iter().flat_map(|twin| twin["trafficPolicy"]["portLevelSettings"].as_array());
    let says_nothing =
        |value: &Value| value.is_null() || value.get("tcp").is_some_and(|tcp| *tcp == serde_json::json!({}));
    settings.flatten().any(|setting| says_nothing(&setting["connectionPool"]) || setting["outlierDetection"].is_null())
}

/// What every plan that gives a copy to callers must admit.
pub(super) fn copies_not_covered(rule: &Rule<'_>) -> Vec<String> {
    let mut sentences = vec![
        "It cannot be judged: what a rule does is counted by no version. Compare the callers' own series.".to_owned(),
        "Callers without a sidecar are not governed by a DestinationRule at all.".to_owned(),
    ];
    sentences.extend(pool_not_covered(rule));
    sentences
}

/// The servers' side of a rule is one for all callers.
fn pool_not_covered(rule: &Rule<'_>) -> Option<String> {
    let differs = !parts_of(rule.stable, "connectionPool").eq(parts_of(rule.canary, "connectionPool"));
    let sentence = "The connectionPool also limits what the servers' own sidecars hand on to them; that changes for all \
                    at once at the last step.";
    differs.then(|| sentence.to_owned())
}

pub(super) fn alternatives(chosen: Mechanism) -> Vec<Alternative> {
    let fixed = [
        (
            Mechanism::Subset,
            "By request id, where the routes of the host can be changed: each request has one version, and it is counted.",
        ),
        (Mechanism::Instance, "A rule for selected callers (workloadSelector) divides pods that call, not requests."),
        (Mechanism::Namespace, "A copy in a namespace of callers serves that namespace as a whole, not a share."),
        (Mechanism::Request, "A rule has no matches; its requests are chosen by the routes, which is SUBSET."),
        (Mechanism::Weight, "Is for destinations; connections of SUBSET are shared by weight."),
        (Mechanism::Header, "A rule has no matches, and asks for no header."),
        (Mechanism::Shadow, "Istio has no dry run of traffic policies."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    let others = fixed.into_iter().filter(|(mechanism, _)| *mechanism != chosen);
    others.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).collect()
}

//! Which VirtualServices are changed so that a share of the requests for the host meets the canary.
//!
//! Sidecars take the oldest VirtualService of a host and ignore the others; a host that has none gets one for the time
//! of the deployment. Others that send to the host under another name (that of a gateway, say) are changed as well, if
//! they are in the rule's namespace and can be. Whoever comes another way is governed by version 1 until the end, which
//! the plan admits.

use meshward_model::Target;
use serde_json::Value;

use super::{
    ALL_AT_ONCE, Rule,
    around::{namespace, of_kind},
    policy::subsets,
    routes::{Port, Way, helper},
    shown_to,
};
use crate::{
    dialect::{
        Unsupported,
        istio::virtual_service::{REQUEST_ID, bound_to_mesh, check_gateways, check_route, overlap, qualified, routes},
    },
    object::{full_name, spec},
};

/// What is changed, and what cannot be.
#[derive(Debug)]
pub(super) struct Ways<'a> {
    /// VirtualServices that are changed.
    pub(super) edited: Vec<&'a Value>,
    /// The spec of one that is made.
    pub(super) helper: Option<Value>,
    /// Who is not exposed, in sentences.
    pub(super) not_covered: Vec<String>,
}

pub(super) fn ways<'a>(rule: &Rule<'a>, ports: &[Port]) -> Result<Ways<'a>, Unsupported> {
    let all: Vec<_> = of_kind(rule.neighbours, "VirtualService").collect();
    check_subsets(rule, &all)?;
    let owner = owner(rule, &all)?;
    let mut ways = Ways { edited: Vec::new(), helper: None, not_covered: Vec::new() };
    for other in all.iter().copied().filter(|one| way(rule, one).is_in(spec(one))) {
        match check(rule, other) {
            Ok(()) => ways.edited.push(other),
            Err(unsupported) if owner == Some(other) => return Err(unsupported),
            Err(Unsupported { reason, .. }) => ways.not_covered.push(format!(
                "Requests that come through VirtualService {} are governed by the live version until the last step: \
                 {reason}.",
                full_name(other)
            )),
        }
    }
    match owner {
        None => add_helper(rule, ports, &mut ways)?,
        Some(owner) => ways.not_covered.extend(unseen(rule, owner)),
    }
    if ways.edited.is_empty() && ways.helper.is_none() {
        return Err(Unsupported::new(
            format!("no VirtualService of the namespace {} sends to {}", rule.target.namespace, rule.host),
            ALL_AT_ONCE,
        ));
    }
    Ok(ways)
}

fn way<'a>(rule: &Rule<'a>, object: &'a Value) -> Way<'a> {
    Way { host: rule.host, namespace: namespace(object) }
}

fn add_helper(rule: &Rule<'_>, ports: &[Port], ways: &mut Ways<'_>) -> Result<(), Unsupported> {
    ways.helper = helper(rule.host, &rule.stable["exportTo"], ports);
    if ways.helper.is_none() && ways.edited.is_empty() {
        return Err(Unsupported::new(
            format!("all ports of {} carry TLS, whose connections nothing in Istio can share by number", rule.host),
            ALL_AT_ONCE,
        ));
    }
    let encrypted: Vec<_> = ports.iter().filter(|port| !port.http && !port.tcp).map(|port| port.number).collect();
    if !encrypted.is_empty() {
        ways.not_covered.push(format!(
            "Connections to the TLS ports {encrypted:?} are governed by the live version until the last step."
        ));
    }
    Ok(())
}

/// The VirtualService that sidecars have for the host.
fn owner<'a>(rule: &Rule<'a>, all: &[&'a Value]) -> Result<Option<&'a Value>, Unsupported> {
    let names = |one: &&&Value| host_of(one, |host| host == rule.host);
    // One that its own namespace keeps for itself is for that namespace's callers only.
    let is_public = |one: &&&Value| {
        namespace(one) == rule.target.namespace
            || shown_to(spec(one), namespace(one)).is_none_or(|shown| shown.contains(&rule.target.namespace))
    };
    let owners: Vec<_> = all.iter().filter(names).filter(is_public).copied().collect();
    match owners[..] {
        [] => match all.iter().filter(is_public).find(|one| host_of(one, |host| overlap(host, rule.host))) {
            None => Ok(None),
            Some(wide) => Err(Unsupported::new(
                format!(
                    "VirtualService {} routes {} under a wider name, and one for the host alone, which the canary \
                     needs, would take its place",
                    full_name(wide),
                    rule.host
                ),
                format!("give the host a VirtualService of its own first, or {ALL_AT_ONCE}"),
            )),
        },
        [one] => Ok(Some(one)),
        [one, other, ..] => Err(Unsupported::new(
            format!(
                "the VirtualServices {} and {} both have the host {}, and which of them a caller gets depends on their \
                 age and place",
                full_name(one),
                full_name(other),
                rule.host
            ),
            format!("put their routes into one, or {ALL_AT_ONCE}"),
        )),
    }
}

/// A sentence if there are callers who use the rule and do not see the routes.
fn unseen(rule: &Rule<'_>, owner: &Value) -> Option<String> {
    let seen = shown_to(spec(owner), namespace(owner))?;
    (Some(&seen) != shown_to(rule.stable, &rule.target.namespace).as_ref()).then(|| {
        let names = seen.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "VirtualService {} is shown to {names} only; callers elsewhere are governed by the live version until the \
             last step.",
            full_name(owner)
        )
    })
}

/// Whether sidecars have it for a host that is wanted.
fn host_of(object: &Value, is_wanted: impl Fn(&str) -> bool) -> bool {
    let hosts = spec(object)["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    bound_to_mesh(spec(object)) && hosts.into_iter().any(|host| is_wanted(&qualified(host, namespace(object))))
}

/// Whether a VirtualService can be changed.
fn check(rule: &Rule<'_>, object: &Value) -> Result<(), Unsupported> {
    let (name, place, spec) = (full_name(object), namespace(object), spec(object));
    if place != rule.target.namespace {
        return Err(Unsupported::new(
            format!("VirtualService {name} is in another namespace than the rule"),
            format!("move it into {}, or {ALL_AT_ONCE}", rule.target.namespace),
        ));
    }
    if spec["hosts"].as_array().is_none_or(Vec::is_empty) {
        return Err(Unsupported::new(
            format!("VirtualService {name} is a delegate, and its matches are merged with those of others"),
            format!("put its routes into the one that delegates to it, or {ALL_AT_ONCE}"),
        ));
    }
    let (routes_to, rule_to) = (shown_to(spec, place), shown_to(rule.stable, &rule.target.namespace));
    let is_narrower = match (&routes_to, &rule_to) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(routes), Some(rule)) => routes.is_subset(rule),
    };
    if !is_narrower {
        return Err(Unsupported::new(
            format!("VirtualService {name} is shown to namespaces that the rule is not shown to (spec.exportTo)"),
            "give both the same exportTo",
        ));
    }
    check_gateways(&target(rule, object), spec, rule.neighbours)?;
    let way = way(rule, object);
    let taken = routes(spec, "http").iter().enumerate().filter(|(_, route)| way.is_taken_by(route));
    taken.into_iter().try_for_each(|(index, route)| check_route("live", index, route, REQUEST_ID)).map_err(
        |unsupported| Unsupported {
            reason: format!("of VirtualService {name}, {}", unsupported.reason),
            ..unsupported
        },
    )
}

/// Whoever sends to a subset that version 2 has not would find nothing there, at the end at the latest.
pub(super) fn check_subsets(rule: &Rule<'_>, all: &[&Value]) -> Result<(), Unsupported> {
    let has = |version: &Value, name: &str| subsets(version).iter().any(|subset| subset["name"] == name);
    for one in all {
        let lost = |name: &&str| has(rule.stable, name) && !has(rule.canary, name);
        if let Some(name) = way(rule, one).subsets(spec(one)).into_iter().find(lost) {
            return Err(Unsupported::new(
                format!(
                    "the new version has no subset {name}, to which VirtualService {} sends requests",
                    full_name(one)
                ),
                "change the VirtualService first, or keep the subset",
            ));
        }
    }
    Ok(())
}

/// A VirtualService as the target of writes.
pub(super) fn target(rule: &Rule<'_>, object: &Value) -> Target {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Target {
        api_version: text(&object["apiVersion"]),
        kind: "VirtualService".to_owned(),
        namespace: namespace(object).to_owned(),
        name: text(&object["metadata"]["name"]),
        ..rule.target.clone()
    }
}

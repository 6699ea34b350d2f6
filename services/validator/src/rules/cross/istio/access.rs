//! AuthorizationPolicies that deny more than they say.

use std::collections::BTreeSet;

use super::{gateway::shown, service_entry::is_tcp};
use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, Labels, View, labels, matches},
};

/// Fields of an operation that only HTTP has.
const OPERATIONS: [&str; 6] = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
/// Fields of a source that only HTTP has.
const SOURCES: [&str; 4] = ["requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"];

pub(super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    match action(entry) {
        "ALLOW" => {
            hits.extend(http_on_tcp(entry, view));
            hits.extend(nothing_allowed(entry, view));
            hits.extend(first_allow(entry, view));
            hits.extend(denied_anyway(entry, view));
        }
        "DENY" | "CUSTOM" | "AUDIT" => {}
        _ => {}
    }
    hits
}

fn action(entry: &Entry) -> &str {
    let spec = entry.spec();
    match spec.get("action").as_text() {
        None | Some("") => "ALLOW",
        Some(action) => action,
    }
}

fn selector(entry: &Entry) -> Labels<'_> {
    labels(&entry.spec().get("selector").get("matchLabels"))
}

fn is_attached(entry: &Entry) -> bool {
    entry.spec().get("targetRef").is_set() || entry.spec().get("targetRefs").is_set()
}

/// The fields of a rule that only HTTP has.
fn http_fields<'f>(rule: &Field<'f>) -> Vec<Field<'f>> {
    let mut found = Vec::new();
    for to in rule.get("to").items() {
        let operation = to.get("operation");
        found.extend(OPERATIONS.iter().map(|name| operation.get(name)));
    }
    for from in rule.get("from").items() {
        let source = from.get("source");
        found.extend(SOURCES.iter().map(|name| source.get(name)));
    }
    found.extend(
        rule.get("when")
            .items()
            .into_iter()
            .filter(|when| when.get("key").text().starts_with("request."))
            .map(|when| when.get("key")),
    );
    found.retain(Field::is_set);
    found
}

/// On a TCP port a rule with fields of HTTP matches nothing; if every rule has some, nothing is allowed there.
fn http_on_tcp(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let rules = entry.spec().get("rules").items();
    let first = rules.first().and_then(|rule| http_fields(rule).into_iter().next())?;
    if is_attached(entry) || rules.iter().any(|rule| http_fields(rule).is_empty()) {
        return None;
    }
    let own = selector(entry);
    let limited: BTreeSet<i64> = rules
        .iter()
        .flat_map(|rule| rule.get("to").items())
        .flat_map(|to| to.get("operation").get("ports").items())
        .filter_map(|port| port.text().parse().ok())
        .collect();
    for service in view.labelled(Kind::Service, entry.namespace(), &own) {
        let theirs = labels(&service.spec().get("selector"));
        if theirs.is_empty() || !(matches(&own, &theirs)) {
            continue;
        }
        let ports = service.spec().get("ports").items();
        let Some(port) = ports.iter().find(|port| is_tcp(port)) else { continue };
        let number = port.get("port").integer().unwrap_or_default();
        // Whoever names the ports means them; a rule for HTTP ports takes nothing from the others but still denies them.
        let message = format!(
            "port {number} ({}) of {} is TCP, where a rule with {} matches nothing: every connection to it is denied",
            port.get("name").text(),
            quote(&service.full_name()),
            first.path()
        );
        let hit = Hit::new(rule::ALLOW_HTTP_ON_TCP, first.path(), message).at_key();
        let hit = hit
            .with(service.related(port.path(), "is TCP"))
            .hosts("denied", format!("{}:{number}", crate::world::host::full(&service.head.name, service.namespace())));
        let advice = if limited.contains(&number) {
            "add a rule for the TCP port without fields of HTTP"
        } else {
            "add a rule that allows the TCP port by `ports` alone"
        };
        return Some(hit.suggest(advice));
    }
    None
}

/// `spec: {}` in the root namespace.
fn nothing_allowed(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    let says_nothing = spec.get("rules").items().is_empty() && !spec.get("selector").is_set() && !is_attached(entry);
    if !says_nothing || entry.namespace() != view.root_namespace() {
        return None;
    }
    let others: Vec<&Entry> = view
        .all(Kind::AuthorizationPolicy)
        .into_iter()
        .filter(|other| other.head != entry.head && action(other) == "ALLOW")
        .collect();
    let message = format!(
        "without rules in the root namespace {}, this denies every request of the mesh that none of {} other ALLOW policies allows",
        quote(entry.namespace()),
        others.len()
    );
    let related = others.iter().map(|other| other.related(other.spec().path(), "still allows"));
    let hit = Hit::new(rule::ROOT_DENIES, entry.root().get("spec").path(), message).with_all(related);
    Some(
        hit.suggest("make sure that every workload has an ALLOW policy first")
            .workloads("denied", vec!["*/*".to_owned()]),
    )
}

/// The first ALLOW policy turns "everything is allowed" into "only this is".
fn first_allow(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    let rules = spec.get("rules").items();
    if rules.is_empty() || rules.iter().any(is_everything) || is_attached(entry) {
        return None;
    }
    let own = selector(entry);
    let mut others = view.applying(Kind::AuthorizationPolicy, entry.namespace(), &[&own]);
    others.extend(view.applying(Kind::AuthorizationPolicy, view.root_namespace(), &[&own]));
    let also = others.iter().any(|other| other.head != entry.head && action(other) == "ALLOW" && !is_attached(other));
    if also {
        return None;
    }
    let sure = view.absence(&[Kind::AuthorizationPolicy], "whether another ALLOW policy is there")?;
    let message = format!(
        "this is the only ALLOW policy for {}: as soon as it is there, every request that it does not name is denied",
        if own.is_empty() { format!("the namespace {}", quote(entry.namespace())) } else { quote(&shown(&own)) }
    );
    let hit = Hit::new(rule::FIRST_ALLOW, entry.root().get("spec").get("rules").path(), message).sure(sure);
    let workload = format!("{}/{}", entry.namespace(), if own.is_empty() { "*".to_owned() } else { shown(&own) });
    Some(
        hit.suggest("name every client, probes and gateways too; try it with istio.io/dry-run first")
            .workloads("denied", vec![workload]),
    )
}

fn is_everything(rule: &Field<'_>) -> bool {
    ["from", "to", "when"].iter().all(|name| rule.get(name).items().is_empty())
}

/// A DENY policy that matches every request of an ALLOW policy.
fn denied_anyway(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let own = selector(entry);
    let rules = entry.spec().get("rules").items();
    if rules.is_empty() || is_attached(entry) {
        return None;
    }
    let mut others = view.applying(Kind::AuthorizationPolicy, entry.namespace(), &[&own]);
    if entry.namespace() != view.root_namespace() {
        others.extend(view.applying(Kind::AuthorizationPolicy, view.root_namespace(), &[&own]));
    }
    for other in others.into_iter().filter(|other| action(other) == "DENY" && !is_attached(other)) {
        let denies = other.spec().get("rules").items();
        let covered = |rule: &Field<'_>| denies.iter().any(|deny| covers(deny, rule));
        if !rules.iter().all(covered) {
            continue;
        }
        let field = other.spec().get("rules");
        let message =
            format!("everything that this allows is denied by {}, and DENY counts first", quote(&other.full_name()));
        let hit = Hit::new(rule::DENY_COVERS_ALLOW, entry.root().get("spec").get("rules").path(), message);
        let hit =
            hit.with(other.related(field.path(), "denies it")).suggest("take what is allowed out of the DENY policy");
        return Some(hit.workloads("denied", vec![format!("{}/{}", entry.namespace(), shown(&own))]));
    }
    None
}

/// Whether a DENY rule matches every request that an ALLOW rule matches. Each part of the DENY rule must be absent, or hold
/// for each alternative of the ALLOW rule.
fn covers(deny: &Field<'_>, allow: &Field<'_>) -> bool {
    let part = |list: &str, inner: &str| {
        let (ours, theirs) = (deny.get(list).items(), allow.get(list).items());
        ours.is_empty()
            || (!theirs.is_empty()
                && theirs.iter().all(|theirs| ours.iter().any(|ours| within(&theirs.get(inner), &ours.get(inner)))))
    };
    let conditions = deny.get("when").items();
    let known = allow.get("when").items();
    let held = |condition: &Field<'_>| known.iter().any(|other| other.value() == condition.value());
    part("from", "source") && part("to", "operation") && conditions.iter().all(held)
}

/// Whether every request of one source or operation is one of the other.
fn within(inner: &Field<'_>, outer: &Field<'_>) -> bool {
    outer.entries().iter().all(|(name, wanted)| {
        let own = inner.get(name).items();
        if name.starts_with("not") {
            // What the outer one excepts must not be in the inner one; only an equal exception is sure.
            return inner.get(name).value() == wanted.value();
        }
        let wanted = wanted.items();
        !own.is_empty() && own.iter().all(|value| wanted.iter().any(|pattern| fits(pattern.text(), value.text())))
    })
}

/// Istio's patterns: exact, `prefix*`, `*suffix`, `*`.
fn fits(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => value.ends_with(end),
        (_, Some(start)) => value.starts_with(start),
        _ => pattern == value,
    }
}

/// The names of fields, for other files of the family.
pub(super) fn shown_fields(fields: &[Field<'_>]) -> String {
    let names: Vec<String> = fields.iter().map(|field| field.path().to_string()).collect();
    list(&names, " and ")
}

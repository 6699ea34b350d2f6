//! Identities that AuthorizationPolicies ask for: do they exist, and can they be known?

use super::{access::shown_fields, peer, policy};
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View, labels},
};

/// Fields of a source that need the client's certificate.
const IDENTITIES: [&str; 6] =
    ["principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts"];

pub(super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let rules = entry.spec().get("rules").items();
    let sources: Vec<Field<'_>> =
        rules.iter().flat_map(|rule| rule.get("from").items()).map(|from| from.get("source")).collect();
    for source in &sources {
        for name in ["principals", "notPrincipals"] {
            hits.extend(source.get(name).items().iter().filter_map(|field| unknown(field, view)));
        }
    }
    hits.extend(without_mtls(entry, &sources, view));
    hits
}

/// `trust-domain/ns/namespace/sa/name` of a service account that is not there.
fn unknown(field: &Field<'_>, view: &View<'_>) -> Option<Hit> {
    let parts: Vec<&str> = field.text().trim_start_matches("spiffe://").split('/').collect();
    let [_, "ns", namespace, "sa", name] = parts.as_slice() else { return None };
    if namespace.contains('*') || name.contains('*') || view.named(Kind::ServiceAccount, namespace, name).is_some() {
        return None;
    }
    if view.is_used(namespace, name) {
        return None;
    }
    let sure = view.absence(&[Kind::ServiceAccount], "service accounts that AuthorizationPolicies name")?;
    let message =
        format!("there is no service account {} in {}, so nobody has this identity", quote(name), quote(namespace));
    let hit = Hit::new(rule::PRINCIPAL_UNKNOWN, field.path(), message).sure(sure);
    let accounts = view.all_in(Kind::ServiceAccount, namespace);
    let names: Vec<&str> = accounts.iter().map(|account| account.head.name.as_str()).collect();
    let near = crate::schema::nearest(name, &names).map(|near| format!("did you mean {near}?"));
    Some(hit.suggest(near.unwrap_or_default()))
}

/// Where plain text is taken a client has no identity: ALLOW by identity refuses it, DENY by identity lets it pass.
fn without_mtls(entry: &Entry, sources: &[Field<'_>], view: &View<'_>) -> Option<Hit> {
    let fields: Vec<Field<'_>> =
        sources.iter().flat_map(|source| IDENTITIES.map(|name| source.get(name))).filter(Field::is_set).collect();
    let first = fields.first()?;
    let own = labels(&entry.spec().get("selector").get("matchLabels"));
    let denies = entry.spec().get("action").text() == "DENY";
    let workloads = policy::selected(entry, view);
    let of = workloads.first().map_or(own, |workload| workload.labels.clone());
    let namespace = workloads.first().map_or(entry.namespace(), |workload| workload.entry.namespace());
    let demand = peer::demand(namespace, &of, None, view);
    let plain = match &demand {
        Some(demand) => demand.mode == "DISABLE" || (denies && demand.mode == "PERMISSIVE"),
        None => denies && view.absence(&[Kind::PeerAuthentication], "whether clients must have an identity").is_some(),
    };
    if !plain {
        return None;
    }
    let effect = if denies { "allowed" } else { "denied" };
    let what = if denies {
        "a client that sends plain text has no identity and is not denied"
    } else {
        "clients have no identity and are denied"
    };
    let message = format!("{} ask for the client's identity, and plain text is taken: {what}", shown_fields(&fields));
    let related = demand.map(|demand| demand.policy.related(demand.field.path(), "takes plain text"));
    let hit = Hit::new(rule::PRINCIPAL_WITHOUT_MTLS, first.path(), message).at_key().with_all(related);
    let hit =
        if denies { hit.sure(view.absence(&[], "").unwrap_or(meshward_model::Confidence::Possible)) } else { hit };
    Some(
        hit.suggest("demand mutual TLS with a PeerAuthentication in mode STRICT")
            .workloads(effect, vec![format!("{namespace}/*")]),
    )
}

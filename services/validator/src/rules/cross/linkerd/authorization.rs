//! Policies: their target, and the authentications that they require.

use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View},
};

/// Whether the target of a policy is there.
fn target(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let field = entry.spec().get("targetRef");
    let kind = Kind::named(field.get("group").text(), field.get("kind").text())?;
    let name = field.get("name").text();
    let namespace = if kind.is_cluster_wide() { "" } else { entry.namespace() };
    // A policy is always for its own namespace: that one is there.
    if view.named(kind, namespace, name).is_some() || (kind == Kind::Namespace && name == entry.namespace()) {
        return None;
    }
    let sure = view.absence(&[kind], "targets of policies")?;
    let message = format!("there is no {} {}, so the policy is for nothing", kind.name(), quote(name));
    Some(
        Hit::new(rule::LD_TARGET_MISSING, field.get("name").path(), message)
            .sure(sure)
            .workloads("ignored", Vec::new()),
    )
}

pub(in super::super) fn authorization_policy(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = target(entry, view).into_iter().collect();
    let required = entry.spec().get("requiredAuthenticationRefs").items();
    hits.extend(required.iter().filter_map(|reference| authentication(entry, reference, view)));
    hits
}

fn authentication(entry: &Entry, field: &Field<'_>, view: &View<'_>) -> Option<Hit> {
    let kind = Kind::named(field.get("group").text(), field.get("kind").text())?;
    let own = field.get("namespace").text();
    let namespace = if own.is_empty() { entry.namespace() } else { own };
    let name = field.get("name").text();
    // Every namespace has the account "default".
    if view.named(kind, namespace, name).is_some() || (kind == Kind::ServiceAccount && name == "default") {
        return None;
    }
    let sure = view.absence(&[kind], "authentications that policies require")?;
    let message = format!(
        "there is no {} {}, so no client fulfils it and all are denied",
        kind.name(),
        quote(&format!("{namespace}/{name}"))
    );
    let hit = Hit::new(rule::AUTHENTICATION_MISSING, field.get("name").path(), message).sure(sure);
    Some(hit.workloads("denied", vec![format!("{}/*", entry.namespace())]))
}

pub(in super::super) fn server_authorization(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let field = entry.spec().get("server").get("name");
    let name = field.text();
    if name.is_empty() || view.named(Kind::Server, entry.namespace(), name).is_some() {
        return Vec::new();
    }
    let Some(sure) = view.absence(&[Kind::Server], "Servers of ServerAuthorizations") else { return Vec::new() };
    let message = format!("there is no Server {}, so the policy is for nothing", quote(name));
    vec![Hit::new(rule::LD_TARGET_MISSING, field.path(), message).sure(sure).workloads("ignored", Vec::new())]
}

pub(in super::super) fn rate_limit(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = target(entry, view).into_iter().collect();
    let field = entry.spec().get("targetRef");
    let others = view.referring_to(Kind::RateLimit, Kind::Server, entry.namespace(), field.get("name").text());
    let older = others.into_iter().filter(|other| other.head != entry.head && other.seniority() < entry.seniority());
    if let Some(first) = older.min_by_key(|other| other.seniority()).filter(|_| hits.is_empty()) {
        let message = format!(
            "{} limits the Server {} already, and only the older one counts",
            quote(&first.full_name()),
            quote(field.get("name").text())
        );
        let hit =
            Hit::new(rule::RATE_LIMIT_TWICE, field.path(), message).with(first.related(first.spec().path(), "wins"));
        hits.push(hit.suggest("join the two").workloads("ignored", Vec::new()));
    }
    hits
}

//! Gateways that get in each other's way on one workload.

use std::collections::BTreeSet;

use super::gateway::shown;
use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, Labels, View, host, labels, matches},
};

pub(super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let own = labels(&entry.spec().get("selector"));
    let others = view.all(Kind::Gateway);
    let others: Vec<&Entry> = others.into_iter().filter(|other| other.head != entry.head).collect();
    let mut hits = Vec::new();
    for server in entry.spec().get("servers").items() {
        hits.extend(same_host(entry, &server, &own, &others, view));
        hits.extend(wildcard(&server, &own, &others, view));
    }
    hits.extend(certificate(entry, &own, &others));
    hits
}

/// Whether two selectors are for one workload: they are the same, or a workload has the labels of both.
fn meet(own: &Labels<'_>, other: &Entry, view: &View<'_>) -> bool {
    let theirs = labels(&other.spec().get("selector"));
    *own == theirs
        || ((matches(own, &theirs) || matches(&theirs, own))
            && view.all_workloads().iter().any(|w| matches(own, &w.labels) && matches(&theirs, &w.labels)))
}

fn port(server: &Field<'_>) -> Option<i64> {
    server.get("port").get("number").integer()
}

fn same_host(entry: &Entry, server: &Field<'_>, own: &Labels<'_>, others: &[&Entry], view: &View<'_>) -> Option<Hit> {
    let wanted = port(server)?;
    let names = server.get("hosts").items();
    let names: BTreeSet<&str> = names.iter().map(Field::text).collect();
    let mut related = Vec::new();
    let mut shared: BTreeSet<&str> = BTreeSet::new();
    for other in others {
        let servers = other.spec().get("servers").items();
        let same = servers
            .iter()
            .filter(|theirs| port(theirs) == Some(wanted) && theirs.get("bind").text() == server.get("bind").text());
        for theirs in same {
            let both: Vec<&str> = theirs
                .get("hosts")
                .items()
                .iter()
                .map(Field::text)
                .filter_map(|name| names.get(name).copied())
                .collect();
            if !both.is_empty() && meet(own, other, view) {
                shared.extend(both);
                related.push(other.related(theirs.get("hosts").path(), "has the same host"));
            }
        }
    }
    let first = related.first()?;
    let shown_hosts: Vec<String> = shared.iter().map(|name| quote(name)).collect();
    let message = format!(
        "{} and {}/{} serve {} on port {wanted} of the workload {}; only one of them counts",
        quote(&entry.full_name()),
        first.object.namespace,
        first.object.name,
        list(&shown_hosts, " and "),
        quote(&shown(own))
    );
    let hit = Hit::new(rule::GATEWAY_CONFLICT, server.get("hosts").path(), message).with_all(related.clone());
    let hit = hit.suggest("serve a host of a port in one Gateway only");
    Some(hit.hosts("ignored", shared.first().copied().unwrap_or_default()))
}

/// HTTPS servers of one port whose hosts overlap by a wildcard: a browser reuses the connection of one for the other.
fn wildcard(server: &Field<'_>, own: &Labels<'_>, others: &[&Entry], view: &View<'_>) -> Option<Hit> {
    let terminates = |server: &Field<'_>| {
        ["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"].contains(&server.get("tls").get("mode").text())
            && server.get("port").get("protocol").text().eq_ignore_ascii_case("HTTPS")
    };
    if !terminates(server) {
        return None;
    }
    let bare = |field: &Field<'_>| field.text().rsplit('/').next().unwrap_or_default().to_owned();
    for other in others {
        for theirs in other
            .spec()
            .get("servers")
            .items()
            .iter()
            .filter(|theirs| terminates(theirs) && port(theirs) == port(server))
        {
            for field in server.get("hosts").items() {
                let name = bare(&field);
                let theirs_hosts = theirs.get("hosts").items();
                let clash = theirs_hosts.iter().find(|field| bare(field) != name && host::overlap(&bare(field), &name));
                if let Some(clash) = clash.filter(|_| meet(own, other, view)) {
                    let message = format!(
                        "{} overlaps {} of {}: a browser that has a connection for one uses it for the other, and gets 404",
                        quote(&name),
                        quote(&bare(clash)),
                        quote(&other.full_name())
                    );
                    let hit = Hit::new(rule::GATEWAY_WILDCARD, field.path(), message)
                        .with(other.related(clash.path(), "overlaps"));
                    return Some(
                        hit.suggest("serve both in one Gateway, or give each a certificate that is for its host only")
                            .hosts("failing", name),
                    );
                }
            }
        }
    }
    None
}

fn certificate(entry: &Entry, own: &Labels<'_>, others: &[&Entry]) -> Option<Hit> {
    for other in others {
        let theirs = labels(&other.spec().get("selector"));
        if !(own.is_empty() || matches(own, &theirs)) {
            continue;
        }
        for server in entry.spec().get("servers").items() {
            for their_server in other.spec().get("servers").items() {
                let (tls, their_tls) = (server.get("tls"), their_server.get("tls"));
                let Some(field) = same_certificate(&tls, &their_tls) else { continue };
                let message = format!(
                    "{} uses the certificate {} too: HTTP/2 connections for one are used for the other, and get 404",
                    quote(&other.full_name()),
                    quote(field.text())
                );
                let hit = Hit::new(rule::CERTIFICATE_SHARED, field.path(), message);
                let hit = hit.with(other.related(their_tls.path(), "has the same certificate"));
                return Some(hit.suggest("serve the hosts of one certificate in one Gateway"));
            }
        }
    }
    None
}

fn same_certificate<'f>(one: &Field<'f>, other: &Field<'_>) -> Option<Field<'f>> {
    let (name, theirs) = (one.get("credentialName"), other.get("credentialName"));
    match (name.text(), theirs.text()) {
        ("", "") => {
            let same =
                |field: &str| !one.get(field).text().is_empty() && one.get(field).text() == other.get(field).text();
            (same("serverCertificate") && same("privateKey")).then(|| one.get("serverCertificate"))
        }
        (own, theirs) => (!own.is_empty() && own == theirs).then_some(name),
    }
}

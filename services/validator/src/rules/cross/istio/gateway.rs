//! What a Gateway refers to: its workload, the ports of its Service, the Secrets of its servers.

use jiff::{SignedDuration, civil::DateTime};

use crate::{
    report::{Hit, quote},
    rules::{
        catalogue::{self as rule, Rule},
        cross::{
            given,
            pem::{self, Validity},
        },
    },
    world::{Entry, Kind, Labels, View, Workload, labels, matches},
};

/// A certificate that is not renewed by now is forgotten.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let field = entry.spec().get("selector");
    let selector = labels(&field);
    let workloads: Vec<Workload<'_>> =
        view.all_workloads().into_iter().filter(|workload| matches(&selector, &workload.labels)).collect();
    let Some(first) = workloads.first() else {
        return no_workload(entry, &selector, view).into_iter().collect();
    };
    let mut hits = ports(entry, &workloads, view);
    hits.extend(credentials(entry, first.entry.namespace(), view));
    hits
}

/// "app=cart,version=v1".
pub(super) fn shown(selector: &Labels<'_>) -> String {
    selector.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn no_workload(entry: &Entry, selector: &Labels<'_>, view: &View<'_>) -> Option<Hit> {
    let sure = view.absence(&[Kind::Workload], "workloads of Gateways")?;
    let message = format!("no workload has the labels {}, so the Gateway is served by nobody", quote(&shown(selector)));
    let hit = Hit::new(rule::SELECTOR_NO_POD, entry.spec().get("selector").path(), message).sure(sure);
    Some(hit.workloads("ignored", vec![shown(selector)]))
}

fn ports(entry: &Entry, workloads: &[Workload<'_>], view: &View<'_>) -> Vec<Hit> {
    let mut services: Vec<&Entry> = Vec::new();
    for workload in workloads {
        for service in view.all_in(Kind::Service, workload.entry.namespace()) {
            let known = services.iter().any(|other| other.head == service.head);
            if !known && matches(&labels(&service.spec().get("selector")), &workload.labels) {
                services.push(service);
            }
        }
    }
    let numbers = |service: &&Entry| {
        let ports = service.spec().get("ports").items();
        let tcp = ports.into_iter().filter(|port| ["", "TCP"].contains(&port.get("protocol").text()));
        tcp.flat_map(|port| [port.get("port").integer(), port.get("targetPort").integer()])
            .flatten()
            .collect::<Vec<_>>()
    };
    let known: Vec<i64> = services.iter().flat_map(numbers).collect();
    let Some(sure) = view.absence(&[Kind::Service], "ports of a Gateway's Service") else { return Vec::new() };
    let mut hits = Vec::new();
    for server in entry.spec().get("servers").items() {
        let number = server.get("port").get("number");
        let Some(wanted) = number.integer().filter(|wanted| !known.contains(wanted)) else { continue };
        let message = format!("no Service of the Gateway's workload has the port {wanted}, so nothing comes in there");
        let related =
            services.iter().map(|service| service.related(service.spec().get("ports").path(), "has other ports"));
        let hit = Hit::new(rule::GATEWAY_PORT, number.path(), message).sure(sure).with_all(related);
        hits.push(hit.suggest("add the port to the Service").workloads("unreachable", names(workloads)));
    }
    hits
}

fn names(workloads: &[Workload<'_>]) -> Vec<String> {
    workloads.iter().map(|workload| workload.entry.full_name()).collect()
}

/// The Secrets of servers; they are read where the workload runs.
fn credentials(entry: &Entry, namespace: &str, view: &View<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for server in entry.spec().get("servers").items() {
        let field = server.get("tls").get("credentialName");
        let Some(name) = given(&field).filter(|name| !name.contains("://")) else { continue };
        let hosts = server.get("hosts").items();
        let host = hosts.first().map_or("", |host| host.text());
        match view.named(Kind::Secret, namespace, name) {
            None => {
                let what = "Secrets of Gateways";
                let Some(sure) = view.absence(&[Kind::Secret], what) else { continue };
                let message = format!(
                    "there is no Secret {} in {}, where the Gateway's workload runs",
                    quote(name),
                    quote(namespace)
                );
                let hit = Hit::new(rule::CREDENTIAL_MISSING, field.path(), message).sure(sure);
                hits.push(hit.hosts("unreachable", host));
            }
            Some(secret) => {
                let Some((rule, problem)) = problem(secret, view) else { continue };
                let message = format!("the Secret {} has {problem}", quote(&secret.full_name()));
                let (effect, role) = if rule == rule::CREDENTIAL_EXPIRES {
                    ("unreachable soon", "has the certificate")
                } else {
                    ("unreachable", "is not usable")
                };
                let hit = Hit::new(rule, field.path(), message).hosts(effect, host);
                hits.push(hit.with(secret.related(secret.root().get("data").path(), role)));
            }
        }
    }
    hits
}

/// What is wrong with the content of a Secret. No word of it is said but the dates of its certificate.
fn problem(secret: &Entry, view: &View<'_>) -> Option<(&'static Rule, String)> {
    const EXPIRY: &str = "expiry of Gateways' certificates";
    let root = secret.root();
    let (data, plain) = (root.get("data"), root.get("stringData"));
    if !data.is_set() && !plain.is_set() {
        view.skip(EXPIRY, "what is in the Secrets is not known");
        return None;
    }
    let has = |name: &str| !data.get(name).text().is_empty() || !plain.get(name).text().is_empty();
    let pairs = [("tls.crt", "tls.key"), ("cert", "key")];
    let Some((certificate, _)) = pairs.iter().find(|(certificate, key)| has(certificate) && has(key)) else {
        return Some((rule::CREDENTIAL_INVALID, "no tls.crt and tls.key".to_owned()));
    };
    let text = match plain.get(certificate).text() {
        "" => pem::decoded(data.get(certificate).text()),
        text => Some(text.as_bytes().to_vec()),
    };
    match pem::first_certificate(text.as_deref()) {
        Err(problem) => Some((rule::CREDENTIAL_INVALID, format!("a certificate that {problem}"))),
        Ok(validity) => timeliness(validity, view.now(EXPIRY)?),
    }
}

/// What time has done to a certificate, or is about to do.
fn timeliness(Validity { from, until }: Validity, now: DateTime) -> Option<(&'static Rule, String)> {
    let seconds = |from: DateTime, until: DateTime| until.duration_since(from).as_secs();
    let left = seconds(now, until);
    if left < 0 {
        return Some((rule::CREDENTIAL_INVALID, format!("a certificate that expired on {}", until.date())));
    }
    if now < from {
        return Some((rule::CREDENTIAL_INVALID, format!("a certificate that holds from {} on", from.date())));
    }
    // One that lives for days only is renewed in its last third, if all is well.
    let is_soon = left <= SOON.as_secs() && left <= seconds(from, until) / 5;
    is_soon.then(|| (rule::CREDENTIAL_EXPIRES, format!("a certificate that expires on {}", until.date())))
}

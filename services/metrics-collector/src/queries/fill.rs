//! Fills the placeholders of a template with a target's names.

use meshward_model::MetricsTarget;

use super::{
    Place, QueryError, clusters,
    templates::{ByArm, ByName, Failures, Layout, Template},
};

/// Stands in a template for the label that tells the cohorts apart.
pub(super) const COHORT_LABEL: &str = "COHORT_LABEL";
/// Stands in a template for the labels that the pods of both arms have.
const POD_LABELS: &str = "POD_LABELS=\"\"";

/// Every selector that the layouts make of the hosts, joined by `or`.
pub(super) fn by_name(template: &ByName, pick: impl Fn(&Layout) -> &String, target: &MetricsTarget) -> String {
    let series = format!("{}|{}", target.canary_series, target.control_series);
    let selectors = template.layouts.iter().flat_map(|layout| {
        let text = pick(layout).replace("$SERIES", &series);
        if text.contains("$FIRST") {
            one_per_host(&text, &target.hosts)
        } else {
            vec![one_for_all(&text, &target.hosts)]
        }
    });
    selectors.collect::<Vec<_>>().join(" or ")
}

/// One selector for all hosts: the whole virtual host is in the name.
fn one_for_all(template: &str, hosts: &[String]) -> String {
    let names: Vec<String> = hosts.iter().map(|host| sanitized(host)).collect();
    template.replace("$VHOST", &format!("({})_[0-9]+_", names.join("|")))
}

/// One selector per host: label and name belong together.
fn one_per_host(template: &str, hosts: &[String]) -> Vec<String> {
    let selector = |host: &String| {
        let (first, name) = match host.split_once('.') {
            Some((first, rest)) => (first.replace('*', "[*]"), format!("{}_[0-9]+_", sanitized(rest))),
            // A host of one part: the label has the port, too.
            None => (format!("{}_[0-9]+", host.replace('*', "[*]")), String::new()),
        };
        template.replace("$VHOST", &name).replace("$FIRST", &first)
    };
    hosts.iter().map(selector).collect()
}

/// As it stands in a metric's name.
fn sanitized(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// What is counted, by which template, and in which of two places.
struct Part<'a> {
    counts: &'a str,
    template: &'a str,
    place: Option<Place>,
    /// The control is where there is no label, too.
    without_label: bool,
}

/// One query for both arms and for all parts; each series is marked with its arm, with what it counts, and with its place
/// if there are two.
fn by_arm(parts: &[Part<'_>], whole: bool, target: &MetricsTarget) -> Result<String, QueryError> {
    let arms = [
        (super::CANARY, &target.canary_series, &target.canary_clusters),
        (super::CONTROL, &target.control_series, &target.control_clusters),
    ];
    let mut marked = Vec::new();
    for (arm, series, clusters) in arms.into_iter().skip(usize::from(whole)) {
        for Part { counts, template, place, without_label } in parts {
            let or_none = if *without_label && arm == super::CONTROL && !series.is_empty() { "|" } else { "" };
            let query = one_arm(&by_clusters(template, clusters), &format!("{series}{or_none}"), target)?;
            let query = mark(&mark(&query, super::ARM_LABEL, arm), super::COUNTS_LABEL, counts);
            marked.push(match place {
                Some(place) => mark(&query, super::PLACE_LABEL, place.mark()),
                None => query,
            });
        }
    }
    Ok(marked.join(" or "))
}

fn mark(query: &str, label: &str, value: &str) -> String {
    format!("label_replace({query}, \"{label}\", \"{value}\", \"\", \"\")")
}

/// The label of Prometheus that a pod's label is mapped to.
pub(super) fn cohort_label(target: &MetricsTarget) -> String {
    sanitized(&target.cohort_label)
}

/// Without labels the template stays as it is: no series has one of that name.
fn pod_labels(target: &MetricsTarget) -> String {
    let matchers: Vec<_> =
        target.pod_labels.iter().map(|(key, value)| format!("{}=\"{value}\"", sanitized(key))).collect();
    if matchers.is_empty() { POD_LABELS.to_owned() } else { matchers.join(",") }
}

fn one_arm(template: &str, series: &str, target: &MetricsTarget) -> Result<String, QueryError> {
    let hosts = &target.hosts;
    let mut query = template.replace("$SERIES", series).replace(COHORT_LABEL, &cohort_label(target));
    query = query.replace(POD_LABELS, &pod_labels(target));
    if query.contains("$VHOSTS") {
        let names: Vec<String> = hosts.iter().map(|host| sanitized(host)).collect();
        query = query.replace("$VHOSTS", &format!("({})_[0-9]+_", names.join("|")));
    }
    if query.contains("$VHOST") || query.contains("$FIRST") {
        query = one_per_host(&query, hosts).join(" or ");
    }
    if query.contains("$HOSTS") {
        query = query.replace("$HOSTS", &alternatives(hosts.iter().map(String::as_str)));
    }
    if query.contains("$SERVICES") || query.contains("$NAMESPACES") {
        let places = hosts.iter().map(|host| place(host)).collect::<Result<Vec<_>, _>>()?;
        let (services, namespaces): (Vec<&str>, Vec<&str>) = places.into_iter().unzip();
        query = query.replace("$SERVICES", &alternatives(services)).replace("$NAMESPACES", &alternatives(namespaces));
    }
    Ok(query)
}

/// With the arm's clusters and their hosts.
fn by_clusters(template: &str, clusters: &[String]) -> String {
    let ends: Vec<String> = clusters::ends(clusters).collect();
    template
        .replace("$CLUSTERS", &alternatives(ends.iter().map(String::as_str)))
        .replace("$DESTINATIONS", &alternatives(clusters::hosts(clusters)))
}

/// Service and namespace of a host of the cluster.
fn place(host: &str) -> Result<(&str, &str), QueryError> {
    let mut parts = host.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(service), Some(namespace), Some("svc")) => Ok((service, namespace)),
        _ => {
            let problem = format!("{host:?} is not <service>.<namespace>.svc…, by which this mechanism is counted");
            Err(QueryError::Target { field: "hosts", problem })
        }
    }
}

/// A regular expression for any of these; a star is any text.
pub(super) fn alternatives<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let pattern = |name: &str| name.replace('|', "[|]").replace('.', "[.]").replace('*', ".*");
    let mut patterns: Vec<String> = names.into_iter().map(pattern).collect();
    patterns.sort();
    patterns.dedup();
    patterns.join("|")
}

/// The queries of a template for traffic and latency.
pub(super) fn both(template: &Template, target: &MetricsTarget) -> Result<(String, String), QueryError> {
    let (mut traffic, mut latency) = (Vec::new(), Vec::new());
    for (place, by_arm, _) in places(template) {
        let part = |counts, template| Part { counts, template, place, without_label: by_arm.control_without_label };
        traffic.push(part(super::REQUESTS, &*by_arm.requests));
        traffic.push(part(super::ERRORS, &*by_arm.errors));
        latency.push(part("latency", &*by_arm.latency));
    }
    Ok((by_arm(&traffic, template.whole_service, target)?, by_arm(&latency, template.whole_service, target)?))
}

/// The places of a template that counts by arm; without a second one it is not told.
fn places(template: &Template) -> impl Iterator<Item = (Option<Place>, &ByArm, &Failures)> {
    let there_are_two = template.otherwise.is_some();
    let place = move |place| there_are_two.then_some(place);
    let first = template.by_arm.iter().map(move |by_arm| (place(Place::First), by_arm, &template.failures));
    first.chain(template.otherwise.iter().map(move |other| (place(Place::Otherwise), &other.by_arm, &other.failures)))
}

/// One query for everything that a template counts beside requests and errors; `None` if that is nothing.
pub(super) fn failures(template: &Template, target: &MetricsTarget) -> Result<Option<String>, QueryError> {
    let mut parts = Vec::new();
    if template.by_name.is_some() {
        parts.extend(of(None, false, &template.failures));
    }
    for (place, by_arm, failures) in places(template) {
        parts.extend(of(place, by_arm.control_without_label, failures));
    }
    if parts.is_empty() { Ok(None) } else { by_arm(&parts, template.whole_service, target).map(Some) }
}

fn of(place: Option<Place>, without_label: bool, failures: &Failures) -> impl Iterator<Item = Part<'_>> {
    let part = move |(kind, template)| Part { counts: super::mark_of(kind), template, place, without_label };
    failures.counted().map(part)
}

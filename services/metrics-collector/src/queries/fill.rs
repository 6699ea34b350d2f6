//! Fills the placeholders of a template with a target's names.

use meshward_model::MetricsTarget;

use super::{
    QueryError,
    templates::{ByArm, ByName, Failures, Layout},
};

/// Stands in a template for the label that tells the cohorts apart.
pub(super) const COHORT_LABEL: &str = "COHORT_LABEL";
/// The pods' label where a target names none, as operators may map it by themselves.
const DEFAULT_COHORT_LABEL: &str = "meshward.io/cohort";

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

/// One query for both arms and for all `parts` (what is counted, and its template); each series is marked with its arm
/// and with what it counts.
fn by_arm(parts: &[(&str, &str)], target: &MetricsTarget) -> Result<String, QueryError> {
    let arms = [(super::CANARY, &target.canary_series), (super::CONTROL, &target.control_series)];
    let mut marked = Vec::new();
    for (arm, series) in arms {
        for (counts, template) in parts {
            let query = one_arm(template, series, target)?;
            marked.push(mark(&mark(&query, super::ARM_LABEL, arm), super::COUNTS_LABEL, counts));
        }
    }
    Ok(marked.join(" or "))
}

fn mark(query: &str, label: &str, value: &str) -> String {
    format!("label_replace({query}, \"{label}\", \"{value}\", \"\", \"\")")
}

/// The label of Prometheus that a pod's label is mapped to.
fn cohort_label(target: &MetricsTarget) -> String {
    let key = if target.cohort_label.is_empty() { DEFAULT_COHORT_LABEL } else { &target.cohort_label };
    sanitized(key)
}

fn one_arm(template: &str, series: &str, target: &MetricsTarget) -> Result<String, QueryError> {
    let hosts = &target.hosts;
    let mut query = template.replace("$SERIES", series).replace(COHORT_LABEL, &cohort_label(target));
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
fn alternatives<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut patterns: Vec<String> = names.into_iter().map(|name| name.replace('.', "[.]").replace('*', ".*")).collect();
    patterns.sort();
    patterns.dedup();
    patterns.join("|")
}

/// The queries of a [`ByArm`] for traffic and latency.
pub(super) fn both(template: &ByArm, target: &MetricsTarget) -> Result<(String, String), QueryError> {
    let traffic = [(super::REQUESTS, template.requests.as_str()), (super::ERRORS, template.errors.as_str())];
    Ok((by_arm(&traffic, target)?, by_arm(&[("latency", template.latency.as_str())], target)?))
}

/// One query for everything that a template counts beside requests and errors; `None` if that is nothing.
pub(super) fn failures(template: &Failures, target: &MetricsTarget) -> Result<Option<String>, QueryError> {
    let parts: Vec<(&str, &str)> = template.counted().map(|(kind, query)| (super::mark_of(kind), query)).collect();
    if parts.is_empty() { Ok(None) } else { by_arm(&parts, target).map(Some) }
}

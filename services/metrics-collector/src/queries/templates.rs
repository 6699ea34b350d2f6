//! Query templates: data, built in or from a file of the operator, checked before they are used.
//!
//! A template says for a mesh and some mechanisms how canary and control are counted. There are two forms:
//!
//! - `by_arm`: a query for the requests, one for the errors and one for the latency buckets **of one arm**. They are
//!   sent once for each arm, and what each brings is marked with a label, so a query may give any series. Placeholders:
//!   `$SERIES`, the arm's name (required; letters, digits, `_`, `.`, `-`); `$HOSTS`, `$SERVICES` and `$NAMESPACES`, the
//!   target's hosts, their first parts and their namespaces as regular expressions (so for `=~`). `COHORT_LABEL` in place of
//!   a label's name is the pods' label that the target names, as Prometheus' `labelmap` writes it; with
//!   `control_without_label` the control's `$SERIES` is a regular expression (so for `=~`) for its name or no label at all.
//!   `POD_LABELS=""` becomes the labels that the pods of both arms have, if the target names any. For templates with
//!   `needs_clusters` also `$CLUSTERS`, the arm's clusters of Envoy as `<port>|<subset>|<host>`, and `$DESTINATIONS`, their
//!   hosts, both as regular expressions; they may stand in place of `$SERIES`.
//! - `by_name`: the arm is a part of the series' *name*, as Envoy has it for routes. Placeholders: `$VHOST`, the virtual
//!   host in the name; `$FIRST`, its first part as a label; `$SERIES`, the alternatives of both arms.
//!
//! Beside either form, `failures` may say where connection failures, circuit breaker trips and denials **of one arm** are
//! counted, as in `by_arm`; `$VHOSTS` are the alternatives of all virtual hosts as they stand in a name, and `$VHOST` and
//! `$FIRST` make one copy of the query per host. They are sent together in a query of their own: the judge can do without
//! it.
//!
//! A mesh may count the same traffic in two places, of which a cluster has one, the other or both: `otherwise` is a second
//! `by_arm` with its `failures`, asked in the same queries. The second counts where the first has no requests of either arm
//! in the whole time that is asked about, so that nothing is counted twice and a choice is a matter of the data alone.
//!
//! `whole_service` templates tell no arms apart, so they name no `$SERIES`: all that they find is the control's.
//!
//! All queries give plain counters: no `rate`, no quantile. Placeholders stand within strings. When the parts of a
//! template are joined by `or`, series with equal labels but different names would hide each other: name several
//! metrics in one selector instead.

use meshward_model::{Mechanism, Mesh, MetricsTarget};
use serde::Deserialize;

use super::{
    clusters,
    promql::{self, InvalidQuery, selectors::dropped},
};
use crate::judge::counts::Kind;

/// Longest file, bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
const MAX_TEMPLATES: usize = 100;
pub(super) const BUILT_IN: &str = include_str!("built_in.yaml");

/// How one mesh counts by some mechanisms. Exactly one of the two forms is given.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Which mesh.
    pub mesh: Mesh,
    /// Which mechanisms.
    pub mechanisms: Vec<Mechanism>,
    /// Only for targets that name a label of the pods.
    #[serde(default)]
    pub needs_cohort_label: bool,
    /// Only for targets that name clusters of both arms.
    #[serde(default)]
    pub needs_clusters: bool,
    /// Only where no host has clusters of both arms.
    #[serde(default)]
    pub needs_hosts_apart: bool,
    /// The arm is in the series' names.
    #[serde(default)]
    pub by_name: Option<ByName>,
    /// Each arm is asked for by itself.
    #[serde(default)]
    pub by_arm: Option<ByArm>,
    /// What else is counted.
    #[serde(default)]
    pub failures: Failures,
    /// Where the same is counted if `by_arm` finds nothing.
    #[serde(default)]
    pub otherwise: Option<Otherwise>,
    /// No arms are told apart.
    #[serde(default)]
    pub whole_service: bool,
}

/// A second place where the same traffic is counted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    /// Each arm is asked for by itself.
    pub by_arm: ByArm,
    /// What else is counted.
    #[serde(default)]
    pub failures: Failures,
}

impl Template {
    /// Whether it is for such a target.
    #[must_use]
    pub fn serves(&self, target: &MetricsTarget) -> bool {
        let is_told_apart = !self.needs_cohort_label || !target.cohort_label.is_empty();
        let has_clusters =
            !self.needs_clusters || !target.canary_clusters.is_empty() && !target.control_clusters.is_empty();
        let are_apart = || !self.needs_hosts_apart || clusters::are_of_different_hosts(target);
        self.mesh == target.mesh
            && self.mechanisms.contains(&target.mechanism)
            && is_told_apart
            && has_clusters
            && are_apart()
    }

    /// The queries for requests, which find something wherever there is traffic, each with its place in the template.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, &str)> {
        self.each(|by_arm| ("requests", &by_arm.requests), |layout| ("traffic", &layout.traffic))
    }

    /// The queries for latencies.
    #[must_use]
    pub fn latencies(&self) -> Vec<(String, &str)> {
        self.each(|by_arm| ("latency", &by_arm.latency), |layout| ("latency", &layout.latency))
    }

    /// The queries for errors that are asked for by themselves.
    #[must_use]
    pub fn errors(&self) -> Vec<(String, &str)> {
        self.arms().map(|(place, one, _)| (format!("{place}by_arm.errors"), one.errors.as_str())).collect()
    }

    /// Both places where arms may be counted, each with where it stands in the template.
    fn arms(&self) -> impl Iterator<Item = (&'static str, &ByArm, &Failures)> {
        let first = self.by_arm.iter().map(|by_arm| ("", by_arm, &self.failures));
        first.chain(self.otherwise.iter().map(|other| ("otherwise.", &other.by_arm, &other.failures)))
    }

    /// The queries for what else is counted.
    #[must_use]
    pub fn others(&self) -> Vec<(String, &str)> {
        let mut all = Vec::new();
        let places = [("", Some(&self.failures)), ("otherwise.", self.otherwise.as_ref().map(|other| &other.failures))];
        for (place, failures) in places {
            let counted = failures.into_iter().flat_map(Failures::counted);
            all.extend(counted.map(|(kind, query)| (format!("{place}failures.{}", super::mark_of(kind)), query)));
        }
        all
    }

    fn each<'a>(
        &'a self,
        of_arm: fn(&'a ByArm) -> (&'static str, &'a String),
        of_layout: fn(&'a Layout) -> (&'static str, &'a String),
    ) -> Vec<(String, &'a str)> {
        let by_arm = self.arms().map(|(place, one, _)| {
            let (key, query) = of_arm(one);
            (format!("{place}by_arm.{key}"), query.as_str())
        });
        let layouts = self.by_name.iter().flat_map(|by_name| by_name.layouts.iter().map(of_layout).enumerate());
        let layouts = layouts.map(|(at, (key, query))| (format!("by_name.layouts[{at}].{key}"), query.as_str()));
        by_arm.chain(layouts).collect()
    }
}

/// Queries for what else is counted in one arm; what nothing counts is left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failures {
    /// Connections that could not be made or broke.
    #[serde(default)]
    pub connection_failures: Option<String>,
    /// Requests that a circuit breaker turned away, or times that one opened.
    #[serde(default)]
    pub circuit_breaker_trips: Option<String>,
    /// Requests that an authorization policy denied.
    #[serde(default)]
    pub denials: Option<String>,
}

impl Failures {
    /// What is counted, and by which query.
    pub fn counted(&self) -> impl Iterator<Item = (Kind, &str)> {
        let all = [
            (Kind::ConnectionFailures, &self.connection_failures),
            (Kind::CircuitBreakerTrips, &self.circuit_breaker_trips),
            (Kind::Denials, &self.denials),
        ];
        all.into_iter().filter_map(|(kind, query)| Some((kind, query.as_deref()?)))
    }
}

/// Counters whose names hold virtual host, arm and kind, as Envoy's routes have them; latencies in milliseconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByName {
    /// One for each way in which a proxy turns its counters into series; a proxy has one of them.
    pub layouts: Vec<Layout>,
}

/// One way in which a proxy turns its counters into series.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Requests (`…_completed`) and errors (the others).
    pub traffic: String,
    /// Latency buckets.
    pub latency: String,
}

/// Queries for one arm.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByArm {
    /// The control's series are also those without the label that `$SERIES` is compared with, and it may have no name.
    #[serde(default)]
    pub control_without_label: bool,
    /// Everything that was answered, failed or was denied.
    pub requests: String,
    /// Of those, what failed; denials are told by themselves.
    pub errors: String,
    /// Latency buckets, with `le`.
    pub latency: String,
    /// Unit of `le`.
    pub latency_unit: LatencyUnit,
}

/// Unit of a histogram's edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum LatencyUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
}

impl LatencyUnit {
    /// How many milliseconds one is.
    #[must_use]
    pub fn milliseconds(self) -> f64 {
        match self {
            Self::Seconds => 1000.0,
            Self::Milliseconds => 1.0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    templates: Vec<Template>,
    /// Those of [`super::edges`], which reads them.
    #[serde(default, rename = "edges")]
    _edges: serde::de::IgnoredAny,
}

/// Why templates cannot be used: a sentence with the place in the file and in the query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplates {
    /// Not the form that is wanted.
    #[error("{0}")]
    Form(String),
    /// A query is wrong.
    #[error("templates[{index}].{key}: {error}")]
    Query {
        /// Which template, from 0.
        index: usize,
        /// Which of its queries.
        key: String,
        /// What is wrong with it.
        error: InvalidQuery,
    },
}

/// Reads templates.
///
/// # Errors
/// If they are not of the form above, or a query is wrong.
pub fn parse(text: &str) -> Result<Vec<Template>, InvalidTemplates> {
    if text.len() > MAX_FILE_BYTES {
        let problem = format!("the file has {} bytes, {MAX_FILE_BYTES} are allowed", text.len());
        return Err(InvalidTemplates::Form(problem));
    }
    let File { templates, .. } =
        serde_yaml::from_str(text).map_err(|error| InvalidTemplates::Form(error.to_string()))?;
    if templates.len() > MAX_TEMPLATES {
        return Err(InvalidTemplates::Form(format!("{} templates, {MAX_TEMPLATES} are allowed", templates.len())));
    }
    for (index, template) in templates.iter().enumerate() {
        check(index, template)?;
    }
    Ok(templates)
}

/// Those that the program brings.
///
/// # Panics
/// Never: a test reads them.
#[must_use]
pub fn built_in() -> Vec<Template> {
    parse(BUILT_IN).expect("the built-in templates are tested")
}

fn check(index: usize, template: &Template) -> Result<(), InvalidTemplates> {
    let form = |problem: &str| Err(InvalidTemplates::Form(format!("templates[{index}]: {problem}")));
    if template.mechanisms.is_empty() {
        return form("mechanisms: name at least one");
    }
    let wrong = |key: String, error| InvalidTemplates::Query { index, key, error };
    // Clusters and their hosts tell the arms apart as well as a name does.
    let by_clusters = |query: &str| {
        template.needs_clusters && placeholders(query).any(|(_, name)| ["CLUSTERS", "DESTINATIONS"].contains(&name))
    };
    let required =
        |query: &str| -> &[&str] { if template.whole_service || by_clusters(query) { &[] } else { &["SERIES"] } };
    let of_clusters: &[&str] = if template.needs_clusters { &["CLUSTERS", "DESTINATIONS"] } else { &[] };
    let known = |more: &[&'static str]| [&["SERIES"], of_clusters, &["HOSTS", "SERVICES", "NAMESPACES"], more].concat();
    for (key, query) in template.others() {
        let known = known(&["VHOSTS", "VHOST", "FIRST"]);
        check_query(query, &known, required(query), &[]).map_err(|error| wrong(key, error))?;
    }
    let layouts = match (&template.by_name, &template.by_arm) {
        (Some(by_name), None) if template.otherwise.is_none() && !template.whole_service => &by_name.layouts[..],
        (None, Some(_)) => &[],
        (Some(_), None) => return form("otherwise and whole_service are for by_arm"),
        _ => return form("give either by_name or by_arm"),
    };
    if template.by_name.is_some() && (layouts.is_empty() || layouts.len() > 10) {
        return form("by_name.layouts: 1 to 10");
    }
    for (layout, queries) in layouts.iter().enumerate() {
        let both: [(_, _, &[&str]); 2] =
            [("traffic", &queries.traffic, &["__name__"]), ("latency", &queries.latency, &["__name__", "le"])];
        for (key, query, kept) in both {
            check_query(query, &["VHOST", "FIRST", "SERIES"], &["VHOST", "SERIES"], kept)
                .map_err(|error| wrong(format!("by_name.layouts[{layout}].{key}"), error))?;
        }
    }
    for (place, by_arm, _) in template.arms() {
        let all: [(_, _, &[&str]); 3] = [
            ("requests", &by_arm.requests, &[]),
            ("errors", &by_arm.errors, &[]),
            ("latency", &by_arm.latency, &["le"]),
        ];
        for (key, query, kept) in all {
            check_query(query, &known(&[]), required(query), kept)
                .map_err(|error| wrong(format!("{place}by_arm.{key}"), error))?;
        }
    }
    Ok(())
}

/// A template is PromQL itself, because placeholders stand within strings; so positions are those of the file's text.
pub(super) fn check_query(query: &str, known: &[&str], required: &[&str], kept: &[&str]) -> Result<(), InvalidQuery> {
    promql::check(query)?;
    if let Some((label, byte)) = kept.iter().find_map(|label| Some((label, dropped(query, label)?))) {
        return Err(InvalidQuery::at(query, byte, format!("drops the label {label}, which must stay")));
    }
    let mut found = Vec::new();
    for (byte, name) in placeholders(query) {
        if !known.contains(&name) {
            let reason = format!("${name} is no placeholder here; known are ${}", known.join(", $"));
            return Err(InvalidQuery::at(query, byte, reason));
        }
        found.push(name);
    }
    match required.iter().find(|name| !found.contains(name)) {
        Some(name) => Err(InvalidQuery::at(query, 0, format!("${name} is missing"))),
        None => Ok(()),
    }
}

/// Names in capital letters behind a dollar sign, with the byte where each begins. A dollar sign alone is the end of a
/// line in a regular expression.
fn placeholders(query: &str) -> impl Iterator<Item = (usize, &str)> {
    query.match_indices('$').filter_map(|(byte, _)| {
        let rest = &query[byte + 1..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(rest.len());
        (end > 0).then(|| (byte, &rest[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_arm(requests: &str) -> String {
        format!(
            "templates:\n- mesh: linkerd\n  mechanisms: [weight]\n  by_arm:\n    requests: '{requests}'\n    \
             errors: 'b{{c=\"$SERIES\"}}'\n    latency: 'd{{c=\"$SERIES\"}}'\n    latency_unit: s\n"
        )
    }

    const OTHERWISE: &str = "  otherwise:\n    by_arm: {requests: 'a{c=\"$SERIES\"}', errors: 'rate(a{c=\"$SERIES\"}[1m])', latency: \
                             'd{c=\"$SERIES\"}', latency_unit: s}\n";

    #[test]
    fn the_built_in_templates_are_good_and_name_each_pair_once() {
        let templates = built_in();
        let mut pairs = Vec::new();
        for one in &templates {
            pairs.extend(one.mechanisms.iter().map(|mechanism| {
                (one.mesh, *mechanism, one.needs_cohort_label || one.needs_clusters, one.needs_hosts_apart)
            }));
        }
        let distinct: std::collections::HashSet<_> = pairs.iter().collect();
        assert_eq!(distinct.len(), pairs.len());
        assert!(pairs.contains(&(Mesh::Linkerd, Mechanism::Weight, false, false)));
        assert!(pairs.contains(&(Mesh::Istio, Mechanism::Request, false, false)));
    }

    #[test]
    fn a_file_is_read_with_what_is_wrong_and_where() {
        assert_eq!(parse(&by_arm("a{c=\"$SERIES\",d=~\"$HOSTS|e$\"}")).expect("good").len(), 1);
        let by_cluster = by_arm("a{c=~\"$CLUSTERS\"}").replace("by_arm:", "needs_clusters: true\n  by_arm:");
        assert_eq!(parse(&by_cluster).expect("good").len(), 1);
        let cases = [
            (by_arm("a{c=\"$SERIES\""), "templates[0].by_arm.requests: line 1, column 14: "),
            (by_arm("rate(a{c=\"$SERIES\"}[1m])"), "templates[0].by_arm.requests: line 1, column 1: rate()"),
            (
                by_arm("a{c=\"$SERIES\",d=\"$HOST\"}"),
                "line 1, column 18: $HOST is no placeholder here; known are $SERIES",
            ),
            (by_arm("a{c=\"d\"}"), "line 1, column 1: $SERIES is missing"),
            (by_arm("a{c=\"$CLUSTERS\"}"), "line 1, column 6: $CLUSTERS is no placeholder here"),
            (
                by_arm("a{c=\"$SERIES\"}").replace("d{c=\"$SERIES\"}", "a or sum by (c) (d{c=\"$SERIES\"})"),
                "templates[0].by_arm.latency: line 1, column 6: drops the label le, which must stay",
            ),
            (by_arm("$SERIES"), "templates[0].by_arm.requests: line 1, column 1: "),
            (by_arm("a").replace("latency_unit: s", "latency_unit: h"), "unknown variant `h`"),
            (by_arm("a").replace("latency_unit: s", "latencyunit: s"), "unknown field `latencyunit`"),
            (by_arm("a").replace("linkerd", "consul"), "unknown variant `consul`"),
            (by_arm("a").replace("[weight]", "[magic]"), "unknown variant `magic`"),
            (by_arm("a").replace("[weight]", "[]"), "templates[0]: mechanisms: name at least one"),
            ("templates:\n- mesh: istio\n  mechanisms: [weight]\n".to_owned(), "give either by_name or by_arm"),
            (by_arm("a{c=\"$SERIES\"}") + OTHERWISE, "templates[0].otherwise.by_arm.errors: line 1, column 1: rate()"),
            (
                by_arm("a{c=\"$SERIES\"}")
                    .replace("by_arm:", "whole_service: true\n  by_name: {layouts: []}\n  by_arm:"),
                "give either by_name or by_arm",
            ),
            ("templates: 7".to_owned(), "expected a sequence"),
            ("query: up".to_owned(), "unknown field `query`"),
            ("#".repeat(MAX_FILE_BYTES + 1), "the file has"),
        ];
        for (text, problem) in cases {
            let error = parse(&text).expect_err(problem).to_string();
            assert!(error.contains(problem), "{problem}: {error}");
        }
    }
}

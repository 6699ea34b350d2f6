//! What to ask for: query templates as data, one [`templates::Template`] per mesh and mechanism.
//!
//! **Istio, routes.** A route with `statPrefix` is counted per virtual host, whose name is `<host>:<port>`. What
//! Prometheus sees depends on the proxy's rules for turning names into labels, so the template has one selector per
//! layout, joined by `or`: a proxy has one layout, so nothing is counted twice. Both were read off a running Envoy
//! 1.40 for the virtual host `shop-v2.demo.svc.cluster.local:80` and `statPrefix: canary`:
//!
//! - Envoy's own rules take the first part of the virtual host for a label:
//!   `envoy_vhost_demo_svc_cluster_local_80_route_canary_upstream_rq_completed{envoy_virtual_host="shop-v2"}`, errors
//!   in `…_upstream_rq_xx{envoy_response_code_class="5",…}`;
//! - Istio's bootstrap keeps it in the name:
//!   `envoy_vhost_shop_v2_demo_svc_cluster_local_80_route_canary_upstream_rq_completed`, errors in
//!   `…_upstream_rq{response_code_class="5xx"}` beside one series per status code.
//!
//! `completed` is the denominator: requests that found no upstream are in it and in 5xx, but not in `…_total`. Not
//! counted at all are redirects, direct responses, injected aborts and requests for a cluster that does not exist.
//! Error counters are made by their first error, so a missing one is zero errors. Latencies are histograms in
//! milliseconds, `…_upstream_rq_time`.
//!
//! Istio's own proxy counts such routes under the same names, and keeps them by default; `istio_requests_total` has no
//! label for the route, so it cannot tell these cohorts apart.
//!
//! **Everything else** asks for each arm by itself and marks what comes back ([`templates`]): Istio's own proxy by the
//! pods' cohort or by a destination's host or version, Envoy by its clusters where Istio's proxy does not tell, Linkerd's
//! outbound proxies by backend, its inbound ones by Server or by the pods' cohort.
//!
//! One query brings requests and errors of both arms, so that all of them are of the same moment.

mod clusters;
pub mod edges;
mod fill;
pub mod promql;
pub mod templates;

use std::{collections::HashSet, sync::Mutex};

use meshward_model::{Mechanism, Mesh, MetricsTarget};

use crate::{judge::counts::Kind, window::Series};
use promql::{InvalidQuery, MAX_SENT_BYTES};
use templates::{Failures, InvalidTemplates, Template};

/// Labels that mark what a series counts, where its own labels do not say so for every template alike.
pub(crate) const ARM_LABEL: &str = "meshward_arm";
const COUNTS_LABEL: &str = "meshward_counts";
const PLACE_LABEL: &str = "meshward_place";
const CANARY: &str = "canary";
const CONTROL: &str = "control";
const REQUESTS: &str = "requests";
const ERRORS: &str = "errors";

/// Where a template of two places counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Otherwise,
}

impl Place {
    fn mark(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Otherwise => "otherwise",
        }
    }
}

/// How a series of [`Queries::failures`] is marked.
fn mark_of(kind: Kind) -> &'static str {
    match kind {
        Kind::ConnectionFailures => "connection_failures",
        Kind::CircuitBreakerTrips => "circuit_breaker_trips",
        Kind::Denials => "denials",
    }
}

/// Why a target cannot be asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueryError {
    /// A field of the target is wrong.
    #[error("target.{field}: {problem}")]
    Target {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no template.
    #[error("metrics of {mesh:?} by {mechanism:?}")]
    Unsupported {
        /// Which mesh.
        mesh: Mesh,
        /// Which mechanism.
        mechanism: Mechanism,
    },
    /// What the template makes of the target is no good query.
    #[error("the template gives a query that cannot be sent: {error}; it is {query}")]
    Filled {
        /// What is wrong with it.
        error: InvalidQuery,
        /// The query.
        query: String,
    },
}

/// Which version's requests a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The version on trial.
    Canary,
    /// The version that serves everyone else.
    Control,
}

/// Queries that are remembered as good; parsing one takes longer than all else that is done with a target.
const MAX_CHECKED: usize = 1000;

/// All templates; the first for a mesh and a mechanism counts.
#[derive(Debug)]
pub struct Catalog {
    templates: Vec<Template>,
    edges: Vec<edges::Template>,
    checked: Mutex<HashSet<String>>,
}

impl Catalog {
    /// What the program brings.
    #[must_use]
    pub fn built_in() -> Self {
        Self::of(templates::built_in())
    }

    /// These and no others.
    #[must_use]
    pub fn of(templates: Vec<Template>) -> Self {
        Self { templates, edges: edges::built_in(), checked: Mutex::default() }
    }

    /// The same behind the templates of a file.
    ///
    /// # Errors
    /// If the file is not of the right form, or one of its queries is wrong.
    pub fn with(file: &str) -> Result<Self, InvalidTemplates> {
        let mut templates = templates::parse(file)?;
        templates.extend(templates::built_in());
        let mut catalog = Self::of(templates);
        catalog.edges.splice(0..0, edges::parse(file)?);
        Ok(catalog)
    }

    /// The query for who calls services, and how to read what it brings.
    ///
    /// # Errors
    /// If there is no template for the mesh, or the query is too long.
    pub fn edges(
        &self,
        mesh: Mesh,
        namespaces: &[String],
        services: &[String],
    ) -> Result<(String, &edges::Labels), QueryError> {
        let template = self.edges.iter().find(|template| template.mesh == mesh);
        let template = template.ok_or(QueryError::Unsupported { mesh, mechanism: Mechanism::None })?;
        let query = template.fill(namespaces, services);
        self.check(&query)?;
        Ok((query, &template.labels))
    }

    /// The queries for a target.
    ///
    /// # Errors
    /// [`QueryError`] naming the field that cannot be used.
    pub fn queries(&self, target: &MetricsTarget) -> Result<Queries, QueryError> {
        let (mesh, mechanism) = (target.mesh, target.mechanism);
        let template = self
            .templates
            .iter()
            .find(|template| template.serves(target))
            .ok_or(QueryError::Unsupported { mesh, mechanism });
        // What is wrong with the target is said even where there is no template.
        check(target, template.as_ref().ok().copied())?;
        let mut queries = Queries::fill(template?, target)?;
        // Names of many hosts may fit into one query and not into the longer one, which nothing depends on.
        queries.failures.take_if(|query| query.len() > MAX_SENT_BYTES);
        queries.texts().into_iter().try_for_each(|query| self.check(query))?;
        Ok(queries)
    }

    /// The last check before a query is sent.
    fn check(&self, query: &str) -> Result<(), QueryError> {
        if self.checked.lock().expect("no holder panics").contains(query) {
            return Ok(());
        }
        sendable(query)?;
        let mut checked = self.checked.lock().expect("no holder panics");
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.insert(query.to_owned());
        Ok(())
    }
}

/// The queries for one target, and how to read what they bring.
#[derive(Clone, Debug, PartialEq)]
pub struct Queries {
    /// Counters of requests and of errors of both arms.
    pub traffic: String,
    /// Latency histogram buckets of both arms.
    pub latency: String,
    /// What else is counted of both arms; `None` if that is nothing.
    pub failures: Option<String>,
    /// Kinds that [`Queries::failures`] brings, in their order.
    pub kinds: Vec<Kind>,
    /// Milliseconds in one unit of the buckets' edges.
    pub latency_unit_ms: f64,
    /// Prometheus' name of the pods' label that tells the arms apart, if it is one.
    pub cohort_label: Option<String>,
    reading: Reading,
}

#[derive(Clone, Debug, PartialEq)]
enum Reading {
    /// By what a series' name ends with before `_upstream_rq`.
    Names { canary: String, control: String },
    /// By the labels that mark it.
    Marks,
    /// By these too; only one place counts. The other is kept with what is different of it.
    Places { chosen: Place, other: Box<Other> },
}

/// What is different where the second place counts.
#[derive(Clone, Debug, PartialEq)]
struct Other {
    kinds: Vec<Kind>,
    latency_unit_ms: f64,
}

impl Queries {
    fn fill(template: &Template, target: &MetricsTarget) -> Result<Self, QueryError> {
        let failures = fill::failures(template, target)?;
        let kinds = |failures: &Failures| failures.counted().map(|(kind, _)| kind).collect();
        let other = template.otherwise.as_ref().map(|other| Other {
            kinds: kinds(&other.failures),
            latency_unit_ms: other.by_arm.latency_unit.milliseconds(),
        });
        let kinds = kinds(&template.failures);
        if let Some(by_arm) = &template.by_arm {
            let (traffic, latency) = fill::both(template, target)?;
            let latency_unit_ms = by_arm.latency_unit.milliseconds();
            let reading =
                other.map_or(Reading::Marks, |other| Reading::Places { chosen: Place::First, other: Box::new(other) });
            let cohort_label = by_arm.requests.contains(fill::COHORT_LABEL).then(|| fill::cohort_label(target));
            return Ok(Self { traffic, latency, failures, kinds, latency_unit_ms, cohort_label, reading });
        }
        let Some(by_name) = &template.by_name else {
            return Err(QueryError::Unsupported { mesh: target.mesh, mechanism: target.mechanism });
        };
        let ending = |series: &str| format!("route_{series}");
        Ok(Self {
            traffic: fill::by_name(by_name, |layout| &layout.traffic, target),
            latency: fill::by_name(by_name, |layout| &layout.latency, target),
            failures,
            kinds,
            latency_unit_ms: 1.0,
            cohort_label: None,
            reading: Reading::Names { canary: ending(&target.canary_series), control: ending(&target.control_series) },
        })
    }

    /// All of them, as they are sent.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        [self.traffic.as_str(), &self.latency].into_iter().chain(self.failures.as_deref()).collect()
    }

    /// The same, reading from the place that counts: the second one if the first has no requests in the answer to
    /// [`Queries::traffic`].
    #[must_use]
    pub fn where_counted(self, traffic: &[Series]) -> Self {
        let has_requests =
            |one: &Series| self.arm(one).is_some() && self.counts_requests(one) && one.points.iter().any(is_known);
        match &self.reading {
            Reading::Places { chosen: Place::First, other } if !traffic.iter().any(has_requests) => Self {
                kinds: other.kinds.clone(),
                latency_unit_ms: other.latency_unit_ms,
                reading: Reading::Places { chosen: Place::Otherwise, other: other.clone() },
                ..self
            },
            _ => self,
        }
    }

    /// Which arm a series of [`Queries::failures`] belongs to, and what it counts.
    #[must_use]
    pub fn failure(&self, series: &Series) -> Option<(Arm, Kind)> {
        let arm = self.marked_arm(series)?;
        let counts = series.label(COUNTS_LABEL);
        self.kinds.iter().find(|kind| mark_of(**kind) == counts).map(|kind| (arm, *kind))
    }

    /// Which arm a series belongs to; `None` if it is none of ours.
    #[must_use]
    pub fn arm(&self, series: &Series) -> Option<Arm> {
        match &self.reading {
            Reading::Names { canary, control } => arm_by_name(series.name(), canary, control),
            Reading::Marks | Reading::Places { .. } => self.marked_arm(series),
        }
    }

    fn marked_arm(&self, series: &Series) -> Option<Arm> {
        match &self.reading {
            Reading::Places { chosen, .. } if series.label(PLACE_LABEL) != chosen.mark() => None,
            _ => marked_arm(series),
        }
    }

    /// Whether a series of [`Queries::traffic`] counts requests; the others count errors.
    #[must_use]
    pub fn counts_requests(&self, series: &Series) -> bool {
        match self.reading {
            Reading::Names { .. } => series.name().ends_with("_completed"),
            Reading::Marks | Reading::Places { .. } => series.label(COUNTS_LABEL) == REQUESTS,
        }
    }
}

fn is_known((_, value): &(i64, f64)) -> bool {
    value.is_finite()
}

fn marked_arm(series: &Series) -> Option<Arm> {
    match series.label(ARM_LABEL) {
        CANARY => Some(Arm::Canary),
        CONTROL => Some(Arm::Control),
        _ => None,
    }
}

fn arm_by_name(name: &str, canary: &str, control: &str) -> Option<Arm> {
    let (route, _) = name.rsplit_once("_upstream_rq")?;
    match (route.ends_with(canary), route.ends_with(control)) {
        (false, false) => None,
        (true, false) => Some(Arm::Canary),
        (false, true) => Some(Arm::Control),
        // One name ends with the other; the longer one says more.
        (true, true) if canary.len() > control.len() => Some(Arm::Canary),
        (true, true) => Some(Arm::Control),
    }
}

fn check(target: &MetricsTarget, template: Option<&Template>) -> Result<(), QueryError> {
    let wrong = |field, problem: String| Err(QueryError::Target { field, problem });
    if target.hosts.is_empty() {
        return wrong("hosts", "at least one host is required".to_owned());
    }
    if let Some(host) = target.hosts.iter().find(|host| !is_host(host)) {
        return wrong("hosts", format!("{host:?} is no host name"));
    }
    if template.is_some_and(|template| template.whole_service) {
        let named = [("canary_series", &target.canary_series), ("control_series", &target.control_series)];
        let named = named.into_iter().find(|(_, name)| !name.is_empty());
        return named.map_or(Ok(()), |(field, _)| wrong(field, "nothing tells the versions apart here".to_owned()));
    }
    let by_arm = template.and_then(|template| template.by_arm.as_ref());
    for (field, name) in [("canary_series", &target.canary_series), ("control_series", &target.control_series)] {
        let nameless = field == "control_series" && by_arm.is_some_and(|by_arm| by_arm.control_without_label);
        let (punctuation, words): (&[u8], _) = match by_arm {
            Some(_) => (b"_.-", "letters, digits, underscores, dots and hyphens"),
            None => (b"_", "letters, digits and underscores"),
        };
        let allowed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || punctuation.contains(&byte));
        if name.is_empty() && !nameless || name.len() > 100 || !allowed {
            return wrong(field, format!("{name:?} is not 1 to 100 {words}"));
        }
    }
    if target.canary_series == target.control_series {
        return wrong("control_series", "must differ from canary_series".to_owned());
    }
    if !is_label_key(&target.cohort_label) {
        return wrong("cohort_label", format!("{:?} is no key of a pod's label", target.cohort_label));
    }
    let is_label = |(key, value): &(&String, &String)| !key.is_empty() && is_label_key(key) && is_label_value(value);
    if let Some((key, value)) = target.pod_labels.iter().find(|label| !is_label(label)) {
        return wrong("pod_labels", format!("{key:?}={value:?} is no label of a pod that Prometheus can have"));
    }
    clusters::wrong(target).map_or(Ok(()), |(field, problem)| wrong(field, problem))
}

/// A key as Kubernetes has it, that begins as Prometheus' labels must; or none.
fn is_label_key(key: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    key.len() <= 317 && key.bytes().all(is_allowed) && !key.starts_with(|first: char| first.is_ascii_digit())
}

/// As Kubernetes has it.
fn is_label_value(value: &str) -> bool {
    value.len() <= 63 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Labels of letters, digits, hyphens and underscores; the first, or all, may be a star.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        !label.is_empty() && label.len() <= 63 && allowed
    };
    host == "*" || host.len() <= 253 && host.strip_prefix("*.").unwrap_or(host).split('.').all(is_label)
}

fn sendable(query: &str) -> Result<(), QueryError> {
    if query.len() > MAX_SENT_BYTES {
        let problem = format!("their query has {} bytes, {MAX_SENT_BYTES} are allowed; name fewer hosts", query.len());
        return Err(QueryError::Target { field: "hosts", problem });
    }
    promql::check_form(query).map_err(|error| QueryError::Filled { error, query: query.to_owned() })
}

#[cfg(test)]
mod tests;

//! What to ask for: query templates as data, one [`Template`] per mesh and mechanism.
//!
//! **Istio, routes.** A route with `statPrefix` is counted per virtual host, whose name is `<host>:<port>`. What
//! Prometheus sees depends on the proxy's rules for turning names into labels, so each template has one selector per
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
//! One query brings requests and errors of both arms, so that all of them are of the same moment.

use meshward_model::{Mechanism, Mesh, MetricsTarget};

use crate::window::Series;

/// Longest query that is sent, bytes.
pub const MAX_QUERY_BYTES: usize = 4096;

/// How series are selected. `$VHOST` is the virtual host as the series' name has it, a regular expression; `$FIRST`
/// its first part as a label; `$SERIES` the alternatives of both arms.
struct Template {
    mesh: Mesh,
    mechanisms: &'static [Mechanism],
    layouts: &'static [Layout],
}

/// One way in which a proxy turns its counters into series.
struct Layout {
    /// Whether the first part of the virtual host is a label of its own.
    first_part_is_label: bool,
    requests_and_errors: &'static str,
    latency_buckets: &'static str,
}

const TEMPLATES: &[Template] = &[Template {
    mesh: Mesh::Istio,
    mechanisms: &[Mechanism::Request, Mechanism::Weight, Mechanism::Subset, Mechanism::Header],
    layouts: &[
        Layout {
            first_part_is_label: true,
            requests_and_errors: "{__name__=~\"envoy_vhost_$VHOSTroute_($SERIES)_upstream_rq_(completed|xx)\",\
                envoy_virtual_host=~\"$FIRST\",envoy_response_code_class=~\"|5\"}",
            latency_buckets: "{__name__=~\"envoy_vhost_$VHOSTroute_($SERIES)_upstream_rq_time_bucket\",\
                envoy_virtual_host=~\"$FIRST\"}",
        },
        Layout {
            first_part_is_label: false,
            requests_and_errors: "{__name__=~\"envoy_vhost_$VHOSTroute_($SERIES)_upstream_rq(_completed)?\",\
                envoy_virtual_host=\"\",response_code_class=~\"|5xx\",response_code=\"\"}",
            latency_buckets: "{__name__=~\"envoy_vhost_$VHOSTroute_($SERIES)_upstream_rq_time_bucket\",\
                envoy_virtual_host=\"\"}",
        },
    ],
}];

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
    /// There is no template yet.
    #[error("metrics of {mesh:?} by {mechanism:?}")]
    Unsupported {
        /// Which mesh.
        mesh: Mesh,
        /// Which mechanism.
        mechanism: Mechanism,
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

/// The queries for one target, and how to read what they bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queries {
    /// Counters of requests and of errors of both arms.
    pub traffic: String,
    /// Latency histogram buckets of both arms.
    pub latency: String,
    canary_suffix: String,
    control_suffix: String,
}

impl Queries {
    /// The queries for a target.
    ///
    /// # Errors
    /// [`QueryError`] naming the field that cannot be used.
    pub fn new(target: &MetricsTarget) -> Result<Self, QueryError> {
        check(target)?;
        let (mesh, mechanism) = (target.mesh, target.mechanism);
        let template = TEMPLATES
            .iter()
            .find(|template| template.mesh == mesh && template.mechanisms.contains(&mechanism))
            .ok_or(QueryError::Unsupported { mesh, mechanism })?;
        let suffix = |series: &str| format!("route_{series}");
        Ok(Self {
            traffic: bounded(fill(template.layouts, |layout| layout.requests_and_errors, target))?,
            latency: bounded(fill(template.layouts, |layout| layout.latency_buckets, target))?,
            canary_suffix: suffix(&target.canary_series),
            control_suffix: suffix(&target.control_series),
        })
    }

    /// Both, as they are sent.
    #[must_use]
    pub fn texts(&self) -> [&str; 2] {
        [&self.traffic, &self.latency]
    }

    /// Which arm a series belongs to; `None` if it is none of ours.
    #[must_use]
    pub fn arm(&self, series: &Series) -> Option<Arm> {
        let (route, _) = series.name().rsplit_once("_upstream_rq")?;
        let (canary, control) = (route.ends_with(&self.canary_suffix), route.ends_with(&self.control_suffix));
        match (canary, control) {
            (false, false) => None,
            (true, false) => Some(Arm::Canary),
            (false, true) => Some(Arm::Control),
            // One name ends with the other; the longer one says more.
            (true, true) if self.canary_suffix.len() > self.control_suffix.len() => Some(Arm::Canary),
            (true, true) => Some(Arm::Control),
        }
    }

    /// Whether a series of [`Queries::traffic`] counts requests; the others count errors.
    #[must_use]
    pub fn counts_requests(series: &Series) -> bool {
        series.name().ends_with("_completed")
    }
}

fn check(target: &MetricsTarget) -> Result<(), QueryError> {
    let wrong = |field, problem: String| Err(QueryError::Target { field, problem });
    if target.hosts.is_empty() {
        return wrong("hosts", "at least one host is required".to_owned());
    }
    if let Some(host) = target.hosts.iter().find(|host| !is_host(host)) {
        return wrong("hosts", format!("{host:?} is no host name"));
    }
    for (field, name) in [("canary_series", &target.canary_series), ("control_series", &target.control_series)] {
        let allowed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || name.len() > 100 || !allowed {
            return wrong(field, format!("{name:?} is not 1 to 100 letters, digits and underscores"));
        }
    }
    if target.canary_series == target.control_series {
        return wrong("control_series", "must differ from canary_series".to_owned());
    }
    Ok(())
}

/// Labels of letters, digits, hyphens and underscores; the first, or all, may be a star.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        !label.is_empty() && label.len() <= 63 && allowed
    };
    host == "*" || host.len() <= 253 && host.strip_prefix("*.").unwrap_or(host).split('.').all(is_label)
}

fn bounded(query: String) -> Result<String, QueryError> {
    if query.len() <= MAX_QUERY_BYTES {
        return Ok(query);
    }
    let problem = format!("their query has {} bytes, {MAX_QUERY_BYTES} are allowed; name fewer hosts", query.len());
    Err(QueryError::Target { field: "hosts", problem })
}

/// Every selector that the layouts make of the hosts, joined by `or`.
fn fill(layouts: &[Layout], pick: impl Fn(&Layout) -> &'static str, target: &MetricsTarget) -> String {
    let series = format!("{}|{}", target.canary_series, target.control_series);
    let selectors = layouts.iter().flat_map(|layout| {
        let text = pick(layout).replace("$SERIES", &series);
        if layout.first_part_is_label { by_label(&text, &target.hosts) } else { vec![by_name(&text, &target.hosts)] }
    });
    selectors.collect::<Vec<_>>().join(" or ")
}

/// One selector for all hosts: the whole virtual host is in the name.
fn by_name(template: &str, hosts: &[String]) -> String {
    let names: Vec<String> = hosts.iter().map(|host| sanitized(host)).collect();
    template.replace("$VHOST", &format!("({})_[0-9]+_", names.join("|")))
}

/// One selector per host: label and name belong together.
fn by_label(template: &str, hosts: &[String]) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn target(hosts: &[&str]) -> MetricsTarget {
        MetricsTarget {
            mesh: Mesh::Istio,
            mechanism: Mechanism::Request,
            cluster: String::new(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            canary_series: "canary".to_owned(),
            control_series: "stable".to_owned(),
        }
    }

    #[test]
    fn the_queries_for_a_host() {
        let queries = Queries::new(&target(&["shop-v2.demo.svc.cluster.local"])).expect("a good target");
        assert_eq!(
            queries.traffic,
            "{__name__=~\"envoy_vhost_demo_svc_cluster_local_[0-9]+_route_(canary|stable)_upstream_rq_(completed|xx)\",\
             envoy_virtual_host=~\"shop-v2\",envoy_response_code_class=~\"|5\"} or \
             {__name__=~\"envoy_vhost_(shop_v2_demo_svc_cluster_local)_[0-9]+_route_(canary|stable)\
             _upstream_rq(_completed)?\",\
             envoy_virtual_host=\"\",response_code_class=~\"|5xx\",response_code=\"\"}"
        );
        assert_eq!(
            queries.latency,
            "{__name__=~\"envoy_vhost_demo_svc_cluster_local_[0-9]+_route_(canary|stable)_upstream_rq_time_bucket\",\
             envoy_virtual_host=~\"shop-v2\"} or \
             {__name__=~\"envoy_vhost_(shop_v2_demo_svc_cluster_local)_[0-9]+_route_(canary|stable)\
             _upstream_rq_time_bucket\",\
             envoy_virtual_host=\"\"}"
        );
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_field() {
        let many: Vec<String> = (0..40).map(|index| format!("service-{index}.namespace.svc.cluster.local")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for hosts in
            [vec![], vec![""], vec!["a..b"], vec!["a\"}"], vec!["a.*"], vec!["a b"], vec!["a:80"], vec!["ü.de"], many]
        {
            match Queries::new(&target(&hosts)) {
                Err(QueryError::Target { field: "hosts", .. }) => {}
                other => panic!("{hosts:?} gave {other:?}"),
            }
        }
        for name in ["", "a-b", "a|b", "a\""] {
            let wrong = MetricsTarget { canary_series: name.to_owned(), ..target(&["a.b"]) };
            assert!(matches!(Queries::new(&wrong), Err(QueryError::Target { field: "canary_series", .. })), "{name:?}");
        }
        let same = MetricsTarget { canary_series: "stable".to_owned(), ..target(&["a.b"]) };
        assert!(matches!(Queries::new(&same), Err(QueryError::Target { field: "control_series", .. })));
        let linkerd = MetricsTarget { mesh: Mesh::Linkerd, ..target(&["a.b"]) };
        assert!(matches!(Queries::new(&linkerd), Err(QueryError::Unsupported { .. })));
    }

    #[test]
    fn series_are_told_apart_by_their_names() {
        let queries = Queries::new(&target(&["a.b"])).expect("a good target");
        let longer = MetricsTarget { canary_series: "x_route_stable".to_owned(), ..target(&["a.b"]) };
        let longer = Queries::new(&longer).expect("a good target");
        for (queries, name, arm) in [
            (&queries, "envoy_vhost_b_80_route_canary_upstream_rq_completed", Some(Arm::Canary)),
            (&queries, "envoy_vhost_b_80_route_stable_upstream_rq_xx", Some(Arm::Control)),
            (&queries, "envoy_vhost_b_80_route_stable_upstream_rq_time_bucket", Some(Arm::Control)),
            (&queries, "envoy_vhost_b_80_route_other_upstream_rq_xx", None),
            (&queries, "up", None),
            (&longer, "envoy_vhost_b_80_route_x_route_stable_upstream_rq", Some(Arm::Canary)),
            (&longer, "envoy_vhost_b_80_route_stable_upstream_rq", Some(Arm::Control)),
        ] {
            let labels = BTreeMap::from([("__name__".to_owned(), name.to_owned())]);
            assert_eq!(queries.arm(&Series { labels, points: vec![] }), arm, "{name}");
        }
    }
}

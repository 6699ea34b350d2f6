//! Envoy's clusters as targets name them: `<subset>|<host>`, or `<port>|<subset>|<host>` where the port is known.

use meshward_model::MetricsTarget;

use super::is_host;

/// Most clusters of an arm.
const MOST: usize = 64;
/// Any port, where none is named.
const ANY_PORT: &str = "[0-9]+";

/// The parts of a cluster's name; what is no cluster has none.
struct Cluster<'a> {
    port: Option<&'a str>,
    subset: &'a str,
    host: &'a str,
}

impl<'a> Cluster<'a> {
    /// A port or none, a subset or none, and a host without stars.
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split('|').collect();
        let (port, subset, host) = match parts[..] {
            [subset, host] => (None, subset, host),
            [port, subset, host] => (Some(port), subset, host),
            _ => return None,
        };
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port))
            && subset.len() <= 63
            && subset.bytes().all(is_allowed)
            && !host.contains('*')
            && is_host(host);
        is_good.then_some(Self { port, subset, host })
    }

    /// Whether both may be one.
    fn meets(&self, other: &Self) -> bool {
        let is_one_port = self.port.zip(other.port).is_none_or(|(a, b)| a == b);
        self.host == other.host && self.subset == other.subset && is_one_port
    }
}

/// The field that names clusters wrongly, and what is wrong.
pub(super) fn wrong(target: &MetricsTarget) -> Option<(&'static str, String)> {
    let arms = [("canary_clusters", &target.canary_clusters), ("control_clusters", &target.control_clusters)];
    let form = arms.into_iter().find_map(|(field, clusters)| {
        if clusters.len() > MOST {
            return Some((field, format!("{} clusters, {MOST} are allowed", clusters.len())));
        }
        let bad = clusters.iter().find(|cluster| Cluster::parse(cluster).is_none())?;
        Some((field, format!("{bad:?} is not <subset>|<host> or <port>|<subset>|<host>")))
    });
    form.or_else(|| {
        let canary: Vec<_> = parsed(&target.canary_clusters).collect();
        let is_both =
            |text: &&String| parsed(std::slice::from_ref(*text)).any(|one| canary.iter().any(|other| one.meets(other)));
        let both = target.control_clusters.iter().find(is_both)?;
        Some(("control_clusters", format!("{both:?} is the canary's, too")))
    })
}

fn parsed(clusters: &[String]) -> impl Iterator<Item = Cluster<'_>> {
    clusters.iter().filter_map(|cluster| Cluster::parse(cluster))
}

/// Whether no host has clusters of both arms.
pub(super) fn are_of_different_hosts(target: &MetricsTarget) -> bool {
    let mut canary = parsed(&target.canary_clusters);
    !canary.any(|one| parsed(&target.control_clusters).any(|other| one.host == other.host))
}

/// The ends of the clusters' names, from the port on, each as a regular expression's text.
pub(super) fn ends(clusters: &[String]) -> impl Iterator<Item = String> {
    parsed(clusters).map(|Cluster { port, subset, host }| format!("{}|{subset}|{host}", port.unwrap_or(ANY_PORT)))
}

/// The hosts that they are of.
pub(super) fn hosts(clusters: &[String]) -> impl Iterator<Item = &str> {
    parsed(clusters).map(|cluster| cluster.host)
}

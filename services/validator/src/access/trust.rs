//! The trust domains of a mesh, and what Istio makes of a policy's principals by them.
//!
//! An identity begins with the trust domain that vouches for it. A mesh has one of its own and may have aliases, from the
//! time before it was renamed, or of another mesh that it trusts. For each principal that is written in full
//! (`domain/ns/namespace/sa/name`) with one of these domains, Istio's control plane writes one for every domain of the
//! mesh; `cluster.local` stands for the mesh's own, whatever it is called. A domain can be a pattern: it is one of the
//! mesh's if it fits one. Anything else (`*`, `*/ns/…`, `cluster.local/*`, domains of others) stays as it is. Rules on trust
//! domains (`source.trustDomain`) are widened only where they name one of the mesh's exactly.

use serde_json::Value;

/// What stands for the mesh's own domain, and is its name unless it was set up otherwise.
const LOCAL: &str = "cluster.local";
/// Parts of a principal that is written in full.
const PARTS: usize = 5;

/// The trust domains of a mesh, its own one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomains(Vec<String>);

impl Default for TrustDomains {
    fn default() -> Self {
        Self(vec![LOCAL.to_owned()])
    }
}

impl TrustDomains {
    /// Those of a mesh with this configuration (Istio's MeshConfig); what it leaves out is as it is without one.
    #[must_use]
    pub fn of_mesh(config: &Value) -> Self {
        let own = config["trustDomain"].as_str().unwrap_or(LOCAL);
        let aliases = config["trustDomainAliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Self(std::iter::once(own).chain(aliases).map(str::to_owned).collect())
    }

    /// Whether an identity ("cluster.local/ns/web/sa/front") is of one of these domains.
    #[must_use]
    pub fn vouch_for(&self, principal: &str) -> bool {
        principal.split_once('/').is_some_and(|(domain, _)| self.0.iter().any(|own| own == domain))
    }

    /// What the proxies are told in the place of these principals of a policy.
    pub(super) fn principals(&self, written: &[&str]) -> Vec<String> {
        written.iter().flat_map(|principal| self.principal(principal)).collect()
    }

    fn principal(&self, written: &str) -> Vec<String> {
        let (domain, rest) = written.split_once('/').unwrap_or((written, ""));
        let is_full = written.split('/').count() == PARTS && domain != "*";
        if !is_full || (domain != LOCAL && !self.0.iter().any(|own| fit(domain, own))) {
            return vec![written.to_owned()];
        }
        // A pattern of ends ("*-mesh") goes on meaning all that end so.
        let told = |own: &String| if ends(own, domain) { written.to_owned() } else { format!("{own}/{rest}") };
        self.0.iter().map(told).collect()
    }

    /// What the proxies are told in the place of these trust domains of a policy.
    pub(super) fn domains<'a>(&'a self, written: &[&'a str]) -> Vec<&'a str> {
        let told = |domain: &&'a str| {
            let all = self.0.iter().map(String::as_str);
            if self.0.iter().any(|own| own == domain) { all.collect() } else { vec![*domain] }
        };
        written.iter().flat_map(told).collect()
    }
}

/// Whether two domains, of which either may be a pattern, go together.
fn fit(one: &str, other: &str) -> bool {
    one == other || other == "*" || begins(one, other) || begins(other, one) || ends(one, other) || ends(other, one)
}

fn begins(text: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|start| text.starts_with(start))
}

fn ends(text: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|end| text.ends_with(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn principals_are_told_for_every_domain_of_the_mesh() {
        let renamed = json!({"trustDomain": "new.example", "trustDomainAliases": ["old.example", "cluster.local"]});
        let named = json!({"trustDomain": "new.example"});
        let by_patterns = json!({"trustDomain": "new-td", "trustDomainAliases": ["old-td", "other"]});
        let any = json!({"trustDomainAliases": ["*"]});
        let all = ["new.example/ns/a/sa/b", "old.example/ns/a/sa/b", "cluster.local/ns/a/sa/b"];
        for (config, written, told) in [
            (&Value::Null, "cluster.local/ns/a/sa/b", &["cluster.local/ns/a/sa/b"][..]),
            (&Value::Null, "old.example/ns/a/sa/b", &["old.example/ns/a/sa/b"]),
            // A pattern of beginnings is no pattern any more.
            (&Value::Null, "cluster*/ns/a/sa/b", &["cluster.local/ns/a/sa/b"]),
            (&Value::Null, "*.local/ns/a/sa/b", &["*.local/ns/a/sa/b"]),
            (&named, "cluster.local/ns/a/sa/b", &["new.example/ns/a/sa/b"]),
            (&named, "old.example/ns/a/sa/b", &["old.example/ns/a/sa/b"]),
            (&renamed, "cluster.local/ns/a/sa/b", &all),
            (&renamed, "new.example/ns/a/sa/b", &all),
            (&renamed, "old.example/ns/a/sa/b", &all),
            (&renamed, "cluster.local/ns/a/sa/b*", &all.map(|one| format!("{one}*")).each_ref().map(String::as_str)),
            (&renamed, "other.example/ns/a/sa/b", &["other.example/ns/a/sa/b"]),
            // Not written in full, or for any domain.
            (&renamed, "*", &["*"]),
            (&renamed, "*/ns/a/sa/b", &["*/ns/a/sa/b"]),
            (&renamed, "cluster.local/*", &["cluster.local/*"]),
            (&renamed, "cluster.local/ns/a/*", &["cluster.local/ns/a/*"]),
            (&renamed, "cluster.local/ns/a/sa/b/c", &["cluster.local/ns/a/sa/b/c"]),
            (&renamed, "sa/b", &["sa/b"]),
            (&by_patterns, "*-td/ns/a/sa/b", &["*-td/ns/a/sa/b", "*-td/ns/a/sa/b", "other/ns/a/sa/b"]),
            (&by_patterns, "*-mesh/ns/a/sa/b", &["*-mesh/ns/a/sa/b"]),
            (&any, "x.example/ns/a/sa/b", &["cluster.local/ns/a/sa/b", "*/ns/a/sa/b"]),
        ] {
            assert_eq!(TrustDomains::of_mesh(config).principals(&[written]), told, "{written} by {config}");
        }
    }

    #[test]
    fn rules_on_domains_are_widened_by_exact_names_only() {
        let mesh = json!({"trustDomain": "new.example", "trustDomainAliases": ["old.example"]});
        let mesh = TrustDomains::of_mesh(&mesh);
        for (written, told) in [
            (&["old.example"][..], &["new.example", "old.example"][..]),
            (&["other", "new.example"], &["other", "new.example", "old.example"]),
            (&["*.example"], &["*.example"]),
            (&["cluster.local"], &["cluster.local"]),
        ] {
            assert_eq!(mesh.domains(written), told);
        }
        assert!(mesh.vouch_for("old.example/ns/a/sa/b") && !mesh.vouch_for("cluster.local/ns/a/sa/b"));
    }
}

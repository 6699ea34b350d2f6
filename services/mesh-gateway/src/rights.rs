//! What the gateway must be allowed to do in a cluster: the rules of a ClusterRole, read from what the dialects can expose.
//!
//! | resources | why |
//! |---|---|
//! | the policies of both meshes, as [`capabilities`](crate::dialect::capabilities) lists them | read, followed, written, put back; their helpers are of the same kinds |
//! | pods | divided into cohorts by a label; whether an admission policy labels new ones is tried with one that is not stored |
//! | services, namespaces, nodes | what a policy is about, who its callers are, in which zone a pod is |
//! | secrets, service accounts, gateways and their classes | listed for the validator, which judges a policy among what it refers to; of secrets the metadata alone |
//! | custom resource definitions | those of the meshes' kinds, by which the validator checks what is meant for the cluster |
//! | config maps, bindings of admission policies | the installed policy (`admission.yaml`) is told which new pods to label; without this right, or without the policy, the gateway's own watch does so |
//! | config maps | the deployments are recorded that were to make an object and were taken back ([`ended`](crate::apply::ended)); without this right nothing holds back a late write of theirs |
//!
//! A cluster without one of the meshes takes its rules all the same: a right to what is not served is none. Clusters that are named by
//! Secrets need a Role for these in the Secrets' namespace besides: get, list and watch.
//!
//! A test on a real API server gives an account exactly these rights, leads the life of a deployment of every kind with them, and looks
//! into the audit log for those that were never used. The page `docs/rights.yaml` is
//! `cargo run -p meshward-mesh-gateway --example rights`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::dialect;

/// One rule of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group; empty = the core's.
    pub group: &'static str,
    /// Plural names.
    pub resources: Vec<String>,
    /// What may be done with them.
    pub verbs: &'static [&'static str],
    /// What whoever grants it should know, in one sentence or two; empty = nothing.
    pub note: &'static str,
}

/// Of what is never read alone.
const FOLLOW: &[&str] = &["list", "watch"];
const READ: &[&str] = &["get", "list", "watch"];
const POLICY: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const OF_SECRETS: &str = "The metadata is all that is asked for, but Kubernetes cannot grant less than the whole. It may be left out: \
                          the validator then says that it lacks the secrets.";
/// Group, resource, verbs and note of what is no policy.
const OTHERS: [(&str, &str, &[&str], &str); 11] = [
    ("", "configmaps", &["get", "create", "patch", "delete"], ""),
    ("", "namespaces", READ, ""),
    ("", "nodes", READ, ""),
    ("", "pods", &["get", "list", "watch", "create", "patch"], ""),
    ("", "secrets", FOLLOW, OF_SECRETS),
    ("", "serviceaccounts", FOLLOW, ""),
    ("", "services", READ, ""),
    ("apiextensions.k8s.io", "customresourcedefinitions", &["get", "list"], ""),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", &["get"], ""),
    ("gateway.networking.k8s.io", "gatewayclasses", FOLLOW, ""),
    ("gateway.networking.k8s.io", "gateways", FOLLOW, ""),
];

/// Everything that the gateway may have to do in a cluster, by group.
#[must_use]
pub fn rights() -> Vec<Right> {
    let mut policies = BTreeMap::<_, Vec<String>>::new();
    for row in dialect::capabilities() {
        policies.entry(row.group).or_default().push(plural(row.kind));
    }
    let policies = policies.into_iter().map(|(group, mut resources)| {
        resources.sort();
        Right { group, resources, verbs: POLICY, note: "" }
    });
    let others = OTHERS.into_iter();
    let others =
        others.map(|(group, name, verbs, note)| Right { group, resources: vec![name.to_owned()], verbs, note });
    others.chain(policies).collect()
}

/// The plural by which the API server knows a kind.
fn plural(kind: &str) -> String {
    let name = kind.to_lowercase();
    match name.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o'])) {
        Some(stem) => format!("{stem}ies"),
        None => format!("{name}s"),
    }
}

/// The role as a manifest.
#[must_use]
pub fn cluster_role() -> String {
    let mut text = String::from(
        "# What mesh-gateway must be allowed to do in a cluster. Made by: cargo run -p meshward-mesh-gateway --example rights\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: meshward-mesh-gateway\nrules:\n",
    );
    for Right { group, resources, verbs, note } in rights() {
        let (resources, verbs) = (resources.join(", "), verbs.join(", "));
        if !note.is_empty() {
            writeln!(text, "  # {note}").expect("a text can be written to");
        }
        writeln!(text, "  - apiGroups: [\"{group}\"]\n    resources: [{resources}]\n    verbs: [{verbs}]")
            .expect("a text can be written to");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_has_every_right() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rights.yaml");
        let there = std::fs::read_to_string(path).expect("the page is there");
        assert!(there == cluster_role(), "{path} is old: cargo run -p meshward-mesh-gateway --example rights > {path}");
        let parsed: serde_json::Value = serde_yaml::from_str(&there).expect("it is YAML");
        assert_eq!(parsed["rules"].as_array().map(Vec::len), Some(rights().len()));
    }
}

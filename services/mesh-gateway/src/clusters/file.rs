//! The file that names the clusters (`--clusters FILE`), YAML:
//!
//! ```yaml
//! clusters:                       # at least one
//! - name: east                    # a DNS label; requests call the cluster by it
//!   kubeconfig:                   # one of three ways to reach it: a file, read once at start
//!     file: /etc/meshward/east
//!     context: admin              # not set: its current one
//!   istiod: [http://istiod.istio-system:15014]            # each replica; none: every proof of Istio says UNKNOWN
//!   linkerdPolicy: [http://linkerd-policy.linkerd:8090]   # the same for Linkerd's policy-controller
//!   linkerdDestination: [http://linkerd-dst.linkerd:8086] # and, for ServiceProfiles, its destination controller
//! - name: home
//!   inCluster: true               # the service account of the gateway's pod
//! - name: west
//!   secret:                       # a kubeconfig in a Secret of the home cluster; followed while the gateway runs
//!     namespace: meshward
//!     name: west-kubeconfig
//!     key: kubeconfig             # not set: "kubeconfig"
//! default: east                   # means requests that name none; not set: the first one
//! home: home                      # where Secrets are read; not set: the default one
//! secretsIn: meshward             # in this namespace, each Secret with the label meshward.io/cluster: NAME is a cluster
//! ```
//!
//! A field that is not listed here is refused, with its line.

use std::{collections::BTreeSet, path::PathBuf};

use serde::Deserialize;

use super::Addresses;

/// The key of a Secret that holds the kubeconfig, unless another one is named.
pub const USUAL_KEY: &str = "kubeconfig";

/// The file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// The clusters.
    pub clusters: Vec<Entry>,
    /// The one that is meant by requests that name none.
    #[serde(default)]
    pub default: String,
    /// The one that holds the Secrets.
    #[serde(default)]
    pub home: String,
    /// Where labelled Secrets are clusters; `None` = nowhere.
    pub secrets_in: Option<String>,
}

/// One cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// By a kubeconfig file.
    pub kubeconfig: Option<KubeconfigFile>,
    /// By the service account of the pod.
    #[serde(default)]
    pub in_cluster: bool,
    /// By a Secret.
    pub secret: Option<SecretKey>,
    #[serde(default)]
    istiod: Vec<String>,
    #[serde(default)]
    linkerd_policy: Vec<String>,
    #[serde(default)]
    linkerd_destination: Vec<String>,
}

/// A kubeconfig file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct KubeconfigFile {
    /// Where it is.
    pub file: PathBuf,
    /// Which context; `None` = its current one.
    pub context: Option<String>,
}

/// One value of a Secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key of the value.
    #[serde(default = "usual_key")]
    pub key: String,
}

fn usual_key() -> String {
    USUAL_KEY.to_owned()
}

impl Entry {
    /// Where its control planes answer.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            istiod: self.istiod.clone(),
            linkerd_policy: self.linkerd_policy.clone(),
            linkerd_destination: self.linkerd_destination.clone(),
        }
    }
}

/// Reads the file's text; `default` and `home` are filled in.
///
/// # Errors
/// One sentence that names the place.
pub fn parse(text: &str) -> Result<File, String> {
    let mut file: File = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let first = file.clusters.first().ok_or("clusters: is empty")?;
    if file.default.is_empty() {
        file.default.clone_from(&first.name);
    }
    if file.home.is_empty() {
        let is_there = file.clusters.iter().any(|entry| entry.name == file.default);
        file.home.clone_from(if is_there || file.secrets_in.is_none() { &file.default } else { &first.name });
    }
    let mut names = BTreeSet::new();
    for entry in &file.clusters {
        let Entry { name, kubeconfig, in_cluster, secret, .. } = entry;
        let ways = usize::from(kubeconfig.is_some()) + usize::from(*in_cluster) + usize::from(secret.is_some());
        match () {
            () if !is_name(name) => return Err(format!("clusters: {name:?} is no DNS label")),
            () if !names.insert(name) => return Err(format!("clusters: {name} is there twice")),
            () if ways != 1 => return Err(format!("clusters: {name} needs one of kubeconfig, inCluster and secret")),
            () if secret.is_some() && *name == file.home => {
                return Err(format!("clusters: {name} is the home of Secrets and cannot be reached by one"));
            }
            () => {}
        }
    }
    for (field, name) in [("default", &file.default), ("home", &file.home)] {
        // Another one may be a Secret that is yet to come, but the home must be there to read it.
        if !names.contains(name) && (field == "home" || file.secrets_in.is_none()) {
            return Err(format!("{field}: there is no cluster {name:?}"));
        }
    }
    Ok(file)
}

/// Whether a text is a DNS label.
pub(super) fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().last());
    ends.is_some_and(|(first, last)| is_letter(first) && is_letter(last))
        && text.len() <= 63
        && text.bytes().all(|byte| is_letter(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let lines = include_str!("file.rs").lines().skip_while(|line| *line != "//! ```yaml").skip(1);
        let lines = lines.take_while(|line| *line != "//! ```");
        let example: String =
            lines.map(|line| format!("{}\n", line.strip_prefix("//! ").unwrap_or_default())).collect();
        let file = parse(&example).expect("the example is right");
        assert_eq!((&*file.default, &*file.home, file.secrets_in.as_deref()), ("east", "home", Some("meshward")));
        assert_eq!(file.clusters.len(), 3);
        assert_eq!(file.clusters[0].addresses().istiod, ["http://istiod.istio-system:15014"]);
        assert_eq!(file.clusters[2].secret.as_ref().map(|secret| &*secret.key), Some("kubeconfig"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, why) in [
            ("clusters:\n- name: a\n  kubeconfg: {file: x}\n", "line 3"),
            ("clusters:\n- name: a\n  kubeconfig: {file: x, contxt: y}\n", "contxt"),
            ("clusters: []\n", "is empty"),
            ("clusters: [{name: a}]\n", "a needs one of"),
            ("clusters: [{name: a, inCluster: true, kubeconfig: {file: x}}]\n", "a needs one of"),
            ("clusters: [{name: A, inCluster: true}]\n", "no DNS label"),
            ("clusters: [{name: a, inCluster: true}, {name: a, inCluster: true}]\n", "twice"),
            ("clusters: [{name: a, inCluster: true}]\ndefault: b\n", "default: there is no cluster \"b\""),
            ("clusters: [{name: a, inCluster: true}]\nhome: b\n", "home: there is no cluster \"b\""),
            ("clusters: [{name: a, secret: {namespace: n, name: s}}]\n", "cannot be reached by one"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse("clusters: [{name: a, inCluster: true}]\ndefault: b\nsecretsIn: n\n").is_ok(), "b may yet come");
    }
}

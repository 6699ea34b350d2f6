//! Which object of which mesh in which cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A service mesh that Meshward speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mesh {
    /// Istio.
    Istio,
    /// Linkerd.
    Linkerd,
}

impl Mesh {
    /// The mesh that owns an API group ("networking.istio.io/v1" or the bare group), if it is one of a mesh.
    ///
    /// The Gateway API is nobody's own: its routes are exposed for Linkerd, and those that are for Istio or for a
    /// gateway are not exposed.
    #[must_use]
    pub fn of_api_version(api_version: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or(api_version, |(group, _)| group);
        match group {
            _ if group.ends_with(".istio.io") => Some(Self::Istio),
            "policy.linkerd.io" | "linkerd.io" | "split.smi-spec.io" | "gateway.networking.k8s.io" => {
                Some(Self::Linkerd)
            }
            _ => None,
        }
    }
}

/// The one Kubernetes object that a policy governs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Cluster as mesh-gateway knows it; empty = its default cluster.
    pub cluster: String,
    /// Mesh whose API group the object is of.
    pub mesh: Mesh,
    /// Group and version, e.g. "networking.istio.io/v1".
    pub api_version: String,
    /// Kind, e.g. "VirtualService".
    pub kind: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Object name.
    pub name: String,
}

/// An object that no mesh owns, or that lacks what names it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTarget {
    /// A field is empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The API group belongs to no mesh that Meshward speaks to.
    #[error("{0:?} is not an API of Istio or Linkerd")]
    UnknownMesh(String),
}

impl Target {
    /// A target from its parts; the mesh follows from the API group.
    ///
    /// # Errors
    /// If a part is empty or the group is of no known mesh.
    pub fn new(
        cluster: &str,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Self, InvalidTarget> {
        for (field, value) in
            [("apiVersion", api_version), ("kind", kind), ("metadata.namespace", namespace), ("metadata.name", name)]
        {
            if value.is_empty() {
                return Err(InvalidTarget::Missing(field));
            }
        }
        let mesh =
            Mesh::of_api_version(api_version).ok_or_else(|| InvalidTarget::UnknownMesh(api_version.to_owned()))?;
        Ok(Self {
            cluster: cluster.to_owned(),
            mesh,
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// API group, e.g. "networking.istio.io".
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// What is one object whatever version of its API it is written in: cluster, group, kind, namespace, name.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}/{}/{}", self.cluster, self.group(), self.kind, self.namespace, self.name)
    }
}

/// "VirtualService shop/checkout".
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_follows_from_the_group() {
        for (api_version, mesh) in [
            ("networking.istio.io/v1", Some(Mesh::Istio)),
            ("security.istio.io/v1beta1", Some(Mesh::Istio)),
            ("policy.linkerd.io/v1beta3", Some(Mesh::Linkerd)),
            ("gateway.networking.k8s.io/v1", Some(Mesh::Linkerd)),
            ("apps/v1", None),
            ("v1", None),
            ("evil-istio.io/v1", None),
        ] {
            assert_eq!(Mesh::of_api_version(api_version), mesh, "{api_version}");
        }
    }

    #[test]
    fn a_target_needs_every_part() {
        assert_eq!(
            Target::new("", "networking.istio.io/v1", "VirtualService", "", "a"),
            Err(InvalidTarget::Missing("metadata.namespace"))
        );
        let v1 = Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "a").unwrap();
        let beta = Target::new("", "networking.istio.io/v1beta1", "VirtualService", "shop", "a").unwrap();
        assert_eq!(v1.key(), beta.key(), "one object in two API versions");
    }
}

//! What an evaluation has to know of the mesh's own configuration.

use serde_json::Value;

use crate::{
    access::{Fact, TrustDomains},
    app,
    impact::Edge,
};

/// Where policies for the whole mesh lie, unless the mesh was set up otherwise.
const ROOT_NAMESPACE: &str = "istio-system";

/// Istio's MeshConfig, as far as it matters here.
pub(super) struct Mesh {
    root: String,
    /// Whom policies mean by their principals.
    pub(super) trust: TrustDomains,
    is_told: bool,
}

impl Mesh {
    /// The configuration that is among these objects, or what holds without one.
    pub(super) fn among(objects: &[Value]) -> Self {
        let maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
        let config = maps.filter_map(app::mesh_config).map(|mut of_map| of_map["mesh"].take()).next();
        let told = config.as_ref().unwrap_or(&Value::Null);
        let root = told["rootNamespace"].as_str().filter(|root| !root.is_empty()).unwrap_or(ROOT_NAMESPACE);
        Self { root: root.to_owned(), trust: TrustDomains::of_mesh(told), is_told: config.is_some() }
    }

    /// The namespace of policies for the whole mesh; a request may name another.
    pub(super) fn root<'a>(&'a self, named: &'a str) -> &'a str {
        if named.is_empty() { &self.root } else { named }
    }

    /// What is lacking where callers are of another trust domain, and nobody has said whose that is.
    pub(super) fn lack(&self, edges: &[Edge]) -> Option<&'static str> {
        let is_foreign =
            |edge: &Edge| matches!(&edge.call.principal, Fact::Known(caller) if !self.trust.vouch_for(caller));
        (!self.is_told && edges.iter().any(is_foreign)).then_some(
            "access: some callers are of other trust domains than cluster.local, and no mesh configuration says whether \
             those are the mesh's own",
        )
    }
}

//! The live objects that a proof of one object needs: what the controller should have read.
//!
//! A view that is behind, held against a controller that is behind too, would call live what is not. The cluster may be
//! a cache all the same, so that many looks are one LIST and a watch: what the deployment itself has written is known
//! ([`Expected::beside`]), and a view from before it is not taken ([`Selection::not_before`]); what it has removed is
//! left out; and the labels by which it divides pods are those that were read from the API server itself
//! ([`Expected::cohorts`]).

use std::{collections::BTreeMap, sync::Arc};

use meshward_model::Target;
use serde_json::Value;

use crate::{
    cluster::{Cluster, ClusterError, Selection},
    proof::{Cohorts, Expected},
};

/// Pods that the controller knows: those with a proxy.
const MESHED: &str = "linkerd.io/control-plane-ns";

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pod,
    Client,
    Service,
    Server,
    Policy,
    MeshTls,
    Network,
    RateLimit,
    Egress,
    Profile,
    PolicyRoute,
    GatewayRoute,
    RpcRoute,
}

impl Kind {
    /// The routes that an AuthorizationPolicy may be for.
    pub(super) fn of_route(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("policy.linkerd.io", "HTTPRoute") => Some(Self::PolicyRoute),
            ("gateway.networking.k8s.io", "HTTPRoute") => Some(Self::GatewayRoute),
            ("gateway.networking.k8s.io", "GRPCRoute") => Some(Self::RpcRoute),
            _ => None,
        }
    }

    /// API version, plural, and the kind if it is one of Linkerd's.
    fn selection(self) -> Selection {
        let of = Selection::of;
        match self {
            // Of clients only the names are asked, but one cache serves both.
            Self::Pod | Self::Client => Selection { labels: MESHED.to_owned(), ..of("v1", "pods") },
            Self::Service => of("v1", "services"),
            Self::Server => of("policy.linkerd.io/v1beta3", "servers"),
            Self::Policy => of("policy.linkerd.io/v1alpha1", "authorizationpolicies"),
            Self::MeshTls => of("policy.linkerd.io/v1alpha1", "meshtlsauthentications"),
            Self::Network => of("policy.linkerd.io/v1alpha1", "networkauthentications"),
            Self::RateLimit => of("policy.linkerd.io/v1alpha1", "httplocalratelimitpolicies"),
            Self::Egress => of("policy.linkerd.io/v1alpha1", "egressnetworks"),
            Self::Profile => of("linkerd.io/v1alpha2", "serviceprofiles"),
            Self::PolicyRoute => of("policy.linkerd.io/v1beta3", "httproutes"),
            Self::GatewayRoute => of("gateway.networking.k8s.io/v1", "httproutes"),
            Self::RpcRoute => of("gateway.networking.k8s.io/v1", "grpcroutes"),
        }
    }

    /// The kind that an object of Linkerd's is of, where it is one of these.
    fn of(target: &Target) -> Option<Self> {
        Some(match target.kind.as_str() {
            "Server" => Self::Server,
            "AuthorizationPolicy" => Self::Policy,
            "MeshTLSAuthentication" => Self::MeshTls,
            "NetworkAuthentication" => Self::Network,
            "HTTPLocalRateLimitPolicy" => Self::RateLimit,
            "EgressNetwork" => Self::Egress,
            "ServiceProfile" => Self::Profile,
            kind => return Self::of_route(target.group(), kind),
        })
    }

    /// The version of the newest object of this kind that the deployment has written; empty = it has written none.
    pub(super) fn written(self, expected: &Expected) -> String {
        let own = expected.beside.iter().filter(|applied| Self::of(&applied.target) == Some(self));
        let newest = own.filter_map(|applied| applied.resource_version.parse::<u64>().ok()).max();
        newest.map_or_else(String::new, |version| version.to_string())
    }
}

/// The objects by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts(BTreeMap<Kind, Vec<Arc<Value>>>);

impl Facts {
    /// Reads what a proof of this object needs.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub(super) async fn read(cluster: &dyn Cluster, expected: &Expected) -> Result<Self, ClusterError> {
        let namespace = Some(expected.target.namespace.as_str());
        let mut facts = Self::default();
        for (kind, everywhere) in needs(expected) {
            let selection = Selection {
                namespace: namespace.filter(|_| !everywhere).map(str::to_owned),
                not_before: kind.written(expected),
                ..kind.selection()
            };
            facts.0.insert(kind, cluster.select(&selection).await?.objects);
        }
        facts.bring_up_to_date(expected);
        Ok(facts)
    }

    /// What is known better than from lists: what the deployment has removed, the labels of the pods that it divides,
    /// and the target.
    pub(super) fn bring_up_to_date(&mut self, expected: &Expected) {
        for removed in expected.beside.iter().filter(|applied| applied.absent) {
            if let Some(objects) = Kind::of(&removed.target).and_then(|kind| self.0.get_mut(&kind)) {
                objects.retain(|object| !is_named(object, &removed.target));
            }
        }
        if let Some(cohorts) = &expected.cohorts {
            for pod in self.0.get_mut(&Kind::Pod).into_iter().flatten() {
                give_label(Arc::make_mut(pod), cohorts);
            }
        }
        self.put(expected);
    }

    /// The target as it was just read, instead of what a list says of it.
    fn put(&mut self, expected: &Expected) {
        if let Some(kind) = Kind::of(&expected.target)
            && let Some(objects) = self.0.get_mut(&kind)
        {
            objects.retain(|object| !is_named(object, &expected.target));
            objects.extend(expected.object.clone().map(Arc::new));
        }
    }

    /// The same where the target says something else.
    pub(super) fn with_spec(&self, expected: &Expected, spec: &Value) -> Self {
        let mut facts = self.clone();
        let mut object = expected.object.clone().unwrap_or_else(|| {
            let target = &expected.target;
            serde_json::json!({"metadata": {"name": target.name, "namespace": target.namespace}})
        });
        object["spec"] = spec.clone();
        facts.put(&Expected { object: Some(object), ..expected.clone() });
        facts
    }

    /// Of pods and the like, one for tests.
    #[cfg(test)]
    pub(super) fn of(objects: impl IntoIterator<Item = (Kind, Vec<Value>)>) -> Self {
        let shared = |(kind, objects): (Kind, Vec<Value>)| (kind, objects.into_iter().map(Arc::new).collect());
        Self(objects.into_iter().map(shared).collect())
    }

    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.0.get(&kind).into_iter().flatten().map(Arc::as_ref)
    }

    pub(super) fn within<'a>(&'a self, kind: Kind, namespace: &str) -> impl Iterator<Item = &'a Value> {
        let namespace = namespace.to_owned();
        self.all(kind).filter(move |object| object["metadata"]["namespace"] == namespace.as_str())
    }

    pub(super) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.within(kind, namespace).find(|object| object["metadata"]["name"] == name)
    }

    /// The oldest of some objects in a namespace, then by name: which one the controller takes.
    pub(super) fn oldest_first(&self, kind: Kind, namespace: &str) -> Vec<&Value> {
        let mut all: Vec<_> = self.within(kind, namespace).collect();
        all.sort_by_key(|object| {
            let metadata = &object["metadata"];
            let part = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            (part("creationTimestamp"), part("name"))
        });
        all
    }

    /// One pod of each namespace that has any with a proxy: (namespace, pod).
    pub(super) fn clients(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for pod in self.all(Kind::Client) {
            let part = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
            found.entry(part("namespace")).or_insert_with(|| part("name"));
        }
        found
    }
}

/// The label that a divided pod has.
fn give_label(pod: &mut Value, cohorts: &Cohorts) {
    let part = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    let name = format!("{}.{}", part("name"), part("namespace"));
    let Some(known) = cohorts.pods.iter().find(|known| known.proxy == name) else { return };
    if !known.cohort.is_empty() {
        pod["metadata"]["labels"][&cohorts.key] = known.cohort.as_str().into();
    } else if let Some(labels) = pod["metadata"]["labels"].as_object_mut() {
        labels.remove(&cohorts.key);
    }
}

/// Among objects of one kind: is it the target?
pub(super) fn is_named(object: &Value, target: &Target) -> bool {
    object["metadata"]["namespace"] == *target.namespace && object["metadata"]["name"] == *target.name
}

/// The kinds, each with whether all namespaces count.
fn needs(expected: &Expected) -> Vec<(Kind, bool)> {
    use Kind::{
        Client, Egress, GatewayRoute, MeshTls, Network, Pod, Policy, PolicyRoute, Profile, RateLimit, RpcRoute, Server,
        Service,
    };
    match expected.target.kind.as_str() {
        "Server" | "ServerAuthorization" => vec![(Pod, false), (Server, false)],
        "AuthorizationPolicy" => {
            let own = [Pod, Server, PolicyRoute, GatewayRoute, RpcRoute].map(|kind| (kind, false));
            own.into_iter().chain([(MeshTls, true), (Network, true)]).collect()
        }
        // Whoever refers to it may be anywhere.
        "MeshTLSAuthentication" | "NetworkAuthentication" => {
            [Pod, Server, Policy, MeshTls, Network, PolicyRoute, GatewayRoute, RpcRoute]
                .map(|kind| (kind, true))
                .to_vec()
        }
        "HTTPLocalRateLimitPolicy" => vec![(Pod, false), (Server, false), (RateLimit, false)],
        "EgressNetwork" => vec![(Client, true), (Egress, true)],
        "ServiceProfile" => vec![(Client, true), (Service, true), (Profile, true)],
        // A route: on servers of its namespace, on services and networks of any. Clients come first, so that one cache
        // has the pods too.
        _ => vec![(Client, true), (Pod, false), (Server, false), (Service, true), (Egress, true)],
    }
}

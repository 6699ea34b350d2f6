//! What the controller has read, typed. An object that cannot be read leaves the one before it in place: that is what
//! Linkerd's controller does, and nobody is told.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    jiff::Timestamp,
};
use kube::{
    ResourceExt as _,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::kinds::{
    AuthorizationPolicy, ConnectionRoute, EgressNetwork, GATEWAY, HttpLocalRateLimitPolicy, HttpRoute,
    MeshTlsAuthentication, NetworkAuthentication, POLICY, Port, Server, ServerAuthorization,
};

/// Labels, for selectors.
pub(super) type Labels = BTreeMap<String, String>;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pod,
    Service,
    Server,
    ServerAuthorization,
    AuthorizationPolicy,
    MeshTls,
    Network,
    RateLimit,
    PolicyRoute,
    GatewayRoute,
    TlsRoute,
    TcpRoute,
    Egress,
}

impl Kind {
    pub(super) const ALL: [Self; 13] = [
        Self::Pod,
        Self::Service,
        Self::Server,
        Self::ServerAuthorization,
        Self::AuthorizationPolicy,
        Self::MeshTls,
        Self::Network,
        Self::RateLimit,
        Self::PolicyRoute,
        Self::GatewayRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::Egress,
    ];

    /// Group and kind, as routes are called in the messages.
    pub(super) fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Pod => ("", "Pod"),
            Self::Service => ("", "Service"),
            Self::Server => (POLICY, "Server"),
            Self::ServerAuthorization => (POLICY, "ServerAuthorization"),
            Self::AuthorizationPolicy => (POLICY, "AuthorizationPolicy"),
            Self::MeshTls => (POLICY, "MeshTLSAuthentication"),
            Self::Network => (POLICY, "NetworkAuthentication"),
            Self::RateLimit => (POLICY, "HTTPLocalRateLimitPolicy"),
            Self::PolicyRoute => (POLICY, "HTTPRoute"),
            Self::GatewayRoute => (GATEWAY, "HTTPRoute"),
            Self::TlsRoute => (GATEWAY, "TLSRoute"),
            Self::TcpRoute => (GATEWAY, "TCPRoute"),
            Self::Egress => (POLICY, "EgressNetwork"),
        }
    }

    /// What is watched of the API server.
    pub(super) fn resource(self) -> ApiResource {
        let (group, kind) = self.name();
        let version = match self {
            Self::Pod | Self::Service | Self::GatewayRoute => "v1",
            Self::Server | Self::PolicyRoute => "v1beta3",
            Self::ServerAuthorization => "v1beta1",
            Self::TlsRoute | Self::TcpRoute => "v1alpha2",
            _ => "v1alpha1",
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }
}

/// An object's place: kind, namespace, name.
pub(super) type Key = (Kind, String, String);

/// An object that was read.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) labels: Labels,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) created: Option<Timestamp>,
    pub(super) content: Content,
}

/// What of it counts.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The named ports of the containers.
    Pod(BTreeMap<String, u16>),
    /// Its address and its ports.
    Service(Option<String>, Vec<u16>),
    Server(Server),
    ServerAuthorization(ServerAuthorization),
    AuthorizationPolicy(AuthorizationPolicy),
    MeshTls(MeshTlsAuthentication),
    Network(NetworkAuthentication),
    RateLimit(HttpLocalRateLimitPolicy),
    Route(HttpRoute),
    Connections(ConnectionRoute),
    Egress(EgressNetwork),
}

/// Everything that was read.
#[derive(Clone, Default)]
pub(super) struct Index(BTreeMap<Key, Entry>);

impl Index {
    pub(super) fn apply(&mut self, kind: Kind, object: &DynamicObject) {
        let entry = |content| Entry {
            labels: object.labels().clone(),
            annotations: object.annotations().clone(),
            created: object.creation_timestamp().map(|time| time.0),
            content,
        };
        match read(kind, &object.data) {
            Ok(content) => drop(self.0.insert(key(kind, object), entry(content))),
            Err(error) => tracing::debug!(?kind, name = object.name_any(), %error, "what was there stays"),
        }
    }

    pub(super) fn delete(&mut self, kind: Kind, object: &DynamicObject) {
        self.0.remove(&key(kind, object));
    }

    /// Leaves of a kind only what `keep` says.
    pub(super) fn retain(&mut self, kind: Kind, keep: impl Fn(&Key) -> bool) {
        self.0.retain(|key, _| key.0 != kind || keep(key));
    }

    pub(super) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Entry> {
        self.0.get(&(kind, namespace.to_owned(), name.to_owned()))
    }

    /// Everything of a kind, the oldest first, then by name.
    pub(super) fn all(&self, kind: Kind) -> Vec<(&Key, &Entry)> {
        let mut all: Vec<_> = self.0.iter().filter(|(key, _)| key.0 == kind).collect();
        all.sort_by_key(|(key, entry)| (entry.created, key.2.clone()));
        all
    }

    /// The same in one namespace.
    pub(super) fn within(&self, kind: Kind, namespace: &str) -> Vec<(&str, &Entry)> {
        let here = self.all(kind).into_iter().filter(|(key, _)| key.1 == namespace);
        here.map(|(key, entry)| (key.2.as_str(), entry)).collect()
    }
}

pub(super) fn key(kind: Kind, object: &DynamicObject) -> Key {
    (kind, object.namespace().unwrap_or_default(), object.name_any())
}

fn read(kind: Kind, data: &Value) -> Result<Content, serde_json::Error> {
    let spec = &data["spec"];
    Ok(match kind {
        Kind::Pod => Content::Pod(ports_of_pod(serde_json::from_value(data.clone())?)),
        Kind::Service => service(serde_json::from_value(data.clone())?),
        Kind::Server => Content::Server(typed(spec)?),
        Kind::ServerAuthorization => Content::ServerAuthorization(typed(spec)?),
        Kind::AuthorizationPolicy => Content::AuthorizationPolicy(typed(spec)?),
        Kind::MeshTls => Content::MeshTls(typed(spec)?),
        Kind::Network => Content::Network(typed(spec)?),
        Kind::RateLimit => Content::RateLimit(typed(spec)?),
        Kind::PolicyRoute | Kind::GatewayRoute => Content::Route(typed(spec)?),
        Kind::TlsRoute | Kind::TcpRoute => Content::Connections(typed(spec)?),
        Kind::Egress => Content::Egress(typed(spec)?),
    })
}

fn typed<T: DeserializeOwned>(spec: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(spec)
}

fn ports_of_pod(pod: Pod) -> BTreeMap<String, u16> {
    let containers = pod.spec.into_iter().flat_map(|spec| spec.containers);
    let ports = containers.flat_map(|container| container.ports.unwrap_or_default());
    ports.filter_map(|port| Some((port.name?, u16::try_from(port.container_port).ok()?))).collect()
}

fn service(service: Service) -> Content {
    let spec = service.spec.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().iter().filter_map(|port| u16::try_from(port.port).ok()).collect();
    Content::Service(spec.cluster_ip.filter(|address| address != "None"), ports)
}

impl Entry {
    /// Whether a server that says this port means that one of this pod.
    pub(super) fn has_port(&self, wanted: &Port, port: u16) -> bool {
        match (&self.content, wanted) {
            (Content::Pod(_), Port::Number(number)) => *number == port,
            (Content::Pod(named), Port::Name(name)) => named.get(name) == Some(&port),
            _ => false,
        }
    }
}

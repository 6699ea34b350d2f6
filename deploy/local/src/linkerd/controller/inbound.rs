//! What a pod lets in on a port, as the controller tells its proxy.

use linkerd2_proxy_api::{
    inbound::{
        Authn, Authz, HttpLocalRateLimit, HttpRoute, Identity, IdentitySuffix, Network, ProxyProtocol,
        Server as Message, authn, http_local_rate_limit, http_route, proxy_protocol,
    },
    meta::{Metadata, Resource, metadata},
};

use super::{
    super::kinds::{self, AuthorizationPolicy, HttpLocalRateLimitPolicy, Reference, Server, ServerAuthorization},
    convert,
    index::{Content, Entry, Index, Kind, Labels},
};

/// What everybody gets for whom no server speaks.
const DEFAULT: &str = "all-unauthenticated";
const EVERY_NETWORK: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The policy of a pod's port; `None` = no such pod.
pub(super) fn policy(index: &Index, namespace: &str, pod: &str, port: u16) -> Option<Message> {
    let pod = index.get(Kind::Pod, namespace, pod)?;
    let servers = index.within(Kind::Server, namespace);
    let mut servers = servers.into_iter().filter_map(|(name, entry)| match &entry.content {
        Content::Server(server) => Some((name, entry, server)),
        _ => None,
    });
    Some(match servers.find(|(_, _, server)| selects(server, pod, port)) {
        Some((name, entry, server)) => of_server(index, namespace, name, &entry.labels, server),
        None => by_default(),
    })
}

fn selects(server: &Server, pod: &Entry, port: u16) -> bool {
    let selector = server.pod_selector.as_ref();
    selector.is_some_and(|selector| selector.matches(&pod.labels)) && pod.has_port(&server.port, port)
}

fn labels(group: &str, kind: &str, name: &str) -> std::collections::HashMap<String, String> {
    [("group", group), ("kind", kind), ("name", name)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn by_default() -> Message {
    Message {
        protocol: Some(protocol("unknown", vec![default_route()], None)),
        authorizations: allowed_by(DEFAULT).into_iter().collect(),
        labels: labels("", "default", DEFAULT),
        ..Message::default()
    }
}

fn of_server(index: &Index, namespace: &str, name: &str, own_labels: &Labels, server: &Server) -> Message {
    let mut routes = routes(index, namespace, name);
    if routes.is_empty() {
        routes.push(default_route());
    }
    let mut authorizations = by_server_authorizations(index, namespace, name, own_labels);
    authorizations.extend(policies(index, namespace, |target| targets_server(target, namespace, name)));
    authorizations.extend(allowed_by(&server.access_policy));
    Message {
        protocol: Some(protocol(&server.proxy_protocol, routes, rate_limit(index, namespace, name))),
        authorizations,
        labels: labels(kinds::POLICY, "server", name),
        ..Message::default()
    }
}

fn protocol(name: &str, routes: Vec<HttpRoute>, limit: Option<HttpLocalRateLimit>) -> ProxyProtocol {
    use proxy_protocol::{Detect, Grpc, Http1, Http2, Kind, Opaque, Tls};
    let kind = match name {
        "HTTP/1" => Kind::Http1(Http1 { routes, local_rate_limit: limit }),
        "HTTP/2" => Kind::Http2(Http2 { routes, local_rate_limit: limit }),
        "gRPC" => Kind::Grpc(Grpc::default()),
        "opaque" => Kind::Opaque(Opaque {}),
        "TLS" => Kind::Tls(Tls {}),
        _ => Kind::Detect(Detect { http_routes: routes, http_local_rate_limit: limit, ..Detect::default() }),
    };
    ProxyProtocol { kind: Some(kind) }
}

fn targets_server(policy: &AuthorizationPolicy, namespace: &str, server: &str) -> bool {
    let target = &policy.target_ref;
    match target.kind.as_str() {
        "Server" => target.name == server,
        "Namespace" => target.name == namespace,
        _ => false,
    }
}

/// The authorizations by those policies of a namespace that `concerns` says; a policy that names what is not there says
/// nothing.
fn policies(index: &Index, namespace: &str, concerns: impl Fn(&AuthorizationPolicy) -> bool) -> Vec<Authz> {
    let mut found = Vec::new();
    for (name, entry) in index.within(Kind::AuthorizationPolicy, namespace) {
        if let Content::AuthorizationPolicy(policy) = &entry.content
            && concerns(policy)
            && let Some((clients, networks)) = clients(index, namespace, &policy.required_authentication_refs)
        {
            let meta = resource("authorizationpolicy", name);
            found.push(authz(meta, clients, networks, labels(kinds::POLICY, "authorizationpolicy", name)));
        }
    }
    found
}

fn resource(kind: &str, name: &str) -> metadata::Kind {
    metadata::Kind::Resource(Resource {
        group: kinds::POLICY.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        ..Resource::default()
    })
}

fn authz(
    meta: metadata::Kind,
    clients: Option<Vec<String>>,
    networks: Vec<Network>,
    labels: std::collections::HashMap<String, String>,
) -> Authz {
    use authn::{Permit, PermitMeshTls, PermitUnauthenticated, permit_mesh_tls::Clients};
    let permit = match clients {
        None => Permit::Unauthenticated(PermitUnauthenticated {}),
        Some(clients) => Permit::MeshTls(PermitMeshTls { clients: Some(Clients::Identities(identities(&clients))) }),
    };
    Authz {
        networks,
        authentication: Some(Authn { permit: Some(permit) }),
        labels,
        metadata: Some(Metadata { kind: Some(meta) }),
    }
}

fn identities(clients: &[String]) -> authn::permit_mesh_tls::PermitClientIdentities {
    let suffix = |client: &String| client.strip_prefix('*').map(str::to_owned);
    let parts = |suffix: String| IdentitySuffix {
        parts: suffix.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
    };
    authn::permit_mesh_tls::PermitClientIdentities {
        identities: clients
            .iter()
            .filter(|client| !client.starts_with('*'))
            .map(|name| Identity { name: name.clone() })
            .collect(),
        suffixes: clients.iter().filter_map(suffix).map(parts).collect(),
    }
}

/// Identities (`None` = nobody need prove any) and networks; `None` if something that is named is not there.
type Clients = (Option<Vec<String>>, Vec<Network>);

fn clients(index: &Index, namespace: &str, references: &[Reference]) -> Option<Clients> {
    let (mut identities, mut networks) = (None, None);
    for reference in references {
        let within = reference.namespace.as_deref().unwrap_or(namespace);
        match reference.kind.as_str() {
            "ServiceAccount" => identities = Some(vec![account(within, &reference.name)]),
            "MeshTLSAuthentication" => match &index.get(Kind::MeshTls, within, &reference.name)?.content {
                Content::MeshTls(authentication) => identities = Some(names(authentication, within)),
                _ => return None,
            },
            "NetworkAuthentication" => match &index.get(Kind::Network, within, &reference.name)?.content {
                Content::Network(authentication) => networks = Some(convert::networks(&authentication.networks)),
                _ => return None,
            },
            _ => return None,
        }
    }
    Some((identities, networks.unwrap_or_else(everywhere)))
}

fn everywhere() -> Vec<Network> {
    EVERY_NETWORK.iter().filter_map(|cidr| convert::network(cidr, &[])).collect()
}

fn account(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.serviceaccount.identity.linkerd.cluster.local")
}

fn names(authentication: &kinds::MeshTlsAuthentication, namespace: &str) -> Vec<String> {
    let plain = authentication.identities.iter().flatten().cloned();
    let referred = authentication.identity_refs.iter().flatten().map(|reference| {
        let within = reference.namespace.as_deref().unwrap_or(namespace);
        match (reference.kind.as_str(), reference.name.as_deref()) {
            ("Namespace", Some(name)) => format!("*.{name}.serviceaccount.identity.linkerd.cluster.local"),
            (_, Some(name)) => account(within, name),
            (_, None) => format!("*.{within}.serviceaccount.identity.linkerd.cluster.local"),
        }
    });
    plain.chain(referred).collect()
}

/// What an access policy lets in where nothing else does.
fn allowed_by(access_policy: &str) -> Option<Authz> {
    let clients = match access_policy {
        "all-authenticated" | "cluster-authenticated" => Some(vec!["*".to_owned()]),
        "all-unauthenticated" | "cluster-unauthenticated" | "audit" => None,
        _ => return None,
    };
    let meta = metadata::Kind::Default(access_policy.to_owned());
    Some(authz(meta, clients, everywhere(), labels("", "default", access_policy)))
}

fn by_server_authorizations(index: &Index, namespace: &str, server: &str, own_labels: &Labels) -> Vec<Authz> {
    let mut found = Vec::new();
    for (name, entry) in index.within(Kind::ServerAuthorization, namespace) {
        if let Content::ServerAuthorization(authorization) = &entry.content
            && covers(authorization, server, own_labels)
        {
            let meta = resource("serverauthorization", name);
            let client = &authorization.client;
            let networks = client.networks.as_deref().map_or_else(everywhere, convert::networks);
            let labels = labels(kinds::POLICY, "serverauthorization", name);
            found.push(authz(meta, proven(client, namespace), networks, labels));
        }
    }
    found
}

fn covers(authorization: &ServerAuthorization, server: &str, labels: &Labels) -> bool {
    let by_name = authorization.server.name.as_deref() == Some(server);
    by_name || authorization.server.selector.as_ref().is_some_and(|selector| selector.matches(labels))
}

fn proven(client: &kinds::Client, namespace: &str) -> Option<Vec<String>> {
    let tls = client.mesh_tls.as_ref()?;
    let accounts = tls.service_accounts.iter().flatten();
    let accounts = accounts.map(|one| account(one.namespace.as_deref().unwrap_or(namespace), &one.name));
    Some(tls.identities.iter().flatten().cloned().chain(accounts).collect())
}

/// The routes that name the server as their parent.
fn routes(index: &Index, namespace: &str, server: &str) -> Vec<HttpRoute> {
    let mut found = Vec::new();
    for kind in [Kind::PolicyRoute, Kind::GatewayRoute] {
        for (name, entry) in index.within(kind, namespace) {
            if let Content::Route(route) = &entry.content
                && let Some(rules) = convert::inbound_rules(route, server)
            {
                let (group, kind) = kind.name();
                let named = |policy: &AuthorizationPolicy| {
                    let target = &policy.target_ref;
                    target.kind == kind && target.group.as_deref() == Some(group) && target.name == name
                };
                found.push(HttpRoute {
                    metadata: Some(convert::metadata(group, kind, namespace, name)),
                    hosts: convert::hosts(route.hostnames.as_deref()),
                    authorizations: policies(index, namespace, named),
                    rules,
                });
            }
        }
    }
    found
}

fn default_route() -> HttpRoute {
    let kind = Some(metadata::Kind::Default("default".to_owned()));
    let rule = http_route::Rule { matches: vec![convert::every_path()], filters: Vec::new() };
    HttpRoute { metadata: Some(Metadata { kind }), rules: vec![rule], ..HttpRoute::default() }
}

/// The oldest limit of the server.
fn rate_limit(index: &Index, namespace: &str, server: &str) -> Option<HttpLocalRateLimit> {
    let all = index.within(Kind::RateLimit, namespace);
    let mut limits = all.into_iter().filter_map(|(name, entry)| match &entry.content {
        Content::RateLimit(limit) => Some((name, limit)),
        _ => None,
    });
    let is_its =
        |limit: &HttpLocalRateLimitPolicy| limit.target_ref.kind == "Server" && limit.target_ref.name == server;
    let (name, policy) = limits.find(|(_, limit)| is_its(limit))?;
    let limit =
        |number: i64| http_local_rate_limit::Limit { requests_per_second: u32::try_from(number).unwrap_or_default() };
    let overrides = policy.overrides.iter().flatten().map(|one| http_local_rate_limit::Override {
        limit: Some(limit(one.requests_per_second)),
        clients: Some(http_local_rate_limit::r#override::ClientIdentities {
            identities: one
                .client_refs
                .iter()
                .map(|client| account(client.namespace.as_deref().unwrap_or(namespace), &client.name))
                .map(|name| Identity { name })
                .collect(),
        }),
    });
    Some(HttpLocalRateLimit {
        metadata: Some(Metadata { kind: Some(resource("HTTPLocalRateLimitPolicy", name)) }),
        total: policy.total.as_ref().map(|one| limit(one.requests_per_second)),
        identity: policy.identity.as_ref().map(|one| limit(one.requests_per_second)),
        overrides: overrides.collect(),
    })
}

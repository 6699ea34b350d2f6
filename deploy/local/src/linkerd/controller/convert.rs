//! Pieces of objects as pieces of messages.

use std::net::IpAddr;

use ipnet::IpNet;
use linkerd2_proxy_api::{
    http_route::{
        HeaderMatch, HostMatch, HttpRouteMatch, PathMatch, PathModifier, QueryParamMatch, RequestHeaderModifier,
        RequestRedirect, ResponseHeaderModifier, header_match, host_match, path_match, path_modifier,
        query_param_match,
    },
    http_types::{Headers, headers::Header},
    inbound::{self, Network, http_route as inbound_route},
    meta::{Metadata, Resource, metadata},
    outbound::http_route as outbound_route,
};

use super::super::kinds::{
    self, Filter, FilterKind, HeaderModifier, HttpMatch, HttpRoute, ParentReference, PathKind, ValueKind,
};

pub(super) fn metadata(group: &str, kind: &str, namespace: &str, name: &str) -> Metadata {
    let (group, kind, name, namespace) = (group.to_owned(), kind.to_owned(), name.to_owned(), namespace.to_owned());
    let resource = Resource { group, kind, name, namespace, ..Resource::default() };
    Metadata { kind: Some(metadata::Kind::Resource(resource)) }
}

/// `None` if one of them is none.
pub(super) fn network(cidr: &str, except: &[String]) -> Option<Network> {
    let except = except.iter().map(|one| range(one)).collect::<Option<Vec<_>>>()?;
    Some(Network { net: Some(range(cidr)?.into()), except: except.into_iter().map(Into::into).collect() })
}

/// A network, or an address alone.
pub(super) fn range(cidr: &str) -> Option<IpNet> {
    cidr.parse().ok().or_else(|| cidr.parse::<IpAddr>().ok().map(IpNet::from))
}

pub(super) fn networks(networks: &[kinds::Network]) -> Vec<Network> {
    networks.iter().filter_map(|one| network(&one.cidr, one.except.as_deref().unwrap_or_default())).collect()
}

pub(super) fn hosts(hostnames: Option<&[String]>) -> Vec<HostMatch> {
    let one = |name: &String| match name.strip_prefix("*.") {
        Some(rest) => {
            let reverse_labels = rest.split('.').rev().map(str::to_owned).collect();
            host_match::Match::Suffix(host_match::Suffix { reverse_labels })
        }
        None => host_match::Match::Exact(name.clone()),
    };
    hostnames.unwrap_or_default().iter().map(|name| HostMatch { r#match: Some(one(name)) }).collect()
}

pub(super) fn every_path() -> HttpRouteMatch {
    let path = PathMatch { kind: Some(path_match::Kind::Prefix("/".to_owned())) };
    HttpRouteMatch { path: Some(path), ..HttpRouteMatch::default() }
}

/// Whether one of a route's parents is this server of its namespace.
fn is_server(parent: &ParentReference, server: &str) -> bool {
    parent.group.as_deref() == Some(kinds::POLICY) && parent.kind.as_deref() == Some("Server") && parent.name == server
}

/// The rules of a route for a server; `None` if it is none of its parents.
pub(super) fn inbound_rules(route: &HttpRoute, server: &str) -> Option<Vec<inbound_route::Rule>> {
    route.parent_refs.iter().flatten().find(|parent| is_server(parent, server))?;
    let rules = route.rules.iter().flatten().map(|rule| inbound_route::Rule {
        matches: matches(rule.matches.as_deref()),
        filters: rule.filters.iter().flatten().filter_map(inbound_filter).collect(),
    });
    Some(rules.collect())
}

pub(super) fn matches(matches: Option<&[HttpMatch]>) -> Vec<HttpRouteMatch> {
    matches.unwrap_or_default().iter().map(one_match).collect()
}

fn one_match(one: &HttpMatch) -> HttpRouteMatch {
    let path = one.path.as_ref().map(|path| {
        let value = path.value.clone().unwrap_or_else(|| "/".to_owned());
        let kind = match path.r#type.unwrap_or(PathKind::PathPrefix) {
            PathKind::Exact => path_match::Kind::Exact(value),
            PathKind::PathPrefix => path_match::Kind::Prefix(value),
            PathKind::RegularExpression => path_match::Kind::Regex(value),
        };
        PathMatch { kind: Some(kind) }
    });
    let is_regex = |kind: Option<ValueKind>| kind == Some(ValueKind::RegularExpression);
    let headers = one.headers.iter().flatten().map(|header| HeaderMatch {
        name: header.name.to_lowercase(),
        value: Some(if is_regex(header.r#type) {
            header_match::Value::Regex(header.value.clone())
        } else {
            header_match::Value::Exact(header.value.clone().into_bytes())
        }),
    });
    let parameters = one.query_params.iter().flatten().map(|parameter| QueryParamMatch {
        name: parameter.name.clone(),
        value: Some(if is_regex(parameter.r#type) {
            query_param_match::Value::Regex(parameter.value.clone())
        } else {
            query_param_match::Value::Exact(parameter.value.clone())
        }),
    });
    let method = one.method.map(|method| format!("{method:?}").to_uppercase());
    let method = method.and_then(|method| http::Method::from_bytes(method.as_bytes()).ok());
    HttpRouteMatch {
        path,
        headers: headers.collect(),
        query_params: parameters.collect(),
        method: method.map(Into::into),
    }
}

fn headers(headers: Option<&[kinds::Header]>) -> Option<Headers> {
    let one =
        |header: &kinds::Header| Header { name: header.name.to_lowercase(), value: header.value.clone().into_bytes() };
    Some(Headers { headers: headers.unwrap_or_default().iter().map(one).collect() })
}

fn request_modifier(modifier: &HeaderModifier) -> RequestHeaderModifier {
    RequestHeaderModifier {
        add: headers(modifier.add.as_deref()),
        set: headers(modifier.set.as_deref()),
        remove: modifier.remove.iter().flatten().map(|name| name.to_lowercase()).collect(),
    }
}

fn redirect(redirect: &kinds::Redirect) -> RequestRedirect {
    let path = redirect.path.as_ref().map(|path| {
        let full = path.replace_full_path.clone().map(path_modifier::Replace::Full);
        let prefix = || path.replace_prefix_match.clone().map(path_modifier::Replace::Prefix);
        PathModifier { replace: full.or_else(prefix) }
    });
    let scheme = redirect.scheme.map(|scheme| format!("{scheme:?}").to_lowercase());
    RequestRedirect {
        scheme: scheme.map(|scheme| scheme.as_str().into()),
        host: redirect.hostname.clone().unwrap_or_default(),
        path,
        port: redirect.port.and_then(|port| u32::try_from(port).ok()).unwrap_or_default(),
        status: redirect.status_code.and_then(|code| u32::try_from(code).ok()).unwrap_or_default(),
    }
}

fn inbound_filter(filter: &Filter) -> Option<inbound_route::Filter> {
    use inbound::http_route::filter::Kind;
    let kind = match filter.r#type {
        FilterKind::RequestHeaderModifier => {
            Kind::RequestHeaderModifier(request_modifier(filter.request_header_modifier.as_ref()?))
        }
        FilterKind::RequestRedirect => Kind::Redirect(redirect(filter.request_redirect.as_ref()?)),
        FilterKind::ResponseHeaderModifier => return None,
    };
    Some(inbound_route::Filter { kind: Some(kind) })
}

pub(super) fn outbound_filters(filters: Option<&[Filter]>) -> Vec<outbound_route::Filter> {
    use outbound_route::filter::Kind;
    let one = |filter: &Filter| {
        let kind = match filter.r#type {
            FilterKind::RequestHeaderModifier => {
                Kind::RequestHeaderModifier(request_modifier(filter.request_header_modifier.as_ref()?))
            }
            FilterKind::RequestRedirect => Kind::Redirect(redirect(filter.request_redirect.as_ref()?)),
            FilterKind::ResponseHeaderModifier => {
                let RequestHeaderModifier { add, set, remove } =
                    request_modifier(filter.response_header_modifier.as_ref()?);
                Kind::ResponseHeaderModifier(ResponseHeaderModifier { add, set, remove })
            }
        };
        Some(outbound_route::Filter { kind: Some(kind) })
    };
    filters.unwrap_or_default().iter().filter_map(one).collect()
}

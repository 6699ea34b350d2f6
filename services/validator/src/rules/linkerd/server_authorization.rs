//! ServerAuthorization: which clients may use some Servers; the elder form of an AuthorizationPolicy.

use super::{
    common::{self, NETWORKS, SELECTOR},
    mesh_tls_authentication::is_dns_like,
    shape::{self, ANY, Form, Need, Shape},
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const SHAPE: Shape = Shape::Map(&[
    (
        "server",
        Need::Must,
        Shape::Map(&[("name", Need::May, Shape::Text(Form::Label)), ("selector", Need::May, SELECTOR)]),
    ),
    (
        "client",
        Need::Must,
        Shape::Map(&[
            ("networks", Need::May, NETWORKS),
            ("unauthenticated", Need::May, Shape::Flag),
            ("meshTLS", Need::May, MESH_TLS),
        ]),
    ),
]);

const MESH_TLS: Shape = Shape::Map(&[
    ("unauthenticatedTLS", Need::May, Shape::Flag),
    ("identities", Need::May, Shape::List(&Shape::Text(Form::Free), ANY)),
    ("serviceAccounts", Need::May, Shape::List(&SERVICE_ACCOUNT, ANY)),
]);

const SERVICE_ACCOUNT: Shape =
    Shape::Map(&[("name", Need::Must, Shape::Text(Form::Label)), ("namespace", Need::May, Shape::Text(Form::Label))]);

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    let server = spec.get("server");
    if server.is_set() {
        hits.extend(shape::exactly_one(&server, &["name", "selector"]));
    }
    let client = spec.get("client");
    hits.extend(authentication(&client));
    hits.extend(common::networks(&client.get("networks")));
    hits
}

/// Who the client must be: anybody, anybody with TLS, or somebody.
fn authentication(client: &Field<'_>) -> Vec<Hit> {
    let mesh_tls = client.get("meshTLS");
    let anybody = client.get("unauthenticated");
    let identities = mesh_tls.get("identities").items();
    let named = identities.len() + mesh_tls.get("serviceAccounts").items().len();
    let mut hits: Vec<Hit> = identities.iter().filter_map(identity).collect();
    if mesh_tls.is_set() && anybody.is_true() {
        let message = "unauthenticated lets everybody in, so meshTLS cannot be set beside it";
        hits.push(Hit::new(rule::LD_UNAUTHENTICATED, anybody.path(), message).suggest("keep one of the two"));
    }
    let tls = mesh_tls.get("unauthenticatedTLS");
    if tls.is_true() && named > 0 {
        let message =
            "unauthenticatedTLS lets in everybody with TLS, so identities and serviceAccounts cannot be set beside it";
        hits.push(Hit::new(rule::LD_UNAUTHENTICATED, tls.path(), message).suggest("keep one of the two"));
    }
    if client.is_set() && !anybody.is_true() && !tls.is_true() && named == 0 {
        let message = "no client is named, so Linkerd leaves this authorization out";
        let advice = "name identities or serviceAccounts, or set unauthenticated: true";
        hits.push(Hit::new(rule::LD_NO_CLIENT, client.path(), message).at_key().suggest(advice));
    }
    hits
}

fn identity(identity: &Field<'_>) -> Option<Hit> {
    let text = identity.value()?.as_str()?;
    (!is_dns_like(text)).then(|| {
        let message = format!("{} is no identity", quote(text));
        let advice = "write e.g. \"*.shop.serviceaccount.identity.linkerd.cluster.local\" or \"*\"";
        Hit::new(rule::LD_IDENTITY, identity.path(), message).suggest(advice)
    })
}

//! MeshTLSAuthentication: clients by the identity that their mutual TLS shows.

use super::{
    reference::{self, CORE},
    shape::{self, ANY, Form, Need, Shape},
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const SHAPE: Shape = Shape::Map(&[
    ("identities", Need::May, Shape::List(&Shape::Text(Form::Free), ANY)),
    ("identityRefs", Need::May, Shape::List(&reference::NAMESPACED, ANY)),
]);

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    if spec.is_set() {
        hits.extend(shape::exactly_one(&spec, &["identities", "identityRefs"]));
    }
    for field in [spec.get("identities"), spec.get("identityRefs")] {
        if field.is_set() && field.item(0).value().is_none() {
            hits.push(Hit::new(rule::BOUNDS, field.path(), "the list needs at least one item"));
        }
    }
    hits.extend(spec.get("identities").items().iter().filter_map(identity));
    hits.extend(spec.get("identityRefs").items().iter().filter_map(identity_ref));
    hits
}

fn identity(identity: &Field<'_>) -> Option<Hit> {
    let text = identity.value()?.as_str()?;
    let problem = match text.strip_prefix("spiffe://") {
        Some(rest) => spiffe(rest)?,
        None if is_dns_like(text) => return None,
        None => "neither a name like \"*.shop.serviceaccount.identity.linkerd.cluster.local\" nor a SPIFFE id",
    };
    let message = format!("{} is no identity: {problem}", quote(text));
    Some(Hit::new(rule::LD_IDENTITY, identity.path(), message))
}

/// What is wrong with a SPIFFE id behind its scheme.
fn spiffe(rest: &str) -> Option<&'static str> {
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let common = |c: u8| c.is_ascii_digit() || b"-._".contains(&c);
    if domain.is_empty() {
        return Some("the trust domain is missing");
    }
    if !domain.bytes().all(|c| c.is_ascii_lowercase() || common(c)) {
        return Some("a trust domain has lower-case letters, digits, '-', '.' and '_' only");
    }
    path.split('/').skip(1).find_map(|segment| match segment {
        "" => Some("its path has an empty segment"),
        "." | ".." => Some("its path has a segment of dots"),
        _ if !segment.bytes().all(|c| c.is_ascii_alphabetic() || common(c)) => {
            Some("its path has characters other than letters, digits, '-', '.' and '_'")
        }
        _ => None,
    })
}

/// A DNS name in lower case whose first label may be `*`.
pub(super) fn is_dns_like(text: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|c| edge(*c) || *c == b'-')
            && bytes.first().is_some_and(|c| edge(*c))
            && bytes.last().is_some_and(|c| edge(*c))
    };
    text.split('.').enumerate().all(|(index, part)| label(part) || (index == 0 && part == "*"))
}

fn identity_ref(field: &Field<'_>) -> Option<Hit> {
    let namespace = field.get("namespace");
    if reference::is_to(field, CORE, "Namespace") {
        let message = "a Namespace is of no namespace";
        return namespace
            .is_set()
            .then(|| Hit::new(rule::LD_IDENTITY_REF, namespace.path(), message).suggest("remove it"));
    }
    let known = reference::is_to(field, CORE, "ServiceAccount") || !field.get("kind").is_set();
    (!known).then(|| {
        let message =
            format!("{} has no identity; only a ServiceAccount or a Namespace has", reference::kind_of(field));
        Hit::new(rule::LD_IDENTITY_REF, field.get("kind").path(), message)
    })
}

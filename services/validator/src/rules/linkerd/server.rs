//! Server: a port of some pods, and who may use it where no policy says more.

use super::{
    common::SELECTOR,
    shape::{self, Form, Need, Shape},
};
use crate::{
    report::{Hit, list, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// What `accessPolicy` may be.
pub(crate) const ACCESS: [&str; 6] =
    ["all-authenticated", "all-unauthenticated", "cluster-authenticated", "cluster-unauthenticated", "deny", "audit"];

const SHAPE: Shape = Shape::Map(&[
    ("podSelector", Need::May, SELECTOR),
    ("externalWorkloadSelector", Need::May, SELECTOR),
    ("port", Need::Must, Shape::WholeOrText),
    ("proxyProtocol", Need::May, Shape::Words(&["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"])),
    ("accessPolicy", Need::May, Shape::Text(Form::Free)),
]);

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    if spec.is_set() {
        hits.extend(shape::exactly_one(&spec, &["podSelector", "externalWorkloadSelector"]));
    }
    hits.extend(port(&spec.get("port")));
    let access = spec.get("accessPolicy");
    if access.value().is_some_and(serde_json::Value::is_string) && !ACCESS.contains(&access.text()) {
        let message = format!("{} is no access policy", quote(access.text()));
        let advice = format!("it is one of {}", list(&ACCESS, " and "));
        hits.push(Hit::new(rule::LD_ACCESS_POLICY, access.path(), message).suggest(advice));
    }
    hits
}

fn port(port: &Field<'_>) -> Option<Hit> {
    if let Some(number) = port.integer() {
        let message = format!("the port {number} is not within 1 to 65535");
        return (!(1..=65535).contains(&number)).then(|| Hit::new(rule::LD_SERVER_PORT, port.path(), message));
    }
    let text = port.text();
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| {
        let message = format!("{} is read as the name of a port, and no port has a number as its name", quote(text));
        Hit::new(rule::LD_SERVER_PORT_TEXT, port.path(), message).suggest("leave the quotes out")
    })
}

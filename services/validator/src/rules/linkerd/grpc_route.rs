//! GRPCRoute of the Gateway API: where a gRPC call goes by its method and headers.

use super::{
    Object,
    common::REGULAR_EXPRESSION,
    http_route::{header_match, header_modifier},
    route::{self, GATEWAY_GROUP, Protocol},
};
use crate::{
    report::Hit,
    rules::{catalogue as rule, field::Field},
};

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let mut hits = route::parents(object, GATEWAY_GROUP);
    hits.extend(route::annotations(object, GATEWAY_GROUP, Protocol::Grpc));
    for rule in object.root().get("spec").get("rules").items() {
        hits.extend(rule.get("matches").items().iter().flat_map(one_match));
        for filter in rule.get("filters").items() {
            hits.extend(header_modifier(&filter.get("requestHeaderModifier")));
            hits.extend(header_modifier(&filter.get("responseHeaderModifier")));
        }
        hits.extend(route::backends(&rule));
    }
    hits
}

fn one_match(one: &Field<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = one.get("headers").items().iter().flat_map(header_match).collect();
    let kind = one.get("method").get("type");
    if kind.text() == REGULAR_EXPRESSION {
        let message = "Linkerd does not match gRPC methods by a regular expression";
        hits.push(
            Hit::new(rule::LD_GRPC_METHOD, kind.path(), message).suggest("use type: Exact, one match per method"),
        );
    }
    hits
}

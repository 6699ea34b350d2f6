//! TCPRoute and TLSRoute of the Gateway API: where a connection goes, of TLS by the name that it asks for.

use super::{
    Object,
    route::{self, GATEWAY_GROUP},
};
use crate::report::Hit;

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let mut hits = route::parents(object, GATEWAY_GROUP);
    hits.extend(route::single_rule(object));
    hits
}

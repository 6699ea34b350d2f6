//! Kinds that are networks: EgressNetwork, addresses outside the cluster and whether traffic to them is allowed where no route says
//! more; NetworkAuthentication, clients by their address.

use super::{
    common::{self, NETWORKS},
    shape::{self, Need, Shape},
};
use crate::{report::Hit, rules::Object};

const EGRESS: Shape =
    Shape::Map(&[("networks", Need::May, NETWORKS), ("trafficPolicy", Need::Must, Shape::Words(&["Allow", "Deny"]))]);

const AUTHENTICATION: Shape = Shape::Map(&[("networks", Need::Must, NETWORKS)]);

/// All rules for an EgressNetwork.
#[must_use]
pub(super) fn egress(object: &Object<'_>) -> Vec<Hit> {
    check(object, &EGRESS)
}

/// All rules for a NetworkAuthentication.
#[must_use]
pub(super) fn authentication(object: &Object<'_>) -> Vec<Hit> {
    check(object, &AUTHENTICATION)
}

fn check(object: &Object<'_>, shape: &'static Shape) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, shape);
    hits.extend(common::some_networks(&spec.get("networks")));
    hits
}

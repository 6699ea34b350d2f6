//! NetworkAuthentication: clients by their address.

use super::{
    common::{self, NETWORKS},
    shape::{self, Need, Shape},
};
use crate::{report::Hit, rules::Object};

const SHAPE: Shape = Shape::Map(&[("networks", Need::Must, NETWORKS)]);

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    hits.extend(common::some_networks(&spec.get("networks")));
    hits
}

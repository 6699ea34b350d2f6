//! ProxyConfig: settings that a proxy takes when it starts.

use super::{common, selector};
use crate::{
    report::Hit,
    rules::{Object, catalogue as rule},
};

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = selector::by_labels(&spec.get("selector"), "matchLabels");
    hits.extend(common::non_negative(rule::PC_CONCURRENCY, &spec.get("concurrency"), "concurrency"));
    hits
}

//! PeerAuthentication: settings of single ports need the workloads whose ports they are.

use super::selector;
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule},
};

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = selector::by_labels(&spec.get("selector"), "matchLabels");
    let ports = spec.get("portLevelMtls");
    if ports.is_set() && spec.get("selector").get("matchLabels").entries().is_empty() {
        let message = "portLevelMtls is for selected workloads, and nothing is selected";
        let hit = Hit::new(rule::PA_PORT_LEVEL, ports.path(), message).at_key();
        hits.push(hit.suggest("add selector.matchLabels, or remove portLevelMtls"));
    }
    if ports.is_set() && ports.entries().is_empty() {
        hits.push(Hit::new(rule::PA_PORT_LEVEL, ports.path(), "portLevelMtls has no port").suggest("remove it"));
    }
    for (port, field) in ports.entries() {
        if !port.parse::<u16>().is_ok_and(|number| number > 0) {
            let message = format!("the port {} is not within 1 to 65535", quote(port));
            hits.push(Hit::new(rule::PORT, field.path(), message).at_key());
        }
    }
    hits
}

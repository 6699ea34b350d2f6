//! What is known to be around the judged objects, by where it was read.
//!
//! One object counts once. What is live counts before what the registry calls active, for it is what the proxies have; a text of
//! the request counts before both. An approved version cannot stand beside the active one of its policy, for both are the
//! same object: so the objects are judged twice, and the second time with every approved version in its place.

use std::{collections::HashSet, sync::Arc};

use meshward_model::{Confidence, Finding, ObjectRef, Severity};
use serde_json::Value;

use super::{cross, head};
use crate::{
    text::{Document, Places},
    world::{Entry, Kind, Set},
};

/// What findings call what is live.
const LIVE: &str = "cluster";
/// What they call a version that is in force by the registry.
const ACTIVE: &str = "registry";
/// What they call one that is approved to take its place.
const APPROVED: &str = "registry/approved";

/// Objects, each with apiVersion and kind.
#[derive(Debug, Default)]
pub struct Known {
    live: Vec<Value>,
    active: Vec<Value>,
    approved: Vec<Value>,
}

impl Known {
    /// What is live, and what the registry holds as active and as approved after it. What is active and live is left out.
    #[must_use]
    pub fn new(live: Vec<Value>, mut active: Vec<Value>, approved: Vec<Value>) -> Self {
        let seen: HashSet<_> = live.iter().map(identity).collect();
        active.retain(|object| !seen.contains(&identity(object)));
        drop(seen);
        Self { live, active, approved }
    }

    /// What holds now.
    pub fn in_force(&self) -> impl Iterator<Item = &Value> {
        self.live.iter().chain(&self.active)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        entries(&self.active, ACTIVE).chain(entries(&self.live, LIVE))
    }

    /// The same set with the approved versions in their place, but for what stands in a text; `None` if there are none.
    pub(super) fn later(&self, now: &Set, texts: &HashSet<(Kind, String, String)>) -> Option<Set> {
        let mut approved: Vec<Entry> = entries(&self.approved, APPROVED).collect();
        approved.retain(|entry| !texts.contains(&key(entry)));
        if approved.is_empty() {
            return None;
        }
        let mut later = now.clone();
        for entry in approved {
            later.put(later.aged(entry));
        }
        later.settle();
        Some(later)
    }
}

/// What a kind, a namespace and a name are, as a key.
pub(super) fn key(entry: &Entry) -> (Kind, String, String) {
    (entry.kind, entry.head.namespace.clone(), entry.head.name.clone())
}

/// An object is the same in every version of its group.
fn identity(object: &Value) -> [&str; 4] {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
    [group, text("/kind"), text("/metadata/namespace"), text("/metadata/name")]
}

fn entries<'a>(objects: &'a [Value], source: &str) -> impl Iterator<Item = Entry> + use<'a> {
    let source: Arc<str> = source.into();
    objects.iter().filter_map(move |value| {
        let document = Document { value: value.clone(), places: Places::default() };
        cross::entry_of(head(value), document, &source)
    })
}

/// What is found only with the approved versions in place: it depends on whether they come, so it blocks nobody.
pub(super) fn only_later(now: &[Finding], later: Vec<Finding>) -> impl Iterator<Item = Finding> {
    let said = |finding: &Finding| {
        let is = |other: &&Finding| {
            (&other.id, &other.object, &other.path, &other.details.source)
                == (&finding.id, &finding.object, &finding.path, &finding.details.source)
        };
        now.iter().filter(is).any(|other| names(finding).is_subset(&names(other)))
    };
    let (_, new): (Vec<_>, Vec<_>) = later.into_iter().partition(said);
    new.into_iter().map(|mut finding| {
        finding.confidence = Confidence::Possible;
        if finding.severity == Severity::Error {
            finding.severity = Severity::Warning;
        }
        finding
    })
}

fn names(finding: &Finding) -> HashSet<&ObjectRef> {
    finding.details.related.iter().map(|related| &related.object).collect()
}

#[cfg(test)]
mod tests;

//! All objects that are known together, and what refers to what.
//!
//! A rule that looks beyond one object asks a [`View`] of the [`World`]. The view writes down every question ([`Key`]), so
//! that [`Set`] knows what a finding depends on: a changed object touches the keys that it answers, and only the objects
//! that asked for one of them are judged again. No rule has to say what it depends on, and none can forget to.
//!
//! The world holds policies of both meshes and what they refer to: Services, workloads, Namespaces, Secrets…
//! Nothing here does I/O or knows a clock: what time it is, is said to the world like everything else, and asked like it.

pub mod host;
mod keys;
mod kind;
mod set;
mod view;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::civil::DateTime;
use meshward_model::{ObjectRef, Related};
use serde_json::Value;

use crate::{path::Path, rules::field::Field, text::Places};

pub use keys::Key;
pub(crate) use keys::destinations;
pub use kind::Kind;
pub use set::{Judgement, Outcome, Set};
pub use view::View;
pub(crate) use workload::SELECTOR;
pub use workload::{Labels, Workload, has_all, is_selecting, labels, matches, selects};

/// An object's place in the world; the lower, the earlier it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(usize);

/// An object of the world.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is, for findings.
    pub head: ObjectRef,
    /// What it is, for rules.
    pub kind: Kind,
    /// Its content.
    pub value: Arc<Value>,
    /// Where its values stand.
    pub places: Arc<Places>,
    /// In which text: empty for the judged one.
    pub source: Arc<str>,
}

impl Entry {
    /// A cursor at the object itself.
    #[must_use]
    pub fn root(&self) -> Field<'_> {
        Field::root(&self.value)
    }

    /// A cursor at what it says.
    #[must_use]
    pub fn spec(&self) -> Field<'_> {
        self.root().get("spec")
    }

    /// A cursor at `metadata.name`.
    #[must_use]
    pub fn name(&self) -> Field<'_> {
        self.root().get("metadata").get("name")
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.head.namespace
    }

    /// `namespace/name`, or the name of what has no namespace.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.head.namespace.as_str() {
            "" => self.head.name.clone(),
            namespace => format!("{namespace}/{}", self.head.name),
        }
    }

    /// It as one that takes part in a finding about another.
    #[must_use]
    pub fn related(&self, path: &Path, role: impl Into<String>) -> Related {
        Related {
            object: self.head.clone(),
            path: path.to_string(),
            // What is live has no text.
            at: Some(self.places.of(path)).filter(|at| at.line > 0),
            source: self.source.to_string(),
            role: role.into(),
        }
    }

    /// Istio's order among objects that exclude each other: by age, then by name. What has no age yet is the youngest.
    #[must_use]
    pub fn seniority(&self) -> (bool, &str, &str, &str) {
        let created = self.root().get("metadata").get("creationTimestamp").text();
        (created.is_empty(), created, &self.head.namespace, &self.head.name)
    }
}

/// What a kind, a namespace and a name are to the world: there is one object of it at a time.
type Identity = (Kind, String, String);

/// All objects, by every question that rules ask.
#[derive(Debug, Clone, Default)]
pub struct World {
    entries: BTreeMap<Id, Entry>,
    identities: HashMap<Identity, Id>,
    index: HashMap<Key, BTreeSet<Id>>,
    next: usize,
    complete: bool,
    /// Kinds of which objects are taken out in thought: that none is left does not mean that none was given.
    thinned: Vec<Kind>,
    /// In UTC, to the minute. Certificates may hold to the last day of the year 9999, which is more than a timestamp can say.
    now: Option<DateTime>,
}

impl World {
    /// An empty world. `complete`: it will hold every object that there is, so what is not in it does not exist.
    #[must_use]
    pub fn new(complete: bool) -> Self {
        Self { complete, ..Self::default() }
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An object.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// All objects in their order.
    pub fn entries(&self) -> impl Iterator<Item = (Id, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Where the object of that identity is.
    #[must_use]
    pub fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<Id> {
        self.identities.get(&(kind, namespace.to_owned(), name.to_owned())).copied()
    }

    /// Puts an object in, in the place of the one of the same identity, which is returned. `touched` gets the keys whose
    /// answers change.
    pub(crate) fn put(&mut self, entry: Entry, touched: &mut Vec<Key>) -> (Id, Option<Entry>) {
        let old = self.remove(entry.kind, &entry.head.namespace, &entry.head.name, touched);
        let id = match &old {
            Some((id, _)) => *id,
            None => {
                self.next += 1;
                Id(self.next)
            }
        };
        for key in keys::of(&entry) {
            if let Some(ids) = self.index.get_mut(&key) {
                ids.insert(id);
            } else {
                self.index.insert(key.clone(), BTreeSet::from([id]));
                if matches!(key, Key::All(_)) {
                    touched.push(Key::Presence(entry.kind));
                }
            }
            touched.push(key);
        }
        self.identities.insert((entry.kind, entry.head.namespace.clone(), entry.head.name.clone()), id);
        self.entries.insert(id, entry);
        (id, old.map(|(_, entry)| entry))
    }

    /// Takes an object out.
    pub(crate) fn remove(
        &mut self,
        kind: Kind,
        namespace: &str,
        name: &str,
        touched: &mut Vec<Key>,
    ) -> Option<(Id, Entry)> {
        let id = self.identities.remove(&(kind, namespace.to_owned(), name.to_owned()))?;
        let entry = self.entries.remove(&id)?;
        for key in keys::of(&entry) {
            if let Some(ids) = self.index.get_mut(&key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.index.remove(&key);
                    if matches!(key, Key::All(_)) {
                        touched.push(Key::Presence(kind));
                    }
                }
            }
            touched.push(key);
        }
        Some((id, entry))
    }

    /// Whether objects of a kind were given, so that one which is not among them may be missing.
    fn is_given(&self, kind: Kind) -> bool {
        self.index.contains_key(&Key::All(kind)) || self.thinned.contains(&kind)
    }

    fn ids(&self, key: &Key) -> Option<&BTreeSet<Id>> {
        self.index.get(key)
    }
}

#[cfg(test)]
mod tests;

//! All objects that are known together, and what refers to what.
//!
//! A rule that looks beyond one object asks a [`View`] of the [`World`]. The view writes down every question ([`Key`]), so
//! that [`Set`] knows what a finding depends on: a changed object touches the keys that it answers, and only the objects
//! that asked for one of them are judged again. No rule has to say what it depends on, and none can forget to.
//!
//! The world holds policies of both meshes and what they refer to: Services, workloads, Namespaces, Secrets…
//! Nothing here does I/O or knows a clock: what time it is, is said to the world like everything else, and asked like it.

pub mod host;
mod index;
mod keys;
mod kind;
mod set;
mod view;
mod workload;

use std::{collections::BTreeMap, sync::Arc};

use jiff::civil::DateTime;
use meshward_model::{ObjectRef, Related};
use serde_json::Value;

use crate::{path::Path, rules::field::Field, text::Places};

pub use index::Asked;
use index::Index;
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

/// An object with the questions that it answers. To find them is most of the work of putting it in, and needs no world.
#[derive(Debug, Clone)]
pub struct Keyed {
    entry: Entry,
    /// The first names it.
    keys: Vec<Key>,
}

impl From<Entry> for Keyed {
    fn from(entry: Entry) -> Self {
        Self { keys: keys::of(&entry), entry }
    }
}

/// All objects, by every question that rules ask. There is one object of a kind, a namespace and a name at a time.
#[derive(Debug, Clone, Default)]
pub struct World {
    entries: BTreeMap<Id, Entry>,
    index: Index,
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
        self.ids(&Key::Named(kind, namespace.to_owned(), name.to_owned())).first().copied()
    }

    /// Puts an object in, in the place of the one of the same identity, which is returned. `touched` gets the keys whose
    /// answers change.
    pub(crate) fn put(&mut self, object: Keyed, touched: &mut Vec<Key>) -> (Id, Option<Entry>) {
        let Keyed { entry, keys } = object;
        let place = keys.first().and_then(|named| self.ids(named).first().copied());
        let old = place.and_then(|id| self.take(id, touched));
        let id = place.unwrap_or_else(|| {
            self.next += 1;
            Id(self.next)
        });
        for key in &keys {
            if self.index.insert(key, id) && matches!(key, Key::All(_)) {
                touched.push(Key::Presence(entry.kind));
            }
        }
        touched.extend(keys);
        self.entries.insert(id, entry);
        (id, old)
    }

    /// Takes an object out.
    pub(crate) fn remove(
        &mut self,
        kind: Kind,
        namespace: &str,
        name: &str,
        touched: &mut Vec<Key>,
    ) -> Option<(Id, Entry)> {
        let id = self.find(kind, namespace, name)?;
        Some((id, self.take(id, touched)?))
    }

    fn take(&mut self, id: Id, touched: &mut Vec<Key>) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        let keys = keys::of(&entry);
        for key in &keys {
            if self.index.remove(key, id) && matches!(key, Key::All(_)) {
                touched.push(Key::Presence(entry.kind));
            }
        }
        touched.extend(keys);
        Some(entry)
    }

    /// Whether objects of a kind were given, so that one which is not among them may be missing.
    fn is_given(&self, kind: Kind) -> bool {
        !self.ids(&Key::All(kind)).is_empty() || self.thinned.contains(&kind)
    }

    fn ids(&self, key: &Key) -> &[Id] {
        self.index.get(key)
    }
}

#[cfg(test)]
mod tests;

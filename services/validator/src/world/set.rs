//! A world that is kept judged while it changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};

use jiff::{
    RoundMode, Unit,
    civil::{DateTime, DateTimeRound},
};

use super::{Asked, Entry, Id, Index, Key, Keyed, Kind, View, World};
use crate::{parallel, report::Hit, rules::cross};

/// Objects that one thread judges at a time; so few are judged faster than a thread is started.
const SHARE: usize = 64;

/// What the rules say of one object.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// What they found.
    pub hits: Vec<Hit>,
    /// Which could not run.
    pub skipped: BTreeSet<String>,
    asked: Asked,
}

/// A world and what the rules say of each of its objects. After a change only those are judged again whose rules had asked
/// for something that the change touched.
#[derive(Debug, Clone, Default)]
pub struct Set {
    world: World,
    judgements: HashMap<Id, Judgement>,
    /// Who asked for what.
    readers: Index,
    /// Whose questions are not among these yet: nobody needs them before something changes.
    unread: Vec<Id>,
    dirty: BTreeSet<Id>,
}

fn judge(world: &World, id: Id) -> Option<Judgement> {
    let view = View::new(world);
    let hits = cross::check(world.get(id)?, &view);
    let (asked, skipped) = view.into_parts();
    Some(Judgement { hits, skipped, asked })
}

/// What a change would do.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the rules say of the changed objects, in the order of the changes.
    pub changed: Vec<Judgement>,
    /// What they then say of others and did not say before.
    pub broken: Vec<(Entry, Hit)>,
    /// What they said of others and then do not say any more.
    pub mended: Vec<(Entry, Hit)>,
    /// How many objects were judged again.
    pub judged: usize,
}

impl Set {
    /// An empty set; see [`World::new`].
    #[must_use]
    pub fn new(complete: bool) -> Self {
        Self { world: World::new(complete), ..Self::default() }
    }

    /// The objects.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Puts an object in, in the place of the one of the same kind, namespace and name, which is returned.
    pub fn put(&mut self, object: impl Into<Keyed>) -> (Id, Option<Entry>) {
        let mut touched = Vec::new();
        let (id, old) = self.world.put(object.into(), &mut touched);
        self.dirty.insert(id);
        self.touch(&touched);
        (id, old)
    }

    /// An object that is about to be put in, as old as the one in whose place it comes: a new version makes it no younger.
    #[must_use]
    pub fn aged(&self, mut entry: Entry) -> Entry {
        let place = self.world.find(entry.kind, &entry.head.namespace, &entry.head.name);
        let created = place.and_then(|id| self.world.get(id)).map(|old| old.seniority().1).unwrap_or_default();
        if !created.is_empty() && entry.value.get("metadata").is_some_and(Value::is_object) {
            Arc::make_mut(&mut entry.value)["metadata"]["creationTimestamp"] = json!(created);
        }
        entry
    }

    /// Puts objects in.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = impl Into<Keyed>>) {
        entries.into_iter().for_each(|entry| drop(self.put(entry)));
    }

    /// Takes an object out.
    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<Entry> {
        let mut touched = Vec::new();
        let (id, entry) = self.world.remove(kind, namespace, name, &mut touched)?;
        self.forget(id);
        self.dirty.remove(&id);
        self.touch(&touched);
        Some(entry)
    }

    /// Says what time it is, in UTC. What depends on it is judged again if it is another minute.
    pub fn at(&mut self, now: DateTime) {
        let minute = DateTimeRound::new().smallest(Unit::Minute).mode(RoundMode::Trunc);
        let now = now.round(minute).ok();
        if self.world.now != now {
            self.world.now = now;
            self.touch(&[Key::Time]);
        }
    }

    fn touch(&mut self, touched: &[Key]) {
        self.ready();
        self.dirty.extend(touched.iter().flat_map(|key| self.readers.get(key)));
    }

    /// Notes who asked for what since the last change, which the next one would have to do.
    pub fn ready(&mut self) {
        for id in std::mem::take(&mut self.unread) {
            let asked = self.judgements.get(&id).into_iter().flat_map(|judgement| &judgement.asked);
            for key in asked {
                self.readers.insert(key, id);
            }
        }
    }

    fn forget(&mut self, id: Id) -> Option<Judgement> {
        let old = self.judgements.remove(&id)?;
        for key in &old.asked {
            self.readers.remove(key, id);
        }
        Some(old)
    }

    /// Judges what has changed or asked for what has changed; returns what was said of it before.
    pub fn settle(&mut self) -> BTreeMap<Id, Option<Judgement>> {
        let dirty: Vec<Id> = std::mem::take(&mut self.dirty).into_iter().collect();
        let shares: Vec<&[Id]> = dirty.chunks(SHARE).collect();
        let world = &self.world;
        let judged = parallel::map(&shares, |ids| ids.iter().map(|id| judge(world, *id)).collect::<Vec<_>>());
        let mut before = BTreeMap::new();
        for (id, judgement) in dirty.iter().zip(judged.into_iter().flatten()) {
            let old = self.forget(*id);
            if let Some(judgement) = judgement {
                self.remember(*id, judgement);
                before.insert(*id, old);
            }
        }
        before
    }

    fn remember(&mut self, id: Id, judgement: Judgement) {
        self.unread.push(id);
        self.judgements.insert(id, judgement);
    }

    /// Takes a settled change back, once the world is as it was: what was said before holds again, without being judged anew.
    /// Whatever else the way back has touched is among `judged`, for it asked for a key that the change had touched too.
    fn restore(&mut self, judged: BTreeMap<Id, Option<Judgement>>) {
        for (id, before) in judged {
            self.forget(id);
            if let Some(judgement) = before {
                self.remember(id, judgement);
            }
        }
        self.dirty.clear();
    }

    /// What the rules say of an object. Call [`Set::settle`] before.
    #[must_use]
    pub fn judgement(&self, id: Id) -> Option<&Judgement> {
        self.judgements.get(&id)
    }

    /// What would be if these objects were put in. The set is afterwards as it was.
    pub fn what_if(&mut self, changes: Vec<Entry>) -> Outcome {
        self.settle();
        let identities: Vec<(Kind, String, String)> =
            changes.iter().map(|entry| (entry.kind, entry.head.namespace.clone(), entry.head.name.clone())).collect();
        let mut before = Vec::new();
        let mut ids = Vec::new();
        for entry in changes {
            let (id, old) = self.put(entry);
            before.push(old);
            ids.push(id);
        }
        let judged = self.settle();
        let outcome = self.outcome(&ids, &judged);
        // The last change goes first, so that an object that was changed twice ends as it was.
        for ((kind, namespace, name), old) in identities.iter().zip(before).rev() {
            match old {
                Some(old) => drop(self.put(old)),
                None => drop(self.remove(*kind, namespace, name)),
            }
        }
        self.restore(judged);
        outcome
    }

    /// What would be without these objects. The set is afterwards as it was, but for the order of its objects.
    pub fn without(&mut self, gone: &[(Kind, String, String)]) -> Outcome {
        self.settle();
        let gone: Vec<Entry> =
            gone.iter().filter_map(|(kind, namespace, name)| self.remove(*kind, namespace, name)).collect();
        self.world.thinned = gone.iter().map(|entry| entry.kind).collect();
        let judged = self.settle();
        let outcome = self.outcome(&[], &judged);
        self.world.thinned.clear();
        self.extend(gone);
        self.settle();
        outcome
    }

    fn outcome(&self, changed: &[Id], judged: &BTreeMap<Id, Option<Judgement>>) -> Outcome {
        let mut outcome = Outcome { judged: judged.len(), ..Outcome::default() };
        outcome.changed = changed.iter().map(|id| self.judgements.get(id).cloned().unwrap_or_default()).collect();
        let same = |one: &Hit, other: &Hit| one.rule.id == other.rule.id && one.path == other.path;
        for (id, old) in judged.iter().filter(|(id, _)| !changed.contains(id)) {
            let (Some(entry), Some(new)) = (self.world.get(*id), self.judgements.get(id)) else { continue };
            let old = old.as_ref().map(|old| old.hits.as_slice()).unwrap_or_default();
            let appeared = new.hits.iter().filter(|hit| !old.iter().any(|other| same(hit, other)));
            outcome.broken.extend(appeared.map(|hit| (entry.clone(), hit.clone())));
            let gone = old.iter().filter(|hit| !new.hits.iter().any(|other| same(hit, other)));
            outcome.mended.extend(gone.map(|hit| (entry.clone(), hit.clone())));
        }
        outcome
    }
}

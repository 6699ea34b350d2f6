//! A cluster in memory, for simulations and tests that need thousands of clusters or a clock of their own.
//!
//! It keeps what Meshward relies on: server-side apply with field ownership, resourceVersions that fence, generations
//! that count changes of the content, JSON patches, dry runs, deletes with preconditions, selectors, pages and watches.
//! The contract suite (`tests/cluster/contract.rs`) runs the same scenarios on it and on a real kube-apiserver.
//!
//! What it has not: schemas, rights, controllers and namespaces that must exist; admission, but for labels of new pods
//! ([`admission`]); lists that are merged by key; and `.` entries in `managedFields`.

mod admission;
mod owners;
mod patch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use meshward_chassis::clock::Clock;
use meshward_model::Target;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Change, Changes, Cluster, ClusterError, Mode, Selected, Selection, Written, selector::Selector};
use crate::object::{self, FIELD_MANAGER};
use owners::Owners;

/// Changes that a watch may be behind before it is told to list again.
const REMEMBERED: usize = 10_000;
/// How the place of a page begins.
const PLACE: &str = "memory:";

/// A cluster, as one field manager sees it; clones are the same cluster.
#[derive(Clone)]
pub struct MemoryCluster {
    state: Arc<Mutex<State>>,
    told: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    manager: String,
}

/// Group, plural, namespace, name.
type Key = (String, String, String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// What happened, oldest first.
    history: VecDeque<Event>,
    forgotten_until: u64,
}

#[derive(Clone)]
struct Event {
    version: u64,
    key: Key,
    before: Option<Value>,
    now: Option<Value>,
}

impl MemoryCluster {
    /// An empty cluster; writes are Meshward's.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), told: watch::Sender::new(0), clock, manager: FIELD_MANAGER.to_owned() }
    }

    /// The same cluster; writes are this manager's.
    #[must_use]
    pub fn as_manager(&self, manager: &str) -> Self {
        Self { manager: manager.to_owned(), ..self.clone() }
    }

    /// Forgets what happened, as an API server does after some minutes: watches from before must list again.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.history.clear();
        state.forgotten_until = state.version;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> String {
        self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Stores what an object is to be, if it is anything else than it was.
    fn store(&self, state: &mut State, key: Key, before: Option<Value>, mut object: Value, owners: &Owners) -> Value {
        object["metadata"]["managedFields"] = owners.to_json();
        if let Some(before) = &before {
            if *before == object {
                return object;
            }
            if content(before) != content(&object) {
                object["metadata"]["generation"] = (object::generation(before) + 1).into();
            }
        }
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.put(key, before, Some(object.clone()));
        self.told.send_replace(state.version);
        object
    }

    /// A new object with what the API server sets.
    fn made(&self, state: &State, target: &Target, object: &Value) -> Value {
        let mut object = object.clone();
        let metadata = json!({"name": target.name, "namespace": target.namespace, "generation": 1,
                              "uid": format!("00000000-0000-0000-0000-{:012}", state.version + 1),
                              "creationTimestamp": self.now()});
        for (field, value) in metadata.as_object().into_iter().flatten() {
            object["metadata"][field.as_str()] = value.clone();
        }
        object
    }

    fn applied(&self, target: &Target, sent: &Value, mode: Mode) -> Result<Value, ClusterError> {
        let mut state = self.lock();
        let key = key(target);
        let before = state.objects.get(&key).cloned();
        fence(target, before.as_ref(), object::resource_version(sent))?;
        let wanted = owners::fields(sent);
        let mut object = before.clone().unwrap_or_else(|| {
            let bare = json!({"apiVersion": sent["apiVersion"], "kind": sent["kind"], "metadata": {}});
            self.made(&state, target, &bare)
        });
        let mut owners = Owners::of(&object);
        let mine = owners.fields_of(&self.manager, "Apply");
        let changed = wanted.iter().filter(|(path, value)| owners::at(&object, path) != Some(value));
        let changed: Vec<_> = changed.map(|(path, _)| path.clone()).collect();
        owners.take_away(&changed);
        let names: BTreeSet<_> = wanted.keys().cloned().collect();
        owners.set((&self.manager, "Apply"), &target.api_version, &self.now(), names, false);
        for path in mine.iter().filter(|path| !wanted.contains_key(*path) && !owners.has(path)) {
            owners::remove(&mut object, path);
        }
        for (path, value) in wanted {
            owners::put(&mut object, &path, value);
        }
        if before.is_none() {
            admission::admit(&state.objects, target, &mut object)?;
        }
        if !changed.is_empty() {
            let names = owners.fields_of(&self.manager, "Apply");
            owners.set((&self.manager, "Apply"), &target.api_version, &self.now(), names, true);
        }
        if mode == Mode::DryRun {
            object["metadata"]["managedFields"] = owners.to_json();
            return Ok(object);
        }
        Ok(self.store(&mut state, key, before, object, &owners))
    }

    /// What an update makes of the owners: who changes a field owns it alone.
    fn updated(&self, target: &Target, before: &Value, after: &Value, mut owners: Owners) -> Owners {
        let (old, new) = (owners::fields(before), owners::fields(after));
        let gone: Vec<_> = old.keys().filter(|path| !new.contains_key(*path)).cloned().collect();
        let changed: Vec<_> =
            new.iter().filter(|(path, value)| old.get(*path) != Some(value)).map(|(path, _)| path.clone()).collect();
        owners.take_away(gone.iter().chain(&changed));
        if !changed.is_empty() {
            let mut mine = owners.fields_of(&self.manager, "Update");
            mine.extend(changed);
            owners.set((&self.manager, "Update"), &target.api_version, &self.now(), mine, true);
        }
        owners
    }
}

impl State {
    fn put(&mut self, key: Key, before: Option<Value>, now: Option<Value>) {
        match now.clone() {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(&key),
        };
        self.history.push_back(Event { version: self.version, key, before, now });
        while self.history.len() > REMEMBERED {
            self.forgotten_until = self.history.pop_front().map_or(0, |event| event.version);
        }
    }

    /// What happened after a version.
    fn since(&self, version: u64) -> Result<Vec<Event>, ClusterError> {
        if version < self.forgotten_until {
            return Err(ClusterError::Expired(format!("{version} is older than {}", self.forgotten_until)));
        }
        let first = self.history.partition_point(|event| event.version <= version);
        Ok(self.history.range(first..).cloned().collect())
    }
}

/// What a generation counts: everything but metadata and status.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    if let Some(map) = content.as_object_mut() {
        map.remove("metadata");
        map.remove("status");
    }
    content
}

fn key(target: &Target) -> Key {
    (group(&target.api_version).to_owned(), plural(&target.kind), target.namespace.clone(), target.name.clone())
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// As the kinds that Meshward knows form it.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

/// A write that names a version finds that one, or is refused.
fn fence(target: &Target, live: Option<&Value>, version: &str) -> Result<(), ClusterError> {
    if version.is_empty() || live.is_some_and(|live| object::resource_version(live) == version) {
        return Ok(());
    }
    Err(ClusterError::Conflict(format!("{target} is not at {version} any more")))
}

/// The part of a selection that a key answers.
fn is_selected(selection: &Selection, key: &Key) -> bool {
    let (group_of_key, plural, namespace, _) = key;
    group(&selection.api_version) == group_of_key
        && selection.plural == *plural
        && selection.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
}

fn selector(selection: &Selection) -> Result<Selector, ClusterError> {
    let not_understood = || ClusterError::Schema(format!("not a selector: {} {}", selection.labels, selection.fields));
    Selector::parse(&selection.labels, &selection.fields).ok_or_else(not_understood)
}

fn shown(selection: &Selection, object: &Value) -> Value {
    if !selection.only_metadata {
        return object.clone();
    }
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

/// What an event is for a selection.
fn change(selection: &Selection, selector: &Selector, event: Event) -> Option<Change> {
    if !is_selected(selection, &event.key) {
        return None;
    }
    let fits = |object: &Option<Value>| object.as_ref().filter(|object| selector.fits(object)).cloned();
    match (fits(&event.before), fits(&event.now)) {
        (_, Some(now)) => Some(Change::Stored(shown(selection, &now))),
        (Some(mut last), None) => {
            last["metadata"]["resourceVersion"] = event.version.to_string().into();
            Some(Change::Deleted(shown(selection, &last)))
        }
        (None, None) => None,
    }
}

#[async_trait]
impl Cluster for MemoryCluster {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ClusterError> {
        Ok(self.lock().objects.get(&key(target)).cloned())
    }

    async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Selection, ClusterError> {
        Ok(Selection::of(api_version.to_owned(), plural(kind)))
    }

    async fn select(&self, selection: &Selection) -> Result<Selected, ClusterError> {
        let selector = selector(selection)?;
        let no_place = || ClusterError::Schema(format!("not a place of a page: {}", selection.from));
        let after = match &*selection.from {
            "" => None,
            from => Some(from.strip_prefix(PLACE).and_then(|place| place.split_once('/')).ok_or_else(no_place)?),
        };
        let state = self.lock();
        let is_later = |key: &Key| after.is_none_or(|after| (key.2.as_str(), key.3.as_str()) > after);
        let fitting = state.objects.iter().filter(|(key, _)| is_selected(selection, key) && is_later(key));
        let fitting: Vec<_> = fitting.filter(|(_, object)| selector.fits(object)).collect();
        let limit = if selection.limit == 0 { fitting.len() } else { selection.limit as usize };
        let last = fitting.get(limit.saturating_sub(1)).filter(|_| fitting.len() > limit);
        Ok(Selected {
            next: last.map_or_else(String::new, |(key, _)| format!("{PLACE}{}/{}", key.2, key.3)),
            objects: fitting.iter().take(limit).map(|(_, object)| Arc::new(shown(selection, object))).collect(),
            resource_version: state.version.to_string(),
        })
    }

    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError> {
        let selector = selector(selection)?;
        let after = after.parse().map_err(|_| ClusterError::Schema(format!("not a version: {after}")))?;
        self.lock().since(after)?;
        let (cluster, selection) = (self.clone(), selection.clone());
        let batches =
            stream::unfold((cluster, self.told.subscribe(), Some(after)), move |(cluster, mut told, place)| {
                let (selection, selector) = (selection.clone(), selector.clone());
                async move {
                    let place = place?;
                    told.wait_for(|version| *version > place).await.ok()?;
                    let events = match cluster.lock().since(place) {
                        Ok(events) => events,
                        Err(error) => return Some((vec![Err(error)], (cluster.clone(), told, None))),
                    };
                    let place = events.last().map_or(place, |event| event.version);
                    let changes = events.into_iter().filter_map(|event| change(&selection, &selector, event));
                    Some((changes.map(Ok).collect(), (cluster, told, Some(place))))
                }
            });
        Ok(batches.flat_map(stream::iter).boxed())
    }

    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError> {
        let mut state = self.lock();
        let key = key(target);
        if state.objects.contains_key(&key) {
            return Err(ClusterError::Conflict(format!("{target} exists already")));
        }
        let mut made = self.made(&state, target, object);
        admission::admit(&state.objects, target, &mut made)?;
        let owners = self.updated(target, &json!({}), &made, Owners::default());
        Ok(self.store(&mut state, key, None, made, &owners))
    }

    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError> {
        Ok(Written { object: self.applied(target, object, mode)?, warnings: Vec::new() })
    }

    async fn patch(&self, target: &Target, operations: &Value) -> Result<Value, ClusterError> {
        let mut state = self.lock();
        let key = key(target);
        let missing = || ClusterError::Conflict(format!("{target} does not exist"));
        let before = state.objects.get(&key).cloned().ok_or_else(missing)?;
        let mut after = patch::apply(&before, operations).map_err(ClusterError::Schema)?;
        fence(target, Some(&before), object::resource_version(&after))?;
        // An empty list says nothing; a list of one empty entry says that nobody owns anything.
        let sent = &after["metadata"]["managedFields"];
        let says_nothing = sent.as_array().is_none_or(Vec::is_empty);
        let owners = Owners::of(if says_nothing { &before } else { &after });
        let owners = self.updated(target, &before, &after, owners);
        for field in ["labels", "annotations"] {
            if after["metadata"][field].as_object().is_some_and(serde_json::Map::is_empty) {
                owners::remove(&mut after, &["metadata".to_owned(), field.to_owned()]);
            }
        }
        Ok(self.store(&mut state, key, Some(before), after, &owners))
    }

    async fn delete(&self, target: &Target, uid: &str, resource_version: &str) -> Result<(), ClusterError> {
        let mut state = self.lock();
        let key = key(target);
        let Some(before) = state.objects.get(&key).cloned() else { return Ok(()) };
        if object::uid(&before) != uid || object::resource_version(&before) != resource_version {
            return Err(ClusterError::Conflict(format!("{target} is another one, or changed in between")));
        }
        state.version += 1;
        state.put(key, Some(before), None);
        self.told.send_replace(state.version);
        Ok(())
    }

    async fn version(&self) -> Result<String, ClusterError> {
        Ok("in memory".to_owned())
    }
}

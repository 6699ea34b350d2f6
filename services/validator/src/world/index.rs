//! Objects by questions.

use std::collections::{HashMap, HashSet};

use super::{Id, Key};

/// Questions. Names in them come from strangers, so the hash has a key of its own in every process.
pub type Asked = HashSet<Key, ahash::RandomState>;

/// Which objects each question is about, in their order. Almost every question has one or two.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(HashMap<Key, Vec<Id>, ahash::RandomState>);

impl Index {
    /// The objects of a question.
    pub(super) fn get(&self, key: &Key) -> &[Id] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds an object to a question; whether it is the first one.
    pub(super) fn insert(&mut self, key: &Key, id: Id) -> bool {
        let Some(ids) = self.0.get_mut(key) else {
            self.0.insert(key.clone(), vec![id]);
            return true;
        };
        if let Err(place) = ids.binary_search(&id) {
            ids.insert(place, id);
        }
        false
    }

    /// Takes an object from a question; whether it was the last one.
    pub(super) fn remove(&mut self, key: &Key, id: Id) -> bool {
        let Some(ids) = self.0.get_mut(key) else { return false };
        if let Ok(place) = ids.binary_search(&id) {
            ids.remove(place);
        }
        let is_last = ids.is_empty();
        if is_last {
            self.0.remove(key);
        }
        is_last
    }
}

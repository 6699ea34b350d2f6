//! Which pods this process has divided last, and how far: what [`crate::apply`] needs to trust a cache.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Most targets. Who is forgotten is asked of the API server again.
const MOST: usize = 1024;

/// What this process did last to the pods of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Division {
    /// For this deployment.
    pub deployment: String,
    /// By the intent of this generation.
    pub generation: u64,
    /// No phase of that intent that comes later touches pods.
    pub is_complete: bool,
    /// The resourceVersion of the object that the deployment is about, afterwards; empty = not known.
    pub left_as: String,
    /// By namespace the resourceVersion of a pod; a view that is as new shows all of it.
    pub versions: BTreeMap<String, u64>,
}

/// By target.
#[derive(Debug, Default)]
pub struct Divisions(Mutex<BTreeMap<String, Division>>);

impl Divisions {
    /// What is known of a target, by its key.
    pub fn get(&self, target: &str) -> Option<Division> {
        self.lock().get(target).cloned()
    }

    /// What is known from now on.
    pub fn put(&self, target: String, division: Division) {
        let mut known = self.lock();
        if known.len() >= MOST && !known.contains_key(&target) {
            known.pop_first();
        }
        known.insert(target, division);
    }

    /// Nothing is known while pods are being changed: the answer to a write can be lost.
    pub fn forget(&self, target: &str) {
        self.lock().remove(target);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Division>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! When a proxy may be asked for its configuration without doing harm.
//!
//! `/debug/config_dump` is no mere reading. What it generates for a proxy, istiod keeps, and gives to every proxy that is
//! alike: routes, clusters and endpoints, until one of the objects in them changes again. A dump is generated from the
//! state that its proxy was last brought up to, but is kept as if it were of this moment. So one that falls between the
//! moment when a new state drops what was kept, and the moment when the proxy is brought up to that state, keeps
//! something old as new: the push that follows sends *that*, acknowledged and in sync, and the proxy goes on with the
//! routes from before the write, for minutes or for ever. Read in istiod's source (1.32: `getConfigDumpByResourceType`
//! and `lruCache.Add`) and seen: of 116 promotions that were asked for every few milliseconds, one stayed at the routes
//! of the step before, its last push `cached:1/1`, a few milliseconds after the state was made.
//!
//! So a proxy is not asked while the state with the write in it may be on its way to it:
//!
//! - Before any proxy was pushed a newer state than there was before the write, nobody is asked. `/debug/syncz` tells,
//!   which generates nothing, and is looked at before each write. (Where another gateway wrote, the first look after it
//!   counts as before.)
//! - Then whoever was pushed that state is asked. Of the others, whom it may not concern, `/debug/sidecarz` tells whether
//!   they were brought up to it; it generates nothing either.
//! - If nothing of this happens for [`QUIET`], the push either was before that or will not be, and who was not pushed
//!   anything meanwhile is asked all the same.
//!
//! What was read holds until the proxy is pushed something else, so that each push costs one dump, however often is
//! looked. What says that the write is not there yet is read again after [`QUIET`].
//!
//! Of listeners nothing is kept. An AuthorizationPolicy is in listeners alone: for it a proxy is asked at any time.
//!
//! **Remaining race:** a state that *others'* writes make can be on its way to a proxy when it is asked. It takes a dump
//! within the few milliseconds between the two, and there is one dump for each push, right after it, while istiod waits
//! for a tenth of a second before the next. It is the risk of every `istioctl proxy-status NAME`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    super::{Content, judge::QUIET},
    content::Seen,
    sync::{self, Version},
};

/// What is not looked at for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// The same of an object that is gone: it has no version, so that nothing tells this time from the time before.
const GONE_FORGOTTEN: Duration = Duration::from_secs(2);
/// Objects that are remembered at once, and as many writes.
const REMEMBERED: usize = 1024;

/// What a proxy was found to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// `None` if the object does not concern it.
    pub(super) seen: Option<Seen<'static>>,
    /// The state that this was generated from, or a newer one, if that can be told.
    pub(super) version: Option<Version>,
}

/// What is to be done about a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was asked, and pushed nothing since.
    Known(Reading),
    /// It may be asked.
    Now,
    /// It may be asked if it was brought up to this state.
    From(Version),
    /// It must not be asked yet.
    Later,
}

/// Which looks belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// An object as it stands, at one replica.
    pub(super) object: u64,
    /// What was written together with it, there.
    pub(super) write: u64,
    /// The object is gone.
    pub(super) is_gone: bool,
}

/// The looks so far for one object as it stands, at one replica.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The newest state that a proxy had before the write.
    before: Option<Version>,
    proxies: HashMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Of what it was sent.
    stamp: u64,
    since: Instant,
    reading: Option<(Reading, Instant)>,
}

impl Turns {
    /// What is to be done about each proxy. `is_harmless`: asking keeps nothing.
    pub(super) fn of_all(
        &mut self,
        names: BTreeSet<String>,
        syncz: &Value,
        is_harmless: bool,
        now: Instant,
    ) -> Vec<(String, Turn)> {
        self.proxies.retain(|name, _| names.contains(name));
        let newest = newest(syncz).filter(|newest| Some(newest) > self.before.as_ref());
        let turn = |name: String| {
            let stamp = sync::stamp(syncz, &name);
            let kept = self.proxies.remove(&name).filter(|kept| kept.stamp == stamp);
            let kept = kept.unwrap_or(Kept { stamp, since: now, reading: None });
            let has_rested = |since: Instant| now.saturating_duration_since(since) >= QUIET;
            let turn = match (&kept.reading, &newest) {
                (Some((reading, at)), _) if reading.is_final() || !has_rested(*at) => Turn::Known(reading.clone()),
                _ if is_harmless || has_rested(kept.since) => Turn::Now,
                (_, None) => Turn::Later,
                (_, newest) if sync::reached(syncz, &name) >= *newest => Turn::Now,
                (_, Some(newest)) => Turn::From(newest.clone()),
            };
            self.proxies.insert(name.clone(), kept);
            (name, turn)
        };
        names.into_iter().map(turn).collect()
    }

    /// Keeps what a proxy was found to have when it was asked, unless it was pushed something since its turn.
    pub(super) fn keep(&mut self, name: &str, syncz: &Value, reading: &Reading, now: Instant) {
        if let Some(kept) = self.proxies.get_mut(name).filter(|kept| kept.stamp == sync::stamp(syncz, name)) {
            kept.reading = Some((reading.clone(), now));
        }
    }
}

impl Reading {
    /// Another reading would say the same as long as the proxy is pushed nothing.
    fn is_final(&self) -> bool {
        let content = self.seen.as_ref().map(|seen| seen.content);
        !matches!(content, Some(Content::Older | Content::Unused))
    }
}

/// The newest state that a proxy was brought up to.
pub(super) fn newest(syncz: &Value) -> Option<Version> {
    sync::proxies(syncz).iter().filter_map(|name| sync::reached(syncz, name)).max()
}

/// The turns for every object that is looked at.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// The newest state before a write, or else when it was first looked at, whichever of its objects.
    before: Recent<Option<Version>>,
    turns: Recent<Turns>,
}

impl Memory {
    /// Does something with the turns for an object, which begin now if there are none.
    pub(super) fn with<T>(
        &self,
        subject: Subject,
        syncz: &Value,
        now: Instant,
        act: impl FnOnce(&mut Turns) -> T,
    ) -> T {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = if subject.is_gone { GONE_FORGOTTEN } else { FORGOTTEN };
        let before = remembered.before.get(subject.write, lasts, now, || newest(syncz)).clone();
        let turns = remembered.turns.get(subject.object, lasts, now, Turns::default);
        turns.before = before;
        act(turns)
    }

    /// Remembers the newest state before a write that has just been made. One that changed nothing leaves the objects with
    /// the versions that they had, so it is no other one. `is_gone`: none of them has a version, so it may be another one.
    pub(super) fn wrote(&self, write: u64, is_gone: bool, before: Option<Version>, now: Instant) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = remembered.before.get(write, FORGOTTEN, now, || before.clone());
        if is_gone {
            *known = before;
        }
    }
}

/// What was used lately, by a number.
#[derive(Debug)]
struct Recent<T>(HashMap<u64, (T, Instant, Duration)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Recent<T> {
    /// What is there, if it was used within a time, or something new.
    fn get(&mut self, key: u64, lasts: Duration, now: Instant, new: impl FnOnce() -> T) -> &mut T {
        self.0.retain(|_, (_, used, lasts)| now.saturating_duration_since(*used) < *lasts);
        if !self.0.contains_key(&key) && self.0.len() >= REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, (_, used, _))| *used).map(|(key, _)| *key);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        let (value, used, _) = self.0.entry(key).or_insert_with(|| (new(), now, lasts));
        *used = now;
        value
    }
}

#[cfg(test)]
mod tests;

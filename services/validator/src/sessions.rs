//! Sets of objects that are kept warm between calls, so that a change is judged in milliseconds.
//!
//! A set is only a cache: it is named by the digest of what was sent, and whoever gets NOT_FOUND sends it again. It belongs to
//! the caller who sent it. The number of sets is bounded; the one that was not used for longest goes first.

use std::sync::{Arc, Mutex};

use meshward_model::Digest;
use serde_json::json;

use crate::app::Warm;

/// A set that is used by one call at a time.
pub type Shared = Arc<Mutex<Warm>>;

/// The kept sets, the one used last at the end.
#[derive(Debug)]
pub struct Sessions {
    kept: Mutex<Vec<(Name, Session)>>,
    most: usize,
}

/// A kept set.
#[derive(Debug, Clone)]
pub struct Session {
    /// The objects, judged.
    pub warm: Shared,
    /// The cluster that they are meant for; empty = none.
    pub cluster: String,
}

/// What a set was made of.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'s> {
    /// The texts.
    pub texts: &'s [String],
    /// They hold every object of the cluster.
    pub complete: bool,
    /// The cluster that they are meant for; empty = none.
    pub cluster: &'s str,
}

/// Whose set, and its digest.
type Name = (String, String);

impl Sessions {
    /// At most so many sets.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    /// Keeps a set; returns its name.
    pub fn keep(&self, owner: &str, sent: Sent<'_>, mut warm: Warm) -> String {
        warm.ready();
        let Sent { texts, complete, cluster } = sent;
        let digest = Digest::of(&json!([texts, complete, cluster])).to_string();
        let name = (owner.to_owned(), digest.clone());
        let mut kept = self.kept.lock().expect("no holder panics");
        kept.retain(|(other, _)| *other != name);
        kept.push((name, Session { warm: Arc::new(Mutex::new(warm)), cluster: cluster.to_owned() }));
        let over = kept.len().saturating_sub(self.most);
        kept.drain(..over);
        digest
    }

    /// The set of that name, if its owner asks and it is still there.
    #[must_use]
    pub fn get(&self, owner: &str, digest: &str) -> Option<Session> {
        let mut kept = self.kept.lock().expect("no holder panics");
        let at = kept.iter().position(|((of, name), _)| of == owner && name == digest)?;
        let found = kept.remove(at);
        let session = found.1.clone();
        kept.push(found);
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_belong_to_their_sender_and_the_least_used_goes() {
        let sessions = Sessions::new(2);
        let of = |owner: &str, text: &str, complete, cluster| {
            let texts = [text.to_owned()];
            sessions.keep(owner, Sent { texts: &texts, complete, cluster }, Warm::new(complete))
        };
        let keep = |owner: &str, text: &str| of(owner, text, true, "");
        let (a, b) = (keep("vera", "a"), keep("vera", "b"));
        assert!(sessions.get("vera", &a).is_some());
        assert!(sessions.get("otto", &a).is_none(), "another caller");
        let c = keep("vera", "c");
        assert!(sessions.get("vera", &b).is_none(), "b was used before a");
        assert!(sessions.get("vera", &a).is_some() && sessions.get("vera", &c).is_some());
        assert_eq!(keep("vera", "c"), c);
        assert_ne!(of("vera", "c", false, ""), c);
        let west = of("vera", "c", true, "west");
        assert_ne!(west, c);
        assert_eq!(sessions.get("vera", &west).map(|session| session.cluster), Some("west".to_owned()));
    }
}

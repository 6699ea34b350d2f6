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
    kept: Mutex<Vec<(Name, Shared)>>,
    most: usize,
}

/// Whose set, and its digest.
type Name = (String, String);

impl Sessions {
    /// At most so many sets.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    /// Keeps a set that was made of `texts`; returns its name.
    pub fn keep<'t>(
        &self,
        owner: &str,
        texts: impl IntoIterator<Item = &'t str>,
        complete: bool,
        warm: Warm,
    ) -> String {
        let texts: Vec<&str> = texts.into_iter().collect();
        let digest = Digest::of(&json!([texts, complete])).to_string();
        let name = (owner.to_owned(), digest.clone());
        let mut kept = self.kept.lock().expect("no holder panics");
        kept.retain(|(other, _)| *other != name);
        kept.push((name, Arc::new(Mutex::new(warm))));
        let over = kept.len().saturating_sub(self.most);
        kept.drain(..over);
        digest
    }

    /// The set of that name, if its owner asks and it is still there.
    #[must_use]
    pub fn get(&self, owner: &str, digest: &str) -> Option<Shared> {
        let mut kept = self.kept.lock().expect("no holder panics");
        let at = kept.iter().position(|((of, name), _)| of == owner && name == digest)?;
        let found = kept.remove(at);
        let warm = Arc::clone(&found.1);
        kept.push(found);
        Some(warm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_belong_to_their_sender_and_the_least_used_goes() {
        let sessions = Sessions::new(2);
        let keep = |owner: &str, text: &str| sessions.keep(owner, [text], true, Warm::new(true));
        let (a, b) = (keep("vera", "a"), keep("vera", "b"));
        assert!(sessions.get("vera", &a).is_some());
        assert!(sessions.get("otto", &a).is_none(), "another caller");
        let c = keep("vera", "c");
        assert!(sessions.get("vera", &b).is_none(), "b was used before a");
        assert!(sessions.get("vera", &a).is_some() && sessions.get("vera", &c).is_some());
        assert_eq!(keep("vera", "c"), c);
        assert_ne!(sessions.keep("vera", ["c"], false, Warm::new(false)), c);
    }
}

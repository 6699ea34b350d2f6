//! Reading: one, many, the trail.

use meshward_chassis::auth::{Identity, Role};

use super::{Answer, App, check, has_role, scope, sees};
use crate::{
    audit::{Head, Sealed},
    error::Error,
    policy::{Effective, Policy},
    store::{Page, Scope},
};

/// Events that are verified at once.
const VERIFY_BATCH: u32 = 500;

/// Whether the trail is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// Events whose seal was computed again.
    pub checked: i64,
    /// First sequence at which it breaks.
    pub broken_at: Option<i64>,
}

impl App {
    /// A policy with a version (0 = the newest).
    ///
    /// # Errors
    /// If there is none that the caller may see.
    pub async fn get(&self, who: &Identity, id: &str, version: i64) -> Result<Answer, Error> {
        let (policy, version) = self.find(who, Role::Viewer, id, version).await?;
        Ok(self.answer(policy, version))
    }

    /// A version that must be named by its number.
    ///
    /// # Errors
    /// If there is none that the caller may see.
    pub async fn get_version(&self, who: &Identity, id: &str, version: i64) -> Result<Answer, Error> {
        check::version_said(version)?;
        self.get(who, id, version).await
    }

    /// Policies by id, after one; of one namespace, or of all that the caller may see.
    ///
    /// # Errors
    /// If the caller may not see the namespace.
    pub async fn list(&self, who: &Identity, namespace: &str, after: &str, limit: u32) -> Result<Page<Policy>, Error> {
        let scope = match namespace {
            "" => scope(who)?,
            one => {
                who.require(Role::Viewer, one)?;
                Scope::Only([one.to_owned()].into())
            }
        };
        Ok(self.store.policies(&scope, after, limit).await?)
    }

    /// Of each policy of a cluster that the caller may see, what is in force or may soon be; by policy and number, after
    /// one of these.
    ///
    /// # Errors
    /// If the caller may see nothing.
    pub async fn effective(
        &self,
        who: &Identity,
        cluster: &str,
        after: (&str, i64),
        limit: u32,
    ) -> Result<Page<Effective>, Error> {
        Ok(self.store.effective(&scope(who)?, cluster, after, limit).await?)
    }

    /// Versions of a policy, newest first, below a number.
    ///
    /// # Errors
    /// If there is no such policy that the caller may see.
    pub async fn versions(&self, who: &Identity, id: &str, below: i64, limit: u32) -> Result<Page<Answer>, Error> {
        let (policy, _) = self.find(who, Role::Viewer, id, 0).await?;
        let Page { items, more } = self.store.versions(id, below, limit).await?;
        Ok(Page { items: items.into_iter().map(|version| self.answer(policy.clone(), version)).collect(), more })
    }

    /// Audit events by sequence, after one. Of one policy, which may be deleted; or of all, for admins of all
    /// namespaces.
    ///
    /// # Errors
    /// If the caller may not read them.
    pub async fn events(&self, who: &Identity, policy_id: &str, after: i64, limit: u32) -> Result<Page<Sealed>, Error> {
        if policy_id.is_empty() {
            who.require(Role::Admin, "*")?;
        } else {
            self.may_follow(who, policy_id).await?;
        }
        Ok(self.store.events(&Scope::All, policy_id, after, limit).await?)
    }

    /// What a watcher may see: the scope to ask the store with.
    ///
    /// # Errors
    /// If it is nothing, or there is no such policy that the caller may see.
    pub async fn watch_scope(&self, who: &Identity, policy_id: &str) -> Result<Scope, Error> {
        if !policy_id.is_empty() {
            self.may_follow(who, policy_id).await?;
        }
        scope(who)
    }

    /// The next events for a watcher.
    ///
    /// # Errors
    /// As the store says.
    pub async fn next_events(
        &self,
        scope: &Scope,
        policy_id: &str,
        after: i64,
        limit: u32,
    ) -> Result<Page<Sealed>, Error> {
        Ok(self.store.events(scope, policy_id, after, limit).await?)
    }

    /// Walks the whole trail.
    ///
    /// # Errors
    /// If the caller is no admin of all namespaces.
    pub async fn verify(&self, who: &Identity) -> Result<Audit, Error> {
        who.require(Role::Admin, "*")?;
        let mut head = Head::default();
        loop {
            let page = self.store.events(&Scope::All, "", head.sequence, VERIFY_BATCH).await?;
            let checked = head.sequence;
            head = match head.follow(&page.items) {
                Ok(head) => head,
                Err(broken_at) => return Ok(Audit { checked: broken_at - 1, broken_at: Some(broken_at) }),
            };
            if !page.more || head.sequence == checked {
                return Ok(Audit { checked: head.sequence, broken_at: None });
            }
        }
    }

    /// Whether the caller may read the trail of a policy. The trail itself knows the namespace, also of a deleted one.
    async fn may_follow(&self, who: &Identity, policy_id: &str) -> Result<(), Error> {
        check::id(policy_id)?;
        has_role(who, Role::Viewer)?;
        let first = self.store.events(&Scope::All, policy_id, 0, 1).await?;
        match first.items.first() {
            Some(event) if sees(who, &event.event.namespace) => Ok(()),
            _ => Err(Error::NoPolicy(policy_id.to_owned())),
        }
    }
}

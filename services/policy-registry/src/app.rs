//! The use cases: who may do what, in which order it is checked, and what is written together.
//!
//! Each mutation goes the same way (`app/change.rs`): first answer of a repeated request, read,
//! role, etag, a pure decision, one commit. Reading rights come first everywhere: a policy in a namespace that the
//! caller may not see is answered exactly as one that does not exist (NOT_FOUND), so nobody learns of it by asking. In
//! a namespace that the caller may see, a missing role is PERMISSION_DENIED.

mod change;
mod check;
mod edit;
mod outcome;
mod read;
mod review;

use std::sync::Arc;

use meshward_chassis::{
    auth::{Identity, Role},
    clock::Clock,
    ids::Ids,
    problem::Problem,
};
use meshward_model::Finding;
use meshward_proto::types::v1::ErrorReason;
use meshward_store::Repeat;
use serde::{Deserialize, Serialize};

use crate::{
    approval::Rules,
    error::Error,
    metrics::Metrics,
    news::News,
    policy::{Policy, Version},
    ports::{Bearer, Validator},
    store::{Scope, Store},
};

pub use edit::{NewPolicy, NewVersion};
pub use outcome::Report as OutcomeReport;
pub use read::Audit;

/// The registry.
#[derive(Clone)]
pub struct App {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Who looks at texts.
    pub validator: Arc<dyn Validator>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
    /// What an approval needs to count.
    pub rules: Rules,
    /// Told after each commit.
    pub news: News,
    /// Product metrics.
    pub metrics: Metrics,
}

/// Who calls and how.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller.
    pub who: Identity,
    /// The caller's token, for the validator.
    pub bearer: Bearer,
    /// The request under its id.
    pub repeat: Repeat,
    /// Run every check, store nothing.
    pub validate_only: bool,
}

/// Which version of which policy a mutation is about, and what the caller believes it to be.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The policy.
    pub id: &'a str,
    /// The version; 0 = the newest.
    pub version: i64,
    /// Of the policy as the caller read it; empty = no check.
    pub etag: &'a str,
}

/// A policy, one of its versions, and what is missing before that may be deployed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The policy.
    pub policy: Policy,
    /// The version.
    pub version: Version,
    /// A sentence each; empty = it may be deployed.
    pub obstacles: Vec<String>,
    /// Findings of this call, warnings included.
    pub findings: Vec<Finding>,
}

impl App {
    fn answer(&self, policy: Policy, version: Version) -> Answer {
        let obstacles = self.rules.obstacles(&version, self.clock.now());
        let findings = version.findings.clone();
        Answer { policy, version, obstacles, findings }
    }

    /// A policy that the caller may see, with a version; and the caller has the role there.
    async fn find(&self, who: &Identity, role: Role, id: &str, version: i64) -> Result<(Policy, Version), Error> {
        check::id(id)?;
        check::version(version)?;
        let found = match self.store.find(id, version).await? {
            Some(found) => found,
            None if version == 0 => return Err(Error::NoPolicy(id.to_owned())),
            None => {
                self.find_newest(who, role, id).await?;
                return Err(Error::NoVersion(version_name(id, version)));
            }
        };
        authorize(who, role, &found.0)?;
        Ok(found)
    }

    async fn find_newest(&self, who: &Identity, role: Role, id: &str) -> Result<Policy, Error> {
        let found = self.store.find(id, 0).await?;
        let (policy, _) = found.ok_or_else(|| Error::NoPolicy(id.to_owned()))?;
        authorize(who, role, &policy)?;
        Ok(policy)
    }
}

fn authorize(who: &Identity, role: Role, policy: &Policy) -> Result<(), Error> {
    if !sees(who, &policy.namespace) {
        return Err(Error::NoPolicy(policy.id.clone()));
    }
    Ok(who.require(role, &policy.namespace)?)
}

fn sees(who: &Identity, namespace: &str) -> bool {
    who.namespaces.contains("*") || who.namespaces.contains(namespace)
}

/// The namespaces that a caller with a role may read.
fn scope(who: &Identity) -> Result<Scope, Error> {
    has_role(who, Role::Viewer)?;
    Ok(if who.namespaces.contains("*") { Scope::All } else { Scope::Only(who.namespaces.clone()) })
}

/// A role in whatever namespace: for checks before the namespace is known.
fn has_role(who: &Identity, role: Role) -> Result<(), Error> {
    if who.roles.iter().any(|held| held.includes(role)) {
        return Ok(());
    }
    let message = format!("{} lacks the role {:?}", who.subject, role.name());
    Err(Problem::permission_denied(ErrorReason::RoleMissing, message).metadata("role", role.name()).into())
}

/// A version's name in messages: "policies/ID/versions/2".
fn version_name(id: &str, number: i64) -> String {
    format!("policies/{id}/versions/{number}")
}

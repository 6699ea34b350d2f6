//! The one way of a mutation.

use jiff::Timestamp;
use meshward_chassis::auth::Role;
use meshward_store::{Earlier, StoreError, time};

use super::{Answer, App, At, Call};
use crate::{
    audit::{Action, Event},
    error::Error,
    policy::{DeploymentRecord, Policy, Version},
    store::{Change, Write},
};

/// How often a decision is made again because somebody else wrote in between.
const ATTEMPTS: usize = 5;

/// What a decision says.
pub(super) enum Decision {
    /// It is so already.
    Nothing,
    /// This shall become of it.
    Change(Box<Decided>),
}

/// What shall become of a policy and its version. Revision and times are set when it is committed.
pub(super) struct Decided {
    pub(super) policy: Policy,
    pub(super) version: Version,
    /// Another version that gives up its place.
    pub(super) displaced: Option<Version>,
    pub(super) record: Option<DeploymentRecord>,
    pub(super) events: Vec<Event>,
}

impl Decided {
    /// A changed version with one event about it.
    pub(super) fn of(policy: Policy, version: Version, event: Event) -> Decision {
        let decided = Self { policy, version, displaced: None, record: None, events: vec![event] };
        Decision::Change(Box::new(decided))
    }
}

/// An event about a version.
pub(super) fn event(
    call: &Call,
    policy: &Policy,
    version: &Version,
    action: Action,
    comment: &str,
    now: Timestamp,
) -> Event {
    Event {
        policy_id: policy.id.clone(),
        namespace: policy.namespace.clone(),
        version: version.number,
        action: action.name().to_owned(),
        actor: call.who.subject.clone(),
        digest: version.digest.to_string(),
        comment: comment.to_owned(),
        time: now,
    }
}

impl App {
    /// Time as it will be read back.
    pub(super) fn now(&self) -> Timestamp {
        time::stored(self.clock.now())
    }

    /// The answer that this request got before, if it was sent before.
    pub(super) async fn earlier(&self, call: &Call) -> Result<Option<Answer>, Error> {
        if call.validate_only || !call.repeat.has_id() {
            return Ok(None);
        }
        first_answer(self.store.recall(&call.repeat, self.now()).await?)
    }

    /// Read, check role and etag, decide, commit; again if somebody else wrote in between. Decisions must be pure: they
    /// may be made several times.
    pub(super) async fn change(
        &self,
        call: &Call,
        role: Role,
        at: At<'_>,
        decide: impl Fn(&Policy, &Version, Timestamp) -> Result<Decision, Error> + Send + Sync,
    ) -> Result<Answer, Error> {
        for _ in 0..ATTEMPTS {
            let (policy, version) = self.find(&call.who, role, at.id, at.version).await?;
            check_etag(&policy, at.etag)?;
            let now = self.now();
            let decided = match decide(&policy, &version, now)? {
                Decision::Nothing => return Ok(self.answer(policy, version)),
                Decision::Change(decided) => *decided,
            };
            match self.commit(call, decided, now).await {
                Err(Error::Store(StoreError::Conflict)) => {}
                done => return done,
            }
        }
        Err(Error::Store(StoreError::Conflict))
    }

    async fn commit(&self, call: &Call, decided: Decided, now: Timestamp) -> Result<Answer, Error> {
        let Decided { policy, mut version, displaced, record, events } = decided;
        version.updated = now;
        let answer = self.answer(policy.touched(now), version.clone());
        let versions = displaced.into_iter().map(|displaced| Version { updated: now, ..displaced });
        let versions = versions.chain([version]).collect();
        let change = Change { policy: answer.policy.clone(), write: Write::Update, versions, record, events };
        self.store_change(call, &change, answer, now).await
    }

    /// Stores a change with its answer, unless it is only to be checked or was done in the meantime.
    pub(super) async fn store_change(
        &self,
        call: &Call,
        change: &Change,
        answer: Answer,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        if call.validate_only {
            return Ok(answer);
        }
        let bytes = serde_json::to_vec(&answer).map_err(|error| StoreError::Corrupt(error.into()))?;
        let earlier = self.store.commit(change, &call.repeat, &bytes, now).await?;
        if let Some(first) = first_answer(earlier)? {
            return Ok(first);
        }
        self.news.publish();
        self.metrics.count(&change.events);
        Ok(answer)
    }
}

fn first_answer(earlier: Earlier) -> Result<Option<Answer>, Error> {
    match earlier {
        Earlier::Nothing => Ok(None),
        Earlier::SameRequest(bytes) => {
            let answer = serde_json::from_slice(&bytes).map_err(|error| StoreError::Corrupt(error.into()))?;
            Ok(Some(answer))
        }
        Earlier::OtherRequest => Err(Error::RequestIdReused),
    }
}

pub(super) fn check_etag(policy: &Policy, etag: &str) -> Result<(), Error> {
    if etag.is_empty() || etag == policy.etag() { Ok(()) } else { Err(Error::EtagMismatch) }
}

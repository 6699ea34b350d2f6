//! Creating, updating and deleting.

use jiff::Timestamp;
use meshward_chassis::auth::Role;
use meshward_model::{Finding, Target};
use meshward_store::StoreError;

use super::{
    Answer, App, At, Call,
    change::{Decided, Decision, check_etag, event},
    check, has_role,
};
use crate::{
    audit::Action,
    error::Error,
    lifecycle::VersionState,
    policy::{Policy, Version, default_name, digest_of_deletion, errors, is_dns_label},
    ports::{CheckedObject, Report, Text},
    store::{Change, Write},
};

/// What a policy is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPolicy {
    /// Its name; empty = from kind and object.
    pub name: String,
    /// For people.
    pub description: String,
    /// Cluster of the target; empty = the default one.
    pub cluster: String,
    /// The first version.
    pub first: NewVersion,
}

/// What a version is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewVersion {
    /// One document with one object; empty with `deletion`.
    pub yaml: String,
    /// It is that the object is gone.
    pub deletion: bool,
    /// Why it is made.
    pub change_note: String,
}

impl App {
    /// Stores a policy with its first version.
    ///
    /// # Errors
    /// If the caller is no developer in the object's namespace, a field or the text is wrong, the name or the target is
    /// taken, or the validator does not answer.
    pub async fn create(&self, call: &Call, new: &NewPolicy) -> Result<Answer, Error> {
        has_role(&call.who, Role::Developer)?;
        let fields = check::Fields::default().name(&new.name).cluster(&new.cluster);
        fields.text("description", &new.description).text("change_note", &new.first.change_note).done()?;
        check::yaml(&new.first.yaml)?;
        if let Some(answer) = self.earlier(call).await? {
            return Ok(answer);
        }
        let (object, findings) = self.validate(call, &new.first.yaml, &new.cluster).await?;
        call.who.require(Role::Developer, &object.target.namespace)?;
        let now = self.now();
        let policy = self.new_policy(call, new, &object.target, now)?;
        let mut version = draft(call, &policy, &new.first, object, findings, now);
        version.number = 1;
        self.store_new(call, policy, version, now).await
    }

    fn new_policy(&self, call: &Call, new: &NewPolicy, target: &Target, now: Timestamp) -> Result<Policy, Error> {
        let name = if new.name.is_empty() { default_name(target) } else { new.name.clone() };
        if !is_dns_label(&name) {
            return Err(Error::field("name", format!("{name:?}, made of kind and name, is no DNS label; give one")));
        }
        Ok(Policy {
            // What is only checked gets no id.
            id: if call.validate_only { String::new() } else { self.ids.uuid() },
            namespace: target.namespace.clone(),
            name,
            description: new.description.clone(),
            target: target.clone(),
            latest_version: 1,
            active_version: 0,
            revision: 1,
            creator: call.who.subject.clone(),
            created: now,
            updated: now,
        })
    }

    async fn store_new(&self, call: &Call, policy: Policy, version: Version, now: Timestamp) -> Result<Answer, Error> {
        let created = event(call, &policy, &version, Action::PolicyCreated, &policy.description, now);
        let events = vec![
            crate::audit::Event { version: 0, digest: String::new(), ..created },
            event(call, &policy, &version, Action::VersionCreated, &version.change_note, now),
        ];
        let change = Change {
            policy: policy.clone(),
            write: Write::Create,
            versions: vec![version.clone()],
            record: None,
            events,
        };
        if call.validate_only {
            self.check_free(&policy).await?;
        }
        let done = self.store_change(call, &change, self.answer(policy.clone(), version), now).await;
        done.map_err(|error| taken(error, &policy))
    }

    /// What the unique keys would say.
    async fn check_free(&self, policy: &Policy) -> Result<(), Error> {
        match self.store.holder(policy).await? {
            Some(held) if held.target.key() == policy.target.key() => {
                Err(Error::TargetTaken(policy.target.to_string()))
            }
            Some(_) => Err(name_taken(policy)),
            None => Ok(()),
        }
    }

    /// Makes a new version, unless the text has the newest one's digest.
    ///
    /// # Errors
    /// As [`App::create`], and if the text is of another object, or the etag is not the current one.
    pub async fn update(&self, call: &Call, at: At<'_>, new: &NewVersion) -> Result<Answer, Error> {
        check::Fields::default().text("change_note", &new.change_note).done()?;
        check::content(new)?;
        if let Some(answer) = self.earlier(call).await? {
            return Ok(answer);
        }
        let (policy, _) = self.find(&call.who, Role::Developer, at.id, 0).await?;
        check_etag(&policy, at.etag)?;
        let (object, findings) = if new.deletion {
            (gone(&policy.target), Vec::new())
        } else {
            self.validate(call, &new.yaml, &policy.target.cluster).await?
        };
        same_object(&policy.target, &object.target)?;
        let decide = |policy: &Policy, newest: &Version, now: Timestamp| {
            if newest.digest == object.digest {
                return Ok(Decision::Nothing);
            }
            let mut version = draft(call, policy, new, object.clone(), findings.clone(), now);
            version.number = newest.number + 1;
            let target = object.target.clone();
            let policy = Policy { latest_version: version.number, target, ..policy.clone() };
            let created = event(call, &policy, &version, Action::VersionCreated, &version.change_note, now);
            Ok(Decided::of(policy, version, created))
        };
        self.change(call, Role::Developer, At { version: 0, ..at }, decide).await
    }

    /// Deletes a policy of which nothing is live, with all its versions. The audit trail stays.
    ///
    /// # Errors
    /// If the caller is no admin, a version is active, or the etag is not the current one.
    pub async fn delete(&self, call: &Call, at: At<'_>) -> Result<(), Error> {
        let (policy, newest) = self.find(&call.who, Role::Admin, at.id, 0).await?;
        check_etag(&policy, at.etag)?;
        // A newer active version would be another revision, on which the commit would not come about.
        if policy.active_version != 0
            && !self.find(&call.who, Role::Admin, at.id, policy.active_version).await?.1.is_deletion()
        {
            return Err(Error::StillActive { id: policy.id, active: policy.active_version });
        }
        let now = self.now();
        let deleted = event(call, &policy, &newest, Action::PolicyDeleted, &policy.name, now);
        let events = vec![crate::audit::Event { version: 0, digest: String::new(), ..deleted }];
        let change = Change { policy: policy.clone(), write: Write::Delete, versions: vec![], record: None, events };
        self.store_change(call, &change, self.answer(policy, newest), now).await?;
        Ok(())
    }

    /// The one object of a text, and what there is to say about it.
    async fn validate(&self, call: &Call, yaml: &str, cluster: &str) -> Result<(CheckedObject, Vec<Finding>), Error> {
        let text = Text { yaml: yaml.to_owned(), cluster: cluster.to_owned() };
        let Report { findings, mut objects } = self.validator.validate(&text, &call.bearer).await?;
        if errors(&findings).next().is_some() {
            return Err(Error::TextInvalid(findings));
        }
        match (objects.pop(), objects.len()) {
            (Some(mut object), 0) => {
                object.target.cluster = text.cluster;
                check::object(&object)?;
                Ok((object, findings))
            }
            (None, _) => Err(Error::field("yaml", "holds no object; a policy is one object")),
            (Some(_), more) => Err(Error::field("yaml", format!("holds {} objects; a policy is one object", more + 1))),
        }
    }
}

/// A first state of a version; its number is still to be given.
fn draft(
    call: &Call,
    policy: &Policy,
    new: &NewVersion,
    object: CheckedObject,
    findings: Vec<Finding>,
    now: Timestamp,
) -> Version {
    Version {
        policy_id: policy.id.clone(),
        number: 0,
        digest: object.digest,
        yaml: new.yaml.clone(),
        canonical_json: object.canonical_json,
        state: VersionState::Draft,
        author: call.who.subject.clone(),
        change_note: new.change_note.clone(),
        approvals: Vec::new(),
        findings,
        state_reason: String::new(),
        created: now,
        updated: now,
    }
}

/// What a deletion is made of: no content. What it does is told when it is submitted, among what is live then.
fn gone(target: &Target) -> CheckedObject {
    CheckedObject { target: target.clone(), canonical_json: String::new(), digest: digest_of_deletion(target) }
}

fn same_object(kept: &Target, sent: &Target) -> Result<(), Error> {
    if kept.key() == sent.key() {
        return Ok(());
    }
    let what = format!("is {sent} of {}; this policy is about {kept} of {}", sent.group(), kept.group());
    Err(Error::field("yaml", format!("{what}: make a policy of its own for another object")))
}

fn taken(error: Error, policy: &Policy) -> Error {
    match error {
        Error::Store(store) if store.is_taken("policies.target_key") => Error::TargetTaken(policy.target.to_string()),
        Error::Store(StoreError::AlreadyExists { .. }) => name_taken(policy),
        other => other,
    }
}

fn name_taken(policy: &Policy) -> Error {
    Error::NameTaken(format!("{}/{}", policy.namespace, policy.name))
}

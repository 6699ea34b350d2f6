//! What the store promises, on a real file.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use meshward_chassis::auth::{Identity, Role};
use meshward_chassis::ids::{Ids as _, SequenceIds};
use meshward_model::{Baseline, Digest, Target, Weight};
use meshward_rollout_orchestrator::{
    app::{App, Create},
    deployment::{Deployment, Event, State},
    store::{Created, Lease, MIGRATIONS, Repeat, SqlStore, Store, StoreError},
    strategy::Strategy,
};
use meshward_store::Database;
use serde_json::json;

use crate::world::{World, plan};

struct File {
    store: SqlStore,
    database: Database,
    dir: tempfile::TempDir,
}

impl File {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a directory")).await
    }

    async fn open(dir: tempfile::TempDir) -> Self {
        let url = format!("sqlite:{}", dir.path().join("store.db").display());
        let database = Database::open(&url, MIGRATIONS).await.expect("a database");
        Self { store: SqlStore::new(database.clone()), database, dir }
    }

    async fn reopen(self) -> Self {
        self.database.close().await;
        Self::open(self.dir).await
    }

    async fn claim(&self, owner: &str, at: Timestamp) -> Option<String> {
        self.store.claim(&lease(owner), at).await.expect("an answer").map(|deployment| deployment.id)
    }

    async fn create(&self, deployment: &Deployment) -> Created {
        self.store.create(deployment, &[event("deployment.created")], &repeat("")).await.expect("an answer")
    }
}

pub fn repeat(id: &str) -> Repeat {
    Repeat::new(id, "alice", "CreateDeployment", b"the request")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn after(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).expect("a time")
}

fn event(kind: &str) -> Event {
    Event {
        sequence: 0,
        time: now(),
        kind: kind.into(),
        message: "it happened".into(),
        state: "PENDING".into(),
        step: 0,
        weight: Weight::ZERO,
        actor: "alice".into(),
    }
}

pub fn deployment(number: usize) -> Deployment {
    let canary = json!({"spec": {"v": 2}});
    let name = format!("object-{number}");
    Deployment {
        id: format!("d{number:03}"),
        policy_id: "p1".into(),
        version: 2,
        digest: Digest::of(&canary),
        target: Target::new("", "networking.istio.io/v1", "VirtualService", "shop", &name).expect("a target"),
        canary,
        baseline: Baseline::of(None),
        strategy: Strategy::default(),
        plan: plan(),
        state: State::Pending,
        generation: 0,
        objects: vec![],
        steps: vec![],
        analysis: None,
        reason: String::new(),
        obstacle: String::new(),
        rollback_report: String::new(),
        quiet_since: None,
        traceparent: None,
        creator: "alice".into(),
        create_time: now(),
        update_time: now(),
        revision: 1,
    }
}

const TERM: Duration = Duration::from_secs(45);

fn lease(owner: &str) -> Lease<'_> {
    Lease { owner, term: TERM }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_workers_claim_each_deployment_once() {
    let file = File::new().await;
    for number in 0..50 {
        assert_eq!(file.create(&deployment(number)).await, Created::New);
    }
    let worker = |owner: &'static str| {
        let store = file.store.clone();
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let Some(deployment) = store.claim(&lease(owner), now()).await.expect("an answer") {
                claimed.push(deployment.id);
                tokio::task::yield_now().await;
            }
            claimed
        })
    };
    let workers = ["a", "b", "c", "d"].map(worker);
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("no panic"));
    }
    assert_eq!(all.len(), 50);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 50, "each once");
}

#[tokio::test]
async fn a_claim_ends_with_its_lease_or_its_owner_s_restart() {
    let file = File::new().await;
    file.create(&deployment(1)).await;
    file.create(&deployment(2)).await;
    let (one, two) = (file.claim("a", now()).await, file.claim("b", now()).await);
    assert!(one.is_some() && two.is_some() && one != two);
    assert_eq!(file.claim("c", after(44)).await, None, "both are held");
    assert_eq!(file.store.next_due().await.expect("an answer"), Some(after(45)));
    assert!(file.claim("c", after(45)).await.is_some(), "a lease expires");
    file.store.release_all("b").await.expect("released");
    let _ = file.claim("c", after(45)).await.expect("the other one");
    assert_eq!(file.claim("b", after(46)).await, None);
    file.store.release_all("somebody else").await.expect("released");
    assert_eq!(file.claim("b", after(46)).await, None, "only the owner gives claims back");
    file.store.release_all("c").await.expect("released");
    assert!(file.claim("a", after(46)).await.is_some() && file.claim("a", after(46)).await.is_some());
}

#[tokio::test]
async fn a_word_of_drift_outlives_the_tick_that_is_under_way() {
    let file = File::new().await;
    let read = deployment(1);
    file.create(&read).await;
    let committed = file.store.commit(&read, &[], Some(after(300))).await.expect("committed");
    assert_eq!(file.claim("a", after(299)).await, None, "not due yet");
    file.store.wake("d001", after(10)).await.expect("woken");
    assert_eq!(file.claim("a", after(10)).await.as_deref(), Some("d001"), "due at once");
    file.store.wake("d001", after(11)).await.expect("woken");
    assert_eq!(file.claim("b", after(11)).await, None, "it is worked on");
    let committed = file.store.commit(&committed, &[], Some(after(300))).await.expect("committed");
    assert_eq!(file.claim("a", after(12)).await.as_deref(), Some("d001"), "what that tick saw may be older");
    let committed = file.store.commit(&committed, &[], Some(after(300))).await.expect("committed");
    assert_eq!(file.claim("a", after(299)).await, None, "a word wakes once");
    let ended = Deployment { state: State::Promoted { at: now() }, ..committed };
    file.store.commit(&ended, &[], None).await.expect("committed");
    file.store.wake("d001", after(301)).await.expect("no error");
    assert_eq!(file.claim("a", after(302)).await, None, "what has ended stays so");
}

#[tokio::test]
async fn a_clock_that_goes_back_holds_neither_a_wake_up_nor_a_lease() {
    let file = File::new().await;
    let read = Deployment { update_time: after(1_000), ..deployment(1) };
    file.create(&read).await;
    file.store.commit(&read, &[], Some(after(1_005))).await.expect("committed");
    assert_eq!(file.claim("a", after(991)).await, None, "another replica's clock may be a little behind");
    assert_eq!(file.claim("a", after(500)).await.as_deref(), Some("d001"));
    assert_eq!(file.claim("b", after(501)).await, None, "the claim was made by the new time");
    assert_eq!(file.claim("b", after(546)).await.as_deref(), Some("d001"), "and ends by it");
    assert_eq!(file.claim("c", after(400)).await.as_deref(), Some("d001"), "a lease is no longer than it was meant");
}

#[tokio::test]
async fn only_the_first_of_two_commits_counts() {
    let file = File::new().await;
    let read = deployment(1);
    file.create(&read).await;
    let one = Deployment { reason: "one".into(), ..read.clone() };
    let two = Deployment { reason: "two".into(), ..read };
    let committed = file.store.commit(&one, &[event("one")], Some(after(9))).await.expect("committed");
    assert_eq!(committed.revision, 2);
    let conflict = file.store.commit(&two, &[event("two")], None).await;
    assert!(matches!(conflict, Err(StoreError::Conflict)), "{conflict:?}");
    let gone = Deployment { id: "nope".into(), ..two };
    assert!(matches!(file.store.commit(&gone, &[], None).await, Err(StoreError::Conflict)));
    assert_eq!(file.store.get("d001").await.expect("an answer"), Some(committed));
    let kinds: Vec<_> = file.store.events("d001", 0, 9).await.expect("events").into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["deployment.created", "one"], "events go with their commit");
    assert_eq!(file.claim("a", after(8)).await, None, "not due yet");
}

#[tokio::test]
async fn a_target_has_one_active_deployment() {
    let file = File::new().await;
    let first = deployment(1);
    let second = Deployment { id: "d002".into(), ..deployment(1) };
    assert_eq!(file.create(&first).await, Created::New);
    assert_eq!(file.create(&second).await, Created::TargetBusy("d001".into()));
    let row =
        "INSERT INTO deployments (id, policy_id, target_key, active, wake_ms, lease_owner, lease_ms, revision, body)
               SELECT 'd002', policy_id, target_key, 1, 0, '', 0, 1, body FROM deployments WHERE id = 'd001'";
    let mut tx = file.database.begin().await.expect("a transaction");
    let error = sqlx::query(row).execute(&mut *tx).await.map_err(StoreError::from).expect_err("the database says no");
    assert!(error.is_taken("deployments.target_key"), "{error:?}");
    drop(tx);
    let ended = Deployment { state: State::Promoted { at: now() }, ..first };
    file.store.commit(&ended, &[], None).await.expect("committed");
    assert_eq!(file.create(&second).await, Created::New);
    assert_eq!(file.store.claim(&lease("a"), now()).await.expect("an answer").map(|d| d.id), Some("d002".into()));
    assert_eq!(file.store.claim(&lease("a"), now()).await.expect("an answer"), None, "what has ended is not claimed");
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let file = File::new().await;
    let stored = file.store.create(&deployment(1), &[event("deployment.created")], &repeat("5c1a")).await;
    assert_eq!(stored.expect("an answer"), Created::New);
    let since = Timestamp::from_nanosecond(1_800_000_000_123_456_789).expect("a time");
    let exposing = Deployment {
        state: State::Exposing { step: 0, since },
        traceparent: Some("00-ab-cd-01".into()),
        ..deployment(1)
    };
    let committed = file.store.commit(&exposing, &[event("step.exposing")], Some(after(1))).await.expect("committed");
    file.store.claim(&lease("a"), after(2)).await.expect("an answer").expect("a claim");
    let file = file.reopen().await;
    assert_eq!(file.store.get("d001").await.expect("an answer"), Some(committed));
    let sequences: Vec<_> = file.store.events("d001", 0, 9).await.expect("events").iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, [1, 2]);
    assert_eq!(file.store.claim(&lease("b"), after(3)).await.expect("an answer"), None, "a lease survives too");
    let again = file.store.create(&deployment(1), &[], &repeat("5c1a")).await.expect("an answer");
    assert_eq!(again, Created::Repeated("d001".into()));
    let other = Repeat::new("5c1a", "alice", "CreateDeployment", b"another request");
    assert_eq!(file.store.create(&deployment(1), &[], &other).await.expect("an answer"), Created::RequestIdReused);
}

/// Twenty requests for one target at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_one_gets_the_target() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a directory");
    let ports = crate::support::ports(&world, &format!("sqlite:{}", dir.path().join("race.db").display())).await;
    let ids = SequenceIds::default();
    assert_ne!(ids.uuid(), ids.uuid());
    let app = App::new(ports.clone(), Arc::new(ids));
    let caller = Identity { subject: "alice".into(), roles: [Role::Developer].into(), namespaces: ["*".into()].into() };
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (app, caller) = (app.clone(), caller.clone());
            let create = Create {
                policy_id: "p1".into(),
                version: 0,
                strategy: Strategy::default(),
                validate_only: false,
                repeat: repeat(""),
            };
            tokio::spawn(async move { app.create(&caller, create).await.is_ok() })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.expect("no panic"));
    }
    assert_eq!(made, 1);
    assert_eq!(ports.store.list("", "", 50).await.expect("a list").len(), 1);
}

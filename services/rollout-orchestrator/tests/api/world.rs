//! The other four services as one small world in memory. The mesh behaves as the real gateway does where it matters: one object per
//! target with a version, marks of the last writer, fencing by generation, drift, and a baseline that is put back exactly.

mod mesh;
mod peers;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;
use meshward_chassis::clock::{Clock as _, ManualClock};
use meshward_model::{Digest, ExposureIntent, Finding, PropagationState, Target, Verdict};
use meshward_rollout_orchestrator::peers::{Outcome, PeerError, PolicyVersion, Question};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};

pub use mesh::Live;
pub use peers::plan;

/// Something that the orchestrator asks of a peer or of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Version,
    Record,
    DryRun,
    Plan,
    Apply,
    Restore,
    Verify,
    Analyze,
    Preflight,
    Claim,
    Commit,
}

impl Call {
    fn peer(self) -> &'static str {
        match self {
            Self::Version | Self::Record => "policy-registry",
            Self::DryRun => "validator",
            Self::Plan | Self::Apply | Self::Restore | Self::Verify => "mesh-gateway",
            Self::Analyze | Self::Preflight => "metrics-collector",
            Self::Claim | Self::Commit => "database",
        }
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It fails, and nothing was done.
    Lost,
    /// It was done, and the answer is lost.
    ReplyLost,
    /// The process dies before it is done.
    CrashBefore,
    /// The process dies after it was done.
    CrashAfter,
    /// The request is under way for so long that the rest of the world goes on meanwhile.
    StallBefore,
    /// The answer is under way for that long.
    StallAfter,
}

/// What the driver of a test is told when a fault needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Crash,
    Stall,
}

type Script<A, R> = Box<dyn FnMut(A) -> R + Send>;

pub struct State {
    /// The cluster's objects, by target.
    pub objects: BTreeMap<String, Live>,
    /// Counts the cluster's writes, as resourceVersion.
    pub clock_of_cluster: u64,
    /// The registry's newest versions, by policy.
    pub versions: BTreeMap<String, PolicyVersion>,
    pub findings: Vec<Finding>,
    /// What the judge's queries lack before the first step.
    pub unready: Vec<String>,
    /// The gateway's refusal of every plan, if it has one.
    pub unsupported: Option<tonic::Status>,
    /// Verdict for a question.
    pub judge: Script<Question, Verdict>,
    /// Proof for an intent that was written.
    pub proofs: Script<ExposureIntent, PropagationState>,
    pub faults: Script<Call, Fault>,
    /// How many phases everything takes; all but the last only make ready.
    pub phases: u32,
    /// Writes of the gateway.
    pub writes: u32,
    /// Every weight that went live: its time, basis points, and how many verdicts there had been.
    pub history: Vec<(Timestamp, u16, usize)>,
    /// What the registry was told, each deployment once.
    pub outcomes: Vec<(String, Outcome)>,
    /// Reasons that came with them.
    pub reasons: Vec<String>,
    /// Verdicts that left the judge, with the weight that was judged.
    pub verdicts: Vec<(u16, Verdict)>,
    interrupt: Option<Interrupt>,
    /// Words of drift, by key of the object; `None` = the gateway does not watch.
    pub drifts: Option<broadcast::Sender<String>>,
}

/// Everything outside the orchestrator. Clones share it.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    interrupts: Arc<Notify>,
    go_on: Arc<Notify>,
    pub clock: ManualClock,
}

impl World {
    /// All is well: healthy verdicts, live proofs, no faults.
    pub fn new() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            clock_of_cluster: 10,
            versions: BTreeMap::new(),
            findings: Vec::new(),
            unready: Vec::new(),
            unsupported: None,
            judge: Box::new(|_| Verdict::Healthy),
            proofs: Box::new(|_| PropagationState::Live),
            faults: Box::new(|_| Fault::None),
            phases: 1,
            writes: 0,
            history: Vec::new(),
            outcomes: Vec::new(),
            reasons: Vec::new(),
            verdicts: Vec::new(),
            interrupt: None,
            drifts: None,
        };
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).expect("a time"));
        let world =
            Self { state: Arc::new(Mutex::new(state)), interrupts: Arc::default(), go_on: Arc::default(), clock };
        world.add_policy("p1", "checkout", "shop");
        world
    }

    /// A policy with an approved version 2 for an object that stands in the cluster as version 1.
    pub fn add_policy(&self, policy: &str, name: &str, namespace: &str) {
        let target = Target::new("", "networking.istio.io/v1", "VirtualService", namespace, name).expect("a target");
        let object = json!({"metadata": {"name": name}, "spec": {"v": 2}});
        let mut state = self.state();
        state.clock_of_cluster += 1;
        let live = Live { version: state.clock_of_cluster, spec: json!({"v": 1}), marks: None };
        state.objects.insert(target.key(), live);
        let version = PolicyVersion {
            policy_id: policy.to_owned(),
            version: 2,
            digest: Digest::of(&object),
            target,
            yaml: "spec: {v: 2}".to_owned(),
            object,
            obstacles: Vec::new(),
        };
        state.versions.insert(policy.to_owned(), version);
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The spec of a policy's object, and whether it carries our marks.
    pub fn object(&self, policy: &str) -> (Value, bool) {
        let state = self.state();
        let live = &state.objects[&state.versions[policy].target.key()];
        (live.spec.clone(), live.marks.is_some())
    }

    /// Every call to that peer fails from now on.
    pub fn down(&self, peer: &'static str) {
        self.state().faults = Box::new(move |call| if call.peer() == peer { Fault::Lost } else { Fault::None });
    }

    pub fn all_up(&self) {
        self.state().faults = Box::new(|_| Fault::None);
    }

    pub fn judge_says(&self, verdict: Verdict) {
        self.state().judge = Box::new(move |_| verdict);
    }

    pub fn proof_is(&self, proof: PropagationState) {
        self.state().proofs = Box::new(move |_| proof);
    }

    /// Ends with the next fault that needs the driver.
    pub async fn interrupted(&self) -> Interrupt {
        loop {
            if let Some(interrupt) = self.state().interrupt.take() {
                return interrupt;
            }
            self.interrupts.notified().await;
        }
    }

    /// Lets a stalled call go on.
    pub fn go_on(&self) {
        self.go_on.notify_one();
    }

    /// One call to a peer: a fault, the work, a fault.
    pub async fn call<T>(&self, call: Call, work: impl FnOnce(&mut State, Timestamp) -> T) -> Result<T, PeerError> {
        let lost = |message: &str| PeerError::Unavailable { peer: call.peer(), message: message.to_owned() };
        let fault = self.throw(call);
        if self.befalls(fault, false).await {
            return Err(lost("no route to host"));
        }
        let answer = work(&mut self.state(), self.clock.now());
        if self.befalls(fault, true).await { Err(lost("connection reset")) } else { Ok(answer) }
    }

    /// What goes wrong with a call.
    pub fn throw(&self, call: Call) -> Fault {
        (self.state().faults)(call)
    }

    /// Lets a fault happen before or after the work of a call; true = the caller learns that it failed.
    pub async fn befalls(&self, fault: Fault, after: bool) -> bool {
        match (fault, after) {
            (Fault::CrashBefore, false) | (Fault::CrashAfter, true) => self.crash().await,
            (Fault::StallBefore, false) | (Fault::StallAfter, true) => self.stall().await,
            _ => {}
        }
        matches!((fault, after), (Fault::Lost, false) | (Fault::ReplyLost, true))
    }

    async fn crash(&self) {
        self.interrupt(Interrupt::Crash);
        std::future::pending::<()>().await;
    }

    async fn stall(&self) {
        self.interrupt(Interrupt::Stall);
        self.go_on.notified().await;
    }

    fn interrupt(&self, interrupt: Interrupt) {
        self.state().interrupt = Some(interrupt);
        self.interrupts.notify_one();
    }
}

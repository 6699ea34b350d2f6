//! The life of a deployment, the same over every adapter and every cluster: planned, exposed in rising steps, put back,
//! promoted and put back again, with the answer of each write lost once, with late writers, with a stop after each
//! phase, and with somebody else's changes.
//!
//! After each life the whole cluster is looked at: every object that was there is as it was, managed fields and labels
//! of pods included, and there is no other. No mesh runs here, so each phase is taken for live at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::try_join_all;
use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    apply::{Outcome, ended},
    cluster::{Cluster, ClusterError},
    clusters::{Clusters, Member},
    dialect::MOST_WRITES,
    error::Error,
    object,
};
use meshward_model::{Baseline, ExposureIntent, Mechanism, Mesh, PlannedStep, Weight};
use serde_json::{Value, json};

use super::{
    alone::eventually,
    contract::{Backend, target_of},
    losing::Losing,
    newcomers::Silent,
    ways::{CALLER, CALLERS, NAMESPACE, Way, caller, namespace, pod, ways},
};

const PODS: usize = 4;
static LIVES: AtomicUsize = AtomicUsize::new(0);
/// Writes to objects, phase by phase.
type Writes = Vec<u32>;
/// The same of each step.
type Steps = Vec<(&'static str, Writes)>;

/// All objects of some kinds, each by [`meshward_model::Target::key`].
type Everything = BTreeMap<String, Value>;

/// One deployment on one cluster.
pub struct Life<'a> {
    id: String,
    backend: &'a dyn Backend,
    losing: Arc<Losing>,
    pub gateway: Gateway,
    way: &'a Way,
    before: Everything,
    baseline: Baseline,
    planned: Vec<PlannedStep>,
}

fn gateway(cluster: Arc<dyn Cluster>) -> Gateway {
    let clusters = Clusters::new("");
    clusters.put(Member::new("", cluster, Arc::new(Silent)));
    Gateway::new(Arc::new(clusters), Arc::new(SystemClock))
}

/// The direction of a walk.
#[derive(Clone, Copy)]
pub enum Walk {
    On,
    Back,
}

impl<'a> Life<'a> {
    /// What stands there before, and the plan.
    pub async fn begin(backend: &'a dyn Backend, way: &'a Way, lost: usize) -> Self {
        clear(backend, way).await;
        for object in way.around.iter().chain([&way.before]).filter(|object| !object.is_null()) {
            backend.apply_as("kubectl", object).await;
        }
        let losing = Arc::new(Losing::new(backend.cluster(), lost));
        let gateway = gateway(Arc::clone(&losing) as _);
        let before = everything(backend, way).await;
        let baseline = Baseline::of(None);
        let id = format!("life-{}", LIVES.fetch_add(1, Ordering::Relaxed));
        let mut life = Self { id, backend, losing, gateway, way, before, baseline, planned: Vec::new() };
        let weights = if way.mechanism == Mechanism::None { &[10_000][..] } else { &[1000, 5000, 10_000] };
        (life.planned, life.baseline) = life.plan(weights).await;
        life
    }

    async fn plan(&self, weights: &[i64]) -> (Vec<PlannedStep>, Baseline) {
        let weights: Vec<_> = weights.iter().map(|bp| Weight::from_basis_points(*bp).expect("a weight")).collect();
        let Way { name, target, canary, mechanism, audience, .. } = self.way;
        let planned = self.gateway.plan_for(audience, target, canary, &weights, Some(*mechanism)).await;
        let (plan, baseline) = planned.unwrap_or_else(|error| panic!("{name} by {mechanism:?}: {error}"));
        (plan.steps, baseline)
    }

    pub fn at(&self, generation: u64, bp: i64) -> ExposureIntent {
        ExposureIntent {
            deployment_id: self.id.clone(),
            generation,
            target: self.way.target.clone(),
            baseline: self.baseline.clone(),
            canary: self.way.canary.clone(),
            mechanism: self.way.mechanism,
            weight: Weight::from_basis_points(bp).expect("a weight"),
        }
    }

    async fn live(&self) -> Option<Value> {
        self.backend.cluster().get(&self.way.target).await.expect("it can be read")
    }

    pub async fn ask(&self, walk: Walk, intent: &ExposureIntent, phase: u32) -> Result<Outcome, Error> {
        match walk {
            Walk::On => self.gateway.expose(intent, phase).await,
            Walk::Back => self.gateway.restore(intent, phase).await,
        }
    }

    /// How often anything was written so far, labels of pods included.
    fn written(&self) -> usize {
        self.losing.writes.load(Ordering::Relaxed)
    }

    /// The phases up to the one that is named; what was lost is asked again, as a worker does after a crash. How many
    /// writes to objects each took, and whether there are more phases.
    async fn until(&self, walk: Walk, intent: &ExposureIntent, last: u32) -> Result<(Writes, bool), Error> {
        let mut writes = Writes::new();
        for phase in 0..=last {
            let answer = match self.ask(walk, intent, phase).await {
                Err(Error::Cluster(ClusterError::Unreachable(_))) => self.ask(walk, intent, phase).await,
                answer => answer,
            };
            let outcome = answer?;
            writes.push(outcome.writes);
            if !outcome.more {
                return Ok((writes, false));
            }
        }
        Ok((writes, true))
    }

    /// All phases.
    async fn walk(&self, walk: Walk, intent: &ExposureIntent) -> Result<Writes, Error> {
        self.until(walk, intent, u32::MAX).await.map(|(writes, _)| writes)
    }

    /// All phases, and then once more, which writes nothing.
    async fn done(&self, walk: Walk, intent: &ExposureIntent) -> Writes {
        let Way { name, mechanism, .. } = self.way;
        let (weight, lost) = (intent.weight, self.losing.lost);
        let what = || format!("{name} by {mechanism:?} at {weight}, generation {}, lost {lost}", intent.generation);
        let audited = self.backend.audited_writes();
        let writes = self.walk(walk, intent).await.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let written = self.written();
        self.walk(walk, intent).await.unwrap_or_else(|error| panic!("{} again: {error}", what()));
        assert_eq!(self.written(), written, "{}, once more", what());
        if let Some(before) = audited.filter(|_| lost == usize::MAX) {
            let told: u32 = writes.iter().sum();
            let counted = || async { self.backend.audited_writes().filter(|now| *now >= before + told) };
            let now = eventually("the writes are in the audit log", counted).await;
            assert_eq!(now - before, told, "{}: the audit log counts others", what());
        }
        if let (Walk::On, Some(step)) = (walk, self.planned.iter().find(|step| step.weight == intent.weight)) {
            is_as_planned(step, &writes, lost == usize::MAX).unwrap_or_else(|why| panic!("{}: {why}", what()));
        }
        writes
    }

    async fn is_stale(&self, late: &ExposureIntent) {
        let written = self.written();
        let answer = self.walk(Walk::On, late).await;
        let name = format!("{} by {:?}", self.way.name, self.way.mechanism);
        assert!(matches!(answer, Err(Error::Stale { .. })), "{name}: a late writer: {answer:?}");
        assert_eq!(self.written(), written, "{name}: a late writer has written");
    }

    /// Every object is as it was, and there is no other.
    async fn is_over(&self, what: &str, is_anew: bool) {
        let mut fields = vec!["resourceVersion", "generation"];
        if is_anew {
            // Nobody can give an object that was deleted its old identity.
            fields.extend(["uid", "creationTimestamp"]);
        }
        let now = without(everything(self.backend, self.way).await, &fields);
        let what = format!("{} by {:?}, {what}, lost {}", self.way.name, self.way.mechanism, self.losing.lost);
        assert_same(&now, &without(self.before.clone(), &fields), &what);
    }

    /// The target is the approved version, and everything else is as it was.
    async fn is_promoted(&self) {
        let key = self.way.target.key();
        let what = format!("{} by {:?}, promoted", self.way.name, self.way.mechanism);
        let split = |mut all: Everything| (all.remove(&key), without(all, &["resourceVersion", "generation"]));
        let (live, others) = split(everything(self.backend, self.way).await);
        assert_same(&others, &split(self.before.clone()).1, &what);
        let version = (!self.way.canary.is_null()).then_some(&self.way.canary);
        assert_eq!(live.as_ref().map(object::spec), version.map(object::spec), "{what}");
        for field in ["labels", "annotations"] {
            let of = |object: Option<&Value>| object.and_then(|object| object::metadata_map(object, field).cloned());
            assert_eq!(of(live.as_ref()), of(version), "{what}: {field}");
        }
    }
}

/// The phases of a step are those of the plan, and none takes more writes than that one says.
fn is_as_planned(step: &PlannedStep, writes: &Writes, is_counted: bool) -> Result<(), String> {
    let most: Vec<_> = step.phases.iter().map(|phase| phase.most_writes).collect();
    let has_phase = |phase: u32| (phase as usize) < most.len();
    let belongs = step.writes.iter().all(|write| has_phase(write.phase))
        && step.cohorts.iter().all(|cohort| has_phase(cohort.phase));
    let is_within = !is_counted || writes.iter().zip(&most).all(|(writes, most)| writes <= most);
    if most.len() == writes.len() && belongs && is_within {
        return Ok(());
    }
    Err(format!("{writes:?} writes phase by phase, and at most {most:?} are planned"))
}

fn without(mut all: Everything, fields: &[&str]) -> Everything {
    for object in all.values_mut() {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|field, _| !fields.contains(&&**field));
    }
    all
}

fn assert_same(now: &Everything, then: &Everything, what: &str) {
    let names = |all: &Everything| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(now), names(then), "{what}: the objects");
    for (name, object) in now {
        assert_eq!(object, &then[name], "{what}: {name}");
    }
}

/// But for the record of deployments that are over, which stays.
async fn everything(backend: &dyn Backend, way: &Way) -> Everything {
    let (mut all, cluster, kinds) = (Everything::new(), backend.by_others(), way.kinds());
    let lists = kinds.iter().map(|(api_version, kind)| cluster.list(api_version, kind, None));
    let lists = try_join_all(lists).await.expect("lists");
    for ((api_version, kind), objects) in kinds.iter().zip(lists) {
        for object in objects {
            let mut object = Arc::unwrap_or_clone(object);
            object["apiVersion"] = api_version.as_str().into();
            object["kind"] = kind.as_str().into();
            let target = target_of(&object);
            if target.name == ended::NAME {
                continue;
            }
            all.insert(target.key(), object);
        }
    }
    all
}

/// Nothing but the pods is there, and these are as nobody has labelled them.
pub async fn clear(backend: &dyn Backend, way: &Way) {
    let cluster = backend.by_others();
    for object in everything(backend, way).await.into_values() {
        let target = target_of(&object);
        let is_ours = [NAMESPACE, CALLERS[0], CALLERS[1]].contains(&&*target.namespace);
        if target.kind == "Pod" && target.name == CALLER {
            // It is as it was made.
        } else if target.kind == "Pod" && is_ours {
            let labels = json!({"app": target.namespace});
            if object["metadata"]["labels"] != labels {
                let labels = json!([{"op": "add", "path": "/metadata/labels", "value": labels}]);
                cluster.patch(&target, &labels).await.expect("its labels");
            }
        } else if is_ours {
            let (uid, version) = (object::uid(&object), object::resource_version(&object));
            cluster.delete(&target, uid, version).await.expect("it is deleted");
        }
    }
}

/// Everything on one cluster, where what is installed with the service is; of the answers that can be lost, and of the
/// phases to stop after, at most so many each.
pub async fn every_adapter_keeps_to_it(backend: &dyn Backend, most: usize) {
    for name in [NAMESPACE].iter().chain(&CALLERS) {
        backend.apply_as("kubectl", &namespace(name)).await;
    }
    for namespace in [NAMESPACE, CALLERS[0]] {
        for index in 0..PODS {
            backend.apply_as("kubectl", &pod(namespace, index)).await;
        }
    }
    for caller in CALLERS.map(caller) {
        backend.apply_as("kubectl", &caller).await;
    }
    println!(
        "life of a deployment, way by way (of a step: writes to objects, in brackets phase by phase, each of which is \
         proven live before the next; labels of pods aside):"
    );
    // For work on some of them.
    let only = std::env::var("MESHWARD_LIVES").unwrap_or_default();
    let mut made = BTreeSet::new();
    for way in ways().into_iter().filter(|way| way.name.contains(&only)) {
        let start = std::time::Instant::now();
        let (mut steps, there) = aborted(backend, &way, usize::MAX).await;
        let (more, promoted_writes) = promoted(backend, &way, usize::MAX).await;
        steps.extend(more);
        let is_too_many = |(_, writes): &(&str, Writes)| writes.iter().any(|writes| *writes as usize > MOST_WRITES);
        assert!(!steps.iter().any(is_too_many), "{} by {:?}: {steps:?}", way.name, way.mechanism);
        let mut lost = 0;
        for number in spread(there, most) {
            aborted(backend, &way, number).await;
            lost += 1;
        }
        for number in spread(promoted_writes, most) {
            promoted(backend, &way, number).await;
            lost += 1;
        }
        let stops = stopped(backend, &way, most).await;
        changed_by_others(backend, &way).await;
        // All at once every way of a kind is the same.
        if !way.canary.is_null() && made.insert((way.target.api_version.clone(), way.target.kind.clone())) {
            from_nothing(backend, &way).await;
        }
        clear(backend, &way).await;
        let steps: Vec<_> = steps.iter().map(|(step, writes)| format!("{step} {}", in_words(writes))).collect();
        let (mechanism, cluster) = (format!("{:?}", way.mechanism), backend.name());
        println!(
            "{:<42} {mechanism:<9} {cluster:<14} passed, {lost:>2} answers lost, {stops:>2} stops; writes: {} ({:.1?})",
            way.name,
            steps.join(", "),
            start.elapsed()
        );
    }
}

/// "3", or "4 (1+3)" for what takes several phases with writes.
fn in_words(writes: &Writes) -> String {
    let some: Vec<_> = writes.iter().filter(|writes| **writes > 0).map(u32::to_string).collect();
    let all: u32 = writes.iter().sum();
    if some.len() < 2 { all.to_string() } else { format!("{all} ({})", some.join("+")) }
}

/// So many of the numbers below `all`, evenly spread.
fn spread(all: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..all).step_by(all.div_ceil(most.min(all).max(1)).max(1))
}

/// Rising steps, down, up again and back: the writes of each step, and of all with labels of pods.
async fn aborted(backend: &dyn Backend, way: &Way, lost: usize) -> (Steps, usize) {
    let life = Life::begin(backend, way, lost).await;
    let mut writes = Vec::new();
    for (generation, bp, name) in [(1, 1000, "10 %"), (2, 5000, "50 %"), (3, 0, "0 %"), (4, 5000, "50 %")] {
        writes.push((name, life.done(Walk::On, &life.at(generation, bp)).await));
        // One that is made on the way is a helper until the end, and need not carry each generation.
        if let Some(live) = life.live().await.filter(|_| !way.before.is_null()) {
            let marks = &live["metadata"]["annotations"];
            assert_eq!(marks["meshward.io/generation"], generation.to_string(), "{} at {bp}", way.name);
        }
        if generation > 1 && !is_nowhere(way, bp) {
            life.is_stale(&life.at(generation - 1, 1000)).await;
        }
    }
    writes.push(("back", life.done(Walk::Back, &life.at(5, 0)).await));
    life.is_over("put back", false).await;
    after_the_end(&life, &[life.at(4, 5000), life.at(7, 5000)]).await;
    (writes, life.written())
}

/// At 0 % of an object that did not exist there may be nothing that carries a generation.
fn is_nowhere(way: &Way, bp: i64) -> bool {
    way.before.is_null() && bp == 0
}

/// A deployment that is over stays so.
async fn after_the_end(life: &Life<'_>, late: &[ExposureIntent]) {
    for late in late {
        life.is_stale(late).await;
    }
}

/// To the end, and back from there.
async fn promoted(backend: &dyn Backend, way: &Way, lost: usize) -> (Steps, usize) {
    let life = Life::begin(backend, way, lost).await;
    life.done(Walk::On, &life.at(1, 5000)).await;
    let end = ("100 %", life.done(Walk::On, &life.at(2, 10_000)).await);
    life.is_promoted().await;
    if !way.canary.is_null() {
        life.is_stale(&life.at(1, 5000)).await;
    }
    life.is_promoted().await;
    let back = ("back from there", life.done(Walk::Back, &life.at(3, 0)).await);
    life.is_over("put back from the end", way.canary.is_null()).await;
    after_the_end(&life, &[life.at(1, 5000), life.at(4, 5000)]).await;
    (vec![end, back], life.written())
}

/// Put back after each phase of the end, of a second step and of a first one; how often that was.
async fn stopped(backend: &dyn Backend, way: &Way, most: usize) -> usize {
    let mut stops = 0;
    for (before, bp) in [(Some(5000), 10_000), (Some(1000), 5000), (None, 1000)] {
        for last in 0.. {
            if stops == most {
                return stops;
            }
            let life = Life::begin(backend, way, usize::MAX).await;
            if let Some(before) = before {
                life.walk(Walk::On, &life.at(1, before)).await.expect("a step");
            }
            let (_, more) = life.until(Walk::On, &life.at(2, bp), last).await.expect("a phase");
            life.walk(Walk::Back, &life.at(3, 0)).await.expect("it is put back");
            life.is_over(&format!("stopped in phase {last} of {bp}"), way.canary.is_null() && bp == 10_000).await;
            stops += 1;
            if !more {
                break;
            }
        }
    }
    stops
}

/// Another deployment, another manager, and a deletion.
async fn changed_by_others(backend: &dyn Backend, way: &Way) {
    let life = Life::begin(backend, way, usize::MAX).await;
    let first = life.at(1, 1000);
    life.walk(Walk::On, &first).await.expect("a step");
    let other = ExposureIntent { deployment_id: "other".to_owned(), generation: 9, ..first.clone() };
    let busy = life.walk(Walk::On, &other).await;
    let is_named = matches!(&busy, Err(Error::Busy { deployment, .. }) if *deployment == life.id);
    assert!(is_named, "{}: {busy:?}", way.name);
    if way.before.is_null() {
        return;
    }
    let last = labelled_by_others(&life, &first).await;
    backend.apply_as("argocd", &way.theirs).await;
    let theirs = everything(backend, way).await;
    for generation in [last, last + 1] {
        let answer = life.walk(Walk::On, &ExposureIntent { generation, ..first.clone() }).await;
        let is_named = matches!(&answer, Err(Error::Drift { manager, .. }) if manager == "argocd");
        assert!(is_named, "{} by {:?}: {answer:?}", way.name, way.mechanism);
    }
    assert_same(&everything(backend, way).await, &theirs, &format!("{}: what others wrote stays", way.name));
    let live = life.live().await.expect("it is there");
    let (uid, version) = (object::uid(&live), object::resource_version(&live));
    backend.by_others().delete(&way.target, uid, version).await.expect("it is deleted");
    let answer = life.walk(Walk::On, &ExposureIntent { generation: last + 2, ..first }).await;
    assert!(matches!(answer, Err(Error::Drift { .. })), "{}: {answer:?}", way.name);
}

/// A label that the mesh reads holds back the next step for as long as it is there, and any other does not. The
/// generation of the last step.
async fn labelled_by_others(life: &Life<'_>, step: &ExposureIntent) -> u64 {
    let Way { name, target, mechanism, .. } = life.way;
    if target.mesh != Mesh::Istio {
        return step.generation;
    }
    let labelled = |labels: Value| {
        let metadata = json!({"name": target.name, "namespace": target.namespace, "labels": labels});
        json!({"apiVersion": target.api_version, "kind": target.kind, "metadata": metadata})
    };
    let next = ExposureIntent { generation: step.generation + 1, ..step.clone() };
    life.backend.apply_as("argocd", &labelled(json!({"note": "a", "istio.io/rev": "other"}))).await;
    let answer = life.walk(Walk::On, &next).await;
    let is_named = matches!(&answer, Err(Error::Drift { manager, .. }) if manager == "argocd");
    assert!(is_named, "{name} by {mechanism:?}: {answer:?}");
    life.backend.apply_as("argocd", &labelled(json!({"argocd.argoproj.io/instance": "a"}))).await;
    let answer = life.walk(Walk::On, &next).await;
    assert!(answer.is_ok(), "{name} by {mechanism:?}: {answer:?}");
    next.generation
}

/// All at once: an object that did not exist is made, and its absence put back.
async fn from_nothing(backend: &dyn Backend, way: &Way) {
    let way = &Way { mechanism: Mechanism::None, before: Value::Null, around: Vec::new(), ..way.clone() };
    for lost in [usize::MAX, 0, 1] {
        let life = Life::begin(backend, way, lost).await;
        life.done(Walk::On, &life.at(1, 10_000)).await;
        life.is_promoted().await;
        life.done(Walk::Back, &life.at(2, 0)).await;
        life.is_over("from nothing", false).await;
        after_the_end(&life, &[life.at(1, 10_000), life.at(3, 10_000)]).await;
    }
    made_too_late(backend, way).await;
}

/// A first write that is on its way while another replica puts the absence back: it is taken back.
async fn made_too_late(backend: &dyn Backend, way: &Way) {
    let life = Life::begin(backend, way, usize::MAX).await;
    let (other, end) = (gateway(backend.cluster()), life.at(2, 0));
    let end = async move { other.restore(&end, u32::MAX).await.map(drop).expect("the absence is put back") };
    *life.losing.meanwhile.lock().expect("nobody panicked") = Some(Box::pin(end));
    let answer = life.walk(Walk::On, &life.at(1, 10_000)).await;
    assert!(matches!(answer, Err(Error::Stale { .. })), "{}: {answer:?}", way.name);
    life.is_over("made too late", false).await;
}

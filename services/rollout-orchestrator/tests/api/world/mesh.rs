//! The cluster and the gateway's fence in front of it.

use meshward_model::{AppliedObject, ExposureIntent, PropagationState, Weight};
use meshward_rollout_orchestrator::decide::WriteOutcome;
use serde_json::{Value, json};

use super::State;

/// An object as it stands in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// resourceVersion.
    pub version: u64,
    /// `{"v": 1}` is the baseline, `{"v": 2}` or null (it is gone) the canary, `{"v": 1, "weight": 1000}` a mixture.
    pub spec: Value,
    pub marks: Option<Marks>,
}

/// Who wrote last, and what.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks {
    pub deployment: String,
    pub generation: u64,
    pub spec: Value,
}

impl Live {
    /// Share of the canary, basis points.
    pub fn weight(&self) -> u16 {
        if self.spec.is_null() || self.spec["v"] == json!(2) {
            return Weight::FULL.basis_points();
        }
        self.spec["weight"].as_u64().and_then(|weight| weight.try_into().ok()).unwrap_or_default()
    }
}

fn baseline(intent: &ExposureIntent) -> (&Value, &Value) {
    let object = intent.baseline.object.as_ref().expect("every object of this world existed before");
    (&object["spec"], &object["metadata"]["resourceVersion"])
}

impl State {
    fn live(&self, intent: &ExposureIntent) -> Live {
        self.objects[&intent.target.key()].clone()
    }

    /// Somebody else changes a policy's object.
    pub fn drift(&mut self, policy: &str) {
        let version = self.next_version();
        let live = self.objects.get_mut(&self.versions[policy].target.key()).expect("an object");
        live.spec["kubectl"] = json!("was here");
        live.version = version;
        let key = self.versions[policy].target.key();
        // Nobody may listen.
        let _ = self.drifts.as_ref().map(|drifts| drifts.send(key));
    }

    /// And puts it back.
    pub fn mend(&mut self, policy: &str) {
        let version = self.next_version();
        let live = self.objects.get_mut(&self.versions[policy].target.key()).expect("an object");
        if live.spec.as_object_mut().and_then(|spec| spec.remove("kubectl")).is_some() {
            live.version = version;
        }
    }

    fn next_version(&mut self) -> u64 {
        self.clock_of_cluster += 1;
        self.clock_of_cluster
    }

    /// What holds a writer back from an object that carries marks.
    fn fence(live: &Live, intent: &ExposureIntent) -> Option<WriteOutcome> {
        let marks = live.marks.as_ref()?;
        if marks.deployment != intent.deployment_id {
            return Some(WriteOutcome::Blocked(format!("deployment {} has it", marks.deployment)));
        }
        if marks.generation > intent.generation {
            return Some(WriteOutcome::Blocked(format!("generation {} is newer", marks.generation)));
        }
        (marks.spec != live.spec).then(|| WriteOutcome::Drifted("kubectl changed the object".into()))
    }

    /// What a phase says that only makes ready: nothing of the object, but more is to come.
    pub fn made_ready(&self, intent: &ExposureIntent, phase: u32) -> Option<WriteOutcome> {
        (phase + 1 < self.phases).then(|| match done(intent, &self.live(intent), 0) {
            WriteOutcome::Done { writes, objects, .. } => WriteOutcome::Done { writes, objects, more: true },
            other => other,
        })
    }

    pub fn expose(&mut self, intent: &ExposureIntent, now: jiff::Timestamp) -> WriteOutcome {
        let live = self.live(intent);
        let last = intent.weight == Weight::FULL;
        let spec =
            if last { intent.canary["spec"].clone() } else { json!({"v": 1, "weight": intent.weight.basis_points()}) };
        let (deployment, generation) = (intent.deployment_id.clone(), intent.generation);
        let marks = (!last).then(|| Marks { deployment, generation, spec: spec.clone() });
        if live.spec == spec && live.marks == marks {
            return done(intent, &live, 0);
        }
        let (before, version) = baseline(intent);
        let held_back = match &live.marks {
            Some(_) => Self::fence(&live, intent),
            None if *version == json!(live.version.to_string()) => None,
            None if live.spec != *before && live.spec != intent.canary["spec"] => {
                Some(WriteOutcome::Drifted("kubectl changed the object".into()))
            }
            None => Some(WriteOutcome::Blocked("it was restored or promoted".into())),
        };
        held_back.unwrap_or_else(|| self.write(intent, spec, marks, now))
    }

    pub fn restore(&mut self, intent: &ExposureIntent, now: jiff::Timestamp) -> WriteOutcome {
        let live = self.live(intent);
        let (before, version) = (baseline(intent).0.clone(), baseline(intent).1);
        // Untouched since the plan: it is marked and put back, so that a late first write finds another version.
        let untouched = *version == json!(live.version.to_string());
        if live.marks.is_none() && live.spec == before {
            return if untouched { self.write(intent, before, None, now) } else { done(intent, &live, 0) };
        }
        let held_back = match &live.marks {
            Some(_) => Self::fence(&live, intent),
            None if live.spec == intent.canary["spec"] => None,
            None => Some(WriteOutcome::Drifted("kubectl changed the object".into())),
        };
        held_back.unwrap_or_else(|| self.write(intent, before, None, now))
    }

    fn write(
        &mut self,
        intent: &ExposureIntent,
        spec: Value,
        marks: Option<Marks>,
        now: jiff::Timestamp,
    ) -> WriteOutcome {
        let before = self.live(intent).marks.map_or(0, |marks| marks.generation);
        assert!(intent.generation >= before, "the generation fell from {before} to {}", intent.generation);
        let live = Live { version: self.next_version(), spec, marks };
        self.writes += 1;
        self.history.push((now, live.weight(), self.verdicts.len()));
        self.objects.insert(intent.target.key(), live.clone());
        done(intent, &live, 1)
    }

    /// What stands there against what was written.
    pub fn verify(&mut self, intent: &ExposureIntent) -> PropagationState {
        let live = self.live(intent);
        let as_left = match &live.marks {
            Some(marks) => marks.spec == live.spec && marks.deployment == intent.deployment_id,
            None => live.spec == intent.canary["spec"] || live.spec == *baseline(intent).0,
        };
        if as_left { (self.proofs)(intent.clone()) } else { PropagationState::Drifted }
    }
}

fn done(intent: &ExposureIntent, live: &Live, writes: u32) -> WriteOutcome {
    let object = AppliedObject {
        target: intent.target.clone(),
        resource_version: live.version.to_string(),
        object_generation: 1,
        absent: live.spec.is_null(),
        pods_version: String::new(),
    };
    WriteOutcome::Done { writes, objects: vec![object], more: false }
}

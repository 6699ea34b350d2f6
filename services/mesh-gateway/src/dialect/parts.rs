//! How much is written before the next proof.
//!
//! A phase of a dialect ([`Phase`]) is about as many objects as it takes: one policy, or forty that hang on one Server.
//! Neither the control plane nor a person who reads along shall meet forty changes at once. So a phase is written in
//! parts of at most [`MOST_WRITES`] writes, each proven live before the next. To callers a part is a phase: that is what
//! they number, and what a plan lists.
//!
//! One thing is not divided: what takes the canary away from those who have it. A proof that does not come, of one proxy
//! that hangs, would leave the rest exposed. That is the first phase of a way back, and at 0 % whatever takes a helper
//! away or changes an object of others.
//!
//! A part is whole for its readers only. Whoever asks how far the cluster is (a late writer's fence, say) goes by
//! phases: of half a phase nothing follows.

use meshward_model::{ExposureIntent, Weight};

use super::{Desired, Phase, PodCohorts, Wanted};

/// Writes to objects that a part takes at most.
pub const MOST_WRITES: usize = 3;

/// What is written at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part<'a> {
    /// Which phase it belongs to.
    pub(crate) phase: usize,
    pub(crate) work: Work<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work<'a> {
    Objects(&'a [Desired]),
    Pods(&'a PodCohorts),
}

impl<'a> Work<'a> {
    /// The pods, if it is about pods.
    pub(crate) fn pods(self) -> Option<&'a PodCohorts> {
        match self {
            Self::Objects(_) => None,
            Self::Pods(cohorts) => Some(cohorts),
        }
    }
}

/// The parts of a step.
pub(crate) fn there<'a>(intent: &ExposureIntent, phases: &'a [Phase]) -> Vec<Part<'a>> {
    let takes_away = |desired: &Desired| match desired.wanted {
        Wanted::Gone => true,
        Wanted::Step(_) => !intent.is_about(&desired.target),
        _ => false,
    };
    let is_whole = |_, objects: &[Desired]| intent.weight == Weight::ZERO && objects.iter().any(takes_away);
    divided(intent, phases, is_whole)
}

/// The parts of a way back.
pub(crate) fn back<'a>(intent: &ExposureIntent, phases: &'a [Phase]) -> Vec<Part<'a>> {
    divided(intent, phases, |phase, _| phase == 0)
}

fn divided<'a>(
    intent: &ExposureIntent,
    phases: &'a [Phase],
    is_whole: impl Fn(usize, &[Desired]) -> bool,
) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    for (phase, all) in phases.iter().enumerate() {
        let mut add = |work| parts.push(Part { phase, work });
        match all {
            Phase::Pods(cohorts) => add(Work::Pods(cohorts)),
            Phase::Objects(objects) if is_whole(phase, objects) => add(Work::Objects(objects)),
            Phase::Objects(objects) => {
                small(intent, objects).into_iter().for_each(|some| add(Work::Objects(some)));
            }
        }
    }
    parts
}

/// Runs of objects, in order; one that is empty if there are none.
fn small<'a>(intent: &ExposureIntent, objects: &'a [Desired]) -> Vec<&'a [Desired]> {
    let (mut runs, mut start, mut writes) = (Vec::new(), 0, 0);
    for (index, desired) in objects.iter().enumerate() {
        let more = of_object(intent, desired);
        if writes + more > MOST_WRITES {
            runs.push(&objects[start..index]);
            (start, writes) = (index, 0);
        }
        writes += more;
    }
    runs.push(&objects[start..]);
    runs
}

/// Kubernetes may want a second write for the owners of what is put back.
fn of_object(intent: &ExposureIntent, desired: &Desired) -> usize {
    let is_put_back = desired.wanted == Wanted::Baseline && intent.before(&desired.target).is_some();
    if is_put_back { 2 } else { 1 }
}

/// Writes to objects that a part takes at most, other than labels of pods.
pub(crate) fn most_writes(intent: &ExposureIntent, part: Part<'_>) -> usize {
    match part.work {
        Work::Objects(objects) => objects.iter().map(|desired| of_object(intent, desired)).sum(),
        // The generation on the object, and what the admission policy is told of new pods.
        Work::Pods(cohorts) => 1 + usize::from(cohorts.label_stable),
    }
}

#[cfg(test)]
mod tests {
    use meshward_model::{Baseline, Mechanism, RelatedBaseline, Target};
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::steps::{baseline, gone, helper, step};

    fn target(name: &str) -> Target {
        Target::new("", "networking.istio.io/v1", "VirtualService", "shop", name).unwrap()
    }

    fn intent(bp: i64) -> ExposureIntent {
        let there = |name| RelatedBaseline { target: target(name), object: Some(json!({"spec": {}})) };
        ExposureIntent {
            deployment_id: "d".into(),
            generation: 1,
            target: target("a"),
            baseline: Baseline { related: ["b", "c"].map(there).into(), ..Baseline::of(Some(json!({"spec": {}}))) },
            canary: json!({"spec": {}}),
            mechanism: Mechanism::Request,
            weight: Weight::from_basis_points(bp).unwrap(),
        }
    }

    fn some(number: usize, of: impl Fn(&Target) -> Desired) -> Phase {
        Phase::Objects((0..number).map(|index| of(&target(&format!("h{index}")))).collect())
    }

    fn pods() -> Phase {
        Phase::Pods(PodCohorts {
            namespace: "shop".into(),
            labels: [].into(),
            key: "k".into(),
            share: None,
            label_stable: true,
        })
    }

    /// The phase of each part, with the writes that it takes at most.
    fn told(intent: &ExposureIntent, parts: &[Part<'_>]) -> Vec<(usize, usize)> {
        parts.iter().map(|part| (part.phase, most_writes(intent, *part))).collect()
    }

    #[test]
    fn many_objects_come_few_at_a_time_and_in_order() {
        let helpers = |number| some(number, |target| helper(target, Value::Null));
        let phases = [helpers(3), helpers(0), helpers(7), pods()];
        let intent = intent(1000);
        let parts = there(&intent, &phases);
        assert_eq!(told(&intent, &parts), [(0, 3), (1, 0), (2, 3), (2, 3), (2, 1), (3, 2)]);
        let objects = parts.iter().filter(|part| part.phase == 2).flat_map(|part| match part.work {
            Work::Objects(objects) => objects.iter(),
            Work::Pods(_) => panic!("objects"),
        });
        let Phase::Objects(all) = &phases[2] else { panic!("objects") };
        assert!(objects.eq(all), "each once, as they were");
    }

    #[test]
    fn what_is_put_back_counts_twice() {
        let put_back = || Phase::Objects(["a", "b", "c"].map(|name| baseline(&target(name))).into());
        let (intent, phases) = (intent(10_000), [put_back()]);
        assert_eq!(told(&intent, &there(&intent, &phases)), [(0, 2), (0, 2), (0, 2)]);
        let absent = [some(3, baseline)];
        assert_eq!(told(&intent, &there(&intent, &absent)), [(0, 3)], "an absence has no owners");
    }

    #[test]
    fn what_takes_the_canary_away_waits_for_no_proof() {
        let marks = |target: &Target| step(target, Value::Null);
        let (away, theirs) = (some(5, gone), some(5, marks));
        let beside = Phase::Objects(
            std::iter::once(marks(&target("a")))
                .chain((0..4).map(|n| helper(&target(&format!("h{n}")), Value::Null)))
                .collect(),
        );
        for (name, bp, phases, expected) in [
            ("nothing is taken away", 0, vec![beside], vec![3, 2]),
            ("helpers at 0 %", 0, vec![away.clone()], vec![5]),
            ("objects of others at 0 %", 0, vec![theirs.clone()], vec![5]),
            ("helpers once everybody has it", 10_000, vec![away.clone()], vec![3, 2]),
            ("objects of others on the way", 5000, vec![theirs.clone()], vec![3, 2]),
        ] {
            let intent = intent(bp);
            let writes: Vec<_> = told(&intent, &there(&intent, &phases)).iter().map(|part| part.1).collect();
            assert_eq!(writes, expected, "{name}");
        }
        let intent = intent(5000);
        assert_eq!(told(&intent, &back(&intent, &[away.clone(), away])), [(0, 5), (1, 3), (1, 2)]);
    }
}

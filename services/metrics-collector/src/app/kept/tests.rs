use meshward_model::{Analysis, CohortTraffic, JudgeOptions, Mechanism, Mesh, MetricsTarget, Verdict};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

fn given(id: &str, deployment: &str, step: i32, second: i64) -> Explanation {
    Explanation {
        analysis: Analysis {
            id: id.to_owned(),
            verdict: Verdict::Healthy,
            explanation: String::new(),
            evidence: 1.0,
            evidence_bound: 100.0,
            canary: CohortTraffic::default(),
            control: CohortTraffic::default(),
            observed_share: None,
            required_requests: 0,
            samples: Vec::new(),
            queries: Vec::new(),
            time: at(second),
        },
        target: MetricsTarget {
            mesh: Mesh::Istio,
            mechanism: Mechanism::Request,
            cluster: String::new(),
            hosts: vec!["a.b".to_owned()],
            canary_series: "canary".to_owned(),
            control_series: "stable".to_owned(),
            ..MetricsTarget::uncounted(Mesh::Istio, Mechanism::Request, "")
        },
        deployment_id: deployment.to_owned(),
        step,
        options: JudgeOptions::default(),
        ticks: Vec::new(),
        sentences: Vec::new(),
    }
}

fn kept(most: usize, seconds: u64) -> Kept {
    Kept::new(Retention { most, age: Duration::from_secs(seconds) })
}

fn id(text: &str) -> Which {
    Which::Id(text.to_owned())
}

fn newest(deployment: &str, step: Option<i32>) -> Which {
    Which::Newest { deployment_id: deployment.to_owned(), step }
}

fn found(kept: &Kept, which: &Which, second: i64) -> Option<String> {
    kept.find(which, at(second)).ok().map(|one| one.analysis.id.clone())
}

#[test]
fn a_verdict_is_found_by_its_id_its_deployment_and_its_step() {
    let kept = kept(100, 3600);
    for (index, (deployment, step)) in [("d", 0), ("d", 1), ("e", 0), ("d", 0)].into_iter().enumerate() {
        kept.keep(given(&format!("v{index}"), deployment, step, 0), at(0));
    }
    for (which, expected) in [
        (id("v1"), Some("v1")),
        (id("v9"), None),
        (newest("d", None), Some("v3")),
        (newest("d", Some(0)), Some("v3")),
        (newest("d", Some(1)), Some("v1")),
        (newest("d", Some(2)), None),
        (newest("e", None), Some("v2")),
        (newest("f", None), None),
    ] {
        assert_eq!(found(&kept, &which, 0).as_deref(), expected, "{which:?}");
    }
}

#[test]
fn what_is_too_old_or_too_much_is_let_go() {
    let by_age = kept(100, 60);
    by_age.keep(given("old", "d", 0, 0), at(0));
    by_age.keep(given("new", "d", 0, 50), at(50));
    assert_eq!(found(&by_age, &id("old"), 60).as_deref(), Some("old"));
    assert_eq!(found(&by_age, &id("old"), 61), None);
    assert_eq!(found(&by_age, &id("new"), 61).as_deref(), Some("new"));
    let why = by_age.find(&id("old"), at(61)).expect_err("gone");
    assert!(
        why.starts_with("is not kept here: verdicts are kept for 60 s, the newest 100 of all and 8 of each"),
        "{why}"
    );

    let by_number = kept(3, 3600);
    (0..5).for_each(|index| by_number.keep(given(&format!("v{index}"), &format!("d{index}"), 0, index), at(index)));
    let left: Vec<bool> = (0..5).map(|index| found(&by_number, &id(&format!("v{index}")), 5).is_some()).collect();
    assert_eq!(left, [false, false, true, true, true]);
    assert_eq!(found(&by_number, &newest("d0", None), 5), None);
}

#[test]
fn a_step_that_is_looked_at_often_does_not_push_out_the_others() {
    let kept = kept(100, 3600);
    kept.keep(given("other", "quiet", 0, 0), at(0));
    for index in 0..1000 {
        kept.keep(given(&format!("v{index}"), "busy", 0, index), at(index));
        kept.keep(given(&format!("w{index}"), "", 0, index), at(index));
    }
    assert_eq!(found(&kept, &id("other"), 999).as_deref(), Some("other"));
    assert_eq!(found(&kept, &id("v991"), 999), None);
    assert_eq!(found(&kept, &id("v992"), 999).as_deref(), Some("v992"));
    let all = kept.all.lock().expect("no holder panics");
    assert_eq!((all.by_id.len(), all.steps.len()), (1 + 2 * MAX_OF_STEP, 3));
    assert!(all.order.len() <= 200, "{}", all.order.len());
}

//! Every shared type survives the trip to the wire and back.

use meshward_model::{
    Alternative, Analysis, AppliedObject, Baseline, CohortTraffic, Confidence, Details, ExposureIntent, ExposurePlan,
    Finding, Impact, JudgeOptions, Mechanism, Mesh, MetricsTarget, ObjectRef, Objectives, Operation, PlannedCohort,
    PlannedPhase, PlannedStep, PlannedWrite, PropagationProof, PropagationState, Purpose, Refusal, Related,
    RelatedBaseline, Severity, SourceRange, Suppression, Target, TickSample, Verdict, Weight, WeightPeriod,
};
use serde_json::json;

use super::*;
use crate::{gateway::v1 as gateway, metrics::v1 as metrics};

fn target() -> Target {
    Target::new("west", "networking.istio.io/v1", "VirtualService", "shop", "checkout").unwrap()
}

fn bp(value: i64) -> Weight {
    Weight::from_basis_points(value).unwrap()
}

/// To the wire and back; fails with the field that was lost.
fn round_trip<D, W>(domain: D)
where
    D: Clone + PartialEq + std::fmt::Debug + TryFrom<W, Error = ConvertError>,
    W: From<D>,
{
    assert_eq!(D::try_from(W::from(domain.clone())), Ok(domain));
}

#[test]
fn the_vocabulary_survives_the_wire() {
    let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let object = json!({"metadata": {"resourceVersion": "7"}, "spec": {}});
    let metrics_target = MetricsTarget {
        mesh: Mesh::Istio,
        mechanism: Mechanism::Request,
        cluster: "west".into(),
        hosts: vec!["a.b.svc.cluster.local".into()],
        canary_series: "canary".into(),
        control_series: "stable".into(),
        cohort_label: "meshward.io/cohort-1".into(),
        canary_clusters: Vec::new(),
        control_clusters: Vec::new(),
        pod_labels: [("app".to_owned(), "ledger".to_owned())].into(),
    };
    round_trip::<_, types::Target>(target());
    round_trip::<_, gateway::Baseline>(Baseline::of(None));
    round_trip::<_, gateway::ExposureIntent>(ExposureIntent {
        deployment_id: "d".into(),
        generation: 3,
        target: target(),
        baseline: Baseline {
            object: Some(object.clone()),
            related: vec![
                RelatedBaseline { target: target(), object: Some(object.clone()) },
                RelatedBaseline { target: target(), object: None },
            ],
            facts: json!({"ports": [8080]}),
        },
        canary: object.clone(),
        mechanism: Mechanism::Weight,
        weight: bp(3000),
    });
    round_trip::<_, gateway::ExposurePlan>(ExposurePlan {
        mechanism: Mechanism::Request,
        reason: "because".into(),
        steps: vec![PlannedStep {
            weight: bp(1000),
            nominal_share: bp(1016),
            writes: vec![PlannedWrite { target: target(), operation: Operation::Delete, object, phase: 2 }],
            exposed: "some".into(),
            cohorts: vec![
                PlannedCohort {
                    phase: 1,
                    namespace: "shop".into(),
                    selector: "app=a".into(),
                    label_key: "k".into(),
                    share: Some(bp(1000)),
                },
                PlannedCohort {
                    phase: 3,
                    namespace: "shop".into(),
                    selector: String::new(),
                    label_key: "k".into(),
                    share: None,
                },
            ],
            phases: [Purpose::Prepare, Purpose::Expose, Purpose::Withdraw, Purpose::Promote, Purpose::Cleanup]
                .map(|purpose| PlannedPhase { phase: 2, purpose, most_writes: 3, exposed: "some".into() })
                .into(),
        }],
        not_covered: vec!["callers without a sidecar".into()],
        alternatives: vec![Alternative { mechanism: Mechanism::Weight, reason: "not sticky".into() }],
        metrics_target,
    });
    round_trip::<_, gateway::AppliedObject>(AppliedObject {
        target: target(),
        resource_version: "8".into(),
        object_generation: 2,
        absent: false,
        pods_version: "9".into(),
    });
    round_trip::<_, gateway::PropagationProof>(PropagationProof {
        state: PropagationState::Refused,
        concerned: 2,
        acknowledged: 1,
        laggards: vec!["b".into()],
        refusals: vec![Refusal { proxy: "b".into(), message: "no".into() }],
        elapsed_ms: 1234,
        time,
        message: "refused".into(),
        drift_manager: "kubectl".into(),
    });
    let traffic = CohortTraffic { requests: 5, errors: 2, requests_per_second: 0.5, ..CohortTraffic::default() };
    round_trip::<_, metrics::Analysis>(Analysis {
        id: "0198".into(),
        verdict: Verdict::Watching,
        explanation: "few".into(),
        evidence: 0.5,
        evidence_bound: 100.0,
        canary: CohortTraffic { latency_p50_ms: Some(2.5), ..traffic },
        control: CohortTraffic::default(),
        observed_share: None,
        required_requests: 60,
        samples: vec![TickSample {
            end: time,
            canary_requests: 5,
            canary_errors: 2,
            control_requests: 1,
            control_errors: 0,
        }],
        queries: vec!["up".into()],
        time,
    });
    round_trip::<_, metrics::WeightPeriod>(WeightPeriod { start: time, weight: bp(9000) });
    let objectives = Objectives {
        max_error_rate: Some(0.02),
        negligible_error_rate: Some(0.001),
        latency_ms: Some(250.0),
        max_slow_rate: Some(0.05),
        negligible_latency_ms: Some(5.0),
        denials_are_meant: true,
    };
    round_trip::<_, metrics::JudgeOptions>(JudgeOptions {
        alpha: 0.05,
        tolerance: 0.01,
        detectable_effect: 0.02,
        objectives,
    });
    round_trip::<_, metrics::CohortTraffic>(CohortTraffic {
        connection_failures: Some(0),
        circuit_breaker_trips: None,
        denials: Some(7),
        ..CohortTraffic::default()
    });
    round_trip::<_, types::Finding>(Finding {
        id: "MW1001".into(),
        slug: "syntax/x".into(),
        aliases: vec!["IST0106".into()],
        severity: Severity::Warning,
        confidence: Confidence::Possible,
        object: ObjectRef { kind: "VirtualService".into(), ..ObjectRef::default() },
        path: "spec".into(),
        at: Some(SourceRange { document: 1, line: 2, column: 3, end_line: 4, end_column: 5 }),
        message: "m".into(),
        suggestion: "s".into(),
        details: Box::new(Details {
            source: "context[1]".into(),
            related: vec![Related { role: "wins".into(), path: "spec.host".into(), ..Related::default() }],
            impact: Some(Impact { services: vec!["a".into()], workloads: vec![], effect: "denied".into() }),
            patch: "[]".into(),
            doc: "d".into(),
            suppressed: Some(Suppression { reason: "known".into(), until: "2026-12-31".into() }),
            fingerprint: "f".into(),
        }),
    });
}

#[test]
fn what_has_no_meaning_is_refused_with_its_field() {
    let error = |result: Result<ExposureIntent, ConvertError>| result.unwrap_err().field;
    let intent = gateway::ExposureIntent {
        deployment_id: "d".into(),
        generation: 1,
        target: Some(target().into()),
        baseline: Some(gateway::Baseline { absent: true, ..Default::default() }),
        canary_json: "{}".into(),
        mechanism: types::Mechanism::Request.into(),
        weight_bp: 1000,
        canary_absent: false,
    };
    assert!(ExposureIntent::try_from(intent.clone()).is_ok());
    let spoiled = |spoil: fn(&mut gateway::ExposureIntent)| {
        let mut intent = intent.clone();
        spoil(&mut intent);
        error(intent.try_into())
    };
    assert_eq!(spoiled(|i| i.generation = 0), "generation");
    assert_eq!(spoiled(|i| i.weight_bp = 10_001), "weight_bp");
    assert_eq!(spoiled(|i| i.canary_json = "{".into()), "canary_json");
    assert_eq!(spoiled(|i| i.mechanism = 0), "mechanism");
    assert_eq!(spoiled(|i| i.target = None), "target");
    assert_eq!(spoiled(|i| i.target.as_mut().unwrap().api_version = "apps/v1".into()), "target.api_version");
    assert_eq!(spoiled(|i| i.target.as_mut().unwrap().mesh = types::Mesh::Linkerd.into()), "target.mesh");
    assert_eq!(
        JudgeOptions::try_from(metrics::JudgeOptions { alpha: -1.0, ..Default::default() }).unwrap_err().field,
        "alpha"
    );
    assert!(JudgeOptions::try_from(metrics::JudgeOptions { alpha: f64::NAN, ..Default::default() }).is_err());
    assert_eq!(JudgeOptions::try_from(metrics::JudgeOptions::default()), Ok(JudgeOptions::default()));
    let objectives = |max_error_rate, negligible_error_rate, latency_ms, max_slow_rate| {
        let objectives = metrics::Objectives {
            max_error_rate,
            negligible_error_rate,
            latency_ms,
            max_slow_rate,
            ..metrics::Objectives::default()
        };
        JudgeOptions::try_from(metrics::JudgeOptions { objectives: Some(objectives), ..Default::default() })
    };
    assert!(objectives(0.02, 0.02, 100.0, 0.0).is_ok());
    for (limits, field) in [
        ((1.0, 0.0, 0.0, 0.0), "objectives.max_error_rate"),
        ((-0.1, 0.0, 0.0, 0.0), "objectives.max_error_rate"),
        ((f64::NAN, 0.0, 0.0, 0.0), "objectives.max_error_rate"),
        ((0.01, 0.02, 0.0, 0.0), "objectives.negligible_error_rate"),
        ((0.0, 0.0, f64::INFINITY, 0.0), "objectives.latency_ms"),
        ((0.0, 0.0, 0.0, 0.1), "objectives.max_slow_rate"),
    ] {
        assert_eq!(objectives(limits.0, limits.1, limits.2, limits.3).unwrap_err().field, field);
    }
}

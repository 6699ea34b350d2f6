//! What stands in the way of a deployment, and that nothing is stored or written then.

use std::time::Duration;

use meshward_chassis::{auth::Role, problem::Problem, testing::Grant};
use meshward_model::{Confidence, Finding, ObjectRef, Severity, SourceRange};
use meshward_proto::{duration, rollout::v1::*, types::v1::ErrorReason};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{Service, fields, reason, request, strategy};

async fn nothing_is_stored(service: &Service) {
    assert_eq!(service.ports.store.list("", "", 10).await.expect("a list"), []);
    assert_eq!(service.world.state().writes, 0);
}

#[tokio::test]
async fn a_version_that_is_not_approved_is_told_what_is_missing() {
    let service = Service::new().await;
    let missing = ["it is SUBMITTED, not APPROVED", "one approval of an admin is missing"];
    service.world.state().versions.get_mut("p1").expect("p1").obstacles = missing.map(str::to_owned).to_vec();
    let status = service.try_create(request("p1")).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "VERSION_NOT_APPROVED"));
    let failure = status.get_details_precondition_failure().expect("a PreconditionFailure");
    let told: Vec<_> = failure.violations.iter().map(|violation| violation.description.as_str()).collect();
    assert_eq!(told, missing);
    assert!(missing.iter().all(|missing| status.message().contains(missing)), "{}", status.message());
    nothing_is_stored(&service).await;
}

#[tokio::test]
async fn a_version_that_is_not_valid_any_more_is_refused_with_its_findings() {
    let service = Service::new().await;
    let finding = |severity, message: &str| Finding {
        id: "MW4001".into(),
        slug: "reference/host".into(),
        aliases: vec![],
        severity,
        confidence: Confidence::Definite,
        object: ObjectRef::default(),
        path: "spec.http[0]".into(),
        at: Some(SourceRange { document: 0, line: 3, column: 5, end_line: 3, end_column: 9 }),
        message: message.into(),
        suggestion: String::new(),
        details: Box::default(),
    };
    service.world.state().findings = vec![finding(Severity::Warning, "odd")];
    let validate_only = CreateDeploymentRequest { validate_only: true, ..request("p1") };
    service.try_create(validate_only.clone()).await.expect("a warning blocks nobody");
    service.world.state().findings.push(finding(Severity::Error, "no such host"));
    let status = service.try_create(validate_only).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "POLICY_INVALID"));
    let failure = status.get_details_precondition_failure().expect("a PreconditionFailure");
    let told: Vec<_> = failure.violations.iter().map(|violation| violation.description.as_str()).collect();
    assert_eq!(told, ["line 3, column 5: MW4001 no such host"]);
    nothing_is_stored(&service).await;
}

#[tokio::test]
async fn the_gateway_s_refusal_arrives_as_it_is() {
    let service = Service::new().await;
    let text = "a TCP route cannot be split by request id; WEIGHT would work";
    let refusal = Problem::failed_precondition(ErrorReason::ExposureUnsupported, text);
    service.world.state().unsupported = Some(refusal.into());
    let status = service.try_create(request("p1")).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "EXPOSURE_UNSUPPORTED"));
    assert_eq!(status.message(), text);
    nothing_is_stored(&service).await;
}

#[tokio::test]
async fn a_peer_that_is_down_stops_a_creation() {
    let service = Service::new().await;
    for peer in ["policy-registry", "validator", "mesh-gateway"] {
        service.world.down(peer);
        let status = service.try_create(request("p1")).await.expect_err("refused");
        assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "PEER_UNAVAILABLE"), "{peer}");
        assert!(status.message().contains(peer), "{}", status.message());
    }
    nothing_is_stored(&service).await;
}

/// Before the first step the series of the canary are not there yet: that is told, and refuses nothing.
#[tokio::test]
async fn what_the_judge_could_not_read_is_told_before_the_first_step() {
    const PROBLEM: &str = "traffic: no series \"canary\" for checkout.shop in the last 5 minutes";
    for (collector_is_down, told) in [(false, PROBLEM), (true, "metrics-collector does not answer")] {
        let service = Service::new().await;
        service.world.state().unready = vec![PROBLEM.into()];
        if collector_is_down {
            service.world.down("metrics-collector");
        }
        let id = service.create().await.id;
        let events = service.ports.store.events(&id, 0, 10).await.expect("events");
        let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["deployment.created", "metrics.unready"]);
        assert!(events[1].message.contains(told), "{}", events[1].message);
        service.world.all_up();
        service.until(&id, DeploymentState::Promoted).await;
    }
}

#[tokio::test]
async fn one_deployment_per_target() {
    let service = Service::new().await;
    service.world.add_policy("p2", "checkout", "shop");
    service.world.add_policy("p3", "cart", "shop");
    let first = service.create().await;
    let status = service.try_create(request("p2")).await.expect_err("the same object");
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "TARGET_BUSY"));
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata["deployment"], first.id);
    assert!(status.message().contains(&first.id), "{}", status.message());
    service.try_create(request("p3")).await.expect("another object");

    let abort = AbortDeploymentRequest { id: first.id.clone(), ..Default::default() };
    service.client.clone().abort_deployment(service.ask(abort)).await.expect("aborted");
    service.until(&first.id, DeploymentState::RolledBack).await;
    let second = service.create().await;
    assert_ne!(second.id, first.id);
    service.until(&second.id, DeploymentState::Promoted).await;
}

/// The gateway would take the exposed object for the baseline of the second deployment.
#[tokio::test]
async fn nothing_is_planned_on_a_target_that_is_under_deployment() {
    let service = Service::new().await;
    let first = service.create().await;
    service.world.down("mesh-gateway");
    let status = service.try_create(request("p1")).await.expect_err("the same object");
    assert_eq!(reason(&status), "TARGET_BUSY", "{}", status.message());
    let validate_only = CreateDeploymentRequest { validate_only: true, ..request("p1") };
    let status = service.try_create(validate_only).await.expect_err("the same object");
    assert_eq!(reason(&status), "TARGET_BUSY", "what is checked only is checked as well: {}", status.message());
    assert_eq!(service.get(&first.id).await.state(), DeploymentState::Pending);
}

#[tokio::test]
async fn a_repeat_returns_the_first_answer() {
    let service = Service::new().await;
    let asked = CreateDeploymentRequest { request_id: "5c1a".into(), ..request("p1") };
    let first = service.try_create(asked.clone()).await.expect("a deployment");
    assert_eq!(service.try_create(asked.clone()).await.expect("the same").id, first.id);
    assert_eq!(service.ports.store.list("", "", 10).await.expect("a list").len(), 1);
    let other = CreateDeploymentRequest { version: 2, ..asked };
    let status = service.try_create(other).await.expect_err("another request under the same id");
    assert_eq!((status.code(), reason(&status)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn a_repeat_returns_the_first_answer_whatever_happened_since() {
    let service = Service::new().await;
    let asked = CreateDeploymentRequest { request_id: "5c1a".into(), ..request("p1") };
    let first = service.try_create(asked.clone()).await.expect("a deployment");
    service.world.state().versions.get_mut("p1").expect("p1").obstacles = vec!["it is QUARANTINED".into()];
    assert_eq!(service.try_create(asked.clone()).await.expect("the same").id, first.id);
    service.world.down("policy-registry");
    assert_eq!(service.try_create(asked.clone()).await.expect("the same").id, first.id);

    let bob = Grant::new("bob", [Role::Developer]).within(["shop"]);
    let status = service.client.clone().create_deployment(service.ask_as(&bob, asked.clone())).await;
    assert_eq!(reason(&status.expect_err("an id belongs to who made it")), "PEER_UNAVAILABLE");
    let alice_elsewhere = Grant::new("alice", [Role::Developer]).within(["pay"]);
    let status = service.client.clone().create_deployment(service.ask_as(&alice_elsewhere, asked)).await;
    assert_eq!(status.expect_err("rights may have been taken away").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_only_validated_is_not_stored() {
    let service = Service::new().await;
    let asked = CreateDeploymentRequest { validate_only: true, request_id: "5c1a".into(), ..request("p1") };
    let checked = service.try_create(asked.clone()).await.expect("a plan");
    assert_eq!((checked.id.as_str(), checked.plan.is_some()), ("", true));
    nothing_is_stored(&service).await;
    let real = CreateDeploymentRequest { validate_only: false, ..asked };
    service.try_create(real).await.expect("its request id is not used up");
}

#[tokio::test]
async fn only_a_developer_of_the_namespace_creates() {
    let service = Service::new().await;
    let table = [
        (Grant::new("eve", [Role::Viewer]), false),
        (Grant::new("eve", [Role::Developer]).within(["pay"]), false),
        (Grant::new("eve", [Role::Service]), false),
        (Grant::new("eve", [Role::Admin]).within(["shop"]), true),
    ];
    for (who, allowed) in table {
        let asked = CreateDeploymentRequest { validate_only: true, ..request("p1") };
        let outcome = service.client.clone().create_deployment(service.ask_as(&who, asked)).await;
        let code = outcome.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(code, if allowed { Code::Ok } else { Code::PermissionDenied }, "{who:?}");
    }
    nothing_is_stored(&service).await;
}

#[tokio::test]
async fn every_slip_of_a_strategy_is_named() {
    type Spoil = fn(&mut Strategy);
    let service = Service::new().await;
    let table: [(Spoil, &[&str]); 13] = [
        (|s| s.steps[1].weight_bp = 1_000, &["strategy.steps[1].weight_bp"]),
        (|s| s.steps[0].weight_bp = 0, &["strategy.steps[0].weight_bp"]),
        (|s| s.steps[0].weight_bp = -1, &["strategy.steps[0].weight_bp"]),
        (|s| s.steps[2].weight_bp = 9_000, &["strategy.steps[2].weight_bp"]),
        (|s| s.steps.truncate(1), &["strategy.steps", "strategy.steps[0].weight_bp"]),
        (|s| s.steps[1].bake_time = Some(duration(Duration::ZERO)), &["strategy.steps[1].bake_time"]),
        (|s| s.bake_time = Some(meshward_proto::Duration { seconds: -1, nanos: 0 }), &["strategy.bake_time"]),
        (|s| s.analysis_interval = Some(duration(Duration::from_secs(301))), &["strategy.analysis_interval"]),
        (|s| s.propagation_quorum_bp = -1, &["strategy.propagation_quorum_bp"]),
        (|s| s.propagation_timeout = Some(duration(Duration::from_millis(999))), &["strategy.propagation_timeout"]),
        (|s| s.hold_timeout = Some(duration(Duration::from_secs(86_401))), &["strategy.hold_timeout"]),
        (|s| s.kind = 99, &["strategy.kind"]),
        (|s| s.on_no_data = 99, &["strategy.on_no_data"]),
    ];
    for (spoil, expected) in table {
        let mut spoiled = strategy();
        spoil(&mut spoiled);
        let asked = CreateDeploymentRequest { strategy: Some(spoiled), ..request("p1") };
        let status = service.try_create(asked).await.expect_err("refused");
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "FIELD_INVALID"), "{expected:?}");
        assert_eq!(fields(&status), expected);
    }
    let mut all = strategy();
    all.steps.iter_mut().for_each(|step| step.weight_bp = 5_000);
    all.hold_timeout = Some(duration(Duration::ZERO));
    let status = service.try_create(CreateDeploymentRequest { strategy: Some(all), ..request("p1") }).await;
    let expected = ["strategy.steps[1].weight_bp", "strategy.steps[2].weight_bp", "strategy.steps[2].weight_bp"];
    assert_eq!(
        fields(&status.expect_err("refused")),
        [&expected[..], &["strategy.hold_timeout"]].concat(),
        "all at once"
    );
    nothing_is_stored(&service).await;
}

#[tokio::test]
async fn other_slips_are_named_too() {
    let service = Service::new().await;
    let table = [
        (CreateDeploymentRequest { policy_id: String::new(), ..request("p1") }, Code::InvalidArgument, "FIELD_INVALID"),
        (CreateDeploymentRequest { version: -1, ..request("p1") }, Code::InvalidArgument, "FIELD_INVALID"),
        (request("nope"), Code::NotFound, "RESOURCE_NOT_FOUND"),
        (CreateDeploymentRequest { version: 7, ..request("p1") }, Code::NotFound, "RESOURCE_NOT_FOUND"),
        (
            CreateDeploymentRequest {
                strategy: Some(Strategy { kind: StrategyKind::BlueGreen.into(), ..strategy() }),
                ..request("p1")
            },
            Code::FailedPrecondition,
            "EXPOSURE_UNSUPPORTED",
        ),
    ];
    for (asked, code, expected) in table {
        let status = service.try_create(asked).await.expect_err(expected);
        assert_eq!((status.code(), reason(&status)), (code, expected), "{}", status.message());
    }
    let defaults = CreateDeploymentRequest { strategy: None, validate_only: true, ..request("p1") };
    let planned = service.try_create(defaults).await.expect("the default strategy");
    let steps = planned.strategy.expect("a strategy").steps;
    assert_eq!(steps.iter().map(|step| step.weight_bp).collect::<Vec<_>>(), [1_000, 3_000, 5_000, 9_000, 10_000]);
}

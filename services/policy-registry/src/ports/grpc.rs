//! The validator over gRPC, asked with the caller's own token.

use std::time::Duration;

use async_trait::async_trait;
use meshward_chassis::{
    client::{self, PeerChannel},
    problem::{Problem, reason_of},
};
use meshward_model::{Confidence, Digest, Finding, ObjectRef, Severity, Target};
use meshward_proto::{
    types::v1::{self as types, ErrorReason},
    validator::v1::{
        Context, DetectConflictsRequest, DryRunRequest, ValidateRequest, ValidatedObject,
        validator_service_client::ValidatorServiceClient,
    },
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status};

use super::{Bearer, CheckedObject, PeerError, Report, Text, Validator};

const PEER: &str = "the validator";
/// The object of a text comes back as JSON, which aliases can make longer than the text.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
const VALIDATE_WITHIN: Duration = Duration::from_secs(10);
/// A dry run goes through the gateway, the API server and the mesh's webhook.
const DRY_RUN_WITHIN: Duration = Duration::from_secs(20);

/// A validator service.
#[derive(Debug, Clone)]
pub struct GrpcValidator {
    client: ValidatorServiceClient<PeerChannel>,
}

impl GrpcValidator {
    /// The validator behind this channel.
    #[must_use]
    pub fn new(channel: PeerChannel) -> Self {
        Self { client: ValidatorServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES) }
    }
}

#[async_trait]
impl Validator for GrpcValidator {
    async fn validate(&self, text: &Text, caller: &Bearer) -> Result<Report, PeerError> {
        let Text { yaml, cluster } = text.clone();
        let request = prepare(ValidateRequest { yaml, cluster, ..Default::default() }, caller, VALIDATE_WITHIN)?;
        let answer = self.client.clone().validate(request).await.map_err(of_status)?.into_inner();
        report(answer.findings, answer.objects, answer.skipped)
    }

    async fn dry_run(&self, text: &Text, caller: &Bearer) -> Result<Report, PeerError> {
        let Text { yaml, cluster } = text.clone();
        // Among what is live in the cluster and what stands here (the validator asks back for it, as the caller): a policy
        // that is right by itself may be wrong there.
        let context = Some(Context { live: true, registry: true, ..Context::default() });
        let message = DryRunRequest { yaml, cluster, context, ..Default::default() };
        let request = prepare(message, caller, DRY_RUN_WITHIN)?;
        let answer = self.client.clone().dry_run(request).await.map_err(of_status)?.into_inner();
        report(answer.findings, answer.objects, answer.skipped)
    }

    async fn removal(&self, target: &Target, caller: &Bearer) -> Result<Vec<Finding>, PeerError> {
        let Target { cluster, api_version, kind, namespace, name, .. } = target.clone();
        let removed = vec![types::ObjectRef { api_version, kind, namespace, name }];
        let context = Some(Context { live: true, registry: true, ..Context::default() });
        let message = DetectConflictsRequest { cluster, context, removed, ..Default::default() };
        let request = prepare(message, caller, DRY_RUN_WITHIN)?;
        let answer = self.client.clone().detect_conflicts(request).await.map_err(of_status)?.into_inner();
        report(answer.findings, Vec::new(), answer.skipped).map(|report| report.findings)
    }
}

fn prepare<T>(message: T, caller: &Bearer, within: Duration) -> Result<Request<T>, PeerError> {
    let mut request = client::with_deadline(Request::new(message), within);
    if let Some(token) = caller.token() {
        client::bearer(&mut request, token).map_err(PeerError::Refused)?;
    }
    Ok(request)
}

/// What concerns the caller is passed on as it is; everything else means that there is no report now.
fn of_status(status: Status) -> PeerError {
    let code = status.code();
    let passed_on = matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
    );
    if !passed_on {
        return PeerError::Unavailable { peer: PEER, message: status.message().to_owned() };
    }
    let reason = reason_of(&status).unwrap_or(ErrorReason::Unspecified);
    PeerError::Refused(Problem::new(code, reason, format!("{PEER}: {}", status.message())))
}

fn report(
    findings: Vec<types::Finding>,
    objects: Vec<ValidatedObject>,
    skipped: Vec<String>,
) -> Result<Report, PeerError> {
    let findings = findings.into_iter().map(Finding::try_from).collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let objects = objects.into_iter().map(checked).collect::<Result<_, _>>()?;
    Ok(Report { findings: findings.into_iter().chain(skipped.into_iter().map(not_run)).collect(), objects })
}

/// Recomputes the digest: approvals are bound to it, so it is not taken on trust. Over the text, not over what parsing
/// it gives: a number that a parser rounds must not change it.
fn checked(object: ValidatedObject) -> Result<CheckedObject, PeerError> {
    let target = object.target.ok_or_else(|| broken("an object has no target"))?;
    let target = Target::try_from(target).map_err(broken)?;
    let hash = Sha256::digest(&object.canonical_json);
    let hash = hash.iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"));
    if hash != object.digest {
        return Err(broken("a digest does not fit its object"));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(&object.canonical_json).map_err(broken)?;
    let digest = Digest::try_from(hash).map_err(broken)?;
    Ok(CheckedObject { target, canonical_json: object.canonical_json, digest })
}

/// A rule that did not run is shown to the approver like a finding: nobody shall take silence for a pass.
fn not_run(why: String) -> Finding {
    Finding {
        id: "MW0000".into(),
        slug: "validator/skipped".into(),
        aliases: vec![],
        severity: Severity::Info,
        confidence: Confidence::Definite,
        object: ObjectRef::default(),
        path: String::new(),
        at: None,
        message: format!("not checked: {why}"),
        suggestion: String::new(),
        details: Box::default(),
    }
}

fn broken(what: impl ToString) -> PeerError {
    PeerError::Broken { peer: PEER, message: what.to_string() }
}

//! A text before every RPC that judges one; the tests of the whole use it too.

use futures::stream;
use meshward_chassis::client::PeerChannel;
use meshward_proto::{
    types::v1::Finding,
    validator::v1::{
        AnalyzeImpactRequest, DetectConflictsRequest, DryRunRequest, ExplainPolicyRequest, ValidateBatchRequest,
        ValidateRequest, ValidateStreamRequest, WhatIfRequest, validator_service_client::ValidatorServiceClient,
    },
};
use tonic::{Code, Extensions, Request, Status, metadata::MetadataMap};

/// What one of them says.
#[derive(Debug)]
pub struct Said {
    pub rpc: &'static str,
    /// Its findings, or the refusal of a text that cannot be explained.
    pub told: String,
    pub skipped: Vec<String>,
}

/// The one that says nothing of schemas.
pub const WITHOUT_SCHEMA: &str = "DetectConflicts";

/// What all of them say of a text that is meant for a cluster; empty = none.
pub async fn ask(
    mut client: ValidatorServiceClient<PeerChannel>,
    token: &MetadataMap,
    yaml: &str,
    cluster: &str,
) -> Result<Vec<Said>, Status> {
    let mut all = Vec::new();
    let mut say = |rpc, findings: Vec<Finding>, skipped| all.push(Said { rpc, told: format!("{findings:?}"), skipped });
    let (yaml, cluster) = (yaml.to_owned(), cluster.to_owned());

    let ask = ValidateRequest { yaml: yaml.clone(), cluster: cluster.clone(), ..Default::default() };
    let answer = client.validate(signed(token, ask)).await?.into_inner();
    say("Validate", answer.findings, answer.skipped);

    let ask = DryRunRequest { yaml: yaml.clone(), cluster: cluster.clone(), ..Default::default() };
    let answer = client.dry_run(signed(token, ask)).await?.into_inner();
    say("DryRun", answer.findings, answer.skipped);

    let ask = DetectConflictsRequest { yaml: yaml.clone(), cluster: cluster.clone(), ..Default::default() };
    let answer = client.detect_conflicts(signed(token, ask)).await?.into_inner();
    say(WITHOUT_SCHEMA, answer.findings, answer.skipped);

    let ask =
        ValidateBatchRequest { yaml: vec![yaml.clone()], keep: true, cluster: cluster.clone(), ..Default::default() };
    let answer = client.validate_batch(signed(token, ask)).await?.into_inner();
    say("ValidateBatch", answer.findings, answer.skipped);

    let ask = WhatIfRequest { session: answer.session, yaml: yaml.clone() };
    let answer = client.what_if(signed(token, ask)).await?.into_inner();
    say("WhatIf", answer.findings, answer.skipped);

    // The second message names no cluster: it is the first that counts.
    let first = ValidateStreamRequest { yaml: yaml.clone(), cluster: cluster.clone(), ..Default::default() };
    let second = ValidateStreamRequest { cluster: String::new(), ..first.clone() };
    let mut answers = client.validate_stream(signed(token, stream::iter([first, second]))).await?.into_inner();
    let (mut findings, mut skipped) = (Vec::new(), Vec::new());
    while let Some(answer) = answers.message().await? {
        findings.extend(answer.findings);
        skipped.extend(answer.summary.into_iter().flat_map(|summary| summary.skipped));
    }
    let of_second = findings.iter().filter(|finding| finding.source == "yaml[1]").cloned().collect();
    say("ValidateStream", findings, skipped.clone());
    say("ValidateStream, second message", of_second, skipped);

    let ask = AnalyzeImpactRequest { yaml: yaml.clone(), cluster: cluster.clone(), ..Default::default() };
    let answer = client.analyze_impact(signed(token, ask)).await?.into_inner();
    say("AnalyzeImpact", answer.findings, answer.skipped);

    let (told, skipped) = match client.explain_policy(signed(token, ExplainPolicyRequest { yaml, cluster })).await {
        Ok(answer) => (String::new(), answer.into_inner().skipped),
        Err(refused) if refused.code() == Code::InvalidArgument => (refused.message().to_owned(), Vec::new()),
        Err(status) => return Err(status),
    };
    all.push(Said { rpc: "ExplainPolicy", told, skipped });
    Ok(all)
}

fn signed<T>(token: &MetadataMap, message: T) -> Request<T> {
    Request::from_parts(token.clone(), Extensions::default(), message)
}

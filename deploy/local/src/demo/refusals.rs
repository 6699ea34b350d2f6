//! Input that must be turned away: broken and hostile texts, callers without the right, versions that nobody approved.

use meshward_proto::{
    registry::v1::{
        ApprovePolicyRequest, CreatePolicyRequest, DeletePolicyRequest, ListPoliciesRequest, SubmitPolicyRequest,
    },
    rollout::v1::CreateDeploymentRequest,
};
use tonic::{Code, Request, Status};

use super::{
    policies, say,
    services::{Services, ask},
};

/// One attempt and what came of it.
pub struct Refusal {
    /// What was tried.
    pub what: String,
    /// It was refused as promised, and nothing was stored.
    pub held: bool,
    /// The answer.
    pub answer: String,
}

/// Tries everything that must be refused.
///
/// # Errors
/// If a service does not answer what the attempts are built on.
pub async fn try_all(services: &Services) -> anyhow::Result<Vec<Refusal>> {
    let mut found = Vec::new();
    for (what, yaml) in texts() {
        let answer =
            create(services, ask(&services.developer, CreatePolicyRequest { yaml, ..Default::default() })?).await;
        found.push(refusal(what, &answer, Code::InvalidArgument, &["line", "column"]));
    }
    let good = || CreatePolicyRequest { yaml: policies::good(), ..Default::default() };
    let answer = create(services, Request::new(good())).await;
    found.push(refusal("a call without a token", &answer, Code::Unauthenticated, &["token"]));
    let answer = create(services, ask("not.a.token", good())?).await;
    found.push(refusal("a call with a wrong token", &answer, Code::Unauthenticated, &["token"]));
    let answer = create(services, ask(&services.viewer, good())?).await;
    found.push(refusal("a viewer who writes", &answer, Code::PermissionDenied, &["developer"]));
    unapproved(services, &mut found).await?;

    let list = services.registry()?.list_policies(ask(&services.developer, ListPoliciesRequest::default())?).await?;
    let stored = list.into_inner().policies.len();
    for refusal in &mut found {
        refusal.held &= stored == 0;
        say(format!("  {}: {}", refusal.what, refusal.answer));
    }
    Ok(found)
}

async fn create(services: &Services, request: Request<CreatePolicyRequest>) -> Result<(), Status> {
    let mut registry = services.registry().map_err(|error| Status::unknown(error.to_string()))?;
    registry.create_policy(request).await.map(drop)
}

/// A draft, a version that its author approves, and a deployment of what was never approved; the policy is deleted afterwards.
async fn unapproved(services: &Services, found: &mut Vec<Refusal>) -> anyhow::Result<()> {
    let mut registry = services.registry()?;
    let request = CreatePolicyRequest { yaml: policies::good(), ..Default::default() };
    let created = registry.create_policy(ask(&services.admin, request)?).await?.into_inner();
    let (policy, version) = (created.policy.unwrap_or_default(), created.version.unwrap_or_default());
    let deploy = CreateDeploymentRequest { policy_id: policy.id.clone(), ..Default::default() };
    let answer = services.orchestrator()?.create_deployment(ask(&services.developer, deploy)?).await.map(drop);
    found.push(refusal(
        "a deployment of what nobody approved",
        &answer,
        Code::FailedPrecondition,
        &["DRAFT", "approved"],
    ));
    let submit = SubmitPolicyRequest { id: policy.id.clone(), ..Default::default() };
    registry.submit_policy(ask(&services.admin, submit)?).await?;
    let approve = ApprovePolicyRequest { id: policy.id.clone(), digest: version.digest, ..Default::default() };
    let answer = registry.approve_policy(ask(&services.admin, approve)?).await.map(drop);
    found.push(refusal("an approval by the author", &answer, Code::PermissionDenied, &["wrote"]));
    registry.delete_policy(ask(&services.admin, DeletePolicyRequest { id: policy.id, ..Default::default() })?).await?;
    Ok(())
}

fn refusal(what: impl Into<String>, answer: &Result<(), Status>, code: Code, parts: &[&str]) -> Refusal {
    let what = what.into();
    match answer {
        Ok(()) => Refusal { what, held: false, answer: "it was accepted".into() },
        Err(status) => {
            // The violations are in the details; their text is what people read.
            let text =
                format!("{:?}: {} {}", status.code(), status.message(), String::from_utf8_lossy(status.details()));
            let held = status.code() == code && parts.iter().all(|part| text.contains(part));
            let answer = if held { format!("{:?}: {}", status.code(), status.message()) } else { text };
            Refusal { what, held, answer: answer.lines().next().unwrap_or_default().chars().take(200).collect() }
        }
    }
}

/// Texts that must be refused with line and column.
fn texts() -> Vec<(&'static str, String)> {
    let good = policies::good();
    let with_spec = |line: &str| good.replacen("spec:", &format!("spec:\n  {line}"), 1);
    let bomb: String =
        (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))).collect();
    vec![
        ("a text over 1 MiB", format!("# {}\n{good}", "x".repeat(1 << 20))),
        ("a text nested too deeply", with_spec(&format!("x: {}{}", "[".repeat(70), "]".repeat(70)))),
        ("an alias bomb", format!("a0: &a0 x\n{bomb}{good}")),
        ("a key that stands twice", with_spec("hosts: [a]")),
        ("a kind that is no policy", good.replacen("kind: VirtualService", "kind: Deployment", 1)),
        ("an unknown field", with_spec("hostz: [a]")),
        ("a text that is no YAML", "spec: [".to_owned()),
    ]
}

//! `--keep`: what one can paste.

use super::{Mesh, Services, policies, say};
use crate::tools::Tools;

/// Prints addresses, and lines for grpcurl and curl that work as they are; returns the lines.
pub fn print(mesh: &Mesh, services: &Services, tools: &Tools) -> Vec<String> {
    say("\nEverything is left running until you end this (Ctrl-C).\n");
    say(format!("  kubeconfig   {}", mesh.place().kubeconfig.display()));
    say(format!("  Prometheus   {}", mesh.place().prometheus));
    say(format!("  istiod       {}/debug/syncz", mesh.place().istiod));
    for (name, address) in services.addresses() {
        say(format!("  {name:<22} http://{address}"));
    }
    say("\nTo paste:\n");
    let lines = lines(mesh, services, tools);
    for line in &lines {
        say(line);
    }
    lines
}

/// The lines, each a whole shell command that succeeds.
fn lines(mesh: &Mesh, services: &Services, tools: &Tools) -> Vec<String> {
    let address = |wanted: &str| {
        let found = services.addresses().into_iter().find(|(name, _)| *name == wanted);
        found.map(|(_, address)| address.to_string()).unwrap_or_default()
    };
    let (registry, orchestrator, validator) =
        (address("policy-registry"), address("rollout-orchestrator"), address("validator"));
    let token = &services.developer;
    let grpcurl = tools.grpcurl.display();
    let rollout = "meshward.rollout.v1.RolloutOrchestratorService";
    vec![
        format!("{grpcurl} -plaintext {registry} list"),
        format!("{grpcurl} -plaintext {registry} describe meshward.registry.v1.PolicyRegistryService"),
        format!(
            "{grpcurl} -plaintext -H 'authorization: Bearer {token}' {registry} \
             meshward.registry.v1.PolicyRegistryService/ListPolicies"
        ),
        format!("{grpcurl} -plaintext -H 'authorization: Bearer {token}' {orchestrator} {rollout}/ListDeployments"),
        format!("curl -sSf -H 'authorization: Bearer {token}' http://{registry}/api/v1/policies"),
        format!("curl -sSf -H 'authorization: Bearer {token}' http://{orchestrator}/api/v1/deployments"),
        format!(
            "curl -sSf -H 'authorization: Bearer {token}' -H 'content-type: application/json' -d '{{\"yaml\": \"kind: VirtualService\"}}' \
             http://{validator}/api/v1/validation/validate"
        ),
        format!("curl -sSf -D - -H 'Host: {}' http://{}/", policies::host(), mesh.entry()),
    ]
}

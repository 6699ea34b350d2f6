//! What is installed in a cluster once, beside the services: the admission policy that gives new pods the stable label.

use super::{Stack, StackError, objects};

/// As whoever may installs it in a cluster: `kubectl apply -f services/mesh-gateway/admission.yaml`.
const MANIFESTS: &str = include_str!("../../../../services/mesh-gateway/admission.yaml");
const API: &str = "admissionregistration.k8s.io/v1";
const RESOURCE: &str = "mutatingadmissionpolicies";

impl Stack {
    /// Installs it. False = the API server does not serve such policies, and mesh-gateway labels new pods by its own watch.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses it.
    pub async fn install_admission(&self) -> Result<bool, StackError> {
        let served = self.client().list_api_group_resources(API).await;
        let served = served.map_err(StackError::kubernetes(API.to_owned()))?;
        if !served.resources.iter().any(|resource| resource.name == RESOURCE) {
            return Ok(false);
        }
        objects::apply_all(self.client(), &objects::parse_documents(MANIFESTS, "admission.yaml")?).await?;
        Ok(true)
    }
}

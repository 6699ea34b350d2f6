//! Accounts that may do no more than they are told.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::{ApiServer, NAMESPACE, StackError, error, objects};

const RBAC: &str = "rbac.authorization.k8s.io";

impl ApiServer {
    /// The token of a new account that may do nothing yet.
    ///
    /// # Errors
    /// [`StackError`] when there is one of that name.
    pub async fn account(&self, name: &str) -> Result<String, StackError> {
        let what = |error| StackError::kubernetes(format!("ServiceAccount {name}"))(error);
        let api = Api::<ServiceAccount>::namespaced(self.client().clone(), NAMESPACE);
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(name.to_owned());
        api.create(&PostParams::default(), &account).await.map_err(what)?;
        let asked = api.create_token_request(name, &PostParams::default(), &TokenRequest::default()).await;
        let given = asked.map_err(what)?.status.map(|status| status.token);
        given.ok_or_else(|| StackError::malformed(format!("the token of {name}"), "there is none"))
    }

    /// Lets an account do this everywhere, and nothing else; `rules` are those of a ClusterRole. The API server itself may
    /// take a moment to know it.
    ///
    /// # Errors
    /// [`StackError`] when the rules are none.
    pub async fn allow(&self, name: &str, rules: &Value) -> Result<(), StackError> {
        let (version, metadata) = (format!("{RBAC}/v1"), json!({"name": name}));
        let role = json!({"apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules});
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE});
        let role_ref = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": name});
        let binding = json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata,
                             "subjects": [subject], "roleRef": role_ref});
        objects::apply_all(self.client(), &[role, binding]).await
    }

    /// A kubeconfig with another address or token than the administrator's.
    ///
    /// # Errors
    /// [`StackError`] when the administrator's is gone.
    pub fn kubeconfig_with(&self, address: Option<&str>, token: Option<&str>) -> Result<Value, StackError> {
        let text = error::read(self.kubeconfig())?;
        let parsed = serde_yaml::from_str::<Value>(&text);
        let mut config = parsed.map_err(|why| StackError::malformed("the kubeconfig", why))?;
        if let Some(address) = address {
            config["clusters"][0]["cluster"]["server"] = json!(address);
        }
        if let Some(token) = token {
            config["users"][0]["user"]["token"] = json!(token);
        }
        Ok(config)
    }
}

//! Kubeconfigs: from files of the operator, and from Secrets.
//!
//! A Secret is written by whoever may write it, so a kubeconfig from one must bring all that it needs: it may name no
//! file of the gateway's machine, run no program there, and act as nobody else. What is wrong with it is said without
//! a word of what is in it.

use std::path::Path;

use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};

/// Reads a file of the operator's.
pub(super) async fn of_file(file: &Path, context: Option<&str>) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let kubeconfig = Kubeconfig::read_from(file)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

/// Reads what a Secret holds.
pub(super) async fn of_secret(text: &[u8]) -> Result<kube::Config, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it holds no text".to_owned())?;
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| "it holds no kubeconfig".to_owned())?;
    let users = kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    let clusters = kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref());
    if let Some(field) = users.filter_map(foreign_to_user).chain(clusters.filter_map(foreign_to_cluster)).next() {
        return Err(format!("its kubeconfig has {field:?}, which only a file of the operator may have"));
    }
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.map_err(|_| "its kubeconfig names no cluster and user that can be used".to_owned())
}

fn foreign_to_user(user: &AuthInfo) -> Option<&'static str> {
    let foreign = [
        ("exec", user.exec.is_some()),
        ("auth-provider", user.auth_provider.is_some()),
        ("tokenFile", user.token_file.is_some()),
        ("client-certificate", user.client_certificate.is_some()),
        ("client-key", user.client_key.is_some()),
        ("as", user.impersonate.is_some()),
    ];
    foreign.into_iter().find_map(|(field, is_there)| is_there.then_some(field))
}

fn foreign_to_cluster(cluster: &Cluster) -> Option<&'static str> {
    let insecure = cluster.insecure_skip_tls_verify == Some(true);
    let foreign = [
        ("certificate-authority", cluster.certificate_authority.is_some()),
        ("proxy-url", cluster.proxy_url.is_some()),
        ("insecure-skip-tls-verify", insecure),
    ];
    foreign.into_iter().find_map(|(field, is_there)| is_there.then_some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:9\"{cluster}}}}}], \
             users: [{{name: u, user: {{token: hush{user}}}}}]}}"
        )
    }

    async fn refusal(text: &str) -> String {
        of_secret(text.as_bytes()).await.err().unwrap_or_default()
    }

    #[tokio::test]
    async fn a_secret_brings_all_that_it_needs_and_nothing_of_it_is_told() {
        assert_eq!(refusal(&kubeconfig("", "")).await, "");
        for (cluster, user, field) in [
            ("", ", tokenFile: /etc/passwd", "tokenFile"),
            ("", ", exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}", "exec"),
            ("", ", auth-provider: {name: hush, config: {}}", "auth-provider"),
            ("", ", client-key: /k", "client-key"),
            ("", ", client-certificate: /k", "client-certificate"),
            ("", ", as: admin", "as"),
            (", certificate-authority: /etc/passwd", "", "certificate-authority"),
            (", proxy-url: \"http://hush\"", "", "proxy-url"),
            (", insecure-skip-tls-verify: true", "", "insecure-skip-tls-verify"),
        ] {
            let why = refusal(&kubeconfig(cluster, user)).await;
            assert!(why.contains(&format!("\"{field}\"")) && !why.contains("hush"), "{field}: {why}");
        }
        for text in ["hush", "- hush", "users: hush", "{current-context: hush}", "a: [hush"] {
            let why = refusal(text).await;
            assert!(why.starts_with("it") && !why.contains("hush"), "{text}: {why}");
        }
    }
}

//! kube-apiserver, with an administrator's token, real authorization (RBAC) and an audit log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::{READY, StackError, error, free_address};
use crate::process::{Process, Program};
use crate::tools::Tools;

/// How the API server is reached.
#[derive(Clone)]
pub(crate) struct Api {
    pub url: String,
    pub kubeconfig: PathBuf,
    pub client: kube::Client,
    pub audit_log: PathBuf,
}

/// Every request once, when it has been answered, without bodies: enough to count writes and to see who wrote.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// Starts the API server; returns when it says that it is ready.
pub(crate) async fn start(
    dir: &Path,
    tools: &Tools,
    logs: &Path,
    etcd_url: &str,
) -> Result<(Process, Api), StackError> {
    error::create_dir(dir)?;
    let address = free_address()?;
    let url = format!("https://{address}");
    let token = random_token()?;
    let audit_log = logs.join("audit.log");
    error::write(&dir.join("tokens.csv"), format!("{token},admin,admin,\"system:masters\"\n"))?;
    let (private_key, public_key) = signing_key()?;
    error::write(&dir.join("service-accounts.key"), private_key)?;
    error::write(&dir.join("service-accounts.pub"), public_key)?;
    error::write(&dir.join("audit-policy.yaml"), AUDIT_POLICY)?;
    let file = |name: &str| dir.join(name).display().to_string();
    let program = Program::new("kube-apiserver", &tools.control_plane).directory(dir).args([
        "kube-apiserver".to_owned(),
        format!("--etcd-servers={etcd_url}"),
        format!("--cert-dir={}", file("certs")),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", address.port()),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        // No controller makes the default service accounts here, so pods need not have one.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--audit-policy-file={}", file("audit-policy.yaml")),
        format!("--audit-log-path={}", audit_log.display()),
    ]);
    let process = Process::start(program, logs).await?;
    let authority = wait_for_certificate(&process, &dir.join("certs/apiserver.crt")).await?;
    let kubeconfig = dir.join("kubeconfig");
    let client = client(&url, &token, &authority, &kubeconfig).await?;
    process.ready(READY, || is_ready(&client)).await?;
    Ok((process, Api { url, kubeconfig, client, audit_log }))
}

/// The server makes its own certificate at its start, together with the authority that signed it.
async fn wait_for_certificate(process: &Process, file: &Path) -> Result<String, StackError> {
    process.ready(READY, || async { complete_certificate(file).map(drop) }).await?;
    complete_certificate(file).map_err(|why| StackError::malformed("the API server's certificate", why))
}

fn complete_certificate(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let whole = text.matches("-----END CERTIFICATE-----").count() >= 2;
    if whole { Ok(text) } else { Err(format!("{} is not complete yet", file.display())) }
}

async fn client(url: &str, token: &str, authority: &str, file: &Path) -> Result<kube::Client, StackError> {
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{"name": "local", "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(authority)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
    });
    let malformed = |why: &dyn std::fmt::Display| StackError::malformed("the kubeconfig", why);
    let text = serde_yaml::to_string(&content).map_err(|why| malformed(&why))?;
    error::write(file, text)?;
    let kubeconfig: Kubeconfig = serde_json::from_value(content).map_err(|why| malformed(&why))?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|why| malformed(&why))?;
    kube::Client::try_from(config).map_err(StackError::kubernetes("the client of the API server"))
}

async fn is_ready(client: &kube::Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("/readyz: {error}")),
        Err(_) => Err("/readyz: no answer in 5 s".to_owned()),
    }
}

/// 128 random bits in hexadecimal.
fn random_token() -> Result<String, StackError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|why| StackError::malformed("the administrator's token", why))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The key pair that signs service account tokens and checks them, as PEM: private, public.
fn signing_key() -> Result<(String, String), StackError> {
    let malformed = |why: &dyn std::fmt::Display| StackError::malformed("the key of service accounts", why);
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|why| malformed(&why))?;
    let private = pair.to_pkcs8v1().map_err(|why| malformed(&why))?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|why| malformed(&why))?;
    Ok((pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn pem(label: &str, content: &[u8]) -> String {
    let body = STANDARD.encode(content);
    let lines = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect::<String>();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

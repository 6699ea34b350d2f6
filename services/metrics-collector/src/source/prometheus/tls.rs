//! TLS to Prometheus: whom we trust, and who we are.

use std::{path::PathBuf, sync::Mutex, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Files in PEM. They are read for each query, so that a certificate can be renewed; nothing of them is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that Prometheus' own certificate must lead to; without it, those that the
    /// machine trusts.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, with those between it and the authority, and its key.
    pub identity: Option<IdentityFiles>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Content {
    ca: Option<Vec<u8>>,
    identity: Option<Vec<u8>>,
}

/// The HTTP client for one Prometheus; made anew when the files have changed, kept with its connections otherwise.
pub(super) struct Clients {
    tls: Tls,
    current: Mutex<Option<(Content, Client)>>,
}

impl Clients {
    pub(super) fn new(tls: Tls) -> Self {
        Self { tls, current: Mutex::default() }
    }

    /// # Errors
    /// If a file cannot be used: a sentence without its content.
    pub(super) async fn client(&self) -> Result<Client, String> {
        let content = self.read().await?;
        let mut current = self.current.lock().expect("no holder panics");
        if let Some((_, client)) = current.as_ref().filter(|(known, _)| *known == content) {
            return Ok(client.clone());
        }
        let client = self.make(&content)?;
        *current = Some((content, client.clone()));
        Ok(client)
    }

    async fn read(&self) -> Result<Content, String> {
        let ca = match &self.tls.ca_file {
            Some(file) => Some(read(file).await?),
            None => None,
        };
        let identity = match &self.tls.identity {
            Some(IdentityFiles { cert_file, key_file }) => {
                let (mut both, key) = (read(cert_file).await?, read(key_file).await?);
                both.push(b'\n');
                both.extend(key);
                Some(both)
            }
            None => None,
        };
        Ok(Content { ca, identity })
    }

    fn make(&self, content: &Content) -> Result<Client, String> {
        let mut builder = plain();
        if let (Some(ca), Some(file)) = (&content.ca, &self.tls.ca_file) {
            let unusable = || format!("{} holds no certificates in PEM", file.display());
            let certificates = Certificate::from_pem_bundle(ca).map_err(|_| unusable())?;
            if certificates.is_empty() {
                return Err(unusable());
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let (Some(both), Some(IdentityFiles { cert_file, key_file })) = (&content.identity, &self.tls.identity) {
            let unusable =
                |_| format!("{} and {} are no certificate and key in PEM", cert_file.display(), key_file.display());
            builder = builder.identity(Identity::from_pem(both).map_err(unusable)?);
        }
        // What a certificate and a key that do not fit each other are told of holds neither.
        builder.build().map_err(|error| meshward_chassis::problem::chain(&error))
    }
}

fn plain() -> ClientBuilder {
    Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none()).no_proxy()
}

async fn read(file: &PathBuf) -> Result<Vec<u8>, String> {
    tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))
}

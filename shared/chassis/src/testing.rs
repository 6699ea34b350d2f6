//! For tests and the local demo: an issuer of tokens and servers on loopback. Nothing here belongs in production.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use clap::Parser;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Role,
    server::{ConfigError, Server, ServerArgs},
};

/// The `iss` of a [`TestIssuer`]'s tokens.
pub const ISSUER: &str = "https://issuer.meshward.test";
/// The `aud` of a [`TestIssuer`]'s tokens.
pub const AUDIENCE: &str = "meshward";

/// Makes a P-256 key, writes its public half as a key set, and signs tokens with ES256.
pub struct TestIssuer {
    key: EncodingKey,
    kid: String,
    jwks: PathBuf,
}

/// What a token says. `Grant::new("alice", [Role::Developer])` is valid for an hour in all namespaces.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The `sub` claim.
    pub subject: String,
    /// The `roles` claim.
    pub roles: BTreeSet<Role>,
    /// The `namespaces` claim.
    pub namespaces: BTreeSet<String>,
    /// How long the token is valid.
    pub ttl: Duration,
}

impl Grant {
    /// Roles in all namespaces, for an hour.
    pub fn new(subject: &str, roles: impl IntoIterator<Item = Role>) -> Self {
        Self {
            subject: subject.to_owned(),
            roles: roles.into_iter().collect(),
            namespaces: BTreeSet::from(["*".to_owned()]),
            ttl: Duration::from_secs(3600),
        }
    }

    /// The same in these namespaces only.
    #[must_use]
    pub fn within<'a>(mut self, namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        self.namespaces = namespaces.into_iter().map(str::to_owned).collect();
        self
    }

    /// The same with another time to live.
    #[must_use]
    pub fn valid_for(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }
}

impl TestIssuer {
    /// A new key; writes `jwks.json` into `directory`.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If the crypto library cannot make a key.
    pub fn new(directory: &Path) -> std::io::Result<Self> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("a P-256 key can be made");
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let jwks = directory.join("jwks.json");
        std::fs::write(&jwks, key_set(&[public_key(&key, Algorithm::ES256, "test-1")]).to_string())?;
        Ok(Self { key, kid: "test-1".to_owned(), jwks })
    }

    /// The key set's file, for `--jwks`.
    pub fn jwks_path(&self) -> &Path {
        &self.jwks
    }

    /// A token that begins now, by the machine's clock.
    pub fn mint(&self, grant: &Grant) -> String {
        self.mint_at(grant, crate::clock::Clock::now(&crate::clock::SystemClock))
    }

    /// A token that begins at `now`.
    pub fn mint_at(&self, grant: &Grant, now: Timestamp) -> String {
        self.sign(&claims(grant, now))
    }

    /// Signs any claims: for tests that need wrong ones.
    ///
    /// # Panics
    /// If the crypto library cannot sign.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.key).expect("a P-256 key signs")
    }

    /// Flags for a server on free loopback ports that trusts this issuer.
    pub fn server_args(&self) -> ServerArgs {
        let jwks = self.jwks.to_string_lossy();
        server_args(&jwks)
    }
}

/// Flags for a server on free loopback ports that trusts the key set at `jwks` for [`ISSUER`] and [`AUDIENCE`].
pub fn server_args(jwks: &str) -> ServerArgs {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        server: ServerArgs,
    }
    let flags =
        ["test", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log=warn", "--jwks", jwks, "--jwt-issuer"];
    Only::parse_from(flags.into_iter().chain([ISSUER, "--jwt-audience", AUDIENCE])).server
}

/// The claims of a grant that begins at `now`.
pub fn claims(grant: &Grant, now: Timestamp) -> Value {
    let begin = now.as_second();
    let ttl = i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX);
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": grant.subject,
        "nbf": begin,
        "iat": begin,
        "exp": begin.saturating_add(ttl),
        "roles": grant.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "namespaces": grant.namespaces,
    })
}

/// The public half of a signing key as a JSON Web Key.
///
/// # Panics
/// If the key does not fit the algorithm.
pub fn public_key(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).expect("the key fits its algorithm");
    jwk.common.key_id = Some(kid.to_owned());
    serde_json::to_value(jwk).expect("a key is JSON")
}

/// A JSON Web Key Set.
pub fn key_set(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

/// A server that runs in this process until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it serves gRPC and HTTP/JSON.
    pub addr: SocketAddr,
    /// Where it serves metrics and probes.
    pub admin_addr: Option<SocketAddr>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ConfigError>>,
}

/// Serves in the background.
pub fn spawn(server: Server) -> Running {
    let (addr, admin_addr) = (server.bound_addr(), server.bound_admin_addr());
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
    Running { addr, admin_addr, stop, task }
}

impl Running {
    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Begins the shutdown without waiting for its end.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Shuts down and waits for the end of the drain.
    ///
    /// # Errors
    /// What [`Server::serve`] returned.
    ///
    /// # Panics
    /// If the server's task panicked.
    pub async fn stop(mut self) -> Result<(), ConfigError> {
        self.stop.cancel();
        (&mut self.task).await.expect("the server's task does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

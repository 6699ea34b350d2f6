//! The key set (JWKS) that tokens are verified with: a file or a URL, kept in memory and read again when it may have
//! changed.
//!
//! A file is read again when its modification time or size changes, a URL when the copy is older than five minutes. A
//! token with an unknown `kid` also triggers a read, at most once per interval, so that a rotated key works at once and
//! a flood of made-up ones does not reach the issuer. Readers wait for one running read instead of starting another. If
//! a read fails, the last good keys stay in use.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, RwLock},
    time::{Duration, Instant, SystemTime},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm},
};
use meshward_proto::types::v1::ErrorReason;

use crate::problem::{Problem, chain};

/// Largest key set that is read, bytes.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
const MAX_AGE: Duration = Duration::from_secs(300);
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// A modulus of 2048 bits is 342 characters of base64url.
const MIN_RSA_MODULUS_CHARS: usize = 342;

/// One public key and the only algorithm that it may be used with.
pub struct VerificationKey {
    pub(crate) key: DecodingKey,
    pub(crate) algorithm: Algorithm,
}

/// A cached key set.
pub struct KeySet {
    source: Source,
    min_interval: Duration,
    state: RwLock<State>,
    refreshing: tokio::sync::Mutex<()>,
}

enum Source {
    File(PathBuf),
    Url { url: reqwest::Url, http: reqwest::Client },
}

#[derive(Default, Clone)]
struct State {
    keys: Option<Arc<HashMap<String, Arc<VerificationKey>>>>,
    file_stamp: Option<(SystemTime, u64)>,
    read_at: Option<Instant>,
    tried_at: Option<Instant>,
    last_error: Option<String>,
}

impl KeySet {
    /// A key set at `location`: a path, or a URL with http or https. Nothing is read yet.
    ///
    /// # Errors
    /// A sentence, if the URL is malformed or no HTTP client can be made.
    pub fn at(location: &str) -> Result<Self, String> {
        let source = if location.starts_with("http://") || location.starts_with("https://") {
            let url = location.parse().map_err(|error| format!("{location:?} is not a URL: {error}"))?;
            let http = reqwest::Client::builder()
                .timeout(FETCH_DEADLINE)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|error| format!("no HTTP client: {}", chain(&error)))?;
            Source::Url { url, http }
        } else {
            Source::File(PathBuf::from(location))
        };
        Ok(Self {
            source,
            min_interval: MIN_INTERVAL,
            state: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
        })
    }

    /// Changes how soon an unknown key may cause another read; the default is 5 seconds.
    #[must_use]
    pub fn with_min_interval(mut self, interval: Duration) -> Self {
        self.min_interval = interval;
        self
    }

    /// The key of that id, or `None` if a current set does not hold it.
    ///
    /// # Errors
    /// UNAVAILABLE if the key is not known and the set cannot be read now.
    pub async fn find(&self, kid: &str) -> Result<Option<Arc<VerificationKey>>, Problem> {
        if self.may_have_changed() {
            self.refresh_stale(kid).await;
        }
        if let Some(key) = self.known(kid) {
            return Ok(Some(key));
        }
        let lock = self.refreshing.lock().await;
        self.refresh(&lock, || self.known(kid).is_none()).await;
        let state = self.snapshot();
        match (self.known(kid), state.last_error) {
            (Some(key), _) => Ok(Some(key)),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Problem::unavailable(
                ErrorReason::KeysUnavailable,
                "the keys that tokens are verified with cannot be read now",
            )
            .retry_after(self.min_interval)),
        }
    }

    /// Whether there are keys to work with, for start-up and readiness. The last good keys count: an issuer that is
    /// away for a while must not take this server down as well.
    ///
    /// # Errors
    /// A sentence that names the place and the cause.
    pub async fn check(&self) -> Result<(), String> {
        let lock = self.refreshing.lock().await;
        self.refresh(&lock, || self.may_have_changed()).await;
        let state = self.snapshot();
        if state.keys.is_some() { Ok(()) } else { state.last_error.map_or(Ok(()), Err) }
    }

    fn snapshot(&self) -> State {
        self.state.read().expect("no holder panics").clone()
    }

    fn known(&self, kid: &str) -> Option<Arc<VerificationKey>> {
        self.state.read().expect("no holder panics").keys.as_ref()?.get(kid).cloned()
    }

    fn may_have_changed(&self) -> bool {
        let state = self.state.read().expect("no holder panics");
        match &self.source {
            Source::File(path) => state.tried_at.is_none() || state.file_stamp != stamp(path),
            Source::Url { .. } => state.last_error.is_some() || state.read_at.is_none_or(|at| at.elapsed() > MAX_AGE),
        }
    }

    /// Renews a stale set. Callers whose key is known go on with it while one of them reads: a slow issuer delays
    /// nobody.
    async fn refresh_stale(&self, kid: &str) {
        let lock = if self.known(kid).is_some() {
            let Ok(lock) = self.refreshing.try_lock() else { return };
            lock
        } else {
            self.refreshing.lock().await
        };
        self.refresh(&lock, || self.may_have_changed()).await;
    }

    /// Reads the source unless somebody else just did (`needed` is asked under the lock) or the interval forbids it.
    async fn refresh(&self, _only_one: &tokio::sync::MutexGuard<'_, ()>, needed: impl Fn() -> bool) {
        let too_soon = self.snapshot().tried_at.is_some_and(|at| at.elapsed() < self.min_interval);
        let changed_file = matches!(self.source, Source::File(_)) && self.may_have_changed();
        if !needed() || (too_soon && !changed_file) {
            return;
        }
        let file_stamp = match &self.source {
            Source::File(path) => stamp(path),
            Source::Url { .. } => None,
        };
        let outcome = self.read().await.and_then(|text| parse(&text));
        let mut state = self.state.write().expect("no holder panics");
        state.tried_at = Some(Instant::now());
        state.file_stamp = file_stamp;
        match outcome {
            Ok(keys) => {
                state.keys = Some(Arc::new(keys));
                state.read_at = state.tried_at;
                state.last_error = None;
            }
            Err(error) => {
                tracing::warn!(error, "the key set (JWKS) cannot be read");
                state.last_error = Some(error);
            }
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        match &self.source {
            Source::File(path) => read_file(path).await.map_err(|error| format!("{}: {error}", path.display())),
            Source::Url { url, http } => tokio::time::timeout(FETCH_DEADLINE, fetch(http, url))
                .await
                .unwrap_or_else(|_| Err("timed out".into()))
                .map_err(|error| format!("{url}: {error}")),
        }
    }
}

fn stamp(path: &PathBuf) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

async fn read_file(path: &PathBuf) -> Result<Vec<u8>, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > MAX_JWKS_BYTES as u64 {
        return Err(format!("larger than {MAX_JWKS_BYTES} bytes"));
    }
    tokio::fs::read(path).await.map_err(|error| error.to_string())
}

async fn fetch(http: &reqwest::Client, url: &reqwest::Url) -> Result<Vec<u8>, String> {
    let sent = http.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status);
    let mut response = sent.map_err(|error| chain(&error.without_url()))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error.without_url()))? {
        if body.len() + chunk.len() > MAX_JWKS_BYTES {
            return Err(format!("larger than {MAX_JWKS_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Keeps the keys that may sign tokens; others (symmetric, weak, for encryption, without id) are left out with a
/// warning.
fn parse(text: &[u8]) -> Result<HashMap<String, Arc<VerificationKey>>, String> {
    let set: JwkSet = serde_json::from_slice(text).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    let mut keys = HashMap::new();
    for jwk in &set.keys {
        let kid = jwk.common.key_id.clone().unwrap_or_default();
        match usable(jwk) {
            Ok(key) if !kid.is_empty() => drop(keys.insert(kid, Arc::new(key))),
            Ok(_) => tracing::warn!("a key without id (kid) is left out"),
            Err(why) => tracing::warn!(kid, why, "a key is left out"),
        }
    }
    if keys.is_empty() { Err("no usable key for RS256, ES256 or EdDSA".to_owned()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Result<VerificationKey, String> {
    let (algorithm, declared) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if rsa.n.len() >= MIN_RSA_MODULUS_CHARS => {
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::RSA(_) => return Err("an RSA key below 2048 bits".to_owned()),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return Err("a key type that is not supported".to_owned()),
    };
    if jwk.common.key_algorithm.is_some_and(|alg| alg != declared) {
        return Err("its algorithm (alg) does not fit its type or is not supported".to_owned());
    }
    if jwk.common.public_key_use.as_ref().is_some_and(|u| *u != jsonwebtoken::jwk::PublicKeyUse::Signature) {
        return Err("it is not for signatures (use)".to_owned());
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
    Ok(VerificationKey { key, algorithm })
}

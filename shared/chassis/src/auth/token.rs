//! Verification of one token.
//!
//! Order matters: size, form, algorithm, key, signature, claims. The algorithm is never taken from the token: the
//! token's `kid` picks a key, the key's type fixes the algorithm, and the header must agree. Lifetimes are judged by
//! our [`Clock`].

use std::{collections::BTreeSet, sync::Arc};

use http::{HeaderMap, header};
use jsonwebtoken::{Validation, errors::ErrorKind};
use meshward_proto::types::v1::ErrorReason;
use serde::Deserialize;

use super::{Identity, Role, jwks::KeySet};
use crate::{clock::Clock, problem::Problem};

/// Largest token that is looked at, bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far our clock and the issuer's may be apart, seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// Verifies tokens of one issuer for one audience.
pub struct Verifier {
    keys: KeySet,
    issuer: String,
    audience: String,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// The claims that matter; the registered ones are all required.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    nbf: i64,
    #[serde(default)]
    roles: BTreeSet<String>,
    #[serde(default)]
    namespaces: BTreeSet<String>,
}

impl Verifier {
    /// A verifier for tokens with this `iss` and `aud`.
    pub fn new(keys: KeySet, issuer: &str, audience: &str, clock: Arc<dyn Clock>) -> Self {
        Self { keys, issuer: issuer.to_owned(), audience: audience.to_owned(), clock }
    }

    /// The caller that the `authorization` header shows.
    ///
    /// # Errors
    /// UNAUTHENTICATED (TOKEN_MISSING, TOKEN_INVALID), or UNAVAILABLE (KEYS_UNAVAILABLE) if the keys cannot be read.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        let token = bearer_of(headers)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid(&format!("it is longer than {MAX_TOKEN_BYTES} bytes")));
        }
        let head = jsonwebtoken::decode_header(token).map_err(|_| invalid("it is not a JSON Web Token"))?;
        let kid = head.kid.ok_or_else(|| invalid("its header names no key (kid)"))?;
        let key = self.keys.find(&kid).await?.ok_or_else(|| invalid("its key (kid) is not in the key set"))?;
        if head.alg != key.algorithm {
            return Err(invalid("its algorithm does not fit the key"));
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(key.algorithm))
            .map_err(|error| invalid(&what_is_wrong(error.kind())))?
            .claims;
        self.check_lifetime(&claims)?;
        Ok(Identity {
            subject: claims.sub,
            roles: claims.roles.iter().filter_map(|name| Role::from_name(name)).collect(),
            namespaces: claims.namespaces,
        })
    }

    /// Whether the keys can be read.
    ///
    /// # Errors
    /// A sentence that names the place and the cause.
    pub async fn ready(self: Arc<Self>) -> Result<(), String> {
        self.keys.check().await
    }

    fn validation(&self, algorithm: jsonwebtoken::Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Judged in check_lifetime, by our clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    fn check_lifetime(&self, claims: &Claims) -> Result<(), Problem> {
        let now = self.clock.now().as_second();
        if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(invalid("it has expired"));
        }
        if claims.nbf.saturating_sub(LEEWAY_SECONDS) > now {
            return Err(invalid("it is not valid yet"));
        }
        Ok(())
    }
}

/// The token of an `authorization: Bearer` header.
fn bearer_of(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let text = value.to_str().map_err(|_| invalid("the authorization header is not text"))?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

/// UNAUTHENTICATED: no token.
pub(crate) fn missing() -> Problem {
    Problem::unauthenticated(ErrorReason::TokenMissing, "send a token: authorization: Bearer TOKEN")
}

fn invalid(why: &str) -> Problem {
    Problem::unauthenticated(ErrorReason::TokenInvalid, format!("the token is refused: {why}; get a new one"))
}

fn what_is_wrong(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::InvalidIssuer => "it is from another issuer (iss)".to_owned(),
        ErrorKind::InvalidAudience => "it is for another audience (aud)".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it lacks the claim {claim}"),
        _ => "its form is wrong".to_owned(),
    }
}

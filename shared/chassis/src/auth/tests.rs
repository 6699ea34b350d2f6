use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::Ed25519KeyPair,
};
use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tonic::Code;

use super::{jwks::KeySet, *};
use crate::{
    clock::ManualClock,
    testing::{AUDIENCE, Grant, ISSUER, TestIssuer, claims, key_set, public_key},
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn verifier(jwks: &str, clock: &ManualClock) -> Verifier {
    crate::server::install_crypto();
    Verifier::new(KeySet::at(jwks).expect("a location"), ISSUER, AUDIENCE, Arc::new(clock.clone()))
}

fn headers(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"))])
}

fn grant() -> Grant {
    Grant::new("alice", [Role::Developer]).within(["shop"])
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims(&grant(), NOW);
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims(&grant(), NOW);
    claims.as_object_mut().expect("an object").remove(key);
    claims
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

fn signed(algorithm: Algorithm, kid: &str, key: &EncodingKey) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &claims(&grant(), NOW), key).expect("the key signs")
}

fn rsa_key() -> EncodingKey {
    let der = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key").as_der().expect("its DER");
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a PEM key")
}

fn ed_key() -> EncodingKey {
    EncodingKey::from_ed_der(
        Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).expect("a key").as_ref(),
    )
}

fn write(path: &Path, keys: &[Value]) {
    std::fs::write(path, key_set(keys).to_string()).expect("the file can be written");
}

#[tokio::test]
async fn a_good_token_shows_who_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let issuer = TestIssuer::new(dir.path()).expect("an issuer");
    let verifier = verifier(&issuer.jwks_path().to_string_lossy(), &ManualClock::new(NOW));
    let grant = Grant { roles: [Role::Developer, Role::Admin].into(), ..grant() };
    let identity = verifier.identify(&headers(&issuer.mint_at(&grant, NOW))).await.expect("it is good");
    assert_eq!(identity.subject, "alice");
    assert_eq!(identity.roles, grant.roles);
    assert_eq!(identity.namespaces, grant.namespaces);
}

#[tokio::test]
async fn bad_tokens_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let issuer = TestIssuer::new(dir.path()).expect("an issuer");
    let jwks = std::fs::read_to_string(issuer.jwks_path()).expect("the key set");
    let verifier = verifier(&issuer.jwks_path().to_string_lossy(), &ManualClock::new(NOW));
    let good = claims(&grant(), NOW);
    let now = NOW.as_second();
    let public: Value = serde_json::from_str(&jwks).expect("JSON");
    let public = public["keys"][0]["x"].as_str().expect("a coordinate").to_owned();
    let valid = issuer.sign(&good);
    let cases = [
        ("garbage", "abc".to_owned(), "not a JSON Web Token"),
        ("too long", "a".repeat(9000), "longer than"),
        ("expired", issuer.sign(&with("exp", json!(now - 31))), "expired"),
        ("not yet", issuer.sign(&with("nbf", json!(now + 31))), "not valid yet"),
        ("wrong audience", issuer.sign(&with("aud", json!("other"))), "(aud)"),
        ("wrong issuer", issuer.sign(&with("iss", json!("https://evil.test"))), "(iss)"),
        ("no exp", issuer.sign(&without("exp")), "form"),
        ("no nbf", issuer.sign(&without("nbf")), "form"),
        ("no aud", issuer.sign(&without("aud")), "lacks the claim aud"),
        ("no iss", issuer.sign(&without("iss")), "lacks the claim iss"),
        ("no sub", issuer.sign(&without("sub")), "form"),
        ("alg none", unsigned(&json!({"alg": "none", "kid": "test-1"}), &good), "not a JSON Web Token"),
        (
            "alg HS256 with the public key",
            signed(Algorithm::HS256, "test-1", &EncodingKey::from_secret(public.as_bytes())),
            "algorithm",
        ),
        ("alg EdDSA under an EC key", signed(Algorithm::EdDSA, "test-1", &ed_key()), "algorithm"),
        ("unknown kid", signed(Algorithm::EdDSA, "other", &ed_key()), "not in the key set"),
        ("no kid", unsigned(&json!({"alg": "ES256"}), &good), "names no key"),
        // Of one letter less than whole bytes take, no base64 text is made, whatever the signature was.
        ("cut signature", valid[..valid.len() - 1].to_owned(), "form"),
        (
            "other claims, same signature",
            format!(
                "{}{}",
                unsigned(&json!({"alg": "ES256", "kid": "test-1"}), &with("sub", json!("root"))),
                valid.rsplit('.').next().expect("a signature")
            ),
            "signature",
        ),
    ];
    for (name, token, expected) in cases {
        let problem = verifier.identify(&headers(&token)).await.expect_err(name);
        assert_eq!((problem.code(), problem.reason()), (Code::Unauthenticated, ErrorReason::TokenInvalid), "{name}");
        assert!(problem.message().contains(expected), "{name}: {problem}");
        assert!(!problem.message().contains(&token), "{name}: the token is in the message");
    }
    for headers in
        [HeaderMap::new(), HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Basic eDp5"))])]
    {
        let problem = verifier.identify(&headers).await.expect_err("no bearer token");
        assert_eq!((problem.code(), problem.reason()), (Code::Unauthenticated, ErrorReason::TokenMissing));
    }
}

#[tokio::test]
async fn a_token_dies_with_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let issuer = TestIssuer::new(dir.path()).expect("an issuer");
    let clock = ManualClock::new(NOW);
    let verifier = verifier(&issuer.jwks_path().to_string_lossy(), &clock);
    let headers = headers(&issuer.mint_at(&grant().valid_for(Duration::from_secs(60)), NOW));
    clock.advance(SignedDuration::from_secs(89));
    assert!(verifier.identify(&headers).await.is_ok(), "within the leeway");
    clock.advance(SignedDuration::from_secs(1));
    assert!(verifier.identify(&headers).await.is_err(), "after it");
}

#[tokio::test]
async fn each_algorithm_works_and_a_new_key_file_takes_effect_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys.json");
    let (rsa, ed) = (rsa_key(), ed_key());
    write(&path, &[public_key(&rsa, Algorithm::RS256, "rsa")]);
    let verifier = verifier(&path.to_string_lossy(), &ManualClock::new(NOW));
    let rsa_token = headers(&signed(Algorithm::RS256, "rsa", &rsa));
    let ed_token = headers(&signed(Algorithm::EdDSA, "ed", &ed));
    assert!(verifier.identify(&rsa_token).await.is_ok());
    assert!(verifier.identify(&ed_token).await.is_err(), "its key is not there yet");

    // Another length, so that the change shows even on file systems with coarse times.
    write(&path, &[public_key(&ed, Algorithm::EdDSA, "ed")]);
    assert!(verifier.identify(&ed_token).await.is_ok(), "the new key");
    assert!(verifier.identify(&rsa_token).await.is_err(), "the old key is gone");

    std::fs::write(&path, "{").expect("the file can be written");
    assert!(verifier.identify(&ed_token).await.is_ok(), "a broken file leaves the last good keys in use");
}

#[tokio::test]
async fn keys_that_must_not_be_used_are_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys.json");
    let secret = json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"});
    let mut mislabelled = public_key(&ed_key(), Algorithm::EdDSA, "mislabelled");
    mislabelled["alg"] = json!("RS256");
    let mut encryption = public_key(&ed_key(), Algorithm::EdDSA, "encryption");
    encryption["use"] = json!("enc");
    write(&path, &[secret, mislabelled, encryption, public_key(&ed_key(), Algorithm::EdDSA, "good")]);
    let keys = KeySet::at(&path.to_string_lossy()).expect("a location");
    for (kid, there) in [("secret", false), ("mislabelled", false), ("encryption", false), ("good", true)] {
        assert_eq!(keys.find(kid).await.expect("readable").is_some(), there, "{kid}");
    }
}

/// An issuer's URL that serves what `body` holds and counts how often it is asked.
async fn issuer_url(body: Arc<Mutex<String>>) -> (String, Arc<AtomicUsize>) {
    crate::server::install_crypto();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let answer = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let body = body.lock().expect("no panic").clone();
        async { body }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
    let router = axum::Router::new().route("/jwks.json", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

#[tokio::test]
async fn an_issuer_is_asked_once_for_many_callers_and_rarely_for_unknown_keys() {
    let ed = |kid: &str| key_set(&[public_key(&ed_key(), Algorithm::EdDSA, kid)]).to_string();
    let body = Arc::new(Mutex::new(ed("old")));
    let (url, asked) = issuer_url(Arc::clone(&body)).await;

    let keys = KeySet::at(&url).expect("a location");
    let found = futures::future::join_all((0..8).map(|_| keys.find("old"))).await;
    assert!(found.into_iter().all(|key| key.expect("readable").is_some()));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "eight callers, one request");
    for kid in ["a", "b", "c"] {
        assert!(keys.find(kid).await.expect("readable").is_none());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "made-up keys do not reach the issuer within the interval");

    let keys = KeySet::at(&url).expect("a location").with_min_interval(Duration::ZERO);
    assert!(keys.find("old").await.expect("readable").is_some());
    *body.lock().expect("no panic") = ed("new");
    assert!(keys.find("new").await.expect("readable").is_some(), "a rotated key needs no restart");

    *body.lock().expect("no panic") = " ".repeat(300 * 1024);
    assert!(keys.find("newer").await.is_err(), "too large to read: nobody can know");
    assert!(keys.find("new").await.expect("readable").is_some(), "the last good keys stay in use");
    assert_eq!(keys.check().await, Ok(()));
}

#[tokio::test]
async fn a_dead_issuer_is_not_the_callers_fault() {
    crate::server::install_crypto();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let dir = tempfile::tempdir().expect("a directory");
    let issuer = TestIssuer::new(dir.path()).expect("an issuer");
    let verifier = verifier(&format!("http://{closed}/jwks.json"), &ManualClock::new(NOW));
    let problem = verifier.identify(&headers(&issuer.mint_at(&grant(), NOW))).await.expect_err("no keys");
    assert_eq!((problem.code(), problem.reason()), (Code::Unavailable, ErrorReason::KeysUnavailable));
}

#[test]
fn roles_and_namespaces_are_both_needed() {
    let identity = |roles: &[Role], namespaces: &[&str]| Identity {
        subject: "alice".to_owned(),
        roles: roles.iter().copied().collect(),
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
    };
    let cases = [
        (identity(&[Role::Admin], &["*"]), Role::Developer, None),
        (identity(&[Role::Admin], &["*"]), Role::Service, Some("the role \"service\"")),
        (identity(&[Role::Service], &["shop"]), Role::Viewer, None),
        (identity(&[Role::Service], &["shop"]), Role::Developer, Some("the role \"developer\"")),
        (identity(&[Role::Viewer], &["shop"]), Role::Viewer, None),
        (identity(&[Role::Developer], &["bank"]), Role::Developer, Some("the namespace \"shop\"")),
        (identity(&[], &[]), Role::Viewer, Some("the role \"viewer\" and the namespace \"shop\"")),
    ];
    for (identity, role, lacks) in cases {
        let refused = identity.require(role, "shop").err().map(|problem| problem.message().to_owned());
        assert_eq!(refused, lacks.map(|lacks| format!("alice lacks {lacks}")), "{identity:?} {role:?}");
    }
}

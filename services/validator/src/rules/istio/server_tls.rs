//! The TLS settings of a server: a Gateway's, or a Sidecar's for what comes in.

use std::collections::HashSet;

use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
};

/// Everything that names a certificate, in the order in which people write it.
const CERTIFICATES: [&str; 6] =
    ["serverCertificate", "privateKey", "caCertificates", "tlsCertificates", "credentialName", "credentialNames"];

/// Cipher suites of Envoy's TLS library.
const CIPHERS: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// More server certificates than this are not used.
const MOST_CERTIFICATES: usize = 2;

/// The mode, which is PASSTHROUGH if nothing is said.
pub(super) fn mode<'a>(tls: &Field<'a>) -> &'a str {
    match tls.get("mode").text() {
        "" => "PASSTHROUGH",
        mode => mode,
    }
}

/// Whether the server hands TLS on as it comes.
pub(super) fn passes_through(tls: &Field<'_>) -> bool {
    tls.is_set() && ["PASSTHROUGH", "AUTO_PASSTHROUGH"].contains(&mode(tls))
}

/// Those of `names` that say something.
pub(super) fn filled<'n>(tls: &Field<'_>, names: &[&'n str]) -> Vec<&'n str> {
    let says = |name: &&str| !tls.get(name).text().is_empty() || !tls.get(name).items().is_empty();
    names.iter().copied().filter(says).collect()
}

/// All rules of settings that may be absent.
pub(super) fn check(tls: &Field<'_>) -> Vec<Hit> {
    if !tls.is_set() {
        return Vec::new();
    }
    let mode = mode(tls);
    let mut hits = ciphers(tls);
    hits.extend(sources(tls));
    match mode {
        "ISTIO_MUTUAL" => hits.extend(forbidden(tls)),
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" => hits.extend(certificates(tls, mode)),
        _ if passes_through(tls) => hits.extend(unused(tls, mode)),
        _ => {}
    }
    hits
}

/// With ISTIO_MUTUAL, Istio has the certificates.
fn forbidden(tls: &Field<'_>) -> Vec<Hit> {
    let hit = |name: &str| {
        let message = format!("with mode ISTIO_MUTUAL the certificates are Istio's own, so there must be no {name}");
        Hit::new(rule::SERVER_TLS, tls.get(name).path(), message).at_key().suggest(format!("remove {name}"))
    };
    filled(tls, &CERTIFICATES).into_iter().map(hit).collect()
}

/// A server takes its certificate from one place.
fn sources(tls: &Field<'_>) -> Option<Hit> {
    let mut set = tls.set_among(&["credentialName", "credentialNames", "tlsCertificates"]);
    if mode(tls) == "ISTIO_MUTUAL" {
        return None;
    }
    if filled(tls, &["serverCertificate", "privateKey"]).len() == 2 {
        set.push("serverCertificate");
    }
    let message = format!("{} exclude each other", list(&set, " and "));
    set.get(1).map(|second| Hit::new(rule::SERVER_TLS, tls.get(second).path(), message).at_key())
}

fn certificates(tls: &Field<'_>, mode: &str) -> Vec<Hit> {
    if !filled(tls, &["credentialName", "credentialNames"]).is_empty() {
        return Vec::new();
    }
    let mut hits = Vec::new();
    let mut needs = |at: &Field<'_>, name: &str| {
        if at.get(name).text().is_empty() {
            let message = format!("mode {mode} needs {name}");
            hits.push(Hit::new(rule::SERVER_TLS, at.get(name).path(), message).suggest("or credentialName"));
        }
    };
    if mode != "SIMPLE" {
        needs(tls, "caCertificates");
    }
    let several = tls.get("tlsCertificates").items();
    for certificate in if several.is_empty() { std::slice::from_ref(tls) } else { &several } {
        needs(certificate, "serverCertificate");
        needs(certificate, "privateKey");
    }
    if several.len() > MOST_CERTIFICATES {
        let message = format!("only {MOST_CERTIFICATES} of {} certificates are used", several.len());
        hits.push(Hit::new(rule::SERVER_TLS_IGNORED, tls.get("tlsCertificates").path(), message));
    }
    if mode == "SIMPLE" && !tls.get("caCrl").text().is_empty() {
        let message = "mode SIMPLE asks clients for no certificate, so there is nothing to revoke";
        hits.push(Hit::new(rule::SERVER_TLS, tls.get("caCrl").path(), message).at_key().suggest("remove caCrl"));
    }
    hits
}

fn unused(tls: &Field<'_>, mode: &str) -> Option<Hit> {
    if filled(tls, &["caCrl", "credentialName"]).len() == 2 {
        let message = "a credential has its own revocation list, so caCrl and credentialName exclude each other";
        return Some(Hit::new(rule::SERVER_TLS, tls.get("caCrl").path(), message).at_key());
    }
    let mut set = filled(tls, &CERTIFICATES);
    set.extend(filled(tls, &["caCrl"]));
    let message = format!("with mode {mode} the backend ends TLS, so {} is not used", list(&set, " and "));
    set.first().map(|first| Hit::new(rule::SERVER_TLS_IGNORED, tls.get(first).path(), message).at_key())
}

fn ciphers(tls: &Field<'_>) -> Vec<Hit> {
    let suites = tls.get("cipherSuites").items();
    let mut hits = Vec::new();
    let oldest = tls.get("minProtocolVersion");
    if ["TLSV1_0", "TLSV1_1"].contains(&oldest.text()) && suites.is_empty() {
        let message = format!("{} needs cipher suites that are off unless they are listed", oldest.text());
        hits.push(Hit::new(rule::SERVER_TLS_IGNORED, oldest.path(), message).suggest("add cipherSuites"));
    }
    let mut seen = HashSet::new();
    for suite in &suites {
        let text = suite.text();
        // What begins with a sign is an expression over suites.
        let named = text.chars().next().is_some_and(char::is_alphanumeric) && text != "ALL";
        let problem = if named && !CIPHERS.contains(&text) {
            "is unknown"
        } else if !seen.insert(text) {
            "is there already"
        } else {
            continue;
        };
        let message = format!("the cipher suite {} {problem}, and is left out", quote(text));
        hits.push(Hit::new(rule::SERVER_TLS_IGNORED, suite.path(), message));
    }
    hits
}

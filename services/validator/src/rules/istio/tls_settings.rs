//! The TLS settings of a client.

use crate::{
    report::{Hit, list},
    rules::{catalogue as rule, field::Field},
};

const CONFIG_MAP: &str = "configmap://";

/// All rules of `tls`.
pub(super) fn check(tls: &Field<'_>, namespace: &str) -> Vec<Hit> {
    if !tls.is_set() {
        return Vec::new();
    }
    let mode = tls.get("mode").text();
    let text = |name: &str| tls.get(name).text();
    let mut hits: Vec<Hit> = config_map(&tls.get("credentialName"), namespace).into_iter().collect();
    hits.extend(skipping(tls, mode));
    if ["SIMPLE", "MUTUAL"].contains(&mode) && !text("credentialName").is_empty() {
        let files = ["clientCertificate", "caCertificates", "privateKey", "caCrl"];
        let files: Vec<&str> = files.into_iter().filter(|name| !text(name).is_empty()).collect();
        hits.extend(files.first().map(|first| {
            let message = format!("credentialName excludes {}", list(&files, " and "));
            Hit::new(rule::DR_TLS, tls.get(first).path(), message).at_key()
        }));
        return hits;
    }
    if mode == "MUTUAL" {
        for name in ["clientCertificate", "privateKey"] {
            if text(name).is_empty() {
                let message = format!("mode MUTUAL needs {name}");
                hits.push(Hit::new(rule::DR_TLS, tls.get(name).path(), message).suggest("or credentialName"));
            }
        }
    }
    hits
}

fn config_map(name: &Field<'_>, namespace: &str) -> Option<Hit> {
    let rest = name.text().strip_prefix(CONFIG_MAP)?;
    let good = match rest.split_once('/') {
        None => !rest.is_empty(),
        Some((within, short)) => within == namespace && !short.is_empty() && !short.contains('/'),
    };
    let message = format!("a configmap:// credential must be of the namespace {namespace:?}");
    (!good).then(|| Hit::new(rule::DR_TLS, name.path(), message))
}

/// insecureSkipVerify excludes everything that would be verified.
fn skipping(tls: &Field<'_>, mode: &str) -> Option<Hit> {
    let candidates: &[&str] = match mode {
        _ if !tls.get("insecureSkipVerify").is_true() => return None,
        "SIMPLE" => &["caCertificates", "credentialName", "subjectAltNames"],
        // With MUTUAL, credentialName may hold the client's certificate only.
        "MUTUAL" => &["caCertificates", "subjectAltNames"],
        _ => return None,
    };
    let is_there = |name: &&str| !tls.get(name).text().is_empty() || !tls.get(name).items().is_empty();
    let set: Vec<&str> = candidates.iter().copied().filter(is_there).collect();
    let first = set.first()?;
    let message = format!("insecureSkipVerify excludes {}", list(&set, " and "));
    Some(Hit::new(rule::DR_TLS, tls.get(first).path(), message).at_key().suggest("remove insecureSkipVerify"))
}

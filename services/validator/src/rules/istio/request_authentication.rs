//! RequestAuthentication: whose tokens are good, and where their keys are.

use serde_json::Value;

use super::{common, header, selector, url};
use crate::{
    path::Path,
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = selector::attachment(&spec);
    hits.extend(spec.get("jwtRules").items().iter().flat_map(jwt_rule));
    hits
}

fn jwt_rule(jwt: &Field<'_>) -> Vec<Hit> {
    let (issuer, uri, keys) = (jwt.get("issuer"), jwt.get("jwksUri"), jwt.get("jwks"));
    let hit = |path: &Path, message: &str| Hit::new(rule::RA_JWT, path, message);
    let mut hits = Vec::new();
    if issuer.text().is_empty() && uri.text().is_empty() {
        hits.push(hit(jwt.path(), "the rule names neither an issuer nor a jwksUri").suggest("set issuer"));
    }
    let sources = jwt.set_among(&["jwksUri", "jwks_uri", "jwks"]);
    if let Some(second) = sources.get(1) {
        hits.push(hit(jwt.get(second).path(), "the keys come from jwksUri or from jwks, not from both").at_key());
    }
    hits.extend([uri, jwt.get("jwks_uri")].iter().filter_map(jwks_uri));
    if !keys.text().is_empty() {
        let problem = key_set(keys.text()).err();
        hits.extend(problem.map(|why| Hit::new(rule::RA_JWKS, keys.path(), format!("jwks is no key set: {why}"))));
    }
    for name in ["audiences", "fromParams", "fromCookies"] {
        let empty = jwt.get(name).items().into_iter().filter(|item| item.text().is_empty());
        hits.extend(empty.map(|item| hit(item.path(), &format!("an item of {name} is empty"))));
    }
    for from in jwt.get("fromHeaders").items().iter().filter(|from| from.get("name").text().is_empty()) {
        hits.push(hit(from.get("name").path(), "the header has no name"));
    }
    hits.extend(jwt.get("outputClaimToHeaders").items().iter().filter_map(claim_to_header));
    hits.extend(common::duration(&jwt.get("timeout")));
    hits
}

fn jwks_uri(uri: &Field<'_>) -> Option<Hit> {
    if !uri.is_set() || uri.text().is_empty() {
        return None;
    }
    let problem = match url::scheme(uri.text()) {
        Err(problem) => problem,
        Ok(scheme) if ["http", "https"].contains(&scheme.as_str()) => return None,
        Ok(scheme) => format!("its scheme is {}, and must be http or https", quote(&scheme)),
    };
    Some(Hit::new(rule::URL, uri.path(), format!("{} cannot be used: {problem}", quote(uri.text()))))
}

fn claim_to_header(output: &Field<'_>) -> Option<Hit> {
    let (claim, name) = (output.get("claim"), output.get("header"));
    if claim.text().is_empty() || name.text().is_empty() {
        return Some(Hit::new(rule::RA_JWT, output.path(), "a claim goes to a header: both must be named"));
    }
    header::named(&name)
}

/// A JSON Web Key Set, or a single key.
fn key_set(text: &str) -> Result<(), String> {
    let set: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON ({error})"))?;
    match set.get("keys") {
        Some(Value::Array(keys)) => keys.iter().try_for_each(key),
        Some(_) => Err("keys is no list".to_owned()),
        None => key(&set),
    }
}

fn key(key: &Value) -> Result<(), String> {
    let kind = key.get("kty").and_then(Value::as_str).ok_or("a key has no kty")?;
    let needs: &[&str] = match kind {
        "RSA" => &["n", "e"],
        "EC" => &["crv", "x", "y"],
        "OKP" => &["crv", "x"],
        "oct" => &["k"],
        other => return Err(format!("the kty {} is unknown", quote(other))),
    };
    match needs.iter().find(|name| key.get(**name).and_then(Value::as_str).is_none_or(str::is_empty)) {
        Some(name) => Err(format!("a key of kty {kind} has no {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sets() {
        for good in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA","n":"a","e":"AQAB"}]}"#, r#"{"kty":"oct","k":"a"}"#] {
            assert_eq!(key_set(good), Ok(()), "{good}");
        }
        for bad in ["foo", "[]", "{}", r#"{"keys":1}"#, r#"{"keys":[{}]}"#, r#"{"keys":[{"kty":"RSA","n":"a"}]}"#] {
            assert!(key_set(bad).is_err(), "{bad}");
        }
    }
}

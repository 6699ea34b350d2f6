//! WasmPlugin and TrafficExtension: code that runs inside the proxies.

use std::collections::{HashMap, HashSet};

use super::{listener, selector, url};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const SCHEMES: [&str; 5] = ["", "http", "https", "oci", "file"];
const DIGEST_LENGTH: usize = 64;
const LONGEST_NAME: usize = 256;
const LONGEST_SECRET: usize = 253;
const LONGEST_VALUE: usize = 2048;

/// All rules of a WasmPlugin.
#[must_use]
pub fn check_plugin(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = selector::attachment(&spec);
    hits.extend(wasm(&spec));
    hits.extend(spec.get("match").items().iter().flat_map(traffic));
    hits
}

/// All rules of a TrafficExtension.
#[must_use]
pub fn check_extension(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = selector::attachment(&spec);
    let code = spec.set_among(&["wasm", "lua"]);
    if code.len() != 1 {
        let message = "a TrafficExtension is either wasm or lua";
        hits.push(Hit::new(rule::EX_CODE, spec.path(), message).suggest("set one of wasm and lua"));
    }
    if spec.get("wasm").is_set() {
        hits.extend(wasm(&spec.get("wasm")));
    }
    let lua = spec.get("lua");
    if lua.is_set() && lua.get("inlineCode").text().is_empty() {
        hits.push(Hit::new(rule::EX_CODE, lua.get("inlineCode").path(), "lua needs code in inlineCode"));
    }
    hits.extend(spec.get("match").items().iter().flat_map(traffic));
    hits
}

/// Where the module is, and what it is given.
fn wasm(plugin: &Field<'_>) -> Vec<Hit> {
    let (address, digest) = (plugin.get("url"), plugin.get("sha256"));
    let mut hits: Vec<Hit> = module_url(&address).into_iter().collect();
    let text = digest.text();
    let is_hex = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    if !text.is_empty() && (text.len() != DIGEST_LENGTH || !is_hex) {
        let message = format!("{} is no SHA-256 digest of 64 lower-case hexadecimal digits", quote(text));
        hits.push(Hit::new(rule::EX_CODE, digest.path(), message));
    }
    for (name, longest) in [("imagePullSecret", LONGEST_SECRET), ("pluginName", LONGEST_NAME)] {
        hits.extend(too_long(&plugin.get(name), longest));
    }
    hits.extend(environment(&plugin.get("vmConfig").get("env").items()));
    hits
}

/// A URL whose scheme may be left out.
fn module_url(field: &Field<'_>) -> Option<Hit> {
    let text = field.text();
    let scheme = match url::scheme(text) {
        Err(_) if !text.is_empty() => url::scheme(&format!("http://{text}")),
        scheme => scheme,
    };
    let problem = match scheme {
        Err(problem) => problem,
        Ok(scheme) if SCHEMES.contains(&scheme.as_str()) => return None,
        Ok(scheme) => format!("its scheme is {}", quote(&scheme)),
    };
    let message = format!("the url {} cannot be used: {problem}", quote(text));
    Some(Hit::new(rule::URL, field.path(), message).suggest("write oci://, https://, http:// or file://"))
}

fn too_long(field: &Field<'_>, longest: usize) -> Option<Hit> {
    let length = field.text().len();
    let message = format!("{length} characters are more than {longest}");
    (length > longest).then(|| Hit::new(rule::EX_CODE, field.path(), message))
}

fn environment(variables: &[Field<'_>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut seen: HashMap<&str, String> = HashMap::new();
    for variable in variables {
        let (name, value) = (variable.get("name"), variable.get("value"));
        if name.text().is_empty() {
            hits.push(Hit::new(rule::EX_CODE, name.path(), "the variable has no name"));
        } else if let Some(first) = seen.get(name.text()) {
            let message = format!("the variable {} is there already, at {first}", quote(name.text()));
            hits.push(Hit::new(rule::EX_CODE, name.path(), message));
        } else {
            seen.insert(name.text(), name.path().to_string());
        }
        if variable.get("valueFrom").text() == "HOST" && value.is_set() {
            let message = "a variable from the host has no value of its own";
            hits.push(Hit::new(rule::EX_CODE, value.path(), message).at_key().suggest("remove value"));
        }
        hits.extend(too_long(&name, LONGEST_NAME));
        hits.extend(too_long(&value, LONGEST_VALUE));
    }
    hits
}

/// Ports of a match.
fn traffic(item: &Field<'_>) -> Vec<Hit> {
    let ports = item.get("ports").items();
    let number = |port: &Field<'_>| listener::port_number(&port.get("number"), port);
    let mut hits: Vec<Hit> = ports.iter().filter_map(number).collect();
    let mut seen = HashSet::new();
    for port in &ports {
        let field = port.get("number");
        if field.integer().is_some_and(|number| !seen.insert(number)) {
            let message = format!("the port {} is there already", field.integer().unwrap_or_default());
            hits.push(Hit::new(rule::PORT, field.path(), message));
        }
    }
    hits
}

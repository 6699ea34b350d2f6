//! URLs as Istio and the API server read them.

use crate::report::quote;

/// The scheme of an absolute URL ("" for a path), or a sentence why it is none.
pub(super) fn scheme(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.bytes().any(|c| c.is_ascii_control()) {
        return Err("it has a control character".to_owned());
    }
    let (scheme, rest) = split_scheme(text)?;
    let before_query = rest.split('?').next().unwrap_or_default();
    if let Some(authority) = before_query.strip_prefix("//") {
        let end = authority.find('/').unwrap_or(authority.len());
        let (host, path) = authority.split_at(end);
        let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
        check_user(user)?;
        check_host(host)?;
        check_escapes(path)?;
    } else if scheme.is_empty() && !rest.starts_with('/') {
        return Err("it has no scheme".to_owned());
    } else {
        check_escapes(before_query)?;
    }
    Ok(scheme.to_ascii_lowercase())
}

/// The scheme before the first colon, if what stands there can be one.
fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(text.len());
    let (scheme, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        Some(_) if scheme.is_empty() => Err("its scheme is missing".to_owned()),
        Some(rest) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => Ok((scheme, rest)),
        _ => Ok(("", text)),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or("its address lacks a bracket")?.1,
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|c| c.is_ascii_digit()));
    if !is_port {
        return Err(format!("{} is no port", quote(port.trim_start_matches(':'))));
    }
    match host.chars().find(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(*c)) {
        Some(c) => Err(format!("its host has the character {c:?}")),
        None => Ok(()),
    }
}

fn check_user(user: &str) -> Result<(), String> {
    match user.chars().find(|c| !c.is_ascii_alphanumeric() && !"-._:~!$&'()*+,;=%@".contains(*c)) {
        Some(c) => Err(format!("its user has the character {c:?}")),
        None => Ok(()),
    }
}

fn check_escapes(path: &str) -> Result<(), String> {
    let is_hex = |text: &str| text.len() >= 2 && text.bytes().take(2).all(|c| c.is_ascii_hexdigit());
    match path.split('%').skip(1).all(is_hex) {
        true => Ok(()),
        false => Err("a % in it begins no escape".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        for (text, expected) in [
            ("https://a.b/c", "https"),
            ("HTTP://a:80", "http"),
            ("http://[::1]:80/x", "http"),
            ("http://u:p@a/x?y=%zz", "http"),
            ("oci://a/b:v1", "oci"),
            ("a.b:80/x", "a.b"),
            ("/x", ""),
        ] {
            assert_eq!(scheme(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "a.b/c",
            "a",
            ":x",
            "https://a:b",
            "https://a b/",
            "http://a/%x",
            "a\u{8}b",
            "http://[::1",
            "http://#%x$#@",
        ] {
            assert!(scheme(bad).is_err(), "{bad}");
        }
    }
}

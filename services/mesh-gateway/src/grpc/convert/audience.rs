//! To whom a canary is given, from a request.

use meshward_proto::{ConvertError, gateway::v1 as pb};

use crate::dialect::{Audience, HeaderMatch, HeaderValue};

/// Namespaces that an audience may name.
const MOST_NAMESPACES: usize = 100;
/// A name or a value of a header may have so many bytes. A cookie becomes an expression, and Envoy takes none longer than
/// 1024.
const LONGEST: usize = 200;

pub(super) fn audience(audience: Option<&pb::Audience>) -> Result<Audience, ConvertError> {
    let Some(audience) = audience else { return Ok(Audience::default()) };
    let header = audience.header.as_ref().map(header).transpose().map_err(|error| error.within("header"))?;
    check_namespaces(&audience.namespaces)?;
    Ok(Audience { header, namespaces: audience.namespaces.clone() })
}

fn check_namespaces(names: &[String]) -> Result<(), ConvertError> {
    let at = |problem: String| Err(ConvertError::new("namespaces", problem));
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if names.len() > MOST_NAMESPACES {
        return at(format!("has at most {MOST_NAMESPACES} names"));
    }
    match names.iter().enumerate().find(|(index, name)| {
        name.is_empty() || name.len() > 63 || !name.bytes().all(is_letter) || names[..*index].contains(name)
    }) {
        None => Ok(()),
        Some((_, name)) => at(format!("is no list of different names of namespaces: {name:?}")),
    }
}

fn header(header: &pb::HeaderMatch) -> Result<HeaderMatch, ConvertError> {
    use pb::header_match::Value;
    // RFC 9110, which RFC 6265 follows for cookies.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if header.name.is_empty() || header.name.len() > LONGEST || !header.name.bytes().all(is_token) {
        let what = if header.is_cookie { "cookie" } else { "header" };
        return Err(ConvertError::new("name", format!("is no name of a {what}: {:?}", header.name)));
    }
    let (field, text) = match &header.value {
        None => ("value", ""),
        Some(Value::Exact(text)) => ("exact", &**text),
        Some(Value::Prefix(text)) => ("prefix", &**text),
    };
    let is_visible = |byte: u8| matches!(byte, b' '..=b'~') && !(header.is_cookie && byte == b';');
    if text.len() > LONGEST || text.trim() != text || !text.bytes().all(is_visible) {
        return Err(ConvertError::new(field, format!("is no value of a header: {text:?}")));
    }
    if header.value.is_some() && text.is_empty() {
        // A request without the header would have it and have it not.
        return Err(ConvertError::new(field, "is empty; leave it out for any value"));
    }
    let value = match &header.value {
        None => HeaderValue::Any,
        Some(Value::Exact(text)) => HeaderValue::Exact(text.clone()),
        Some(Value::Prefix(text)) => HeaderValue::Prefix(text.clone()),
    };
    let name = if header.is_cookie { header.name.clone() } else { header.name.to_ascii_lowercase() };
    Ok(HeaderMatch { name, is_cookie: header.is_cookie, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_audience_is_named() {
        use pb::header_match::Value::{Exact, Prefix};
        let of = |name: &str, is_cookie, value| pb::HeaderMatch { name: name.into(), is_cookie, value };
        for (header, namespaces, field) in [
            (Some(of("X-Beta", false, None)), vec!["shop", "web-2"], None),
            (Some(of("plan", true, Some(Exact("a b=c".into())))), vec![], None),
            (Some(of("", false, None)), vec![], Some("audience.header.name")),
            (Some(of("x beta", false, None)), vec![], Some("audience.header.name")),
            (Some(of(":path", false, None)), vec![], Some("audience.header.name")),
            (Some(of("x", false, Some(Exact(String::new())))), vec![], Some("audience.header.exact")),
            (Some(of("x", false, Some(Exact("a\nb".into())))), vec![], Some("audience.header.exact")),
            (Some(of("x", true, Some(Prefix("a;b".into())))), vec![], Some("audience.header.prefix")),
            (Some(of("x", false, Some(Prefix("a".repeat(201))))), vec![], Some("audience.header.prefix")),
            (None, vec!["Shop"], Some("audience.namespaces")),
            (None, vec!["shop", "shop"], Some("audience.namespaces")),
        ] {
            let namespaces = namespaces.into_iter().map(str::to_owned).collect();
            let row = format!("{header:?} {namespaces:?}");
            let answer = audience(Some(&pb::Audience { header, namespaces }));
            let found = answer.map_err(|error| error.within("audience").field);
            match field {
                None => assert!(found.is_ok(), "{row}: {found:?}"),
                Some(field) => assert_eq!(found.err(), Some(field.to_owned()), "{row}"),
            }
        }
        let header = audience(Some(&pb::Audience { header: Some(of("X-Beta", false, None)), namespaces: Vec::new() }));
        assert_eq!(header.unwrap().header.unwrap().name, "x-beta", "as Istio and HTTP/2 write it");
    }
}

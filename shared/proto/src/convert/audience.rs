//! To whom a canary is given.

use meshward_model::{Audience, HeaderMatch, HeaderValue};

use super::ConvertError;
use crate::gateway::v1::{self as pb, header_match::Value};

/// Namespaces that an audience may name.
const MOST_NAMESPACES: usize = 100;
/// A name or a value of a header may have so many bytes. A cookie becomes an expression, and Envoy takes none longer than
/// 1024.
const LONGEST: usize = 200;

impl TryFrom<pb::Audience> for Audience {
    type Error = ConvertError;

    fn try_from(audience: pb::Audience) -> Result<Self, ConvertError> {
        let header = audience.header.map(TryInto::try_into).transpose();
        check_namespaces(&audience.namespaces)?;
        Ok(Self { header: header.map_err(|e: ConvertError| e.within("header"))?, namespaces: audience.namespaces })
    }
}

impl From<Audience> for pb::Audience {
    fn from(audience: Audience) -> Self {
        Self { header: audience.header.map(Into::into), namespaces: audience.namespaces }
    }
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

impl TryFrom<pb::HeaderMatch> for HeaderMatch {
    type Error = ConvertError;

    fn try_from(header: pb::HeaderMatch) -> Result<Self, ConvertError> {
        // RFC 9110, which RFC 6265 follows for cookies.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let pb::HeaderMatch { name, is_cookie, value } = header;
        if name.is_empty() || name.len() > LONGEST || !name.bytes().all(is_token) {
            let what = if is_cookie { "cookie" } else { "header" };
            return Err(ConvertError::new("name", format!("is no name of a {what}: {name:?}")));
        }
        let value = match value {
            None => HeaderValue::Any,
            Some(Value::Exact(text)) => HeaderValue::Exact(checked("exact", is_cookie, text)?),
            Some(Value::Prefix(text)) => HeaderValue::Prefix(checked("prefix", is_cookie, text)?),
        };
        Ok(Self { name: if is_cookie { name } else { name.to_ascii_lowercase() }, is_cookie, value })
    }
}

fn checked(field: &str, is_cookie: bool, text: String) -> Result<String, ConvertError> {
    let is_visible = |byte: u8| matches!(byte, b' '..=b'~') && !(is_cookie && byte == b';');
    if text.len() > LONGEST || text.trim() != text || !text.bytes().all(is_visible) {
        return Err(ConvertError::new(field, format!("is no value of a header: {text:?}")));
    }
    if text.is_empty() {
        // A request without the header would have it and have it not.
        return Err(ConvertError::new(field, "is empty; leave it out for any value"));
    }
    Ok(text)
}

impl From<HeaderMatch> for pb::HeaderMatch {
    fn from(HeaderMatch { name, is_cookie, value }: HeaderMatch) -> Self {
        let value = match value {
            HeaderValue::Any => None,
            HeaderValue::Exact(text) => Some(Value::Exact(text)),
            HeaderValue::Prefix(text) => Some(Value::Prefix(text)),
        };
        Self { name, is_cookie, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_audience_is_named() {
        use Value::{Exact, Prefix};
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
            let message = pb::Audience { header, namespaces };
            let answer = Audience::try_from(message.clone());
            let found = answer.map_err(|error| error.within("audience").field);
            match field {
                None => {
                    let mut small = message;
                    small.header.iter_mut().for_each(|header| header.name.make_ascii_lowercase());
                    assert_eq!(found.map(pb::Audience::from), Ok(small), "as Istio and HTTP/2 write it: {row}");
                }
                Some(field) => assert_eq!(found.err(), Some(field.to_owned()), "{row}"),
            }
        }
    }
}

//! Header names and values as Istio and Envoy accept them.

use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
};

const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];
const CLAIM: &str = "@request.auth.claims";

/// Whether a match key selects on a JWT claim: `@request.auth.claims.x` or `@request.auth.claims[x]`.
pub(super) fn is_claim(name: &str) -> bool {
    let Some((start, rest)) = name.split_at_checked(CLAIM.len()) else { return false };
    let dotted = rest.starts_with('.') && rest.len() > 1;
    let bracketed = rest.starts_with('[') && rest.ends_with(']') && rest.len() > 2;
    start.eq_ignore_ascii_case(CLAIM) && (dotted || bracketed)
}

/// Whether a name is that of the authority.
pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// The token characters of RFC 9110.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

/// The name of a header that a proxy writes or that a probe sends: letters, digits, dashes and underscores.
pub(super) fn named(field: &Field<'_>) -> Option<Hit> {
    let name = field.text();
    let good = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    (!good).then(|| Hit::new(rule::HEADER_NAME, field.path(), format!("{} is no header name", quote(name))))
}

/// The name of a header to match on, which stands in a key.
pub(super) fn matched(name: &str, field: &Field<'_>) -> Option<Hit> {
    let good = is_claim(name) || PSEUDO.contains(&name) || is_token(name);
    let message = match name {
        "" => "a header name is empty".to_owned(),
        _ => format!("{} is no header name", quote(name)),
    };
    (!good).then(|| Hit::new(rule::VS_HEADER_NAME, field.path(), message).at_key())
}

/// All of `headers`: names and values to set and add, names to remove, in request and response.
pub(super) fn operations(headers: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (direction, may_set_authority) in [("request", true), ("response", false)] {
        let side = headers.get(direction);
        for (name, value) in ["set", "add"].iter().flat_map(|operation| side.get(operation).entries()) {
            hits.extend(operation(name, &value, may_set_authority).map(Hit::at_key));
            hits.extend(value_of(&value));
        }
        hits.extend(side.get("remove").items().iter().filter_map(|name| operation(name.text(), name, false)));
    }
    hits
}

fn operation(name: &str, at: &Field<'_>, may_set_authority: bool) -> Option<Hit> {
    let message = match name {
        "" => "a header name is empty".to_owned(),
        _ if is_authority(name) && may_set_authority => return None,
        _ if is_authority(name) || name.starts_with(':') => {
            format!("the header {} cannot be changed here", quote(name))
        }
        _ => return None,
    };
    Some(Hit::new(rule::VS_HEADER_NAME, at.path(), message))
}

fn value_of(value: &Field<'_>) -> Option<Hit> {
    let text = value.text();
    let problem = if text.chars().any(|c| c.is_ascii_control() && c != '\t') {
        "has a control character"
    } else {
        variables(text)?
    };
    let message = format!("the header value {} {problem}", quote(text));
    Some(Hit::new(rule::VS_HEADER_VALUE, value.path(), message).suggest("write %% for a percent sign"))
}

/// Where in a `%VARIABLE(arguments)%` the reading is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Literal,
    Name,
    Arguments,
    ListItem,
    Text,
    AfterItem,
    AfterList,
    AfterArguments,
}

/// What is wrong with the variables of a value, by Envoy's grammar.
fn variables(text: &str) -> Option<&'static str> {
    let mut state = State::Literal;
    let mut bytes = text.bytes().peekable();
    while let Some(c) = bytes.next() {
        state = match (state, c) {
            (State::Literal, b'%') => match bytes.peek() {
                None => return Some("ends with a single %"),
                Some(b'%') => {
                    bytes.next();
                    State::Literal
                }
                Some(_) => State::Name,
            },
            (State::Name | State::AfterArguments, b'%') => State::Literal,
            (State::Name, b'(') => State::Arguments,
            (State::Arguments, b'[') => State::ListItem,
            (State::Arguments, c) if c != b' ' => State::Text,
            (State::ListItem, b'"') => State::Text,
            (State::Text, b'\\') if bytes.next().is_none() => return Some("ends with a backslash"),
            (State::Text, b')') | (State::AfterList, b')') => State::AfterArguments,
            (State::Text, b'"') => State::AfterItem,
            (State::AfterItem, b',') => State::ListItem,
            (State::AfterItem, b']') => State::AfterList,
            (State::ListItem | State::AfterItem | State::AfterList | State::AfterArguments, c) if c != b' ' => {
                return Some("has a malformed %VARIABLE()%");
            }
            (state, _) => state,
        };
    }
    (state != State::Literal).then_some("has a %VARIABLE that does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_variables_or_doubled() {
        for good in ["", "x", "100%%", "%HOSTNAME%", "%REQ(X-Y)%", r#"%UPSTREAM_METADATA(["a", "b"])%"#, "a%A%b%B%"] {
            assert_eq!(variables(good), None, "{good}");
        }
        for bad in ["100%", "%START_TIME", "%REQ(x", "%REQ(x)y%", r#"%M([a])%"#, r#"%M(["a" b])%"#] {
            assert!(variables(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn claims() {
        assert!(is_claim("@request.auth.claims.foo") && is_claim("@Request.auth.claims[a][b]"));
        assert!(!is_claim("@request.auth.claims") && !is_claim("@request.auth.claims.") && !is_claim("é"));
    }
}

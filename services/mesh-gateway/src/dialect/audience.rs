//! To whom the canary is given, where a mechanism has to be told.
//!
//! A share of the traffic needs no telling. But who an A/B test is for (a header, a cookie) nothing in a cluster says, and
//! neither does it say which namespaces call: what can be found out is which ones have proxies.

use serde_json::{Value, json};

/// To whom; by default nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// HEADER: whose requests get the canary.
    pub header: Option<HeaderMatch>,
    /// NAMESPACE: namespaces of callers that may get the canary, in this order; none = those that the mesh injects.
    /// INSTANCE, of what callers read: the one whose pods are divided; none = the object's own.
    pub namespaces: Vec<String>,
}

/// A header or a cookie that the requests of an audience have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Name of the header, in small letters, or of the cookie.
    pub name: String,
    /// It is a cookie.
    pub is_cookie: bool,
    /// What its value must be.
    pub value: HeaderValue,
}

/// What the value of a header must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Anything.
    Any,
    /// This.
    Exact(String),
    /// Something that begins like this.
    Prefix(String),
}

impl HeaderMatch {
    /// The header that is asked for.
    #[must_use]
    pub fn header(&self) -> &str {
        if self.is_cookie { "cookie" } else { &self.name }
    }

    /// What Istio holds a header against, a `StringMatch`. It never fits a header that is missing, so that a match and
    /// its opposite divide all requests.
    #[must_use]
    pub fn string_match(&self) -> Value {
        if !self.is_cookie {
            return match &self.value {
                HeaderValue::Any => json!({}),
                HeaderValue::Exact(value) => json!({"exact": value}),
                HeaderValue::Prefix(value) => json!({"prefix": value}),
            };
        }
        let value = match &self.value {
            HeaderValue::Any => "[^;]*".to_owned(),
            HeaderValue::Exact(value) => format!(r"{}\s*", literal(value)),
            HeaderValue::Prefix(value) => format!("{}[^;]*", literal(value)),
        };
        json!({"regex": format!(r"(?:.*;\s*)?{}={value}(?:;.*)?", literal(&self.name))})
    }

    /// An expression for the whole value of the header; `None` = it must be a certain text.
    #[must_use]
    pub fn expression(&self) -> Option<String> {
        let matched = self.string_match();
        match (&self.value, matched["regex"].as_str()) {
            (_, Some(regex)) => Some(regex.to_owned()),
            (HeaderValue::Any, None) => Some(".*".to_owned()),
            (HeaderValue::Prefix(value), None) => Some(format!("{}.*", literal(value))),
            (HeaderValue::Exact(_), None) => None,
        }
    }

    /// In words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let what = if self.is_cookie { "cookie" } else { "header" };
        match &self.value {
            HeaderValue::Any => format!("with the {what} {}", self.name),
            HeaderValue::Exact(value) => format!("whose {what} {} is {value:?}", self.name),
            HeaderValue::Prefix(value) => format!("whose {what} {} begins with {value:?}", self.name),
        }
    }
}

/// An expression (RE2) that fits just this text.
fn literal(text: &str) -> String {
    let escaped = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || letter == '_' => letter.to_string(),
        letter => format!(r"\{letter}"),
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn cookie(value: HeaderValue) -> Regex {
        let wanted = HeaderMatch { name: "plan.v1".into(), is_cookie: true, value };
        let pattern = wanted.string_match()["regex"].as_str().unwrap().to_owned();
        // As Envoy does: against the whole header.
        Regex::new(&format!("^(?:{pattern})$")).unwrap()
    }

    #[test]
    fn a_cookie_is_found_among_others_and_nothing_else_is() {
        use HeaderValue::{Any, Exact, Prefix};
        let (exact, prefix, any) = (cookie(Exact("be+ta".into())), cookie(Prefix("be+".into())), cookie(Any));
        for (header, fits) in [
            ("plan.v1=be+ta", [true, true, true]),
            ("a=b; plan.v1=be+ta; c=d", [true, true, true]),
            ("a=b;plan.v1=be+ta;c=d", [true, true, true]),
            ("plan.v1=be+tamax", [false, true, true]),
            ("plan.v1=", [false, false, true]),
            ("a=b; xplan.v1=be+ta", [false, false, false]),
            ("planxv1=be+ta", [false, false, false]),
            ("plan.v1=beeta", [false, false, true]),
            ("", [false, false, false]),
        ] {
            assert_eq!([&exact, &prefix, &any].map(|regex| regex.is_match(header)), fits, "{header:?}");
        }
    }

    #[test]
    fn a_header_is_matched_as_istio_writes_it() {
        let of = |value| HeaderMatch { name: "x-beta".into(), is_cookie: false, value };
        for (wanted, expected, words) in [
            (of(HeaderValue::Any), json!({}), "with the header x-beta"),
            (of(HeaderValue::Exact("a".into())), json!({"exact": "a"}), "whose header x-beta is \"a\""),
            (of(HeaderValue::Prefix("a".into())), json!({"prefix": "a"}), "whose header x-beta begins with \"a\""),
        ] {
            assert_eq!((wanted.string_match(), wanted.in_words()), (expected, words.to_owned()));
            assert_eq!(wanted.header(), "x-beta");
        }
    }
}

//! To whom a canary is given, where a mechanism has to be told.
//!
//! A share of the traffic needs no telling. But who an A/B test is for (a header, a cookie) nothing in a cluster says, and
//! neither does it say which namespaces call: what can be found out is which ones have proxies.

use serde::{Deserialize, Serialize};

/// To whom; by default nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// HEADER: whose requests get the canary.
    pub header: Option<HeaderMatch>,
    /// NAMESPACE: namespaces of callers that may get the canary, in this order; none = those that the mesh injects.
    /// INSTANCE, of what callers read: the one whose pods are divided; none = the object's own.
    pub namespaces: Vec<String>,
}

/// A header or a cookie that the requests of an audience have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Name of the header, in small letters, or of the cookie.
    pub name: String,
    /// It is a cookie.
    pub is_cookie: bool,
    /// What its value must be.
    pub value: HeaderValue,
}

/// What the value of a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_told_in_words_and_a_cookie_is_one_too() {
        use HeaderValue::{Any, Exact, Prefix};
        for (is_cookie, value, header, words) in [
            (false, Any, "x-beta", "with the header x-beta"),
            (false, Exact("a".into()), "x-beta", "whose header x-beta is \"a\""),
            (true, Prefix("a".into()), "cookie", "whose cookie x-beta begins with \"a\""),
        ] {
            let wanted = HeaderMatch { name: "x-beta".into(), is_cookie, value };
            assert_eq!((wanted.header(), wanted.in_words()), (header, words.to_owned()));
        }
    }
}

//! What the requests of an audience have, in the terms of the meshes.

use meshward_model::{HeaderMatch, HeaderValue};
use serde_json::{Value, json};

/// How a mesh asks for the header or the cookie of an audience.
pub(super) trait Asked {
    /// What Istio holds a header against, a `StringMatch`. It never fits a header that is missing, so that a match and
    /// its opposite divide all requests.
    fn string_match(&self) -> Value;

    /// An expression for the whole value of the header; `None` = it must be a certain text.
    fn expression(&self) -> Option<String>;
}

impl Asked for HeaderMatch {
    fn string_match(&self) -> Value {
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

    fn expression(&self) -> Option<String> {
        let matched = self.string_match();
        match (&self.value, matched["regex"].as_str()) {
            (_, Some(regex)) => Some(regex.to_owned()),
            (HeaderValue::Any, None) => Some(".*".to_owned()),
            (HeaderValue::Prefix(value), None) => Some(format!("{}.*", literal(value))),
            (HeaderValue::Exact(_), None) => None,
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
        for (wanted, expected, expression) in [
            (of(HeaderValue::Any), json!({}), Some(".*")),
            (of(HeaderValue::Exact("a".into())), json!({"exact": "a"}), None),
            (of(HeaderValue::Prefix("a+".into())), json!({"prefix": "a+"}), Some(r"a\+.*")),
        ] {
            assert_eq!((wanted.string_match(), wanted.expression().as_deref()), (expected, expression));
        }
    }
}

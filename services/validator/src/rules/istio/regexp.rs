//! Whether Envoy can compile a regular expression.
//!
//! Envoy uses RE2, whose grammar is nearly that of Rust's `regex`. What differs is translated first ([`translate`]), so that
//! an expression is refused only if RE2 refuses it.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
};

const LONGEST: usize = 1024;
/// RE2's largest count in a repetition.
const MOST_REPETITIONS: u32 = 1000;
/// Memory that one expression may take while it is tried, in bytes. The syntax is checked before memory is used, so that a
/// small limit says as much as a large one, and a text full of large expressions is done quickly.
const SIZE_LIMIT: usize = 16 * 1024;

static REPETITION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{(\d+)(?:,(\d*))?\}").expect("a constant"));
/// A repetition at the beginning of a text.
static COUNT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\{\d+(?:,\d*)?\}").expect("a constant"));

/// A regular expression that is empty, too long or malformed.
pub(super) fn check(field: &Field<'_>) -> Option<Hit> {
    let text = field.text();
    let problem = match text.len() {
        0 => "the regular expression is empty".to_owned(),
        1..=LONGEST => format!("{} is no RE2 expression: {}", quote(text), problem(text)?),
        long => format!("the regular expression has {long} characters, more than {LONGEST}"),
    };
    Some(
        Hit::new(rule::REGEX, field.path(), problem)
            .suggest("Envoy's syntax is RE2: github.com/google/re2/wiki/Syntax"),
    )
}

/// What RE2 would say against an expression.
pub(super) fn problem(text: &str) -> Option<String> {
    let translated = translate(text);
    if has_stacked_repetition(&translated) {
        return Some("a repetition is repeated; put it in parentheses".to_owned());
    }
    for repetition in REPETITION.captures_iter(&translated) {
        let counts = repetition.iter().skip(1).flatten().map(|count| count.as_str());
        if counts.filter(|count| !count.is_empty()).any(|count| count.parse().is_ok_and(|n: u32| n > MOST_REPETITIONS))
        {
            return Some(format!("a repetition counts at most {MOST_REPETITIONS}"));
        }
    }
    match RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).build() {
        // A large program is no error: Istio configures Envoy to allow it.
        Ok(_) | Err(regex::Error::CompiledTooBig(_)) => None,
        Err(error) => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            Some(last.trim_start_matches("error: ").to_owned())
        }
    }
}

/// An expression that has to match a whole text, as Envoy's do. None if it is malformed or needs more memory than `most` bytes.
pub(crate) fn whole(text: &str, most: usize) -> Option<Regex> {
    if text.len() > LONGEST || problem(text).is_some() {
        return None;
    }
    RegexBuilder::new(&format!("^(?:{})$", translate(text))).size_limit(most).build().ok()
}

/// Whether one repetition follows another, as in `a**`. RE2 refuses that, but for the `?` that makes a repetition lazy.
fn has_stacked_repetition(text: &str) -> bool {
    let (mut rest, mut class, mut repeated, mut opened) = (text, None, false, false);
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '{' => COUNT.find(rest).map_or(1, |found| found.end()),
            _ => c.len_utf8(),
        };
        let is_repetition = class.is_none() && ("*+?".contains(c) || length > 1 && c == '{');
        if is_repetition && repeated {
            return true;
        }
        rest = &rest[length..];
        if is_repetition {
            rest = rest.strip_prefix('?').unwrap_or(rest);
        }
        repeated = is_repetition;
        class = within(class, c, opened);
        opened = c == '[';
    }
    false
}

/// How many elements of a class in brackets were seen after `c`, if `c` is in one; `opened` says that a bracket stands before.
fn within(class: Option<usize>, c: char, opened: bool) -> Option<usize> {
    match (c, class) {
        ('[', None) => Some(0),
        (']', Some(seen)) if seen > 0 => None,
        // A caret at the beginning does not count as an element.
        ('^', Some(0)) if opened => Some(0),
        (_, Some(seen)) => Some(seen + 1),
        (_, None) => None,
    }
}

/// RE2's `\Q…\E` written with escapes, and what Rust alone finds special inside a class escaped.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = "";
    let mut class: Option<usize> = None;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        if let (None, Some(literal)) = (class, rest.strip_prefix("\\Q")) {
            let (literal, next) = literal.split_once("\\E").unwrap_or((literal, ""));
            out.push_str(&regex::escape(literal));
            rest = next;
            continue;
        }
        let taken = match (c, class) {
            ('\\', _) => c.len_utf8() + behind.chars().next().map_or(0, char::len_utf8),
            ('[', Some(_)) if rest.starts_with("[:") && rest.contains(":]") => rest.find(":]").unwrap_or(0) + 2,
            _ => c.len_utf8(),
        };
        let piece = &rest[..taken];
        // To RE2, a brace that begins neither a count nor the name of a class or character is a brace.
        let named = ["\\p", "\\P", "\\x"].contains(&previous);
        let is_brace = class.is_none() && c == '{' && !named && !COUNT.is_match(rest);
        previous = piece;
        rest = &rest[taken..];
        class = within(class, c, out.ends_with('['));
        if class.is_some_and(|seen| seen > 0) && matches!(piece, "[" | "&" | "~") || is_brace {
            out.push('\\');
        }
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re2_decides() {
        for good in [
            "/a/.*",
            r"^(?P<n>\d+)$",
            "[[]",
            "[[:alpha:]_]+",
            "[a&&b]",
            r"\Qa.b[\E+",
            "[]a]",
            "[^]]",
            "a{1000}",
            "(?i)x",
            "[a-z&~]",
            r"\pN",
            r"[\]]",
            r"\/path\/.*",
            "é+",
            "a+?b*?c??d{2}?",
            "[+*]+[?]*",
            r"\+\+(a+)+",
            "a{,2}+",
            "/orders/{id}",
            r"\p{Greek}+\x{e9}",
            "[]+*]+",
            "(?:a)*(?:b)?",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in [
            "[", "?", "(", "a)", "*", r"(?=x)", r"\1", "a{1001}", "a**b(", r"\", "[z-a]", "(?<!x)", "a++", "a**",
            "a+*", "a{2}{3}", "a???",
        ] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}

//! What a plain scalar means to kubectl.
//!
//! Kubernetes tools read YAML 1.1 (with a few liberties), people and most editors expect YAML 1.2. Where the two differ, the
//! value is resolved as kubectl will, and the difference is reported as a [`Trap`].

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Number, Value};

/// How a plain scalar is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    /// As everybody expects.
    Plain(Value),
    /// Otherwise than YAML 1.2 and most people read it.
    Surprising(Value, Trap),
    /// Infinity or "not a number", which JSON has no words for.
    NotFinite,
}

/// Why a reading surprises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trap {
    /// A word such as `no` or `on`.
    Boolean,
    /// A leading zero, an underscore, or more digits than a number holds.
    Number,
}

/// The numbers that YAML 1.1 tools accept as decimal fractions.
static FLOAT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$").expect("a constant"));

/// Longer texts are never numbers that anybody means; the bound keeps the work per scalar small.
const LONGEST_NUMBER: usize = 400;

/// Resolves an unquoted scalar without a tag.
pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Plain(Value::Null),
        "true" | "True" | "TRUE" => return Scalar::Plain(true.into()),
        "false" | "False" | "FALSE" => return Scalar::Plain(false.into()),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Scalar::Surprising(true.into(), Trap::Boolean);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Scalar::Surprising(false.into(), Trap::Boolean);
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Scalar::NotFinite,
        _ => {}
    }
    match text.as_bytes()[0] {
        b'0'..=b'9' | b'+' | b'-' | b'.' if text.len() <= LONGEST_NUMBER => number(text),
        _ => Scalar::Plain(text.into()),
    }
}

fn number(text: &str) -> Scalar {
    // Behind a leading dot, an underscore must stand between digits; elsewhere it is dropped wherever it stands.
    if text.starts_with('.') && !separates_digits(text) {
        return Scalar::Plain(text.into());
    }
    let plain = text.replace('_', "");
    if let Some((value, radix)) = integer(&plain) {
        let expected = plain == text && (radix == 10 || text.starts_with("0x"));
        return if expected { Scalar::Plain(value) } else { Scalar::Surprising(value, Trap::Number) };
    }
    if !FLOAT.is_match(&plain) {
        return Scalar::Plain(text.into());
    }
    let Some(value) = plain.parse::<f64>().ok().filter(|value| value.is_finite()) else {
        // Too large for a double: other tools keep such a scalar as text.
        return Scalar::Plain(text.into());
    };
    let digits_only = plain.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit());
    let surprising = plain != text || digits_only;
    if surprising { Scalar::Surprising(decimal(value), Trap::Number) } else { Scalar::Plain(decimal(value)) }
}

fn separates_digits(text: &str) -> bool {
    let digit = |at: Option<usize>| at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_digit);
    text.match_indices('_').all(|(at, _)| digit(at.checked_sub(1)) && digit(Some(at + 1)))
}

/// An integer and its radix: sign, then 0x, 0o, 0b, a leading zero for octal, or decimal digits.
fn integer(plain: &str) -> Option<(Value, u32)> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    let value = if negative {
        let signed = i64::try_from(-i128::from(magnitude)).ok()?;
        Value::from(signed)
    } else {
        Value::from(magnitude)
    };
    Some((value, radix))
}

/// A fraction as JSON: whole numbers without a point, as the API server prints and compares them.
fn decimal(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each line was compared with what sigs.k8s.io/yaml 1.6.0 makes of it.
    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        for (text, expected) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("nul", json!("nul")),
            ("true", json!(true)),
            ("tRue", json!("tRue")),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("12", json!(12)),
            ("+12", json!(12)),
            ("0x1F", json!(31)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("10.0", json!(10)),
            ("1e3", json!(1000)),
            ("1.", json!(1)),
            ("9223372036854775808", json!(9_223_372_036_854_775_808_u64)),
            ("1:30", json!("1:30")),
            ("2026-01-02", json!("2026-01-02")),
            ("1.2.3", json!("1.2.3")),
            ("10s", json!("10s")),
            ("-", json!("-")),
            (".", json!(".")),
            ("0x", json!("0x")),
            ("._5", json!("._5")),
            ("1e999", json!("1e999")),
        ] {
            assert_eq!(resolve(text), Scalar::Plain(expected), "{text:?}");
        }
    }

    #[test]
    fn readings_that_surprise_are_traps() {
        for (text, expected, trap) in [
            ("no", json!(false), Trap::Boolean),
            ("On", json!(true), Trap::Boolean),
            ("y", json!(true), Trap::Boolean),
            ("0755", json!(493), Trap::Number),
            ("-0755", json!(-493), Trap::Number),
            ("0o755", json!(493), Trap::Number),
            ("0b101", json!(5), Trap::Number),
            ("1_000", json!(1000), Trap::Number),
            ("1_0.5", json!(10.5), Trap::Number),
            (".1_0", json!(0.1), Trap::Number),
            ("0899", json!(899), Trap::Number),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0), Trap::Number),
        ] {
            assert_eq!(resolve(text), Scalar::Surprising(expected, trap), "{text:?}");
        }
        assert_eq!(resolve("-.inf"), Scalar::NotFinite);
        assert_eq!(resolve(".NaN"), Scalar::NotFinite);
    }
}

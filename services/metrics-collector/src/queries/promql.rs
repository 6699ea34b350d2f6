//! Checks a query before it is sent: whether it is PromQL, of the right type, and what the reader can use.

pub mod refusal;
pub mod selectors;

use promql_parser::{
    parser::{self, Call, Expr, value::ValueType},
    util::{ExprVisitor, walk_expr},
};

/// Longest query that a template may have, bytes.
pub const MAX_QUERY_BYTES: usize = 4096;
/// Longest query that is sent, bytes: what templates become with a target's names.
pub const MAX_SENT_BYTES: usize = 4 * MAX_QUERY_BYTES;
/// Deepest nesting of brackets. The parsed tree is walked and freed by recursion.
const MAX_DEPTH: usize = 50;
/// Functions that turn counters into rates. The reader wants the counters: it knows restarts, gaps and whole requests.
const RATES: [&str; 7] = ["rate", "irate", "increase", "delta", "idelta", "deriv", "histogram_quantile"];

/// What is wrong with a query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct InvalidQuery {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

impl InvalidQuery {
    /// Something wrong at a byte of a text.
    pub(crate) fn at(text: &str, byte: usize, reason: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: reason.into(),
        }
    }
}

/// Checks that a query gives counters: series with a value at each moment, and no rates of them.
///
/// # Errors
/// With the position of the first thing that is wrong.
pub fn check(query: &str) -> Result<(), InvalidQuery> {
    if query.len() > MAX_QUERY_BYTES {
        let reason = format!("the query has {} bytes, {MAX_QUERY_BYTES} are allowed", query.len());
        return Err(InvalidQuery::at(query, MAX_QUERY_BYTES, reason));
    }
    check_form(query)
}

/// The same for a query of any length.
///
/// # Errors
/// With the position of the first thing that is wrong.
pub fn check_form(query: &str) -> Result<(), InvalidQuery> {
    let brackets = Brackets::scan(query);
    if let Some(byte) = brackets.too_deep {
        return Err(InvalidQuery::at(query, byte, format!("more than {MAX_DEPTH} brackets within each other")));
    }
    let expression =
        parser::parse(query).map_err(|reason| InvalidQuery::at(query, first_error(query), one_line(&reason)))?;
    if expression.value_type() != ValueType::Vector {
        let found = expression.value_type();
        return Err(InvalidQuery::at(query, 0, format!("gives a {found}, an instant vector of counters is wanted")));
    }
    if let Some(byte) = selectors::too_long_range(query, &brackets) {
        return Err(InvalidQuery::at(query, byte, "looks back over more than a day"));
    }
    let mut finder = FindRate(None);
    // The visitor has no errors of its own.
    let _ = walk_expr(&mut finder, &expression);
    if let Some(function) = finder.0 {
        let byte = query.find(function).unwrap_or(0);
        let reason = format!("{function}() is not wanted: give the counters, increases are computed from them");
        return Err(InvalidQuery::at(query, byte, reason));
    }
    Ok(())
}

struct FindRate(Option<&'static str>);

impl ExprVisitor for FindRate {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        if let Expr::Call(Call { func, .. }) = expression {
            self.0 = self.0.or(RATES.into_iter().find(|rate| *rate == func.name));
        }
        Ok(self.0.is_none())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is open at the end of a text, and where its words end.
struct Brackets {
    /// Closing brackets that are missing, innermost last.
    open: Vec<char>,
    /// The quote that is not closed.
    quote: Option<char>,
    /// Where brackets are too deep.
    too_deep: Option<usize>,
    /// Bytes at which something begins or ends, outside of strings.
    borders: Vec<usize>,
}

impl Brackets {
    fn scan(text: &str) -> Self {
        let mut found = Self { open: Vec::new(), quote: None, too_deep: None, borders: vec![0] };
        let mut escaped = false;
        let mut in_word = false;
        for (byte, c) in text.char_indices() {
            if let Some(quote) = found.quote {
                if c == quote && !escaped {
                    found.quote = None;
                    found.borders.push(byte + 1);
                }
                escaped = c == '\\' && !escaped && quote != '`';
                continue;
            }
            let is_word = c.is_alphanumeric() || c == '_' || c == ':';
            if !(is_word && in_word) && found.borders.last() != Some(&byte) {
                found.borders.push(byte);
            }
            in_word = is_word;
            match c {
                '(' => found.open.push(')'),
                '[' => found.open.push(']'),
                '{' => found.open.push('}'),
                ')' | ']' | '}' if found.open.last() == Some(&c) => drop(found.open.pop()),
                '"' | '\'' | '`' => found.quote = Some(c),
                _ => {}
            }
            if found.open.len() > MAX_DEPTH && found.too_deep.is_none() {
                found.too_deep = Some(byte);
            }
        }
        if found.quote.is_none() && found.borders.last() != Some(&text.len()) {
            found.borders.push(text.len());
        }
        found
    }
}

/// Where a query that cannot be parsed goes wrong. The parser does not say, so it is asked for beginnings of the query,
/// each completed in the ways in which a query can go on: the longest that parses ends where the trouble begins.
fn first_error(query: &str) -> usize {
    const COMPLETIONS: [&str; 10] =
        ["", "x", "[1m]", "=\"x\"", "\"x\"", "x=\"x\"", "=~\"x\"", "1m", ",\"\",\"\",\"\"", ",\"\",\"\",\"\",\"\""];
    let can_go_on = |byte: &usize| {
        let beginning = &query[..*byte];
        let brackets = Brackets::scan(beginning);
        let closing: String = brackets.open.iter().rev().collect();
        brackets.quote.is_none()
            && COMPLETIONS.iter().any(|completion| parser::parse(&format!("{beginning}{completion}{closing}")).is_ok())
    };
    let borders = Brackets::scan(query).borders;
    borders.into_iter().rev().find(can_go_on).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_pass() {
        for query in [
            "up",
            "{__name__=~\"a|b\",c=\"d\"}",
            "a or b",
            "label_replace(a, \"b\", \"c\", \"\", \"\")",
            "sum by (le) (a{b!~\"c\"})",
            "max_over_time(a[5m])",
        ] {
            assert_eq!(check(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_position() {
        let deep = format!("{}up{}", "(".repeat(60), ")".repeat(60));
        let long = format!("up{{a=\"{}\"}}", "x".repeat(5000));
        let cases = [
            ("", 1, 1, ""),
            ("up{", 1, 4, ""),
            ("up{a=}", 1, 6, ""),
            ("up{a=\"b\"} or\n  up{a=b}", 2, 8, ""),
            ("sum(up) up", 1, 9, ""),
            ("up $SERIES", 1, 4, ""),
            ("rate(up)", 1, 8, "expected type matrix"),
            ("rate(up[5m])", 1, 1, "rate() is not wanted"),
            ("up\n + irate(up[5m])", 2, 4, "irate() is not wanted"),
            ("max_over_time(up[0s])", 1, 18, "duration must be greater than 0"),
            ("max_over_time(up[-5m])", 1, 18, ""),
            ("max_over_time(up[1y])", 1, 17, "looks back over more than a day"),
            ("max_over_time(up{a=\"[9y]\"}[1d:1m]) or max_over_time(up[25h])", 1, 55, "looks back over more"),
            ("up[5m]", 1, 1, "gives a"),
            ("1", 1, 1, "gives a scalar"),
            ("\"up\"", 1, 1, "gives a string"),
            ("{}", 1, 2, "at least one non-empty matcher"),
            ("up{a=~\"(\"}", 1, 7, ""),
            (&deep, 1, 51, "more than 50 brackets"),
            (&long, 1, 4097, "the query has 5008 bytes, 4096 are allowed"),
        ];
        let wrong = |(query, line, column, reason): (&str, usize, usize, &str)| {
            let error = check(query).expect_err(query);
            let is_right = (error.line, error.column) == (line, column) && error.reason.contains(reason);
            (!is_right || error.reason.is_empty()).then(|| format!("{query}: {error}"))
        };
        let wrong: Vec<String> = cases.into_iter().filter_map(wrong).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

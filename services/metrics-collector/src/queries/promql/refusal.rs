//! What a source says of a query that it refuses. It may know less, or more, than the parser here: a function that only
//! newer ones have, an expression that cannot be evaluated.

use super::{InvalidQuery, selectors};

/// Where a query goes wrong, in the words of the source that refused it: `… 1:13: parse error: …`, which counts bytes, or
/// a sentence that names a function, or neither.
#[must_use]
pub fn told(query: &str, message: &str) -> InvalidQuery {
    match position(message) {
        Some((line, column, reason)) => InvalidQuery::at(query, byte(query, line, column), reason),
        None => InvalidQuery::at(query, named_function(query, message).unwrap_or(0), message),
    }
}

/// Line, column and what follows them.
fn position(message: &str) -> Option<(usize, usize, &str)> {
    let begins = message.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at);
    let begins = begins.filter(|at| *at == 0 || message.as_bytes()[at - 1] == b' ');
    begins.into_iter().find_map(|at| {
        let (line, rest) = message[at..].split_once(':')?;
        let (column, reason) = rest.split_once(": ")?;
        Some((line.parse().ok()?, column.parse().ok()?, reason))
    })
}

fn byte(query: &str, line: usize, column: usize) -> usize {
    let before: usize = query.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(query.len())
}

fn named_function(query: &str, message: &str) -> Option<usize> {
    let (before, _) = message.split_once("()")?;
    let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    selectors::first_word(query, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_taken_from_the_sources_words() {
        let query = "label_replace(up,\n \"ü\", \"b\", \"c\", \"(\") or\n  sort_by(up)";
        for (message, expected) in [
            (
                "bad_data: invalid parameter \"query\": 3:3: parse error: unknown function with name \"sort_by\"",
                "line 3, column 3: parse error: unknown function with name \"sort_by\"",
            ),
            ("1:1: parse error: x", "line 1, column 1: parse error: x"),
            ("2:9: parse error: y", "line 2, column 8: parse error: y"),
            ("7:99: parse error: behind its end", "line 3, column 14: parse error: behind its end"),
            (
                "execution: invalid regular expression in label_replace(): (",
                "line 1, column 1: execution: invalid regular expression in label_replace(): (",
            ),
            ("execution: of sort_by(): no", "line 3, column 3: execution: of sort_by(): no"),
            ("after 10:00 nothing is said", "line 1, column 1: after 10:00 nothing is said"),
            ("", "line 1, column 1: "),
        ] {
            assert_eq!(told(query, message).to_string(), expected, "{message}");
        }
    }
}

//! What a query asks for: the names and labels in it, with their places, and which labels are left of what it finds.

use promql_parser::{
    parser::{AggregateExpr, Expr, LabelModifier, MatrixSelector, VectorSelector, parse, token::T_LOR},
    util::{ExprVisitor, parse_duration, walk_expr},
};

use super::Brackets;

/// Longest time that one value may look back over, seconds.
pub const LONGEST_RANGE_S: u64 = 24 * 3600;

/// A name in a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The name.
    pub text: String,
    /// The byte at which it stands.
    pub byte: usize,
}

/// A metric that a query names, and labels that its series must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric.
    pub metric: Word,
    /// The labels.
    pub labels: Vec<Word>,
}

/// The selectors of a query that name their metric. Names that only quotes make possible are left out.
#[must_use]
pub fn selectors(query: &str) -> Vec<Selector> {
    let mut finder = Finder { words: Words::of(query), at: 0, found: Vec::new() };
    if let Ok(expression) = parse(query) {
        // The visitor has no errors of its own.
        let _ = walk_expr(&mut finder, &expression);
    }
    finder.found
}

/// Walks in the order of the text.
struct Finder<'a> {
    words: Words<'a>,
    at: usize,
    found: Vec<Selector>,
}

impl Finder<'_> {
    fn meet(&mut self, selector: &VectorSelector) -> Option<()> {
        let metric = self.words.after(self.at, selector.name.as_ref()?)?;
        let needed = selector.matchers.matchers.iter().filter(|matcher| !matcher.is_match(""));
        let labels = needed.filter_map(|matcher| self.words.after(metric.byte, &matcher.name)).collect();
        self.at = metric.byte + metric.text.len();
        self.found.push(Selector { metric, labels });
        Some(())
    }
}

impl ExprVisitor for Finder<'_> {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        if let Expr::VectorSelector(selector) | Expr::MatrixSelector(MatrixSelector { vs: selector, .. }) = expression {
            self.meet(selector);
        }
        Ok(true)
    }
}

/// The words of a text, outside of strings.
struct Words<'a> {
    text: &'a str,
    borders: Vec<usize>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, borders: Brackets::scan(text).borders }
    }

    /// The first such word from a byte on.
    fn after(&self, byte: usize, word: &str) -> Option<Word> {
        let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
        let ends = |at: &usize| {
            let next = self.text[at + word.len()..].chars().next();
            next.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
        };
        let is_it = |at: &usize| *at >= byte && self.text[*at..].starts_with(word) && ends(at);
        let at = self.borders.iter().copied().find(is_it).filter(|_| is_plain && !word.is_empty())?;
        Some(Word { text: word.to_owned(), byte: at })
    }
}

/// The byte at which a name first stands, outside of strings.
pub(super) fn first_word(query: &str, name: &str) -> Option<usize> {
    Words::of(query).after(0, name).map(|word| word.byte)
}

/// Where a range begins that is longer than [`LONGEST_RANGE_S`].
pub(super) fn too_long_range(query: &str, brackets: &Brackets) -> Option<usize> {
    let is_long = |byte: &usize| {
        let range = query[*byte..].strip_prefix('[').and_then(|rest| rest.split([']', ':']).next());
        let length = range.and_then(|range| parse_duration(range.trim()).ok());
        length.is_some_and(|length| length.as_secs() > LONGEST_RANGE_S)
    };
    brackets.borders.iter().copied().find(is_long)
}

/// The place where a query drops a label of what it finds, if it does.
#[must_use]
pub fn dropped(query: &str, label: &str) -> Option<usize> {
    let expression = parse(query).ok()?;
    let aggregation = dropping(&expression, label)?;
    Some(Words::of(query).after(0, &aggregation.op.to_string()).map_or(0, |word| word.byte))
}

fn dropping<'a>(expression: &'a Expr, label: &str) -> Option<&'a AggregateExpr> {
    match expression {
        Expr::Paren(paren) => dropping(&paren.expr, label),
        Expr::Binary(binary) => {
            dropping(&binary.lhs, label).or_else(|| dropping(&binary.rhs, label).filter(|_| binary.op.id() == T_LOR))
        }
        // Those with a parameter choose series and leave them as they are.
        Expr::Aggregate(aggregate) if aggregate.param.is_some() => dropping(&aggregate.expr, label),
        Expr::Aggregate(aggregate) => {
            let named = |labels: &LabelModifier| labels.labels().labels.iter().any(|named| named == label);
            let keeps = match &aggregate.modifier {
                Some(labels @ LabelModifier::Include(_)) => named(labels),
                // The name goes with whatever is left out.
                Some(labels @ LabelModifier::Exclude(_)) => !named(labels) && label != "__name__",
                None => false,
            };
            if keeps { dropping(&aggregate.expr, label) } else { Some(aggregate) }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_with_their_places() {
        let query =
            "sum by (le) (up_total{a=\"up\",b!=\"x\", c=~\"d.*\",e=~\".*\"})\n or {f=\"g\"} or max_over_time(up[5m])";
        let found: Vec<_> = selectors(query)
            .into_iter()
            .map(|one| {
                let labels: Vec<_> = one.labels.into_iter().map(|label| (label.text, label.byte)).collect();
                (one.metric.text, one.metric.byte, labels)
            })
            .collect();
        let labels = vec![("a".to_owned(), 22), ("c".to_owned(), 37)];
        assert_eq!(found, [("up_total".to_owned(), 13, labels), ("up".to_owned(), 85, vec![])]);
    }

    #[test]
    fn a_label_is_dropped_by_what_aggregates_it_away() {
        let cases = [
            ("a", "le", None),
            ("sum by (le, b) (a)", "le", None),
            ("sum without (b) (a)", "le", None),
            ("topk(3, a)", "le", None),
            ("label_replace(sum(a), \"le\", \"1\", \"\", \"\")", "le", None),
            ("sum(a)", "le", Some(0)),
            ("sum by (b) (a)", "le", Some(0)),
            ("a or (max without (le) (a))", "le", Some(6)),
            ("sum without (b) (a)", "__name__", Some(0)),
        ];
        for (query, label, place) in cases {
            assert_eq!(dropped(query, label), place, "{query}");
        }
    }
}

//! What has to hold, with AND and OR made visible.

use std::fmt::{self, Display, Formatter};

/// A condition. Where AND and OR meet there are parentheses, so that no precedence has to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// One thing: "from namespace "shop"".
    Is(String),
    /// All of them.
    All(Vec<Condition>),
    /// At least one of them.
    Any(Vec<Condition>),
}

/// Parts of one condition that are written out; more are counted.
const MOST_PARTS: usize = 50;

impl Condition {
    /// What is not so.
    pub(super) fn not(what: &str) -> Self {
        Self::Is(format!("not ({what})"))
    }

    /// Whether nothing has to hold.
    pub(super) fn is_always(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    /// The same without lists of one.
    pub(super) fn simple(self) -> Self {
        match self {
            Self::All(parts) | Self::Any(parts) if parts.len() == 1 => {
                parts.into_iter().next().map_or(Self::All(Vec::new()), Self::simple)
            }
            Self::All(parts) => Self::All(parts.into_iter().map(Self::simple).collect()),
            Self::Any(parts) => Self::Any(parts.into_iter().map(Self::simple).collect()),
            one @ Self::Is(_) => one,
        }
    }

    fn joined(&self, joint: &str, parts: &[Self], f: &mut Formatter<'_>) -> fmt::Result {
        for (index, part) in parts.iter().take(MOST_PARTS).enumerate() {
            let before = if index == 0 { "" } else { joint };
            let nested = !matches!(part, Self::Is(_)) && std::mem::discriminant(part) != std::mem::discriminant(self);
            if nested { write!(f, "{before}({part})")? } else { write!(f, "{before}{part}")? }
        }
        match parts.len().saturating_sub(MOST_PARTS) {
            0 => Ok(()),
            more => write!(f, "{joint}{more} more that are not written out here"),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(what) => f.write_str(what),
            Self::All(parts) => self.joined(" AND ", parts, f),
            Self::Any(parts) => self.joined(" OR ", parts, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(what: &str) -> Condition {
        Condition::Is(what.to_owned())
    }

    #[test]
    fn parentheses_stand_where_and_meets_or() {
        use Condition::{All, Any};
        for (condition, expected) in [
            (All(vec![is("a"), is("b")]), "a AND b"),
            (Any(vec![is("a"), All(vec![is("b"), is("c")])]), "a OR (b AND c)"),
            (All(vec![Any(vec![is("a"), is("b")]), is("c")]), "(a OR b) AND c"),
            (All(vec![Any(vec![is("a")]), All(vec![is("b")])]), "a AND b"),
            (Any(vec![All(vec![Any(vec![is("a"), is("b")]), is("c")]), is("d")]), "((a OR b) AND c) OR d"),
        ] {
            assert_eq!(condition.simple().to_string(), expected);
        }
    }

    #[test]
    fn very_long_conditions_are_counted() {
        let parts = (0..60).map(|n| is(&n.to_string())).collect();
        let text = Condition::Any(parts).to_string();
        assert!(text.ends_with("49 OR 10 more that are not written out here"), "{text}");
    }
}

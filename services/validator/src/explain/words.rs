//! Phrases that the sentences of both meshes share.

use crate::{
    report::{list, quote},
    rules::field::Field,
};

/// Values of one list that are written out; more are counted.
const MOST_VALUES: usize = 20;

/// The texts of a list.
pub(super) fn texts<'a>(field: &Field<'a>) -> Vec<&'a str> {
    field.items().iter().filter_map(|item| item.value()?.as_str()).collect()
}

/// "\"a\", \"b\" or \"c\"".
pub(super) fn any_of(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
    counted(quoted)
}

/// The same where a star at the beginning or end stands for anything.
pub(super) fn any_like(values: &[&str]) -> String {
    counted(values.iter().map(|value| like(value)).collect())
}

fn like(value: &str) -> String {
    if let Some(start) = value.strip_suffix('*') {
        return format!("starting with {}", quote(start));
    }
    value.strip_prefix('*').map_or_else(|| quote(value), |end| format!("ending with {}", quote(end)))
}

fn counted(mut values: Vec<String>) -> String {
    let more = values.len().saturating_sub(MOST_VALUES);
    if more > 0 {
        values.truncate(MOST_VALUES);
        values.push(format!("{more} more that are not written out here"));
    }
    list(&values, " or ")
}

/// The labels that a selector demands: "app=cart and tier=web"; `None` if it demands none.
pub(super) fn labels(selector: &Field<'_>) -> Option<String> {
    let equal = selector.get("matchLabels").entries();
    let mut parts: Vec<String> =
        equal.iter().map(|(name, value)| format!("{}={}", plain(name), plain(value.text()))).collect();
    for expression in selector.get("matchExpressions").items() {
        let (key, values) = (plain(expression.get("key").text()), any_of(&texts(&expression.get("values"))));
        parts.push(match expression.get("operator").text() {
            "In" => format!("{key} being {values}"),
            "NotIn" => format!("{key} not being {values}"),
            "Exists" => format!("a label {key}"),
            _ => format!("no label {key}"),
        });
    }
    (!parts.is_empty()).then(|| list(&parts, " and "))
}

/// A name as it stands, unless it has to be quoted to be seen as one.
fn plain(text: &str) -> String {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !text.is_empty() && text.len() <= 253 && text.chars().all(usual) { text.to_owned() } else { quote(text) }
}

/// "namespace shop", or "its namespace" where the text does not say which.
pub(super) fn namespace(name: &str) -> String {
    if name.is_empty() { "its namespace".to_owned() } else { format!("namespace {}", plain(name)) }
}

/// The numbers in a sentence: "rule 1", "rules 1 and 3".
pub(super) fn rules(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().take(MOST_VALUES).map(ToString::to_string).collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("rule{plural} {}", list(&texts, " and "))
}

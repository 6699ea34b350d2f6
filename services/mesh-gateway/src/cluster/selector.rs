//! Selectors as Kubernetes reads them, for what is answered from memory. Pure.

use serde_json::Value;

use crate::object::metadata_map;

/// The fields by which the API server can select everything that is kept in memory.
const FIELDS: [&str; 4] = ["metadata.name", "metadata.namespace", "status.phase", "spec.nodeName"];

/// A label selector and a field selector that an object must fit both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<Label>,
    /// Path, whether it must be equal, value.
    fields: Vec<(&'static str, bool, String)>,
}

/// One requirement on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    In(String, Vec<String>),
    /// Also without the label.
    NotIn(String, Vec<String>),
    Present(String),
    Absent(String),
}

impl Selector {
    /// `None` if one of them is not understood here; the API server may know better.
    pub(super) fn parse(labels: &str, fields: &str) -> Option<Self> {
        let labels = parts(labels).into_iter().map(label).collect::<Option<_>>()?;
        let fields = parts(fields).into_iter().map(field).collect::<Option<_>>()?;
        Some(Self { labels, fields })
    }

    pub(super) fn fits(&self, object: &Value) -> bool {
        let labels = metadata_map(object, "labels");
        let value = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let has = |key: &str, values: &[String]| value(key).is_some_and(|value| values.iter().any(|one| one == value));
        let fits_labels = self.labels.iter().all(|requirement| match requirement {
            Label::In(key, values) => has(key, values),
            Label::NotIn(key, values) => !has(key, values),
            Label::Present(key) => value(key).is_some(),
            Label::Absent(key) => value(key).is_none(),
        });
        let at = |path: &str| path.split('.').fold(object, |value, part| &value[part]).as_str().unwrap_or_default();
        fits_labels && self.fields.iter().all(|(path, equal, value)| (at(path) == value) == *equal)
    }
}

/// Splits at the commas that are not within parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let at_comma = |letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    text.split(at_comma).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Key, whether equal, value.
fn comparison(part: &str) -> Option<(&str, bool, &str)> {
    let (key, equal, value) = match (part.split_once("!="), part.split_once('=')) {
        (Some((key, value)), _) => (key, false, value),
        (None, Some((key, value))) => (key, true, value.strip_prefix('=').unwrap_or(value)),
        (None, None) => return None,
    };
    Some((key.trim(), equal, value.trim()))
}

fn label(part: &str) -> Option<Label> {
    if let Some((key, equal, value)) = comparison(part) {
        let (key, values) = (key.to_owned(), vec![value.to_owned()]);
        return Some(if equal { Label::In(key, values) } else { Label::NotIn(key, values) });
    }
    if let Some((before, list)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let words: Vec<_> = before.split_whitespace().collect();
        return match words[..] {
            [key, "in"] => Some(Label::In(key.to_owned(), values)),
            [key, "notin"] => Some(Label::NotIn(key.to_owned(), values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(key) => Some(Label::Absent(key.trim().to_owned())),
        None => (!part.contains(char::is_whitespace)).then(|| Label::Present(part.to_owned())),
    }
}

fn field(part: &str) -> Option<(&'static str, bool, String)> {
    let (path, equal, value) = comparison(part)?;
    let path = FIELDS.into_iter().find(|known| *known == path)?;
    Some((path, equal, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields_select_as_kubernetes_says() {
        let pod = json!({"metadata": {"name": "a", "namespace": "shop", "labels": {"app": "x", "tier": "web"}},
                         "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        for (labels, fields, fits) in [
            ("", "", true),
            ("app=x", "", true),
            ("app==x,tier=web", "", true),
            ("app=y", "", false),
            ("app!=y", "", true),
            ("none!=y", "", true),
            ("tier in (db, web),app", "", true),
            ("tier in (db)", "", false),
            ("tier notin (db,cache)", "", true),
            ("none notin (db)", "", true),
            ("!none", "", true),
            ("!app", "", false),
            ("none", "", false),
            ("", "metadata.name=a", true),
            ("", "metadata.name=b", false),
            ("", "status.phase!=Succeeded,status.phase!=Failed", true),
            ("", "spec.nodeName=n,metadata.namespace=shop", true),
            ("", "spec.nodeName=", false),
        ] {
            let selector = Selector::parse(labels, fields).unwrap_or_else(|| panic!("{labels} {fields}"));
            assert_eq!(selector.fits(&pod), fits, "{labels:?} {fields:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_api_server() {
        for (labels, fields) in [("a b", ""), ("a of (b)", ""), ("", "spec.other=1"), ("", "metadata.name")] {
            assert_eq!(Selector::parse(labels, fields), None, "{labels:?} {fields:?}");
        }
    }
}

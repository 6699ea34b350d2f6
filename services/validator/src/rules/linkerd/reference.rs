//! References from one object to another: by group, kind and name.

use super::shape::{Entry, Form, Need, Shape};
use crate::rules::field::Field;

/// A reference into the object's own namespace.
pub(super) const LOCAL: Shape = Shape::Map(&[GROUP, KIND, NAME]);
/// A reference into any namespace.
pub(super) const NAMESPACED: Shape = Shape::Map(&[GROUP, KIND, NAME, NAMESPACE]);

const GROUP: Entry = ("group", Need::May, Shape::Text(Form::Group));
const KIND: Entry = ("kind", Need::Must, Shape::Text(Form::Kind));
const NAME: Entry = ("name", Need::Must, Shape::Text(Form::Filled));
const NAMESPACE: Entry = ("namespace", Need::May, Shape::Text(Form::Free));

/// Whether a reference is to a kind of a group. Linkerd compares without regard to case, and no group is the core
/// group.
pub(super) fn is_to(reference: &Field<'_>, group: &str, kind: &str) -> bool {
    let given = reference.get("group").text();
    let given = if given.is_empty() { CORE } else { given };
    given.eq_ignore_ascii_case(group) && reference.get("kind").text().eq_ignore_ascii_case(kind)
}

/// How Linkerd names the group of Services, Namespaces and ServiceAccounts.
pub(super) const CORE: &str = "core";

/// The kind of a reference as messages name it: "Deployment.apps".
pub(super) fn kind_of(reference: &Field<'_>) -> String {
    let (group, kind) = (reference.get("group").text(), reference.get("kind").text());
    let short: String =
        [kind, group].iter().filter(|part| !part.is_empty()).map(|part| cut(part)).collect::<Vec<_>>().join(".");
    if short.is_empty() { "nothing".to_owned() } else { short }
}

fn cut(text: &str) -> &str {
    const LONGEST: usize = 80;
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

//! Texts with the objects around them: layers 4 and 5.
//!
//! The objects that are judged and those that are only there to be referred to go into one [`Set`]. First the context alone
//! is judged, then the judged objects are put in: what is then said of them, and what is said of others and was not before,
//! is the answer. So a change is told what it breaks elsewhere, and is not blamed for what was broken already.

use std::{collections::BTreeSet, sync::Arc};

use meshward_model::{Finding, ObjectRef};
use serde_json::{Value, json};

use super::{Input, head};
use crate::{
    path::Path,
    report::{Findings, Hit, Report},
    rules::catalogue as rule,
    text::{self, Document},
    world::{Entry, Kind, Set},
};

/// An object as an entry of the world; `None` if no rule looks at its kind.
pub(crate) fn entry_of(mut head: ObjectRef, document: Document, source: &Arc<str>) -> Option<Entry> {
    let Document { value, places } = document;
    let kind = Kind::of(&head)?;
    if kind.is_cluster_wide() {
        head.namespace.clear();
    }
    let value = if kind == Kind::MeshConfig { mesh_config(&value)? } else { value };
    Some(Entry { head, kind, value: Arc::new(value), places: Arc::new(places), source: Arc::clone(source) })
}

/// Of a ConfigMap only Istio's mesh configuration is of interest, which is YAML within YAML.
pub(crate) fn mesh_config(value: &Value) -> Option<Value> {
    let text = value.pointer("/data/mesh")?.as_str()?;
    let mesh = text::load(text.as_bytes(), &mut Findings::default()).into_iter().next()?.value;
    Some(json!({"metadata": value.get("metadata"), "mesh": mesh}))
}

/// The objects of a text that is context. What is wrong with the text itself is told, what its objects say is not judged.
pub(crate) fn context(input: &Input<'_>, findings: &mut Findings) -> Vec<Entry> {
    let source: Arc<str> = input.source.into();
    let mut own = Findings::default();
    let documents = text::load(input.text, &mut own);
    if own.has_errors() {
        let (problem, at) = own.first().map(|first| (first.message.as_str(), first.at)).unwrap_or_default();
        let message = format!("{} could not be read to its end: {problem}", input.source);
        let before = findings.len();
        findings.at(rule::CONTEXT_UNREADABLE, at.unwrap_or_default(), message, "");
        findings.name_from(before, input.source);
    }
    let objects = documents.into_iter().flat_map(list_items);
    objects.filter_map(|document| entry_of(head(&document.value), document, &source)).collect()
}

/// The objects of a `kind: List`, or the object itself.
pub(crate) fn list_items(document: Document) -> Vec<Document> {
    let Document { value, places } = &document;
    let is_list = value.get("kind").is_some_and(|kind| kind == "List");
    let Some(items) = value.get("items").and_then(Value::as_array).filter(|_| is_list) else {
        return vec![document];
    };
    let path = Path::root().field("items");
    let at = |(index, item): (usize, &Value)| {
        let places = places.inside(&path.index(index)).unwrap_or_default();
        Document { value: item.clone(), places }
    };
    items.iter().enumerate().map(at).collect()
}

/// Judges the objects of a report among others; the rules that could not run.
pub(crate) fn judge(report: &Report, context: &mut Set, findings: &mut Findings) -> BTreeSet<String> {
    judge_change(report, context, findings).0
}

/// Judges the objects of a report among others: the rules that could not run, what the objects mend elsewhere, and how many
/// objects were judged.
pub(crate) fn judge_change(
    report: &Report,
    context: &mut Set,
    findings: &mut Findings,
) -> (BTreeSet<String>, Vec<Finding>, usize) {
    let source: Arc<str> = "".into();
    let mut entries: Vec<Entry> = Vec::new();
    for object in &report.objects {
        let document = Document { value: object.value.clone(), places: object.places.clone() };
        let Some(entry) = entry_of(object.head.clone(), document, &source) else { continue };
        let entry = context.aged(entry);
        if let Some(first) = entries.iter().find(|other| identity(other) == identity(&entry)) {
            let message = "the same object stands in the text before; the later one counts";
            let hit = Hit::new(rule::OBJECT_TWICE, entry.name().path(), message);
            findings.hit(hit.with(first.related(first.name().path(), "is overwritten")), &entry.head, &entry.places);
        }
        entries.push(entry);
    }
    let outcome = context.what_if(entries.clone());
    let mut skipped = BTreeSet::new();
    let mut seen = BTreeSet::new();
    // Of an object that is there twice, the later one was judged.
    for (entry, judgement) in entries.iter().zip(outcome.changed).rev() {
        if seen.insert(identity(entry)) {
            judgement.hits.into_iter().for_each(|hit| findings.hit(hit, &entry.head, &entry.places));
            skipped.extend(judgement.skipped);
        }
    }
    for (entry, hit) in outcome.broken {
        findings.hit_in(hit, &entry.head, &entry.places, &entry.source);
    }
    let mut mended = Findings::default();
    for (entry, hit) in outcome.mended {
        mended.hit_in(hit, &entry.head, &entry.places, &entry.source);
    }
    (skipped, mended.into_sorted(), outcome.judged)
}

/// What others lack without these objects, which the set goes on having.
pub(crate) fn removal(removed: &[ObjectRef], context: &mut Set) -> Vec<Finding> {
    let identity = |head: &ObjectRef| Some((Kind::of(head)?, head.namespace.clone(), head.name.clone()));
    let gone: Vec<_> = removed.iter().filter_map(identity).collect();
    let mut findings = Findings::default();
    for (entry, hit) in context.without(&gone).broken {
        findings.hit_in(hit, &entry.head, &entry.places, &entry.source);
    }
    findings.into_sorted()
}

fn identity(entry: &Entry) -> (Kind, &str, &str) {
    (entry.kind, &entry.head.namespace, &entry.head.name)
}

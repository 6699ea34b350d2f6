//! Validate: text in, report out. Pure: no cluster, no clock, no I/O.

mod batch;
mod cross;
mod known;
mod suppress;

use meshward_model::{ObjectRef, Target};
use serde_json::Value;
use std::collections::HashMap;

use crate::{
    path::Path,
    report::{Findings, Hit, ReadObject, Report, list, quote},
    rules::{self, Object, catalogue as rule},
    schema::{Catalogue, Lookup},
    text::{self, Document},
};

/// Why there are no schema findings.
const NO_CATALOGUE: &str = "schema: no CRD catalogue is configured; set --crds";
/// Kinds to name when no catalogue tells them.
const EXAMPLES: [&str; 4] = ["VirtualService", "DestinationRule", "AuthorizationPolicy", "PeerAuthentication"];

pub use batch::{Batch, BatchReport, Change, MAX_BATCH_FINDINGS, Warm, batch, pieces};
pub(crate) use cross::mesh_config;
pub use known::Known;
pub use suppress::{Accepted, Suppressed};

/// A text and what findings call it; the judged one has no name.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The text.
    pub text: &'a [u8],
    /// E.g. "context[2]".
    pub source: &'a str,
}

/// Judges every object of a text among others: what is there already (`surroundings`), and one another.
#[must_use]
pub fn validate_among(
    text: &[u8],
    cluster: &str,
    surroundings: &mut Warm,
    accepted: &Accepted<'_>,
    catalogue: &Catalogue,
) -> Report {
    let mut report = validate(text, cluster, catalogue);
    surroundings.at(accepted.now);
    let (found, skipped) = surroundings.judge(&report);
    report.skipped.extend(skipped);
    report.findings.extend(surroundings.findings.iter().cloned());
    report.findings.extend(found);
    accepted.apply(&mut report);
    report
        .findings
        .sort_by_cached_key(|finding| (finding.details.source.clone(), finding.at.map(|at| (at.line, at.column))));
    report
}

/// What others lack when these objects are gone.
#[must_use]
pub fn removal(removed: &[ObjectRef], surroundings: &mut Warm) -> Report {
    let lacking = surroundings.removal(removed);
    Report { findings: surroundings.findings.iter().cloned().chain(lacking).collect(), ..Report::default() }
}

/// Judges every object of a text for a cluster (empty = the default one).
#[must_use]
pub fn validate(text: &[u8], cluster: &str, catalogue: &Catalogue) -> Report {
    let mut findings = Findings::default();
    let mut report = Report::default();
    if catalogue.is_empty() {
        report.skipped.push(NO_CATALOGUE.to_owned());
    }
    for document in text::load(text, &mut findings) {
        let head = head(&document.value);
        let skipped = judge(&document, &head, "", catalogue, &mut findings);
        report
            .skipped
            .extend(skipped.into_iter().filter(|reason| !report.skipped.contains(reason)).collect::<Vec<_>>());
        if let Ok(target) = Target::new(cluster, &head.api_version, &head.kind, &head.namespace, &head.name) {
            let Document { value, places } = document;
            report.objects.push(ReadObject { target, value, head, places });
        }
    }
    report.findings = findings.into_sorted();
    report
}

/// What the object says it is; what it does not say is empty.
pub(crate) fn head(object: &Value) -> ObjectRef {
    // Cut, because it is repeated with every finding. No name of Kubernetes is longer.
    const LONGEST: usize = 253;
    let text = |within: &Value, field: &str| {
        let text = within.get(field).and_then(Value::as_str).unwrap_or_default();
        let end = text.char_indices().nth(LONGEST + 1).map_or(text.len(), |(end, _)| end);
        text[..end].to_owned()
    };
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    ObjectRef {
        api_version: text(object, "apiVersion"),
        kind: text(object, "kind"),
        namespace: text(metadata, "namespace"),
        name: text(metadata, "name"),
    }
}

/// All rules on one object; returns the reasons of those that did not run.
fn judge(
    document: &Document,
    head: &ObjectRef,
    source: &str,
    catalogue: &Catalogue,
    findings: &mut Findings,
) -> Vec<String> {
    let mut skipped = Vec::new();
    let mut hits = identity(&document.value, head);
    let nameless = head.api_version.is_empty() || head.kind.is_empty();
    let subject = Object { head, value: &document.value };
    let governed = rules::is_governed(&subject);
    if !nameless && !governed {
        hits.push(not_a_policy(head, catalogue));
    } else if !nameless {
        hits.extend(schema(&document.value, head, catalogue, &mut skipped));
        let known: HashMap<String, usize> =
            hits.iter().enumerate().map(|(index, hit)| (hit.path.to_string(), index)).collect();
        match rules::check(&subject) {
            Some(semantic) => {
                let defined = matches!(catalogue.find(&head.api_version, &head.kind), Lookup::Schema(_));
                let superseded = |hit: &Hit| defined && rules::linkerd::yields_to_schema(&head.kind, hit);
                if semantic.iter().any(|hit| hit.rule == rule::UNKNOWN_VERSION && superseded(hit)) {
                    skipped.push(format!("semantic rules: those for {} do not know {}", head.kind, head.api_version));
                }
                // What the schema says of a field is said once, under the names of both.
                for hit in semantic.into_iter().filter(|hit| !superseded(hit)) {
                    match known.get(&hit.path.to_string()) {
                        Some(first) => hits[*first].more.also.extend(hit.rule.aliases),
                        None if is_said_by_definition(&mut hits, &hit) => {}
                        None => hits.push(hit),
                    }
                }
            }
            None => skipped.push(format!("semantic rules: there are none for {} yet", head.kind)),
        }
    }
    for hit in hits {
        findings.hit_in(hit, head, &document.places, source);
    }
    skipped
}

/// Whether a rule of the definition says the same of a value around. It then points to where our own rule does, for that knows
/// better which field is wrong. One of theirs stands for one of ours, so that nothing is lost.
fn is_said_by_definition(hits: &mut [Hit], own: &Hit) -> bool {
    const NEAR: usize = 2;
    let steps = own.path.steps();
    let is_around = |hit: &Hit| {
        let above = hit.path.steps();
        above.len() < steps.len() && steps.len() - above.len() <= NEAR && steps.starts_with(&above)
    };
    let same = hits.iter_mut().find(|hit| hit.rule == rule::DEFINITION_RULE && is_around(hit));
    let Some(same) = same.filter(|_| rules::DEFINED_TOO.contains(&own.rule)) else { return false };
    same.path = own.path.clone();
    same.on_key = own.on_key;
    same.more.also.extend(own.rule.aliases);
    true
}

/// apiVersion, kind, name and namespace.
fn identity(object: &Value, head: &ObjectRef) -> Vec<Hit> {
    let root = Path::root();
    let metadata = root.field("metadata");
    let mut hits = Vec::new();
    for (value, within, name) in
        [(&head.api_version, &root, "apiVersion"), (&head.kind, &root, "kind"), (&head.name, &metadata, "name")]
    {
        if value.is_empty() {
            let path = within.field(name);
            hits.push(Hit::new(rule::HEAD, &path, format!("{path} is missing or no text")));
        }
    }
    if !head.name.is_empty() && !is_subdomain(&head.name) {
        let message = format!("{} is no name that Kubernetes allows", quote(&head.name));
        hits.push(
            Hit::new(rule::NAME, &metadata.field("name"), message).suggest("lower-case letters, digits, '-' and '.'"),
        );
    }
    let namespace = metadata.field("namespace");
    let absent = object.pointer("/metadata/namespace").is_none_or(Value::is_null);
    if absent {
        let message = "metadata.namespace is missing, and Meshward keeps policies by namespace";
        hits.push(Hit::new(rule::NAMESPACE_MISSING, &namespace, message).suggest("add metadata.namespace"));
    } else if !is_subdomain(&head.namespace) || head.namespace.contains('.') || head.namespace.len() > 63 {
        let message = format!("{} is no namespace", quote(&head.namespace));
        hits.push(Hit::new(rule::NAME, &namespace, message));
    }
    hits
}

/// RFC 1123 as Kubernetes checks names.
fn is_subdomain(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        label.chars().all(inner) && edge(label.chars().next()) && edge(label.chars().last())
    };
    name.len() <= 253 && name.split('.').all(good)
}

fn not_a_policy(head: &ObjectRef, catalogue: &Catalogue) -> Hit {
    let known = catalogue.mesh_kinds();
    let kinds = if known.is_empty() { EXAMPLES.to_vec() } else { known };
    let message = format!("{} of {} is no policy of a mesh", quote(&head.kind), quote(&head.api_version));
    Hit::new(rule::NOT_A_POLICY, &Path::root().field("kind"), message)
        .suggest(format!("Meshward governs {}", list(&kinds, " and ")))
}

fn schema(object: &Value, head: &ObjectRef, catalogue: &Catalogue, skipped: &mut Vec<String>) -> Vec<Hit> {
    let path = |name: &str| Path::root().field(name);
    let (kind, api_version) = (quote(&head.kind), quote(&head.api_version));
    let group = head.api_version.split_once('/').map_or("", |(group, _)| group);
    let by_cluster = catalogue.cluster_has_mesh(&head.api_version);
    if by_cluster == Some(false) && !catalogue.is_empty() {
        skipped.push(format!(
            "schema of {kind}: the cluster has no definition of its mesh; those of the catalogue are used"
        ));
    }
    match catalogue.find(&head.api_version, &head.kind) {
        Lookup::Schema(schema) => match schema.check(object) {
            Ok(checked) => {
                skipped.extend(checked.skipped.into_iter().map(|reason| format!("{}: {reason}", head.kind)));
                checked.hits
            }
            Err(reason) => {
                skipped.push(format!("schema of {}: {reason}", head.kind));
                Vec::new()
            }
        },
        Lookup::OtherVersions(versions) => {
            let message = format!("{kind} is not served as {api_version}");
            let advice = format!("its versions are {}", list(&versions, " and "));
            vec![Hit::new(rule::UNKNOWN_VERSION, &path("apiVersion"), message).suggest(advice)]
        }
        // Linkerd's definitions come with its control plane and may be absent; its rules know its kinds.
        Lookup::OtherKinds(_) if by_cluster != Some(true) && rules::linkerd::has_kind(group, &head.kind) => {
            skipped
                .push(format!("schema of {kind}: the CRD catalogue has only other kinds of Linkerd; add it to --crds"));
            Vec::new()
        }
        Lookup::OtherKinds(kinds) => {
            let message = match by_cluster {
                Some(true) => format!("the cluster does not serve {kind} of {api_version}"),
                _ => format!("{api_version} has no kind {kind}"),
            };
            let advice = format!("its kinds are {}", list(&kinds, " and "));
            vec![Hit::new(rule::UNKNOWN_KIND, &path("kind"), message).suggest(advice)]
        }
        Lookup::Nothing if catalogue.is_empty() => Vec::new(),
        Lookup::Nothing => {
            skipped.push(format!("schema of {kind}: the CRD catalogue has nothing of its mesh; add it to --crds"));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;

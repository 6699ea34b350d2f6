//! A policy on who may call whom, as a sentence.
//!
//! Lists in lists mean OR in some places and AND in others, and an absent field may mean everybody or nobody. The
//! sentence says which it is, and warns of what people did not mean when they wrote it. Pure: text in, sentences out.

mod condition;
mod istio;
mod linkerd;
mod words;

use meshward_model::{Finding, ObjectRef, Severity};

use crate::{
    app,
    report::Findings,
    rules::{Object, catalogue as rule},
    schema::Catalogue,
    text,
};

/// What is said of one object.
#[derive(Debug, Default)]
struct Explanation {
    /// What the policy does, in one sentence or two.
    sentence: String,
    /// What it does and probably should not.
    warnings: Vec<String>,
    /// What one has to know to read it.
    notes: Vec<String>,
}

impl Explanation {
    fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), ..Self::default() }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// One line: who it is about, what it does, warnings, notes.
    fn render(&self, subject: &str) -> String {
        let warnings = self.warnings.iter().map(|warning| format!(" Warning: {warning}."));
        let notes = self.notes.iter().map(|note| format!(" Note: {note}."));
        format!("{subject}: {}{}", self.sentence, warnings.chain(notes).collect::<String>())
    }
}

/// What is said of a text.
#[derive(Debug)]
pub struct Explained {
    /// One line for each object, in order.
    pub sentences: Vec<String>,
    /// Rules that did not run, each with the reason.
    pub skipped: Vec<String>,
}

/// Says what each object of a text does.
///
/// # Errors
/// The findings that keep a text from being read as policies: those of syntax and schema, each with line and column. What
/// a mesh would refuse for its meaning is explained, with a warning.
pub fn explain(bytes: &[u8], catalogue: &Catalogue) -> Result<Explained, Vec<Finding>> {
    let report = app::validate(bytes, "", catalogue);
    let errors: Vec<Finding> =
        report.findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect();
    if errors.iter().any(is_unreadable) {
        return Err(errors.into_iter().filter(is_unreadable).collect());
    }
    let documents = text::load(bytes, &mut Findings::default());
    let heads = documents.iter().map(|document| (app::head(&document.value), document));
    let sentences = heads.map(|(head, document)| sentence(&Object { head: &head, value: &document.value }, &errors));
    Ok(Explained { sentences: sentences.collect(), skipped: report.skipped })
}

/// Errors of syntax or schema. A kind that is no policy is said in its sentence: it may stand beside one that is.
fn is_unreadable(finding: &Finding) -> bool {
    (finding.id.starts_with("MW1") || finding.id.starts_with("MW2")) && finding.id != rule::NOT_A_POLICY.id
}

fn sentence(object: &Object<'_>, errors: &[Finding]) -> String {
    let kind = object.head.kind.as_str();
    let explained = match (object.group(), kind) {
        ("security.istio.io", "AuthorizationPolicy") => Some(("Istio ", istio::explain(object))),
        ("policy.linkerd.io", "AuthorizationPolicy") => Some(("Linkerd ", linkerd::authorization_policy(object))),
        ("policy.linkerd.io", "ServerAuthorization") => Some(("Linkerd ", linkerd::server_authorization(object))),
        ("policy.linkerd.io", "Server") => Some(("Linkerd ", linkerd::server(object))),
        _ => None,
    };
    let Some((mesh, mut explanation)) = explained else {
        let what = "not explained; there are sentences for AuthorizationPolicy (Istio and Linkerd), Server and \
                    ServerAuthorization";
        return Explanation::new(what).render(&format!("{kind} {}", name(object.head)));
    };
    let refused = |finding: &&Finding| finding.object == *object.head && finding.id != rule::NAMESPACE_MISSING.id;
    for finding in errors.iter().filter(refused) {
        let place = finding.at.map(|at| format!(" (line {}, column {})", at.line, at.column)).unwrap_or_default();
        explanation.warn(format!("the mesh refuses this policy: {}{place}", finding.message));
    }
    explanation.render(&format!("{mesh}{kind} {}", name(object.head)))
}

/// "shop/cart", or "cart" if the text does not say where it is.
fn name(head: &ObjectRef) -> String {
    if head.namespace.is_empty() { head.name.clone() } else { format!("{}/{}", head.namespace, head.name) }
}

#[cfg(test)]
mod tests;

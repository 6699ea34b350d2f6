//! Reports on the wire.

use std::sync::Arc;

use jiff::civil::DateTime;
use meshward_model::{Digest, ObjectRef, canonical_json};
use meshward_proto::{
    types::v1::{self as types, Finding},
    validator::v1::{
        AcceptedFinding, Context, DetectConflictsResponse, DryRunResponse, ValidateResponse, ValidatedObject,
    },
};

use crate::{
    app::{self, Accepted, Input, Suppressed, Warm},
    error::Error,
    live::{Asked, View},
    report::{ReadObject, Report},
    schema::Catalogue,
};

/// Most texts of a context, and most acceptances of a request.
const MOST: usize = 100;

/// What a request says beside its text.
pub(super) struct Around {
    context: Option<Context>,
    accepted: Vec<Suppressed>,
    view: Option<View>,
    removed: Vec<ObjectRef>,
    is_only_among: bool,
}

impl Around {
    /// # Errors
    /// If there is too much of it.
    pub(super) fn of(context: Option<Context>, accepted: Vec<AcceptedFinding>) -> Result<Self, Error> {
        let texts = context.as_ref().map_or(0, |context| context.yaml.len());
        for (field, count) in [("context.yaml", texts), ("accepted", accepted.len())] {
            if count > MOST {
                return Err(Error::Request { field, problem: format!("{count}, and at most {MOST} are taken") });
            }
        }
        let accepted = accepted.into_iter().map(suppressed).collect();
        Ok(Self { context, accepted, view: None, removed: Vec::new(), is_only_among: false })
    }

    /// The same, to tell what others lack without these objects.
    ///
    /// # Errors
    /// If there are too many, or a text beside them.
    pub(super) fn without(self, yaml: &str, removed: Vec<types::ObjectRef>) -> Result<Self, Error> {
        let wrong = |problem: String| Err(Error::Request { field: "removed", problem });
        match removed.len() {
            0 => Ok(self),
            count if count > MOST => wrong(format!("{count}, and at most {MOST} are taken")),
            _ if !yaml.is_empty() => wrong("stands instead of yaml; leave one of them out".to_owned()),
            _ => Ok(Self { removed: removed.into_iter().map(Into::into).collect(), ..self }),
        }
    }

    /// What there is to say among these objects.
    fn say(
        &self,
        text: &[u8],
        cluster: &str,
        warm: &mut Warm,
        accepted: &Accepted<'_>,
        catalogue: &Catalogue,
    ) -> Report {
        if self.removed.is_empty() {
            app::validate_among(text, cluster, warm, accepted, catalogue)
        } else {
            warm.at(accepted.now);
            app::removal(&self.removed, warm)
        }
    }

    /// What is asked for beside the texts.
    pub(super) fn asked(&self) -> Option<Asked> {
        asked(self.context.as_ref())
    }

    /// The cluster whose own definitions count, if any.
    pub(super) fn meant<'c>(&self, cluster: &'c str) -> Option<&'c str> {
        meant(cluster, self.context.as_ref()).filter(|_| !self.is_only_among)
    }

    /// The same, of which only references and conflicts will be told.
    pub(super) fn only_among(self) -> Self {
        Self { is_only_among: true, ..self }
    }

    /// The same with what was read.
    pub(super) fn with(self, view: Option<View>) -> Self {
        Self { view, ..self }
    }

    /// Judges a text; among others if a context is given.
    pub(super) fn judge(&self, text: &[u8], cluster: &str, now: DateTime, catalogue: &Catalogue) -> Report {
        let accepted = Accepted { list: &self.accepted, now };
        let Some(context) = &self.context else {
            let mut report = app::validate(text, cluster, catalogue);
            accepted.apply(&mut report);
            return report;
        };
        let mut report = match &self.view {
            Some(view) if context.yaml.is_empty() => {
                // A set whose last user panicked may be half changed.
                let warm = view.warm.lock().ok();
                match warm {
                    Some(mut warm) => self.say(text, cluster, &mut warm, &accepted, catalogue),
                    None => {
                        let mut warm = Warm::among(&view.known, &[], view.complete);
                        self.say(text, cluster, &mut warm, &accepted, catalogue)
                    }
                }
            }
            view => {
                let names: Vec<String> = (0..context.yaml.len()).map(|index| format!("context[{index}]")).collect();
                let texts = context.yaml.iter().zip(&names);
                let inputs: Vec<_> = texts.map(|(text, source)| Input { text: text.as_bytes(), source }).collect();
                let known = view.as_ref().map(|view| Arc::clone(&view.known)).unwrap_or_default();
                let complete = view.as_ref().map_or(context.complete, |view| view.complete);
                let mut warm = Warm::among(&known, &inputs, complete);
                self.say(text, cluster, &mut warm, &accepted, catalogue)
            }
        };
        report.skipped.extend(self.view.iter().flat_map(|view| view.gaps.iter().cloned()));
        report
    }
}

/// What a context asks for beside its texts.
pub(super) fn asked(context: Option<&Context>) -> Option<Asked> {
    let Context { complete, live, registry, .. } = *context?;
    (live || registry).then_some(Asked { live, registry, complete })
}

/// The cluster that objects are meant for, if any: one that is named, or whose live objects are asked for.
pub(super) fn meant<'c>(cluster: &'c str, context: Option<&Context>) -> Option<&'c str> {
    let is_meant = !cluster.is_empty() || context.is_some_and(|context| context.live);
    is_meant.then_some(cluster)
}

fn suppressed(accepted: AcceptedFinding) -> Suppressed {
    let AcceptedFinding { id, object, reason, until } = accepted;
    let object = object.unwrap_or_default();
    Suppressed { rule: id, kind: object.kind, namespace: object.namespace, name: object.name, reason, until }
}

/// What is said of references and conflicts, and what keeps a text from being read.
pub(super) fn conflicts(report: Report) -> DetectConflictsResponse {
    let wanted = |finding: &meshward_model::Finding| {
        finding.id.as_str() > "MW4" || finding.id.starts_with("MW1") || finding.id.starts_with("MW300")
    };
    let findings = report.findings.into_iter().filter(wanted).map(Into::into).collect();
    DetectConflictsResponse { findings, skipped: report.skipped }
}

pub(super) fn validate(report: Report) -> ValidateResponse {
    let valid = report.is_valid();
    let (findings, objects, skipped) = parts(report);
    ValidateResponse { valid, findings, objects, skipped }
}

pub(super) fn dry_run(report: Report) -> DryRunResponse {
    let valid = report.is_valid();
    let (findings, objects, skipped) = parts(report);
    DryRunResponse { valid, findings, objects, skipped }
}

fn parts(report: Report) -> (Vec<Finding>, Vec<ValidatedObject>, Vec<String>) {
    let findings = report.findings.into_iter().map(Into::into).collect();
    (findings, report.objects.into_iter().map(object).collect(), report.skipped)
}

fn object(object: ReadObject) -> ValidatedObject {
    ValidatedObject {
        canonical_json: canonical_json(&object.value),
        digest: Digest::of(&object.value).to_string(),
        target: Some(object.target.into()),
    }
}

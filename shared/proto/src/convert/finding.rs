//! Findings.

use meshward_model as model;

use super::ConvertError;
use crate::types::v1 as types;

impl From<model::Finding> for types::Finding {
    fn from(finding: model::Finding) -> Self {
        let severity = match finding.severity {
            model::Severity::Error => types::Severity::Error,
            model::Severity::Warning => types::Severity::Warning,
            model::Severity::Info => types::Severity::Info,
        };
        let confidence = match finding.confidence {
            model::Confidence::Definite => types::Confidence::Definite,
            model::Confidence::Possible => types::Confidence::Possible,
        };
        let model::Details { source, related, impact, patch, doc, suppressed, fingerprint } = *finding.details;
        Self {
            id: finding.id,
            slug: finding.slug,
            aliases: finding.aliases,
            severity: severity.into(),
            confidence: confidence.into(),
            object: Some(finding.object.into()),
            path: finding.path,
            at: finding.at.map(Into::into),
            message: finding.message,
            suggestion: finding.suggestion,
            source,
            related: related.into_iter().map(Into::into).collect(),
            impact: impact.map(|model::Impact { services, workloads, effect }| types::FindingImpact {
                services,
                workloads,
                effect,
            }),
            patch_json: patch,
            doc,
            suppressed: suppressed.map(|model::Suppression { reason, until }| types::Suppression { reason, until }),
            fingerprint,
        }
    }
}

impl TryFrom<types::Finding> for model::Finding {
    type Error = ConvertError;

    fn try_from(finding: types::Finding) -> Result<Self, ConvertError> {
        let severity = match finding.severity() {
            types::Severity::Error => model::Severity::Error,
            types::Severity::Warning => model::Severity::Warning,
            types::Severity::Info => model::Severity::Info,
            types::Severity::Unspecified => return Err(ConvertError::new("severity", "is required")),
        };
        let confidence = match finding.confidence() {
            types::Confidence::Possible => model::Confidence::Possible,
            types::Confidence::Definite | types::Confidence::Unspecified => model::Confidence::Definite,
        };
        Ok(Self {
            id: finding.id,
            slug: finding.slug,
            aliases: finding.aliases,
            severity,
            confidence,
            object: finding.object.unwrap_or_default().into(),
            path: finding.path,
            at: finding.at.map(Into::into),
            message: finding.message,
            suggestion: finding.suggestion,
            details: Box::new(model::Details {
                source: finding.source,
                related: finding.related.into_iter().map(Into::into).collect(),
                impact: finding.impact.map(|impact| model::Impact {
                    services: impact.services,
                    workloads: impact.workloads,
                    effect: impact.effect,
                }),
                patch: finding.patch_json,
                doc: finding.doc,
                suppressed: finding
                    .suppressed
                    .map(|accepted| model::Suppression { reason: accepted.reason, until: accepted.until }),
                fingerprint: finding.fingerprint,
            }),
        })
    }
}

impl From<model::Related> for types::RelatedObject {
    fn from(related: model::Related) -> Self {
        let model::Related { object, path, at, source, role } = related;
        Self { object: Some(object.into()), path, at: at.map(Into::into), source, role }
    }
}

impl From<types::RelatedObject> for model::Related {
    fn from(related: types::RelatedObject) -> Self {
        let types::RelatedObject { object, path, at, source, role } = related;
        Self { object: object.unwrap_or_default().into(), path, at: at.map(Into::into), source, role }
    }
}

impl From<model::ObjectRef> for types::ObjectRef {
    fn from(object: model::ObjectRef) -> Self {
        let model::ObjectRef { api_version, kind, namespace, name } = object;
        Self { api_version, kind, namespace, name }
    }
}

impl From<types::ObjectRef> for model::ObjectRef {
    fn from(object: types::ObjectRef) -> Self {
        let types::ObjectRef { api_version, kind, namespace, name } = object;
        Self { api_version, kind, namespace, name }
    }
}

impl From<model::SourceRange> for types::SourceRange {
    fn from(at: model::SourceRange) -> Self {
        let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        Self {
            line: number(at.line),
            column: number(at.column),
            end_line: number(at.end_line),
            end_column: number(at.end_column),
            document: number(at.document),
        }
    }
}

impl From<types::SourceRange> for model::SourceRange {
    fn from(at: types::SourceRange) -> Self {
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        Self {
            document: number(at.document),
            line: number(at.line),
            column: number(at.column),
            end_line: number(at.end_line),
            end_column: number(at.end_column),
        }
    }
}

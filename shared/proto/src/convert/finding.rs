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
        let model::ObjectRef { api_version, kind, namespace, name } = finding.object;
        let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        Self {
            id: finding.id,
            slug: finding.slug,
            aliases: finding.aliases,
            severity: severity.into(),
            confidence: confidence.into(),
            object: Some(types::ObjectRef { api_version, kind, namespace, name }),
            path: finding.path,
            at: finding.at.map(|at| types::SourceRange {
                line: number(at.line),
                column: number(at.column),
                end_line: number(at.end_line),
                end_column: number(at.end_column),
                document: number(at.document),
            }),
            message: finding.message,
            suggestion: finding.suggestion,
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
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        let object = finding.object.unwrap_or_default();
        Ok(Self {
            id: finding.id,
            slug: finding.slug,
            aliases: finding.aliases,
            severity,
            confidence,
            object: model::ObjectRef {
                api_version: object.api_version,
                kind: object.kind,
                namespace: object.namespace,
                name: object.name,
            },
            path: finding.path,
            at: finding.at.map(|at| model::SourceRange {
                document: number(at.document),
                line: number(at.line),
                column: number(at.column),
                end_line: number(at.end_line),
                end_column: number(at.end_column),
            }),
            message: finding.message,
            suggestion: finding.suggestion,
        })
    }
}

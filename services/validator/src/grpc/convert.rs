//! Reports on the wire.

use meshward_model::{Digest, canonical_json};
use meshward_proto::{
    types::v1::Finding,
    validator::v1::{DryRunResponse, ValidateResponse, ValidatedObject},
};

use crate::report::{ReadObject, Report};

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

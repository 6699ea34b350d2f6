//! What the cluster says, as findings.

use meshward_model::canonical_json;
use serde_json::Value;

use crate::{
    error::Error,
    path::Path,
    ports::{Admission, Bearer, Gateway},
    report::{Hit, Report},
    rules::catalogue as rule,
};

/// The reason why a text with errors is not sent to the cluster.
pub const HAS_ERRORS: &str = "admission: the cluster is not asked about a text that has errors";

/// Asks the cluster about each object in order.
///
/// # Errors
/// Those of [`Gateway::dry_run`].
pub async fn ask<G: Gateway>(
    gateway: &G,
    report: &Report,
    cluster: &str,
    bearer: &Bearer,
) -> Result<Vec<Vec<Hit>>, Error> {
    let mut answers = Vec::new();
    for object in &report.objects {
        let answer = gateway.dry_run(cluster, &canonical_json(&object.value), bearer).await?;
        answers.push(hits(&answer, &object.value));
    }
    Ok(answers)
}

fn hits(answer: &Admission, object: &Value) -> Vec<Hit> {
    let mut hits = Vec::new();
    if !answer.admitted {
        let by = if answer.refused_by.is_empty() { "cluster" } else { &answer.refused_by };
        let message = format!("refused by the cluster ({by}): {}", answer.message);
        hits.push(Hit::new(rule::ADMISSION_REFUSED, &named_path(&answer.message, object), message));
    }
    for warning in &answer.warnings {
        let message = format!("the cluster warns: {warning}");
        hits.push(Hit::new(rule::ADMISSION_WARNING, &named_path(warning, object), message));
    }
    hits
}

/// The longest path in the API server's words that the object has; the object itself if there is none.
fn named_path(message: &str, object: &Value) -> Path {
    let separates = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '(' | ')' | '`');
    let words = message.split(separates).map(|word| word.trim_end_matches([':', '.'])).take(500);
    let paths = words.filter(|word| word.starts_with("spec") || word.starts_with("metadata")).filter_map(Path::parse);
    let known = paths.filter(|path| path.split_last().0.find_in(object).is_some());
    known.max_by_key(|path| path.steps().len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_api_servers_words_name_the_field() {
        let object = json!({"spec": {"http": [{"route": [{"weight": 1}]}]}});
        for (message, expected) in [
            (
                r#"VirtualService "a" is invalid: spec.http[0].route[0].weight: Invalid value: "x""#,
                "spec.http[0].route[0].weight",
            ),
            ("spec.http[0].missing: Required value", "spec.http[0].missing"),
            (r#"unknown field "spec.http[7].route""#, ""),
            ("admission webhook denied the request: total weight 0", ""),
        ] {
            assert_eq!(named_path(message, &object).to_string(), expected, "{message}");
        }
    }
}

//! Where a mesh counts who calls whom: templates as data beside those for canary and control, and from the same file.
//!
//! `requests` gives plain counters. Placeholders: `$NAMESPACES` and `$SERVICES`, those of the services that are called, as
//! regular expressions (so for `=~`); both are required, else a caller would see more than he asked for. `labels` names the
//! label of a series for each thing that is told.

use meshward_model::Mesh;
use serde::Deserialize;

use super::{
    fill::alternatives,
    templates::{BUILT_IN, InvalidTemplates, check_query},
};

/// How one mesh counts who calls whom.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Which mesh.
    pub mesh: Mesh,
    /// Everything that was answered, failed or was denied.
    pub requests: String,
    /// What tells what.
    pub labels: Labels,
}

/// Names of labels.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The caller's identity.
    pub source_principal: String,
    /// The caller's workload.
    pub source_workload: String,
    /// The caller's namespace.
    pub source_namespace: String,
    /// The whole name of the service that is called.
    pub destination_service: String,
    /// Its namespace.
    pub destination_namespace: String,
    /// Which of the proxies counted, where several count one request.
    #[serde(default)]
    pub reporter: String,
    /// "none" where the connection was in plain text.
    #[serde(default)]
    pub security: String,
    /// What requests speak.
    #[serde(default)]
    pub protocol: String,
    /// Status of the answer.
    #[serde(default)]
    pub response_code: String,
    /// Method of the requests.
    #[serde(default)]
    pub method: String,
    /// Path of the requests.
    #[serde(default)]
    pub path: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    edges: Vec<Template>,
}

/// Reads those of a file.
///
/// # Errors
/// If they are not of the form above, or a query is wrong.
pub fn parse(text: &str) -> Result<Vec<Template>, InvalidTemplates> {
    let File { edges } = serde_yaml::from_str(text).map_err(|error| InvalidTemplates::Form(error.to_string()))?;
    for (index, template) in edges.iter().enumerate() {
        let placeholders = ["NAMESPACES", "SERVICES"];
        check_query(&template.requests, &placeholders, &placeholders, &template.labels.needed())
            .map_err(|error| InvalidTemplates::Form(format!("edges[{index}].requests: {error}")))?;
    }
    Ok(edges)
}

/// Those that the program brings.
///
/// # Panics
/// Never: a test reads them.
#[must_use]
pub fn built_in() -> Vec<Template> {
    parse(BUILT_IN).expect("the built-in templates are tested")
}

impl Labels {
    /// Without which an edge has no ends.
    fn needed(&self) -> [&str; 2] {
        [&self.source_workload, &self.destination_service]
    }
}

impl Template {
    /// The query for services in some namespaces ("*" = all); none named = all of them.
    pub(super) fn fill(&self, namespaces: &[String], services: &[String]) -> String {
        let any = ["*".to_owned()];
        let services = if services.is_empty() { &any } else { services };
        let pattern = |names: &[String]| alternatives(names.iter().map(String::as_str));
        self.requests.replace("$NAMESPACES", &pattern(namespaces)).replace("$SERVICES", &pattern(services))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "edges:\n- mesh: istio\n  requests: 'a{b=~\"$NAMESPACES\",c=~\"$SERVICES\"}'\n  labels: {source_principal: p, \
                        source_workload: w, source_namespace: n, destination_service: s, destination_namespace: d}\n";

    #[test]
    fn templates_are_read_filled_and_checked() {
        let template = &parse(GOOD).expect("good")[0];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(template.fill(&names(&["shop", "web"]), &[]), "a{b=~\"shop|web\",c=~\".*\"}");
        assert_eq!(template.fill(&names(&["*"]), &names(&["cart"])), "a{b=~\".*\",c=~\"cart\"}");
        assert_eq!(built_in().len(), 1);
        let catalog = super::super::Catalog::with(GOOD).expect("good");
        let (query, _) = catalog.edges(Mesh::Istio, &names(&["shop"]), &[]).expect("a query");
        assert_eq!(query, "a{b=~\"shop\",c=~\".*\"}", "the operator's stands before the built-in one");
        for (from, to, problem) in [
            ("c=~\"$SERVICES\"", "c=\"\"", "edges[0].requests: line 1, column 1: $SERVICES is missing"),
            ("$NAMESPACES", "$NAMESPACE", "$NAMESPACE is no placeholder here"),
            ("'a{", "'rate(a{", "edges[0].requests: line 1"),
            (
                "'a{b=~\"$NAMESPACES\",c=~\"$SERVICES\"}'",
                "'sum by (w) (a{b=~\"$NAMESPACES\",c=~\"$SERVICES\"})'",
                "drops the label s",
            ),
            ("source_workload: w, ", "", "missing field `source_workload`"),
            ("labels: {", "labels: {colour: c, ", "unknown field `colour`"),
        ] {
            let error = parse(&GOOD.replace(from, to)).expect_err(problem).to_string();
            assert!(error.contains(problem), "{problem}: {error}");
        }
    }
}

//! What we find beside the status that Linkerd's controller gives to routes, rate limits and egress networks.
//!
//! A line with `expected_status` or `expected_conflict` is a case: its documents are a whole cluster, in the order in which they
//! came. It agrees if, for every object with a status, our findings have its reasons and no others.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{JUDGED_AT, Tally, joined};
use crate::{
    app::{self, Input},
    schema::Catalogue,
};

/// Reasons that mean that all is well.
const GOOD: [&str; 2] = ["Accepted", "ResolvedRefs"];

/// A cluster and the reasons that it gives, by "Kind/name" or "Kind".
#[derive(Debug, Clone)]
pub struct StatusCase {
    /// The case's name.
    pub id: String,
    /// The part of the corpus that it belongs to.
    pub corpus: String,
    text: String,
    reasons: Vec<(String, BTreeSet<String>)>,
}

impl StatusCase {
    /// The case of a line, if it is one.
    #[must_use]
    pub fn of(line: &Value) -> Option<Self> {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let reasons = match (line["expected_status"].as_array(), &line["expected_conflict"]) {
            (Some(objects), _) => objects.iter().filter_map(of_status).collect(),
            (_, Value::Object(conflict)) => {
                let reason = conflict.get("reason").and_then(Value::as_str).map(str::to_owned);
                vec![(conflict.get("kind")?.as_str()?.to_owned(), reason.into_iter().collect())]
            }
            _ => return None,
        };
        Some(Self { id: text("id"), corpus: text("corpus"), text: joined(&line["documents"])?, reasons })
    }
}

fn of_status(object: &Value) -> Option<(String, BTreeSet<String>)> {
    let parents = object["parents"].as_array()?.iter();
    let conditions = parents.filter_map(|parent| parent["conditions"].as_array()).flatten();
    let reasons =
        conditions.filter_map(|condition| condition["reason"].as_str()).filter(|reason| !GOOD.contains(reason));
    Some((object["resource"].as_str()?.to_owned(), reasons.map(str::to_owned).collect()))
}

/// Judges every case: how many agree, and what differs.
#[must_use]
pub fn compare_status(cases: &[StatusCase], catalogue: &Catalogue) -> (Tally, Vec<String>) {
    let mut tally = Tally::default();
    let mut differences = Vec::new();
    for case in cases {
        let (report, _) = app::batch(&[Input { text: case.text.as_bytes(), source: "" }], true, JUDGED_AT, catalogue);
        let found = |wanted: &str| -> BTreeSet<String> {
            let of = report.findings.iter().filter(|finding| {
                let object = &finding.object;
                wanted == object.kind || wanted == format!("{}/{}", object.kind, object.name)
            });
            of.flat_map(|finding| finding.aliases.clone()).filter(|alias| !alias.starts_with("IST")).collect()
        };
        let wrong: Vec<_> = case.reasons.iter().filter(|(object, reasons)| found(object) != *reasons).collect();
        tally.all += 1;
        tally.agreed += usize::from(wrong.is_empty());
        differences.extend(wrong.into_iter().map(|(object, reasons)| {
            format!("{}: {object}: Linkerd says {reasons:?}, we say {:?}", case.id, found(object))
        }));
    }
    (tally, differences)
}

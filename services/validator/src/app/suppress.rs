//! Findings that somebody has accepted for a while.
//!
//! An acceptance stands in the object, as the annotation `meshward.io/suppress`, one a line, or comes with the request:
//!
//! ```text
//! MW5102=the routes do not overlap any more after the migration;until=2026-12-31
//! ```
//!
//! It has to give a reason and a last day. A suppressed finding stays in the answer, marked, and blocks nothing. What the
//! cluster itself refuses (an error of layers 1 to 3) cannot be accepted away.

use jiff::civil::{Date, DateTime};
use meshward_model::{Finding, Severity, Suppression};
use serde_json::Value;

use crate::{
    path::Path,
    report::{Findings, Hit, Report, quote},
    rules::catalogue::{self as rule, Rule},
};

const ANNOTATION: &str = "meshward.io/suppress";

/// One acceptance of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suppressed {
    /// Which rule, e.g. "MW5102".
    pub rule: String,
    /// Only for the object of this kind; empty for all.
    pub kind: String,
    /// Only for the object of this namespace; empty for all.
    pub namespace: String,
    /// Only for the object of this name; empty for all.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The last day, as YYYY-MM-DD.
    pub until: String,
}

/// What a request accepts, and what time it is.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// The acceptances of the request.
    pub list: &'a [Suppressed],
    /// In UTC; acceptances hold up to and with their last day.
    pub now: DateTime,
}

/// Why an acceptance counts for nothing.
enum Useless {
    Malformed(String),
    Expired(String),
}

impl Accepted<'_> {
    /// Marks what is accepted, and tells of acceptances that count for nothing.
    pub fn apply(&self, report: &mut Report) {
        let mut told = Findings::default();
        for given in self.list {
            match self.check(given) {
                Ok(()) => mark(&mut report.findings, given),
                Err(useless) => told.at(
                    useless.rule(),
                    meshward_model::SourceRange::default(),
                    useless.message(&format!("of the request for {}", quote(&given.rule))),
                    "give a rule, a reason and a day that is to come",
                ),
            }
        }
        for object in &report.objects {
            for given in written(&object.value) {
                let given = given.map(|given| Suppressed {
                    kind: object.head.kind.clone(),
                    namespace: object.head.namespace.clone(),
                    name: object.head.name.clone(),
                    ..given
                });
                let outcome = given.and_then(|given| self.check(&given).map(|()| given));
                match outcome {
                    Ok(given) => mark(&mut report.findings, &given),
                    Err(useless) => {
                        let path = Path::root().field("metadata").field("annotations").field(ANNOTATION);
                        let hit = Hit::new(useless.rule(), &path, useless.message("of the annotation"));
                        told.hit(
                            hit.at_key().suggest("write MW…=reason;until=YYYY-MM-DD"),
                            &object.head,
                            &object.places,
                        );
                    }
                }
            }
        }
        report.findings.extend(told.into_sorted());
    }

    fn check(&self, given: &Suppressed) -> Result<(), Useless> {
        let known = rule::ALL.iter().find(|rule| rule.id == given.rule);
        let malformed = |text: String| Err(Useless::Malformed(text));
        let Some(known) = known else { return malformed(format!("there is no rule {}", quote(&given.rule))) };
        if !may_be_accepted(known) {
            return malformed(format!("{} cannot be suppressed, because the cluster refuses such an object", known.id));
        }
        if given.reason.trim().is_empty() {
            return malformed(format!("{} has no reason", known.id));
        }
        let Ok(until) = given.until.parse::<Date>() else {
            return malformed(format!("{} is no day of the form YYYY-MM-DD", quote(&given.until)));
        };
        if until < self.now.date() {
            return Err(Useless::Expired(format!("{} ({}) ended on {until}", known.id, quote(&given.reason))));
        }
        Ok(())
    }
}

impl Useless {
    fn rule(&self) -> &'static Rule {
        match self {
            Self::Malformed(_) => rule::SUPPRESSION_MALFORMED,
            Self::Expired(_) => rule::SUPPRESSION_EXPIRED,
        }
    }

    fn message(&self, whose: &str) -> String {
        match self {
            Self::Malformed(why) => format!("the suppression {whose} counts for nothing: {why}"),
            Self::Expired(what) => format!("the suppression {whose} counts no more: {what}"),
        }
    }
}

fn may_be_accepted(rule: &Rule) -> bool {
    rule.severity != Severity::Error || rule.id >= "MW4"
}

fn mark(findings: &mut [Finding], given: &Suppressed) {
    let is = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
    for finding in findings.iter_mut().filter(|finding| finding.id == given.rule) {
        let object = &finding.object;
        if is(&given.kind, &object.kind) && is(&given.namespace, &object.namespace) && is(&given.name, &object.name) {
            let (reason, until) = (given.reason.clone(), given.until.clone());
            finding.details.suppressed = Some(Suppression { reason, until });
        }
    }
}

/// What an object's annotation accepts.
fn written(object: &Value) -> Vec<Result<Suppressed, Useless>> {
    let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let text =
        annotations.and_then(|annotations| annotations.get(ANNOTATION)).and_then(Value::as_str).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(100);
    lines
        .map(|line| {
            parse(line)
                .ok_or_else(|| Useless::Malformed(format!("{} is not of the form rule=reason;until=day", quote(line))))
        })
        .collect()
}

fn parse(line: &str) -> Option<Suppressed> {
    let (rule, rest) = line.split_once('=')?;
    let (reason, until) = rest.rsplit_once(";until=")?;
    let text = |text: &str| text.trim().to_owned();
    Some(Suppressed { rule: text(rule), reason: text(reason), until: text(until), ..Suppressed::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app, schema::Catalogue};

    fn judge(annotation: &str, list: &[Suppressed]) -> Report {
        let object = serde_json::json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "a", "namespace": "b", "annotations": {"meshward.io/suppress": annotation}},
            "spec": {"hosts": ["a"], "gateways": ["gone"], "http": [{"route": [{"destination": {"host": "a"}}]}]},
        });
        let accepted = Accepted { list, now: "2026-11-23T12:00".parse().unwrap() };
        app::validate_among(
            object.to_string().as_bytes(),
            "",
            &mut app::Warm::new(true),
            &accepted,
            &Catalogue::default(),
        )
    }

    #[test]
    fn what_is_accepted_is_marked_and_what_cannot_be_is_told() {
        let gone = |reason: &str, until: &str| Suppressed {
            rule: "MW4101".into(),
            reason: reason.into(),
            until: until.into(),
            ..Suppressed::default()
        };
        for (annotation, list, marked, told) in [
            ("MW4101=known;until=2026-11-23", vec![], true, None),
            ("MW4101=known;until=2026-11-22", vec![], false, Some("MW3005")),
            ("MW4101=;until=2026-12-31", vec![], false, Some("MW3004")),
            ("MW4101=known", vec![], false, Some("MW3004")),
            ("MW3105=known;until=2026-12-31", vec![], false, Some("MW3004")),
            ("MW9999=known;until=2026-12-31", vec![], false, Some("MW3004")),
            ("MW4101=known;until=2026-02-30", vec![], false, Some("MW3004")),
            ("", vec![gone("known", "2027-01-01")], true, None),
            ("", vec![gone("known", "2020-01-01")], false, Some("MW3005")),
            ("", vec![Suppressed { name: "other".into(), ..gone("known", "2027-01-01") }], false, None),
        ] {
            let report = judge(annotation, &list);
            let finding = report.findings.iter().find(|finding| finding.id == "MW4101").expect("the gateway is gone");
            assert_eq!(finding.details.suppressed.is_some(), marked, "{annotation} {list:?}");
            let other = report.findings.iter().find(|finding| finding.id.starts_with("MW300"));
            assert_eq!(other.map(|finding| finding.id.as_str()), told, "{annotation} {list:?}");
        }
    }
}

//! What we find beside what istioctl's analyzers find.
//!
//! A line with `peer.all_analyzers_messages` is a case: all its documents are judged together as a whole cluster, and the pairs
//! of code and object are compared. Codes about how Istio or workloads are installed are left out: they are not about policy.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use serde_json::{Value, json};

use super::JUDGED_AT;
use crate::{
    app::{self, Input},
    schema::Catalogue,
};

/// Codes on installation, injection, webhooks and several clusters.
const NOT_POLICY: [u32; 23] =
    [102, 103, 107, 108, 116, 123, 125, 126, 135, 136, 137, 139, 144, 146, 147, 148, 158, 163, 164, 170, 176, 143, 168];

/// What istioctl adds by itself: the ingress gateway of a default installation.
static DEFAULTS: LazyLock<String> = LazyLock::new(|| {
    let port =
        |number: u32| json!({"name": format!("tcp-{number}"), "port": number, "targetPort": number, "protocol": "TCP"});
    let ports = [80, 443, 31400, 15443].map(port);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "istio-ingressgateway-pod", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}},
        "spec": {"containers": [{"name": "istio-proxy"}]},
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system", "labels": {"release": "istio"}},
        "spec": {"selector": {"istio": "ingressgateway"}, "ports": ports},
    });
    format!("{pod}\n---\n{service}\n")
});

/// A code and the object that it is about.
type Pair = (String, String);

/// A set of objects and what istioctl says of it.
#[derive(Debug, Clone)]
pub struct AnalyzerCase {
    /// The case's name.
    pub id: String,
    texts: Vec<String>,
    messages: BTreeSet<Pair>,
}

impl AnalyzerCase {
    /// The case of a line, if it is one on policy.
    #[must_use]
    pub fn of(line: &Value) -> Option<Self> {
        let said = line["peer"]["all_analyzers_messages"].as_array()?;
        if line["corpus"] != "analyzers" || line["scope"] != "policy" {
            return None;
        }
        let pair = |message: &Value| {
            let code = message["code"].as_str()?;
            is_policy(code).then(|| Some((code.to_owned(), message["resource"].as_str()?.to_owned())))?
        };
        let documents = line["documents"].as_array()?.iter().filter_map(Value::as_str);
        let mut texts = vec![documents.collect::<Vec<_>>().join("\n---\n"), DEFAULTS.clone()];
        if let Some(mesh) = line["mesh_config"].as_str() {
            let map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "istio", "namespace": "istio-system"},
                "data": {"mesh": mesh},
            });
            texts.push(map.to_string());
        }
        let id = line["id"].as_str().unwrap_or_default().to_owned();
        Some(Self { id, texts, messages: said.iter().filter_map(pair).collect() })
    }
}

fn is_policy(code: &str) -> bool {
    code.strip_prefix("IST")
        .and_then(|number| number.parse().ok())
        .is_some_and(|number: u32| !NOT_POLICY.contains(&number))
}

/// How the pairs agree.
#[derive(Debug, Default)]
pub struct PairAgreement {
    /// Cases.
    pub cases: usize,
    /// Pairs that both have.
    pub both: usize,
    /// Pairs of istioctl's only, by case.
    pub missed: Vec<(String, Pair)>,
    /// Pairs of ours only, by case.
    pub extra: Vec<(String, Pair)>,
}

/// Judges every case.
#[must_use]
pub fn compare_pairs(cases: &[AnalyzerCase], catalogue: &Catalogue) -> PairAgreement {
    let mut agreement = PairAgreement { cases: cases.len(), ..PairAgreement::default() };
    for case in cases {
        let texts: Vec<Input<'_>> = case.texts.iter().map(|text| Input { text: text.as_bytes(), source: "" }).collect();
        let (report, _) = app::batch(&texts, true, JUDGED_AT, catalogue);
        let mut ours: BTreeSet<Pair> = BTreeSet::new();
        for finding in report.findings {
            let object = &finding.object;
            let name = if object.namespace.is_empty() {
                object.name.clone()
            } else {
                format!("{}/{}", object.namespace, object.name)
            };
            let codes = finding.aliases.into_iter().filter(|alias| is_policy(alias));
            ours.extend(codes.map(|code| (code, format!("{} {name}", object.kind))));
        }
        agreement.both += ours.intersection(&case.messages).count();
        agreement.missed.extend(case.messages.difference(&ours).map(|pair| (case.id.clone(), pair.clone())));
        agreement.extra.extend(ours.difference(&case.messages).map(|pair| (case.id.clone(), pair.clone())));
    }
    agreement
}

impl PairAgreement {
    /// Of istioctl's pairs, how many in a hundred are ours too.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.both, self.missed.len())
    }

    /// Of our pairs, how many in a hundred are istioctl's too.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.both, self.extra.len())
    }
}

fn share(both: usize, others: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if both + others == 0 { 0.0 } else { 100.0 * number(both) / number(both + others) }
}

impl fmt::Display for PairAgreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, list) in [("only istioctl", &self.missed), ("only ours", &self.extra)] {
            for (case, (code, object)) in list {
                writeln!(f, "{case}: {word}: {code} {object}")?;
            }
        }
        let (recall, precision) = (self.recall(), self.precision());
        write!(
            f,
            "analyzers: {} pairs of code and object in {} cases found by both; recall {recall:.1} %, precision {precision:.1} %",
            self.both, self.cases
        )
    }
}

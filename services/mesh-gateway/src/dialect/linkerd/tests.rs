//! Plans as tables: what is written in which order, and what is refused with which words.

mod by_route;
pub(in crate::dialect) mod examples;
mod hanging;
mod outbound;
mod servers;

use meshward_model::{Baseline, PlannedStep, Purpose, Weight};
use serde_json::json;

use super::*;
use crate::dialect::{Audience, Desired, HeaderMatch, HeaderValue, Neighbours, Wanted, parts};

/// An object of the namespace `shop`.
fn object(api_version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn policy(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    object(&format!("policy.linkerd.io/{version}"), kind, name, spec)
}

fn gateway(kind: &str, name: &str, spec: &Value) -> Value {
    object("gateway.networking.k8s.io/v1", kind, name, spec)
}

fn server(name: &str, port: u16, access: &str) -> Value {
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "port": port, "proxyProtocol": "HTTP/1",
                      "accessPolicy": access});
    policy("v1beta3", "Server", name, &spec)
}

fn authorization(name: &str, kind: &str, target: &str, references: &Value) -> Value {
    let group = if kind == "Namespace" { "" } else { "policy.linkerd.io" };
    let spec = json!({"targetRef": {"group": group, "kind": kind, "name": target},
                      "requiredAuthenticationRefs": references});
    policy("v1alpha1", "AuthorizationPolicy", name, &spec)
}

fn account(name: &str) -> Value {
    json!([{"kind": "ServiceAccount", "name": name}])
}

/// Pods with the label `app: web`.
fn pods(count: usize) -> Vec<Value> {
    let pod = |index: usize| {
        json!({"apiVersion": "v1", "kind": "Pod",
               "metadata": {"name": format!("web-{index}"), "namespace": "shop", "labels": {"app": "web"}}})
    };
    (0..count).map(pod).collect()
}

/// A pod with a proxy for each of these accounts, in another namespace.
fn clients(accounts: &[&str]) -> Vec<Value> {
    let pod = |account: &&str| {
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"serviceAccountName": account},
               "metadata": {"name": format!("{account}-0"), "namespace": "callers",
                            "labels": {"linkerd.io/control-plane-ns": "linkerd"}}})
    };
    accounts.iter().map(pod).collect()
}

fn namespaces(names: &[&str]) -> Vec<Value> {
    let one = |name: &&str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
               "metadata": {"name": name, "annotations": {"linkerd.io/inject": "enabled"}}})
    };
    names.iter().map(one).collect()
}

fn bp(value: i64) -> Weight {
    Weight::from_basis_points(value).unwrap()
}

fn full_target(object: &Value) -> Target {
    let text = |value: &'_ Value| value.as_str().unwrap().to_owned();
    let metadata = &object["metadata"];
    Target::new(
        "",
        &text(&object["apiVersion"]),
        &text(&object["kind"]),
        &text(&metadata["namespace"]),
        &text(&metadata["name"]),
    )
    .unwrap()
}

/// A question about 10 %, 50 % and everything.
struct Case {
    target: Target,
    baseline: Baseline,
    canary: Value,
    neighbours: Vec<Value>,
    wanted: Option<Mechanism>,
    audience: Audience,
}

/// The answer, and what it takes to ask for its steps.
#[derive(Debug)]
struct Answer {
    planned: Planned,
    target: Target,
    baseline: Baseline,
    canary: Value,
}

impl Case {
    fn new(stable: Option<Value>, canary: Value) -> Self {
        let target = full_target(stable.as_ref().unwrap_or(&canary));
        let stored = |object: Value| Linkerd.stored(&target, &object);
        let (baseline, canary) = (Baseline::of(stable.map(stored)), stored(canary));
        Self { target, baseline, canary, neighbours: Vec::new(), wanted: None, audience: Audience::default() }
    }

    fn among(mut self, neighbours: impl IntoIterator<Item = Value>) -> Self {
        self.neighbours.extend(neighbours.into_iter().map(|object| match object["metadata"]["namespace"] {
            Value::Null => object,
            _ if object["apiVersion"] == "v1" => object,
            _ => Linkerd.stored(&full_target(&object), &object),
        }));
        self
    }

    fn by(mut self, mechanism: Mechanism) -> Self {
        self.wanted = Some(mechanism);
        self
    }

    /// For the requests with this header, or with this cookie.
    fn for_header(mut self, name: &str, is_cookie: bool, value: HeaderValue) -> Self {
        self.audience.header = Some(HeaderMatch { name: name.to_owned(), is_cookie, value });
        self
    }

    fn ask_for(self, weights: &[Weight]) -> Result<Answer, Unsupported> {
        let Self { target, mut baseline, canary, neighbours, wanted, audience } = self;
        let (target, canary) = (&target, &canary);
        let neighbours = &neighbours;
        let planned = Linkerd.plan(&Question {
            target,
            baseline: &baseline,
            canary,
            weights,
            wanted,
            audience: &audience,
            neighbours: neighbours.into(),
        })?;
        baseline.related.clone_from(&planned.related);
        baseline.facts = planned.facts.clone();
        Ok(Answer { planned, target: target.clone(), baseline, canary: canary.clone() })
    }

    /// What the plan must know besides.
    fn needs(&self) -> Vec<Need> {
        Linkerd.needs(&Question {
            target: &self.target,
            baseline: &self.baseline,
            canary: &self.canary,
            weights: &[bp(1000)],
            wanted: self.wanted,
            audience: &self.audience,
            neighbours: Neighbours::default(),
        })
    }

    fn ask(self) -> Result<Answer, Unsupported> {
        self.ask_for(&[bp(1000), bp(5000), Weight::FULL])
    }

    /// The reason of a refusal, which also says what would work.
    fn refused(self) -> String {
        let Unsupported { reason, would_work } = self.ask().map(|answer| answer.planned.plan.mechanism).unwrap_err();
        assert!(!would_work.is_empty(), "{reason}");
        reason
    }
}

impl Answer {
    fn intent(&self, weight: i64) -> ExposureIntent {
        ExposureIntent {
            deployment_id: "d".to_owned(),
            generation: 1,
            target: self.target.clone(),
            baseline: self.baseline.clone(),
            canary: self.canary.clone(),
            mechanism: self.planned.plan.mechanism,
            weight: bp(weight),
        }
    }

    /// The phases of a step, a line for each write: what, which object.
    fn step(&self, weight: i64) -> Vec<Vec<String>> {
        lines(&Linkerd.render(&self.intent(weight)).unwrap())
    }

    fn undo(&self) -> Vec<Vec<String>> {
        lines(&Linkerd.undo(&self.intent(0)).unwrap())
    }

    /// The spec that a step writes to an object.
    fn written(&self, weight: i64, kind: &str, name: &str) -> Value {
        self.object(weight, kind, name)["spec"].clone()
    }

    fn object(&self, weight: i64, kind: &str, name: &str) -> Value {
        let phases = Linkerd.render(&self.intent(weight)).unwrap();
        let objects = phases.into_iter().filter_map(|phase| match phase {
            Phase::Objects(objects) => Some(objects),
            Phase::Pods(_) => None,
        });
        let mut objects = objects.flatten();
        let found = objects.find(|desired| desired.target.kind == kind && desired.target.name == name);
        found.unwrap_or_else(|| panic!("{kind} {name} is not written: {:?}", self.step(weight))).object().clone()
    }
}

fn lines(phases: &[Phase]) -> Vec<Vec<String>> {
    let line = |desired: &Desired| {
        let what = match &desired.wanted {
            Wanted::Step(_) => "step",
            Wanted::Final(_) => "final",
            Wanted::Removed => "removed",
            Wanted::Helper(_) => "helper",
            Wanted::Gone => "gone",
            Wanted::Baseline => "baseline",
        };
        let Target { namespace, kind, name, .. } = &desired.target;
        if namespace == "shop" { format!("{what} {kind} {name}") } else { format!("{what} {kind} {namespace}/{name}") }
    };
    let phase = |phase: &Phase| match phase {
        Phase::Objects(objects) => objects.iter().map(line).collect(),
        Phase::Pods(cohorts) => {
            let labels: Vec<_> = cohorts.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert!(!cohorts.label_stable && cohorts.key.starts_with("meshward.io/cohort-"));
            let share = cohorts.share.map_or_else(|| "none".to_owned(), |share| share.to_string());
            vec![format!("pods {} {share}", labels.join(","))]
        }
    };
    phases.iter().map(phase).collect()
}

#[test]
fn a_version_that_would_lose_a_field_is_refused() {
    let old = |protocol: &str| {
        policy("v1beta1", "Server", "web", &json!({"podSelector": {}, "port": 80, "proxyProtocol": protocol}))
    };
    let newest = |access: &str| {
        let spec = json!({"podSelector": {}, "port": 80, "proxyProtocol": "HTTP/1", "accessPolicy": access});
        policy("v1beta3", "Server", "web", &spec)
    };
    let case = |access: &str| Case::new(Some(old("HTTP/1")), old("HTTP/2")).among([newest(access)]);
    let reason = case("audit").refused();
    assert!(
        reason.contains("v1beta1 has no place for all that the live object says in policy.linkerd.io/v1beta3"),
        "{reason}"
    );
    let reason = case("deny").refused();
    assert!(reason.contains("no policy authorizes anybody"), "what is filled in anyway is not lost: {reason}");
}

#[test]
fn a_kind_is_asked_for_in_every_version_that_a_cluster_may_serve() {
    let needs = Case::new(None, server("web", 80, "deny")).needs();
    let route = needs.iter().find(|need| need.kind == "HTTPRoute").unwrap();
    assert_eq!(route.api_version, "policy.linkerd.io/v1beta3");
    assert_eq!(route.older.last().unwrap(), "policy.linkerd.io/v1alpha1");
    assert!(needs.iter().any(|need| need.kind == "Pod" && need.namespace.as_deref() == Some("shop")));
}

/// What is listed twice is copied twice: a step that writes a twin two times, and a LIST more than needed.
#[test]
fn no_kind_is_asked_for_twice() {
    for row in Linkerd.capabilities() {
        for ([stable, canary], _) in examples::examples(row.group, row.kind) {
            for wanted in std::iter::once(None).chain(row.mechanisms.iter().copied().map(Some)) {
                let mut case = Case::new(Some(stable.clone()), canary.clone());
                case.wanted = wanted;
                let mut asked: Vec<_> = case.needs().into_iter().map(|need| (need.api_version, need.kind)).collect();
                let count = asked.len();
                asked.sort();
                asked.dedup();
                assert_eq!(asked.len(), count, "{} by {wanted:?}", row.kind);
            }
        }
    }
}

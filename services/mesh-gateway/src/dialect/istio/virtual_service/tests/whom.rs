//! Plans for a certain audience: by a header, by the pods that call, by the namespaces that do.

use meshward_model::PlannedStep;

use super::*;
use crate::dialect::{HeaderMatch, HeaderValue};

/// What a plan is asked with, besides the versions.
struct Whom {
    mechanism: Mechanism,
    audience: Audience,
    neighbours: Vec<Value>,
}

impl Whom {
    fn beta() -> Self {
        let header = HeaderMatch { name: "x-beta".into(), is_cookie: false, value: HeaderValue::Exact("1".into()) };
        let audience = Audience { header: Some(header), ..Audience::default() };
        Self { mechanism: Mechanism::Header, audience, neighbours: Vec::new() }
    }

    fn pods(count: usize) -> Self {
        let pod = |index| json!({"kind": "Pod", "metadata": {"name": format!("p-{index}"), "namespace": "shop"}});
        let neighbours = (0..count).map(pod).collect();
        Self { mechanism: Mechanism::Instance, audience: Audience::default(), neighbours }
    }

    /// Namespaces that have proxies, and one that has none.
    fn namespaces(names: &[&str]) -> Self {
        let namespace = |name: &str, injection: &str| json!({"kind": "Namespace", "metadata": {"name": name, "labels": {"istio-injection": injection}}});
        let found = names.iter().map(|name| namespace(name, "enabled")).chain([namespace("bare", "disabled")]);
        Self { mechanism: Mechanism::Namespace, audience: Audience::default(), neighbours: found.collect() }
    }

    fn and(mut self, other: Value) -> Self {
        self.neighbours.push(other);
        self
    }

    fn named(mut self, namespaces: &[&str]) -> Self {
        self.audience.namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    fn ask(&self, stable: &Value, canary: &Value) -> Result<ExposurePlan, Unsupported> {
        let (target, baseline) = (target(), Baseline::of(Some(object(stable.clone()))));
        let question = Question {
            target: &target,
            baseline: &baseline,
            canary: &object(canary.clone()),
            weights: &[bp(1000), bp(5000), Weight::FULL],
            wanted: Some(self.mechanism),
            audience: &self.audience,
            neighbours: (&self.neighbours).into(),
        };
        let planned = Istio.plan(&question)?;
        // What is rendered later, from what the caller kept.
        let baseline = Baseline { facts: planned.facts, ..baseline.clone() };
        for step in &planned.plan.steps {
            let intent = ExposureIntent {
                deployment_id: "d".into(),
                generation: 1,
                target: target.clone(),
                baseline: baseline.clone(),
                canary: object(canary.clone()),
                mechanism: self.mechanism,
                weight: step.weight,
            };
            let phases = Istio.render(&intent).unwrap();
            let objects = phases.iter().filter_map(|phase| match phase {
                Phase::Objects(objects) => Some(objects),
                Phase::Pods(_) => None,
            });
            let rendered: Vec<_> = objects.flatten().map(|desired| &desired.target).collect();
            assert_eq!(rendered, step.writes.iter().map(|write| &write.target).collect::<Vec<_>>());
        }
        Ok(planned.plan)
    }

    fn refusal(&self, stable: &Value, canary: &Value) -> String {
        let unsupported = self.ask(stable, canary).unwrap_err();
        assert!(!unsupported.would_work.is_empty(), "{unsupported}");
        unsupported.reason
    }
}

fn spec(http: Value) -> Value {
    json!({"hosts": ["checkout"], "http": http})
}

fn plain(host: &str) -> Value {
    spec(json!([{"route": [to(host)]}]))
}

/// "phase operation name" of a step's writes, then its cohorts.
fn order(step: &PlannedStep) -> Vec<String> {
    let writes = step.writes.iter().map(|write| format!("{} {:?} {}", write.phase, write.operation, write.target.name));
    let share = |share: Option<Weight>| share.map_or_else(|| "no label".to_owned(), |share| share.to_string());
    let cohorts =
        step.cohorts.iter().map(|one| format!("{} pods of {}: {}", one.phase, one.namespace, share(one.share)));
    writes.chain(cohorts).collect()
}

#[test]
fn who_has_the_header_gets_the_new_version_at_every_step() {
    let stable = spec(json!([{"match": [{"uri": {"prefix": "/a"}}], "route": [to("a")]}, {"route": [to("b")]}]));
    let plan = Whom::beta().ask(&stable, &plain("c")).unwrap();
    let beta = json!({"exact": "1"});
    let wanted = spec(json!([
        {"match": [{"headers": {"x-beta": beta}, "statPrefix": "canary"}], "route": [to("c")]},
        {"match": [{"uri": {"prefix": "/a"}, "withoutHeaders": {"x-beta": beta}, "statPrefix": "stable"}],
         "route": [to("a")]},
        {"match": [{"withoutHeaders": {"x-beta": beta}, "statPrefix": "stable"}], "route": [to("b")]},
    ]));
    assert_eq!((plan.mechanism, plan.steps.len()), (Mechanism::Header, 3));
    for step in &plan.steps[..2] {
        assert_eq!(step.writes[0].object["spec"], wanted);
        assert_eq!(step.exposed, "Requests whose header x-beta is \"1\": all of them, whatever the weight.");
    }
    assert_eq!(plan.steps[2].writes[0].object, object(plain("c")));
    assert_eq!(plan.metrics_target.canary_series, "canary");
    let others: Vec<_> = plan.alternatives.iter().map(|other| other.mechanism).collect();
    assert_eq!(others.len(), 7, "{others:?}");
    assert!(!others.contains(&Mechanism::Header));
}

#[test]
fn a_header_that_does_not_divide_the_requests_is_refused() {
    let asking = |one: Value| spec(json!([{"match": [one], "route": [to("a")]}]));
    let named = |name: &str| {
        let mut whom = Whom::beta();
        whom.audience.header.as_mut().unwrap().name = name.to_owned();
        whom
    };
    let collision = asking(json!({"withoutHeaders": {"X-Beta": {"exact": "2"}}}));
    let root = json!({"kind": "VirtualService", "metadata": {"name": "root", "namespace": "shop"},
        "spec": {"hosts": ["shop"], "http": [{"match": [{"headers": {"x-beta": {"exact": "1"}}}],
                                             "delegate": {"name": "checkout"}}]}});
    let leaf = |host: &str| json!({"http": [{"route": [to(host)]}]});
    for (whom, stable, canary, reason) in [
        (Whom { audience: Audience::default(), ..Whom::beta() }, plain("a"), plain("b"), "none is named"),
        (Whom::beta(), collision.clone(), plain("b"), "match[0].withoutHeaders of the live version uses x-beta"),
        (Whom::beta(), plain("b"), collision, "match[0].withoutHeaders of the new version uses x-beta"),
        (Whom::beta().and(root), leaf("a"), leaf("b"), "VirtualService shop/root matches x-beta"),
        (named("x-request-id"), plain("a"), plain("b"), "ids of requests are shared out by number"),
        (named("authority"), plain("a"), plain("b"), "Istio ignores authority"),
    ] {
        let refusal = whom.refusal(&stable, &canary);
        assert!(refusal.contains(reason), "{refusal}");
    }
    let by_request = Whom { mechanism: Mechanism::Weight, ..Whom::beta() };
    assert!(by_request.ask(&plain("a"), &plain("b")).is_ok(), "the audience is no hindrance to another mechanism");
}

#[test]
fn each_calling_pod_has_the_routes_of_one_version_only() {
    let stable = spec(json!([{"match": [{"gateways": ["edge"]}], "route": [to("a")]}, {"route": [to("b")]}]));
    let canary =
        spec(json!([{"match": [{"uri": {"prefix": "/c"}, "sourceLabels": {"app": "x"}}], "route": [to("c")]}]));
    let plan = Whom::pods(4).ask(&stable, &canary).unwrap();
    let counted = &plan.metrics_target;
    assert_eq!(
        (counted.mechanism, &*counted.cohort_label),
        (Mechanism::Instance, ""),
        "by routes, no share of requests"
    );
    let key = crate::dialect::steps::cohort_key(&target());
    assert_eq!(
        plan.steps[0].writes[0].object["spec"],
        spec(json!([
            {"match": [{"uri": {"prefix": "/c"}, "sourceLabels": {"app": "x", &key: "canary"}, "statPrefix": "canary"}],
             "route": [to("c")]},
            {"match": [{"sourceLabels": {&key: "canary"}, "statPrefix": "canary"}], "directResponse": {"status": 404}},
            {"match": [{"gateways": ["edge"], "statPrefix": "stable"}], "route": [to("a")]},
            {"match": [{"statPrefix": "stable"}], "route": [to("b")]},
        ]))
    );
    let told: Vec<_> = plan.steps.iter().map(order).collect();
    assert_eq!(told[0], ["0 Apply checkout", "1 pods of shop: 10 %"]);
    assert_eq!(told[2], ["0 Apply checkout", "1 pods of shop: no label"]);
    assert_eq!(plan.steps[0].nominal_share, bp(2500), "one of four");
    let whole = Whom::pods(4).ask(&stable, &plain("c")).unwrap();
    let routes = whole.steps[0].writes[0].object["spec"]["http"].as_array().unwrap().len();
    assert_eq!(routes, 3, "nothing can fall through a route without a match");
    let elsewhere = Whom::pods(4).named(&["web"]);
    assert!(elsewhere.refusal(&stable, &canary).contains("0 pods in namespace web"));
}

#[test]
fn what_the_labels_of_pods_cannot_divide_is_refused() {
    let gateways = |spec: Value, names: Value| {
        let mut spec = spec;
        spec["gateways"] = names;
        spec
    };
    let listing = spec(json!([{"match": [{"gateways": ["mesh"]}], "route": [to("a")]}]));
    let delegating = spec(json!([{"delegate": {"name": "d"}}]));
    let at_edge = |host| gateways(plain(host), json!(["edge"]));
    for (whom, stable, canary, reason) in [
        (Whom::pods(1), plain("a"), plain("b"), "there are 1 pods in namespace shop"),
        (Whom::pods(2), plain("a"), listing, "match[0] of the new version lists gateways"),
        (Whom::pods(2), plain("a"), delegating, "a version delegates"),
        (Whom::pods(2), at_edge("a"), at_edge("b"), "for gateways only"),
        (Whom::pods(2), plain("a"), gateways(plain("b"), json!(["mesh"])), "differ in spec.gateways"),
        (Whom::pods(2).named(&["shop", "web"]), plain("a"), plain("b"), "names several"),
    ] {
        let refusal = whom.refusal(&stable, &canary);
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn a_copy_is_shown_to_some_namespaces_by_name() {
    let gateways = |host: &str| {
        let mut spec = plain(host);
        spec["gateways"] = json!(["mesh", "edge"]);
        spec
    };
    let whom = Whom::namespaces(&[]).named(&["a", "b", "c", "d"]);
    let plan = whom.ask(&gateways("old"), &gateways("new")).unwrap();
    assert_eq!(order(&plan.steps[1]), ["0 Apply checkout", "0 Create checkout-meshward-canary"]);
    assert_eq!(order(&plan.steps[2]), ["0 Apply checkout", "1 Delete checkout-meshward-canary"]);
    let [live, copy] = [0, 1].map(|index| plan.steps[1].writes[index].object["spec"].clone());
    assert_eq!(copy["exportTo"], json!(["a", "b"]));
    assert_eq!(copy["gateways"], json!(["mesh"]), "gateways would merge both");
    assert_eq!(copy["http"], json!([{"match": [{"statPrefix": "canary"}], "route": [to("new")]}]));
    assert_eq!(live["http"], json!([{"match": [{"statPrefix": "stable"}], "route": [to("old")]}]));
    assert_eq!(plan.steps[0].exposed, "Callers in a.", "at least one");
    let counted = &plan.metrics_target;
    assert_eq!((counted.mechanism, &*counted.canary_series), (Mechanism::Namespace, "canary"), "no share of requests");
    let found = Whom::namespaces(&["x", "y", "istio-system"]).ask(&plain("a"), &plain("b")).unwrap();
    let mut names: Vec<_> = found.steps[1].exposed.split(['.', ' ']).filter(|word| ["x", "y"].contains(word)).collect();
    names.sort_unstable();
    assert_eq!((names.len(), found.steps[1].nominal_share), (1, bp(5000)), "only those that have proxies");
}

#[test]
fn what_a_copy_would_not_replace_or_would_hide_is_refused() {
    let shown = |to: Value| {
        let mut spec = plain("a");
        spec["exportTo"] = to;
        spec
    };
    let other = |namespace: &str, spec: Value| json!({"kind": "VirtualService", "metadata": {"name": "other", "namespace": namespace}, "spec": spec});
    let wide = |to: Value| json!({"hosts": ["*.shop.svc.cluster.local"], "exportTo": to});
    let root = json!({"hosts": ["shop"], "http": [{"delegate": {"name": "checkout"}}]});
    let leaf = |host: &str| json!({"http": [{"route": [to(host)]}]});
    let ask = || Whom::namespaces(&["x", "y"]);
    for (whom, stable, canary, reason) in [
        (ask(), shown(json!(["x"])), shown(json!(["x"])), "the older one wins"),
        (ask(), plain("a"), shown(json!(["x"])), "differ in spec.exportTo"),
        (ask().and(other("shop", root)), leaf("a"), leaf("b"), "is a delegate"),
        (ask().and(other("web", wide(json!(["*"])))), plain("a"), plain("b"), "web/other is everybody's too"),
        (
            ask().named(&["x"]).and(other("x", wide(json!(["."])))),
            plain("a"),
            plain("b"),
            "the callers in x do not use",
        ),
        (Whom::namespaces(&[]), plain("a"), plain("b"), "no namespace of callers is known"),
        (ask().named(&["istio-system"]), plain("a"), plain("b"), "in another order"),
    ] {
        let refusal = whom.refusal(&stable, &canary);
        assert!(refusal.contains(reason), "{refusal}");
    }
    let own = ask().and(other("x", wide(json!(["."])))).ask(&plain("a"), &plain("b")).unwrap();
    assert_eq!(own.steps[1].exposed, "Callers in y.", "x has its own");
}

//! VirtualServices and delegates by chance, and what two callers' Envoys make of them.
//!
//! Both callers have sidecars of their own, so that labels, ports and gateways of a match are seen to decide. Each route
//! marks what comes back by it, so that the route is compared and not only the destination.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use meshward_local::{
    stack::{NAMESPACE, SERVICE_PORT, Sidecar, Stack},
    upstream::UPSTREAM_HEADER,
};
use meshward_validator::{
    access::Fact,
    routing::{self, Goes, MESH, Protocol, Request, VirtualService},
};
use reqwest::{Method, redirect};
use serde_json::{Value, json};

use super::world::{Dice, PATIENCE};

/// Sets of objects.
const SETS: usize = 30;
/// Requests for each set.
const REQUESTS: usize = 100;
/// Requests at once.
const PARALLEL: usize = 16;
/// The host that is asked for, which both callers may call.
const HOST: &str = "catalog";
/// The header in which a route names itself.
const ROUTE: &str = "x-route";
const PATHS: [&str; 6] = ["/", "/a", "/A/b", "/a/b", "/items/7", "/admin"];
const TEAMS: [&str; 3] = ["red", "green", ""];

/// A request as it is sent.
#[derive(Clone, Debug)]
struct Sent {
    caller: usize,
    method: &'static str,
    path: &'static str,
    page: Option<&'static str>,
    host: &'static str,
    team: Option<&'static str>,
}

impl Sent {
    fn thrown(dice: &mut Dice) -> Self {
        Self {
            caller: dice.below(2),
            method: dice.pick(&["GET", "PUT"]),
            path: dice.pick(&PATHS),
            page: dice.maybe(2).then(|| dice.pick(&["1", "22"])),
            host: dice.pick(&["catalog", "catalog.shop", "catalog.shop.svc.cluster.local:8080"]),
            team: dice.maybe(2).then(|| dice.pick(&TEAMS)),
        }
    }

    fn as_request(&self, caller: &Sidecar) -> Request {
        Request {
            host: format!("{HOST}.{NAMESPACE}.svc.cluster.local"),
            gateway: MESH.to_owned(),
            namespace: NAMESPACE.to_owned().into(),
            labels: [("app", caller.caller.app), ("pod", caller.caller.pod)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
                .into(),
            port: SERVICE_PORT.into(),
            protocol: Protocol::Http,
            sni: Fact::Absent,
            method: self.method.to_owned().into(),
            path: self.path.to_owned().into(),
            authority: self.host.to_owned().into(),
            scheme: "http".to_owned().into(),
            headers: self.team.map(|team| ("x-team".to_owned(), team.to_owned())).into_iter().collect(),
            query: self.page.map(|page| ("page".to_owned(), page.to_owned())).into_iter().collect(),
            complete: true,
        }
    }
}

/// Throws, compares, and says how many were compared and what did not agree.
pub async fn compare(stack: &Stack, dice: &mut Dice) -> (usize, Vec<String>) {
    let none = redirect::Policy::none();
    let http = reqwest::Client::builder().no_proxy().redirect(none).timeout(PATIENCE).build().expect("a client");
    let (mut compared, mut disagreements) = (0, Vec::new());
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    // Older and for more hosts: it must not come in the way of the one that names the host.
    let wildcard =
        object("any", json!({"hosts": ["*.shop.svc.cluster.local"], "http": [{"directResponse": {"status": 418}}]}));
    apply(stack, &wildcard).await;
    for set in 0..SETS {
        let delegate = object(&format!("delegate-{set}"), json!({"http": routes(dice, "d", set)}));
        let mut own = routes(dice, "r", set);
        own.insert(
            dice.below(own.len() + 1),
            json!({"match": matches(dice), "delegate": {"name": format!("delegate-{set}")}}),
        );
        let marker = format!("/set-{set}-is-in-place");
        let in_place = json!({"match": [{"uri": {"exact": marker}}], "directResponse": {"status": 299}});
        own.insert(0, in_place);
        let root = object("root", json!({"hosts": [HOST], "http": own}));
        // istiod has the delegate before the root that names it, so that who has the root's marker has both.
        apply(stack, &delegate).await;
        istiod_has(stack, &http, &delegate).await;
        apply(stack, &root).await;
        for caller in stack.sidecars() {
            envoy_has(&http, caller, &marker).await;
        }
        let services = VirtualService::all(&[wildcard.clone(), delegate.clone(), root.clone()]);
        let requests: Vec<_> = (0..REQUESTS).map(|_| Sent::thrown(dice)).collect();
        let answers = stream::iter(requests).map(|sent| async {
            let got = answer(&http, stack, &sent).await;
            (sent, got)
        });
        for (sent, got) in answers.buffer_unordered(PARALLEL).collect::<Vec<_>>().await {
            let ways = routing::decide(&services, &sent.as_request(&stack.sidecars()[sent.caller]));
            compared += 1;
            *seen.entry(got.split(' ').next().map_or("", kind)).or_default() += 1;
            if expected(&ways) != Some(got.clone()) {
                disagreements.push(format!(
                    "{sent:?}: Envoy {got:?}, we {}, {}",
                    ways.words(),
                    json!([root, delegate])
                ));
            }
        }
    }
    println!("{compared} requests compared on their routes ({seen:?}), {} disagreements", disagreements.len());
    assert!(seen.len() == 4 && seen.values().all(|count| *count > compared / 50), "the test sees all kinds: {seen:?}");
    (compared, disagreements)
}

/// What an answer is of, to be counted.
fn kind(first: &str) -> &'static str {
    match first {
        "catalog" => "reached",
        "redirected" => "redirected",
        "404" => "no route",
        _ => "answered",
    }
}

/// The answer that a decision foretells, in the words of [`answer`].
fn expected(ways: &routing::Ways) -> Option<String> {
    let way = ways.decided()?;
    if let Some((share, status)) = &way.outcome.abort {
        return (*share == 1.0).then(|| status.clone());
    }
    match &way.outcome.goes {
        Goes::To(places) => {
            let place = places.keys().next().filter(|_| places.len() == 1)?;
            let route = way.by.rsplit_once(' ').map_or("", |(_, name)| name);
            let route = if way.by == "no VirtualService" { "" } else { route };
            Some(format!("{} {route}", place.split('.').next()?))
        }
        Goes::Redirected(to) => Some(format!("redirected {}", to.rsplit_once(' ')?.1)),
        Goes::Answered(status) => Some(status.to_string()),
        Goes::NoRoute => Some("404".to_owned()),
        Goes::Unknown => None,
    }
}

async fn answer(http: &reqwest::Client, stack: &Stack, sent: &Sent) -> String {
    let egress = stack.sidecars()[sent.caller].egress;
    let query = sent.page.map(|page| format!("?page={page}")).unwrap_or_default();
    let method = Method::from_bytes(sent.method.as_bytes()).expect("a method");
    let mut request = http.request(method, format!("http://{egress}{}{query}", sent.path)).header("host", sent.host);
    if let Some(team) = sent.team {
        request = request.header("x-team", team);
    }
    let response = request.send().await.expect("Envoy answers");
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match (response.headers().contains_key(UPSTREAM_HEADER), response.status().is_redirection()) {
        (true, _) => format!("{} {}", text(UPSTREAM_HEADER), text(ROUTE)),
        (_, true) => format!(
            "redirected /{}",
            text("location").rsplit_once('/').map_or("", |(_, path)| path).split('?').next().unwrap_or_default()
        ),
        _ => response.status().as_u16().to_string(),
    }
}

fn object(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

async fn apply(stack: &Stack, object: &Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"));
    let api: Api<DynamicObject> = Api::namespaced_with(stack.client().clone(), NAMESPACE, &resource);
    let name = object["metadata"]["name"].as_str().expect("a name");
    let applied = api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await;
    let applied = applied.unwrap_or_else(|error| panic!("{error}: {object:#}"));
    assert_eq!(applied.name_any(), name);
}

async fn istiod_has(stack: &Stack, http: &reqwest::Client, object: &Value) {
    let url = format!("{}/debug/configz", stack.istiod_debug_url());
    let name = format!("\"{}\"", object["metadata"]["name"].as_str().expect("a name"));
    until(|| async {
        http.get(&url).send().await.expect("istiod answers").text().await.expect("a text").contains(&name)
    })
    .await;
}

async fn envoy_has(http: &reqwest::Client, caller: &Sidecar, marker: &str) {
    let url = format!("http://{}{marker}", caller.egress);
    until(|| async {
        http.get(&url).header("host", HOST).send().await.expect("Envoy answers").status().as_u16() == 299
    })
    .await;
}

async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "not in place after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Routes with names of their own; the last may be open to every request.
fn routes(dice: &mut Dice, prefix: &str, set: usize) -> Vec<Value> {
    let count = 1 + dice.below(4);
    let mut routes: Vec<_> = (0..count)
        .map(|index| {
            let mut route = action(dice, index);
            let name = format!("{prefix}{set}-{index}");
            route["headers"] = json!({"response": {"set": {ROUTE: name}}});
            route["name"] = name.into();
            route["match"] = matches(dice);
            route
        })
        .collect();
    if dice.maybe(3) {
        routes[count - 1].as_object_mut().expect("a route").remove("match");
    }
    routes
}

fn action(dice: &mut Dice, index: usize) -> Value {
    let to = json!([{"destination": {"host": HOST}}]);
    match dice.below(8) {
        0 => json!({"redirect": {"uri": format!("/to-{index}")}}),
        1 => json!({"directResponse": {"status": 410 + index}}),
        2 => json!({"route": to, "fault": {"abort": {"httpStatus": 450 + index, "percentage": {"value": 100}}}}),
        3 => json!({"route": to, "fault": {"abort": {"httpStatus": 450}}}),
        4 => json!({"route": [
            {"destination": {"host": "catalog.shop.svc.cluster.local", "port": {"number": SERVICE_PORT}}, "weight": 7},
            {"destination": {"host": "checkout"}, "weight": 0},
        ]}),
        _ => json!({"route": to}),
    }
}

fn matches(dice: &mut Dice) -> Value {
    (0..1 + dice.below(2)).map(|_| one_match(dice)).collect()
}

fn one_match(dice: &mut Dice) -> Value {
    let mut own = json!({});
    for _ in 0..1 + dice.below(2) {
        match dice.below(9) {
            0..=2 => own["uri"] = text(dice, &PATHS, &["/a", "/A", "/items"], &["/[a-z]+", "/(?i)a/.*", r"/items/\d+"]),
            3 => own["method"] = text(dice, &["GET", "PUT"], &["P"], &["GET|POST"]),
            4 => own["headers"] = json!({"X-Team": text(dice, &TEAMS[..2], &["r"], &[".*e.*", ".*"])}),
            5 => own["withoutHeaders"] = json!({"x-team": text(dice, &TEAMS[..2], &["g"], &[".*", "red"])}),
            6 => own["queryParams"] = json!({"page": text(dice, &["1", "22"], &["2"], &[r"\d"])}),
            7 => own["authority"] = text(dice, &["catalog"], &["catalog."], &[".*:8080"]),
            _ => match dice.below(6) {
                0 => own["port"] = json!(9999),
                1 => own["port"] = json!(SERVICE_PORT),
                2 => own["sourceNamespace"] = dice.pick(&[NAMESPACE, "web"]).into(),
                3 => own["gateways"] = json!([dice.pick(&[MESH, "shop/edge"])]),
                _ => own["sourceLabels"] = json!({"app": dice.pick(&["storefront", "search"])}),
            },
        }
    }
    if dice.maybe(4) {
        own["ignoreUriCase"] = json!(true);
    }
    // Alone it is no match at all to the API server.
    if own.as_object().is_some_and(|fields| fields.len() == 1) && !own["ignoreUriCase"].is_null() {
        own["method"] = json!({"exact": "GET"});
    }
    own
}

fn text(dice: &mut Dice, exact: &[&'static str], prefix: &[&'static str], regex: &[&'static str]) -> Value {
    match dice.below(3) {
        0 => json!({"exact": dice.pick(exact)}),
        1 => json!({"prefix": dice.pick(prefix)}),
        _ => json!({"regex": dice.pick(regex)}),
    }
}

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use meshward_chassis::clock::ManualClock;
use serde_json::{Value, json};
use tonic::Status;

use super::{
    Asked, Limits, Live, MOST_NAMESPACES, Scope, View,
    definitions::{Checks, Definitions},
};
use crate::{
    error::Error,
    ports::{Admission, Bearer, Gateway, Held, HeldPage, ObjectPage, Peers, Registry, Wanted},
    schema::{Catalogue, Lookup},
};

/// What a kind answers.
#[derive(Clone)]
enum Says {
    Has(Vec<Value>),
    Refuses(&'static str),
    Hangs,
}

#[derive(Default)]
struct Fake {
    kinds: HashMap<(&'static str, &'static str), Says>,
    asked: AtomicUsize,
}

impl Fake {
    fn of(kinds: impl IntoIterator<Item = (&'static str, &'static str, Says)>) -> Arc<Self> {
        let kinds = kinds.into_iter().map(|(version, kind, says)| ((version, kind), says)).collect();
        Arc::new(Self { kinds, ..Self::default() })
    }
}

impl Gateway for Arc<Fake> {
    async fn dry_run(&self, _: &str, _: &str, _: &Bearer) -> Result<Admission, Error> {
        unreachable!("nothing is asked of the cluster")
    }

    async fn list(&self, wanted: Wanted<'_>, _: &Bearer) -> Result<ObjectPage, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.kinds.iter().find(|((version, kind), _)| (*version, *kind) == (wanted.api_version, wanted.kind)) {
            None => Ok(ObjectPage::default()),
            Some((_, Says::Has(objects))) => {
                Ok(ObjectPage { objects: objects.clone(), next: String::new(), served: true })
            }
            Some((_, Says::Refuses(why))) => Err(Error::GatewayRefused(Box::new(Status::failed_precondition(*why)))),
            Some((_, Says::Hangs)) => std::future::pending().await,
        }
    }
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}})
}

const LIMITS: Limits = Limits { within: Duration::from_secs(1), max_age: Duration::from_secs(5) };

fn live() -> (Live, ManualClock) {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    (Live::new(Arc::new(clock.clone()), LIMITS), clock)
}

async fn look(live: &Live, gateway: &Arc<Fake>, scope: &Scope, complete: bool) -> View {
    let peers = Peers { gateway: Arc::clone(gateway), registry: None };
    let asked = Asked { live: true, registry: false, complete };
    live.view(&peers, "", scope, asked, &Bearer("token".to_owned())).await
}

fn objects(view: &View) -> Vec<&Value> {
    view.known.in_force().collect()
}

#[tokio::test]
async fn a_view_is_kept_for_its_time_and_for_its_namespaces() {
    let gateway = Fake::of([("v1", "Service", Says::Has(vec![service("a"), service("b")]))]);
    let (live, clock) = live();
    let view = look(&live, &gateway, &None, true).await;
    assert_eq!((objects(&view).len(), view.complete, view.gaps.len()), (2, true, 0));
    let first = gateway.asked.load(Ordering::Relaxed);
    for (passed, scope, asks) in
        [(1, None, false), (1, Some(BTreeSet::from(["shop".to_owned()])), true), (4, None, true)]
    {
        let before = gateway.asked.load(Ordering::Relaxed);
        clock.advance(SignedDuration::from_secs(passed));
        let view = look(&live, &gateway, &scope, true).await;
        assert_eq!(view.complete, scope.is_none(), "what lies in other namespaces is not known");
        assert_eq!(gateway.asked.load(Ordering::Relaxed) > before, asks, "after {passed} s more, {scope:?}");
    }
    assert!(first > 36, "each kind in each version is asked for");
}

#[tokio::test]
async fn an_older_version_is_asked_where_the_best_is_not_served() {
    let route =
        json!({"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "TLSRoute", "metadata": {"name": "a"}});
    let gateway = Fake::of([("gateway.networking.k8s.io/v1alpha2", "TLSRoute", Says::Has(vec![route.clone()]))]);
    assert_eq!(objects(&look(&live().0, &gateway, &None, false).await), [&route]);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_gap_and_nothing_is_complete_or_kept() {
    let services = || ("v1", "Service", Says::Has(vec![service("a")]));
    let many: Scope = Some((0..=MOST_NAMESPACES).map(|n| format!("n{n}")).collect());
    for (gateway, scope, count, gap) in [
        (
            Fake::of([services(), ("v1", "Secret", Says::Refuses("may not"))]),
            None,
            1,
            "context: Secret of the default cluster was not read: mesh-gateway refused: may not",
        ),
        (
            Fake::of([services(), ("v1", "Pod", Says::Hangs)]),
            None,
            1,
            "context: the default cluster was not read within 1s",
        ),
        (Fake::of([]), many, 0, "context: only 20 of the token's namespaces were read"),
    ] {
        let (live, _) = live();
        let view = look(&live, &gateway, &scope, true).await;
        assert_eq!((objects(&view).len(), view.complete, view.gaps.as_slice()), (count, false, &[gap.to_owned()][..]));
        let before = gateway.asked.load(Ordering::Relaxed);
        look(&live, &gateway, &scope, true).await;
        assert!(gateway.asked.load(Ordering::Relaxed) > before, "{gap}: asked again");
    }
}

/// A registry with a version a page.
struct Shelf {
    pages: Vec<Result<Held, &'static str>>,
    hangs: bool,
}

impl Registry for Shelf {
    fn effective<'a>(&'a self, _: &'a str, token: &'a str, _: &'a Bearer) -> BoxFuture<'a, Result<HeldPage, String>> {
        async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let at: usize = token.parse().unwrap_or_default();
            let next = if at + 1 < self.pages.len() { (at + 1).to_string() } else { String::new() };
            let version = self.pages[at].clone().map_err(str::to_owned)?;
            Ok(HeldPage { versions: vec![version], next })
        }
        .boxed()
    }
}

#[tokio::test]
async fn what_the_registry_holds_is_read_beside_the_cluster_or_is_a_gap() {
    let held = |name, is_active| Ok(Held { object: service(name), is_active });
    let shelf = |pages: Vec<_>, hangs| Some(Arc::new(Shelf { pages, hangs }) as Arc<dyn Registry>);
    let told = |why: &str| vec![format!("context: the policy-registry was not read to its end: {why}")];
    let gateway = Fake::of([("v1", "Service", Says::Has(vec![service("a")]))]);
    for (what, registry, live_too, names, gaps) in [
        ("pages", shelf(vec![held("b", true), held("c", true)], false), true, vec!["a", "b", "c"], vec![]),
        ("alone", shelf(vec![held("b", true)], false), false, vec!["b"], vec![]),
        ("live too", shelf(vec![held("a", true)], false), true, vec!["a"], vec![]),
        ("to come", shelf(vec![held("b", false)], false), true, vec!["a"], vec![]),
        ("breaks", shelf(vec![held("b", true), Err("no")], false), true, vec!["a", "b"], told("no")),
        ("hangs", shelf(vec![], true), true, vec!["a"], told("it took longer than 1s")),
        ("none", None, true, vec!["a"], told("--policy-registry is not set")),
    ] {
        let peers = Peers { gateway: Arc::clone(&gateway), registry };
        let asked = Asked { live: live_too, registry: true, complete: true };
        let view = live().0.view(&peers, "", &None, asked, &Bearer("token".to_owned())).await;
        let found: Vec<_> = objects(&view).iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
        assert_eq!((found, view.gaps.as_slice()), (names, gaps.as_slice()), "{what}");
        assert_eq!(view.complete, gaps.is_empty(), "{what}");
    }
}

fn definition(kind: &str, generation: u32) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"uid": kind, "generation": generation},
        "spec": {
            "group": "networking.istio.io",
            "names": {"kind": kind},
            "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    })
}

fn defines(definitions: Vec<Value>) -> Arc<Fake> {
    Fake::of([("apiextensions.k8s.io/v1", "CustomResourceDefinition", Says::Has(definitions))])
}

fn definitions() -> (Definitions, ManualClock) {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let mut catalogue = Catalogue::default();
    catalogue.add(&definition("OfFile", 1));
    (Definitions::new(Arc::new(clock.clone()), LIMITS, Arc::new(catalogue)), clock)
}

async fn checks(definitions: &Definitions, gateway: &Arc<Fake>, cluster: &str) -> Checks {
    definitions.of(gateway, Some(cluster), &Bearer("token".to_owned())).await
}

fn defined(checks: &Checks, kind: &str) -> bool {
    matches!(checks.catalogue.find("networking.istio.io/v1", kind), Lookup::Schema(_))
}

#[tokio::test]
async fn definitions_are_read_anew_and_stay_compiled_while_they_are_the_same() {
    let (definitions, clock) = definitions();
    let mut before = checks(&definitions, &defines(vec![definition("A", 1), definition("B", 1)]), "west").await;
    assert!(before.gap.is_none() && defined(&before, "A") && !defined(&before, "OfFile"), "{:?}", before.gap);
    for (passed, now, is_asked, is_same) in [
        (5, vec![], false, true),
        (6, vec![definition("B", 1), definition("A", 1)], true, true),
        (6, vec![definition("B", 1), definition("A", 2)], true, false),
        (6, vec![definition("B", 1)], true, false),
        (6, vec![], true, false),
    ] {
        clock.advance(SignedDuration::from_secs(passed));
        let gateway = defines(now.clone());
        let after = checks(&definitions, &gateway, "west").await;
        assert_eq!(gateway.asked.load(Ordering::Relaxed) > 0, is_asked, "{now:?}");
        assert_eq!(Arc::ptr_eq(&before.catalogue, &after.catalogue), is_same, "{now:?}");
        before = after;
    }
    assert!(defined(&before, "OfFile"), "the cluster says nothing of the mesh");
    let other = checks(&definitions, &defines(vec![definition("C", 1)]), "east").await;
    assert!(defined(&other, "C"), "another cluster has its own");
}

#[tokio::test]
async fn without_the_definitions_of_the_cluster_those_of_the_catalogue_are_used_and_the_answer_says_why() {
    let of = |says| Fake::of([("apiextensions.k8s.io/v1", "CustomResourceDefinition", says)]);
    let large = json!({"metadata": {"uid": "a"}, "spec": {"pattern": "a".repeat(33 * 1024 * 1024)}});
    for (what, gateway, why) in [
        ("east", of(Says::Refuses("may not")), "mesh-gateway refused: may not"),
        ("west", of(Says::Hangs), "it took longer than 1s"),
        ("north", of(Says::Has(vec![large])), "they are more than 33554432 bytes"),
    ] {
        let (definitions, _) = definitions();
        for _ in 0..2 {
            let checks = checks(&definitions, &gateway, what).await;
            let told = format!(
                "schema: the definitions of the cluster {what} were not read, so those of the catalogue are used: {why}"
            );
            assert_eq!(checks.gap, Some(told));
            assert!(defined(&checks, "OfFile"));
        }
        assert_eq!(gateway.asked.load(Ordering::Relaxed), 2, "{what}: asked again");
    }
}

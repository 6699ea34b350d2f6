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

use super::{Asked, Limits, Live, MOST_NAMESPACES, Scope, View};
use crate::{
    error::Error,
    ports::{Admission, Bearer, Gateway, Held, HeldPage, ObjectPage, Peers, Registry, Wanted},
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

fn live() -> (Live, ManualClock) {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let limits = Limits { within: Duration::from_secs(1), max_age: Duration::from_secs(5) };
    (Live::new(Arc::new(clock.clone()), limits), clock)
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

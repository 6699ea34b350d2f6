use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use meshward_chassis::clock::ManualClock;
use serde_json::{Value, json};
use tonic::Status;

use super::{Limits, Live, MOST_NAMESPACES, Scope, View};
use crate::{
    error::Error,
    ports::{Admission, Bearer, Gateway, ObjectPage, Wanted},
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
    fn of(kinds: impl IntoIterator<Item = (&'static str, &'static str, Says)>) -> Self {
        Self {
            kinds: kinds.into_iter().map(|(version, kind, says)| ((version, kind), says)).collect(),
            ..Self::default()
        }
    }
}

impl Gateway for Fake {
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

async fn look(live: &Live, gateway: &Fake, scope: &Scope, complete: bool) -> View {
    live.view(gateway, "", scope, complete, &Bearer("token".to_owned())).await
}

#[tokio::test]
async fn a_view_is_kept_for_its_time_and_for_its_namespaces() {
    let gateway = Fake::of([("v1", "Service", Says::Has(vec![service("a"), service("b")]))]);
    let (live, clock) = live();
    let view = look(&live, &gateway, &None, true).await;
    assert_eq!((view.objects.len(), view.complete, view.gaps.len()), (2, true, 0));
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
    assert_eq!(*look(&live().0, &gateway, &None, false).await.objects, [route]);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_gap_and_nothing_is_complete_or_kept() {
    let services = || ("v1", "Service", Says::Has(vec![service("a")]));
    let many: Scope = Some((0..=MOST_NAMESPACES).map(|n| format!("n{n}")).collect());
    for (gateway, scope, objects, gap) in [
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
        assert_eq!((view.objects.len(), view.complete, view.gaps.as_slice()), (objects, false, &[gap.to_owned()][..]));
        let before = gateway.asked.load(Ordering::Relaxed);
        look(&live, &gateway, &scope, true).await;
        assert!(gateway.asked.load(Ordering::Relaxed) > before, "{gap}: asked again");
    }
}

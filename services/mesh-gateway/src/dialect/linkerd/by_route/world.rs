//! The objects of a deployment by route, from its intent.

use meshward_model::{ExposureIntent, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::super::{
    defaults,
    kind::{GATEWAY, Kind, POLICY},
    object::{About, about, helper, list, twin_name, twin_of},
    route,
};
use crate::{dialect::callers, object::spec};

/// What the caller's proxy sets on the requests of the cohort.
pub(super) const COHORT_HEADER: &str = "x-meshward-cohort";
const CANARY: &str = "canary";
const STABLE: &str = "stable";
/// What the proxy of the pod itself sets, from the client's certificate.
pub(super) const CLIENT_HEADER: &str = "l5d-client-id";
/// The version of Linkerd's own routes that is written.
const ROUTE_VERSION: &str = "policy.linkerd.io/v1beta3";

/// What the policy is about.
pub(super) enum Ground<'a> {
    /// All of a Server, which has no routes.
    Server(String),
    /// One route, which may be the object of the deployment itself: then as the new version has it.
    Route(&'a Target, &'a Value),
}

/// A deployment by route.
pub(super) struct World<'a> {
    pub(super) intent: &'a ExposureIntent,
    pub(super) ground: Ground<'a>,
    stable: &'a Value,
}

/// A helper as the API server stores it.
pub(super) fn stored(target: Target, like: &Value, spec: Value) -> (Target, Value) {
    let object = defaults::stored(&target, &helper(&target, like, spec));
    (target, object)
}

/// A route of Linkerd's own for a Server.
pub(super) fn linkerd_route(beside: &Target, name: &str) -> Target {
    let (api_version, kind) = (ROUTE_VERSION.to_owned(), "HTTPRoute".to_owned());
    Target { api_version, kind, name: twin_name(name), ..beside.clone() }
}

/// One that matches every path, with these headers.
pub(super) fn every_path(target: Target, server: &str, headers: &[Value]) -> (Target, Value) {
    let mut every_path = json!({"path": {"type": "PathPrefix", "value": "/"}});
    if !headers.is_empty() {
        every_path["headers"] = headers.into();
    }
    let parent = json!({"group": POLICY, "kind": "Server", "name": server});
    stored(target, &Value::Null, json!({"parentRefs": [parent], "rules": [{"matches": [every_path]}]}))
}

/// A policy about a route.
pub(super) fn about_route(target: Target, like: &Value, route: &Target) -> (Target, Value) {
    let mut spec = spec(like).clone();
    spec["targetRef"] = json!({"group": route.group(), "kind": route.kind, "name": route.name});
    stored(target, like, spec)
}

impl<'a> World<'a> {
    /// `None` if the policy did not exist, or its route is not among the baselines.
    pub(super) fn of(intent: &'a ExposureIntent) -> Option<Self> {
        let stable = intent.baseline.object.as_ref()?;
        if Kind::of_target(&intent.target).is_some_and(Kind::is_http_route) {
            return Some(Self { intent, ground: Ground::Route(&intent.target, &intent.canary), stable });
        }
        let ground = match about(spec(stable)) {
            About::Server(name) => Ground::Server(name),
            About::Route(kind, _) => {
                let is_it = |target: &Target| Kind::of_target(target) == Some(kind);
                let related = intent.baseline.related.iter().find(|related| is_it(&related.target))?;
                Ground::Route(&related.target, related.object.as_ref()?)
            }
            About::Namespace | About::Other(_) => return None,
        };
        Some(Self { intent, ground, stable })
    }

    /// The route for whoever is not in the cohort, where there is none yet.
    pub(super) fn rest(&self) -> Option<(Target, Value)> {
        let Ground::Server(server) = &self.ground else { return None };
        let own = &self.intent.target;
        Some(every_path(linkerd_route(own, &format!("{}-rest", own.name)), server, &[]))
    }

    /// The live version as it stands while the deployment lasts.
    pub(super) fn stable_spec(&self) -> Value {
        match self.rest() {
            Some((rest, _)) => spec(&about_route(self.intent.target.clone(), self.stable, &rest).1).clone(),
            None => spec(self.stable).clone(),
        }
    }

    /// The canary's route; null if nobody is in the cohort.
    pub(super) fn canary_route(&self) -> (Target, Value) {
        let (own, header) = (&self.intent.target, self.header());
        match &self.ground {
            Ground::Server(server) => {
                let target = linkerd_route(own, &own.name);
                header.map_or((target.clone(), Value::Null), |header| every_path(target, server, &[header]))
            }
            Ground::Route(target, route) => {
                let (copy, kind) = (twin_of(target), Kind::of_target(target));
                match header.zip(kind) {
                    Some((header, kind)) => stored(copy, route, route::narrowed(kind, route, &header)),
                    None => (copy, Value::Null),
                }
            }
        }
    }

    /// The new version, and copies of the others that the route has, for the canary's route.
    pub(super) fn policies(&self) -> Vec<(Target, Value)> {
        let (canary, _) = self.canary_route();
        let related = self.intent.baseline.related.iter();
        let others = related.filter_map(|related| Some((&related.target, related.object.as_ref()?)));
        let all = std::iter::once((&self.intent.target, &self.intent.canary)).chain(others);
        let policies = all.filter(|(target, _)| Kind::of_target(target) == Some(Kind::AuthorizationPolicy));
        policies.map(|(target, policy)| about_route(twin_of(target), policy, &canary)).collect()
    }

    /// The routes by which callers draw the cohort, one for each Service.
    pub(super) fn outbound(&self) -> Vec<(Target, Value)> {
        let canary = i64::from(self.intent.weight.basis_points());
        let one = |service: &Value| {
            let (name, port) = (service[0].as_str()?, &service[1]);
            let kind = (format!("{GATEWAY}/v1"), "HTTPRoute".to_owned());
            let target =
                Target { api_version: kind.0, kind: kind.1, name: twin_name(name), ..self.intent.target.clone() };
            let to = |cohort: &str, weight: i64| {
                let set = json!({"set": [{"name": COHORT_HEADER, "value": cohort}]});
                json!({"name": name, "port": port, "weight": weight,
                       "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": set}]})
            };
            let parent = json!({"group": "core", "kind": "Service", "name": name, "port": port});
            let backends = json!([to(STABLE, 10_000 - canary), to(CANARY, canary)]);
            let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": backends}]});
            Some(stored(target, &Value::Null, spec))
        };
        list(&self.intent.baseline.facts, "services").iter().filter_map(one).collect()
    }

    /// Whether callers draw at this weight.
    pub(super) fn is_drawn(&self) -> bool {
        self.intent.weight != Weight::ZERO
    }

    /// Whether the canary's route exists at this weight.
    pub(super) fn has_cohort(&self) -> bool {
        self.header().is_some()
    }

    /// What the requests of the cohort are known by; `None` if nobody is in it.
    fn header(&self) -> Option<Value> {
        if self.intent.mechanism == Mechanism::Weight {
            return Some(json!({"name": COHORT_HEADER, "type": "Exact", "value": CANARY}));
        }
        let facts = &self.intent.baseline.facts;
        if !facts["header"].is_null() {
            return self.is_drawn().then(|| facts["header"].clone());
        }
        let clients: Vec<_> = list(facts, "clients").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let value = expression(callers::split(&clients, self.intent.weight).0)?;
        Some(json!({"name": CLIENT_HEADER, "type": "RegularExpression", "value": value}))
    }
}

/// An expression for the identities of these accounts ("front.web"), whatever the trust domain.
pub(super) fn expression(accounts: &[String]) -> Option<String> {
    let names: Vec<_> = accounts.iter().map(|name| name.replace('.', r"\.")).collect();
    (!names.is_empty()).then(|| format!(r"^(?:(?:{})\.serviceaccount\.identity\..+)$", names.join("|")))
}

//! A VirtualService, read once and asked often; and which of several is asked.

use std::cmp::Ordering;

use serde_json::Value;

use super::{MESH, Outcome, Request, Tried, Way, delegate, matching, matching::Match};
use crate::{access::every, impact::is_of, world::host};

/// A VirtualService with hosts of its own; its delegates are part of it.
#[derive(Debug, Clone)]
pub struct VirtualService {
    /// "namespace/name".
    pub name: String,
    pub(super) namespace: String,
    /// Full names.
    hosts: Vec<String>,
    gateways: Vec<String>,
    /// Namespaces that see it; `None` = all.
    exported: Option<Vec<String>>,
    created: Option<String>,
    http: Vec<Route>,
    pub(super) spec: Value,
}

/// A route of HTTP requests.
#[derive(Debug, Clone)]
struct Route {
    /// "http[1] canary".
    by: String,
    matches: Vec<Match>,
    /// `None` = it is delegated to an object that is not at hand.
    action: Option<Value>,
}

/// Whether an object is a VirtualService of Istio.
#[must_use]
pub fn is_virtual_service(object: &Value) -> bool {
    is_of(object, "networking.istio.io", "VirtualService")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().filter_map(Value::as_str)
}

fn exported(object: &Value) -> Option<Vec<String>> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let entries: Vec<_> = texts(&object["spec"]["exportTo"]).collect();
    host::exported(&entries, namespace).map(|names| names.into_iter().map(str::to_owned).collect())
}

impl VirtualService {
    /// Those among objects, delegates put in their places.
    #[must_use]
    pub fn all(objects: &[Value]) -> Vec<Self> {
        let own = |object: &&Value| is_virtual_service(object) && !list(&object["spec"]["hosts"]).is_empty();
        objects.iter().filter(own).map(|object| Self::new(object, objects)).collect()
    }

    fn new(object: &Value, objects: &[Value]) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
        let mut gateways = matching::gateways(&spec["gateways"], &namespace);
        if gateways.is_empty() {
            gateways.push(MESH.to_owned());
        }
        let routes = list(&spec["http"]).iter().enumerate();
        Self {
            name: format!("{namespace}/{}", metadata["name"].as_str().unwrap_or_default()),
            hosts: texts(&spec["hosts"]).map(|name| host::full(name, &namespace)).collect(),
            gateways,
            exported: exported(object),
            created: metadata["creationTimestamp"].as_str().map(str::to_owned),
            http: routes.flat_map(|(index, route)| routes_of(route, index, &namespace, objects)).collect(),
            spec: spec.clone(),
            namespace,
        }
    }

    /// Whether it has the same hosts, wholly or in part.
    #[must_use]
    pub fn shares_a_host(&self, other: &Self) -> bool {
        self.hosts.iter().any(|own| other.hosts.iter().any(|its| host::overlap(own, its)))
    }

    /// Whether it sends requests to this host that ask for another.
    #[must_use]
    pub fn brings_to(&self, target: &str) -> bool {
        let of_http = self.http.iter().filter_map(|route| route.action.as_ref());
        let of_others = ["tcp", "tls"].into_iter().flat_map(|protocol| list(&self.spec[protocol]));
        let mut destinations = of_http.chain(of_others).flat_map(|route| list(&route["route"]));
        let is_target = |to: &Value| {
            to["destination"]["host"].as_str().is_some_and(|name| host::full(name, &self.namespace) == target)
        };
        destinations.any(is_target) && self.hosts.iter().any(|own| own != target)
    }

    /// Whether both say the same of every request.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let routes = |one: &Self| -> Vec<_> {
            let key = |route: &Route| {
                (route.matches.iter().map(|own| own.value.clone()).collect::<Vec<_>>(), route.action.clone())
            };
            one.http.iter().map(key).collect()
        };
        (&self.name, &self.spec, &self.created) == (&other.name, &other.spec, &other.created)
            && routes(self) == routes(other)
    }

    /// Full names of its hosts.
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The gateways that it is bound to, each as "namespace/name" or [`MESH`].
    #[must_use]
    pub fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// How well it names a host: 0 by its whole name, more by an ever shorter wildcard.
    fn distance(&self, name: &str) -> Option<usize> {
        self.hosts
            .iter()
            .filter(|own| host::covers(own, name))
            .map(|own| if own == name { 0 } else { usize::MAX - own.len() })
            .min()
    }

    /// Whether the caller's proxy sees it.
    fn is_visible(&self, request: &Request) -> Option<bool> {
        if request.is_at_gateway() {
            return self.exported.is_none().then_some(true);
        }
        self.exported.as_ref().map_or(Some(true), |names| request.namespace.test(|own| names.contains(own)))
    }

    /// Private to one namespace, to some, public: so istiod tries them.
    fn class(&self) -> u8 {
        match &self.exported {
            Some(names) if *names == [self.namespace.clone()] => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        let class = self.class().cmp(&other.class());
        if class != Ordering::Equal {
            return Some(class);
        }
        let (own, its) = (self.created.as_ref()?, other.created.as_ref()?);
        let name =
            |one: &Self| one.name.split_once('/').map(|(namespace, name)| (name.to_owned(), namespace.to_owned()));
        Some(own.cmp(its).then_with(|| name(self).cmp(&name(other))))
    }

    /// What its HTTP routes say of a request.
    pub(super) fn http(&self, request: &Request) -> Tried {
        let mut tried = Tried { ways: Vec::new(), decides: Some(false) };
        for (route, own) in self.http.iter().flat_map(Route::each) {
            let is_there = own.map_or(Some(true), |own| own.is_for(request));
            if is_there == Some(false) {
                continue;
            }
            // A route that is there for this caller makes the object the one that decides, whatever the request is.
            tried.decides = crate::access::any([tried.decides, is_there].into_iter());
            let meets = every([is_there, own.map_or(Some(true), |own| own.meets(request))].into_iter());
            if meets == Some(false) {
                continue;
            }
            let outcome = match &route.action {
                Some(action) => Outcome::of_route(action, &self.namespace, request),
                None => Outcome::unknown(),
            };
            let condition = own.filter(|_| meets.is_none()).map_or(Value::Null, |own| own.value.clone());
            tried.ways.push(Way { condition, outcome, by: format!("{} {}", self.name, route.by) });
            if meets == Some(true) {
                return tried;
            }
        }
        if tried.decides != Some(false) {
            tried.ways.push(Way { condition: Value::Null, outcome: Outcome::no_route(), by: self.name.clone() });
        }
        tried
    }
}

impl Route {
    /// With each of its matches, or with none.
    fn each(&self) -> impl Iterator<Item = (&Self, Option<&Match>)> {
        let open = self.matches.is_empty().then_some((self, None));
        open.into_iter().chain(self.matches.iter().map(move |own| (self, Some(own))))
    }
}

fn routes_of(route: &Value, index: usize, namespace: &str, objects: &[Value]) -> Vec<Route> {
    let read = |route: &Value, action: Option<Value>| {
        let name = route["name"].as_str().unwrap_or_default();
        Route {
            by: format!("http[{index}] {name}").trim_end().to_owned(),
            matches: list(&route["match"]).iter().map(|one| Match::new(one, namespace)).collect(),
            action,
        }
    };
    if !route["delegate"].is_object() {
        return vec![read(route, Some(route.clone()))];
    }
    let text = |field: &str| route["delegate"][field].as_str().filter(|text| !text.is_empty());
    let (of, name) = (text("namespace").unwrap_or(namespace), text("name").unwrap_or_default());
    let is_it = |object: &&Value| {
        is_virtual_service(object) && object["metadata"]["namespace"] == of && object["metadata"]["name"] == name
    };
    let Some(delegate) = objects.iter().find(is_it) else { return vec![read(route, None)] };
    let hidden = exported(delegate).is_some_and(|names| !names.iter().any(|own| own == namespace));
    if hidden || !list(&delegate["spec"]["hosts"]).is_empty() {
        return Vec::new();
    }
    // Names of the delegate are those of its own namespace.
    let full: Vec<Value> = list(&delegate["spec"]["http"]).iter().map(|own| with_full_names(own, of)).collect();
    let root = with_full_names(route, namespace);
    delegate::merged(&root, &full).iter().map(|merged| read(merged, Some(merged.clone()))).collect()
}

/// Hosts and gateways of a route by their whole names.
fn with_full_names(route: &Value, namespace: &str) -> Value {
    let mut route = route.clone();
    for field in ["route", "mirrors"] {
        for to in route[field].as_array_mut().into_iter().flatten() {
            name_in_full(&mut to["destination"], namespace);
        }
    }
    if route["mirror"].is_object() {
        name_in_full(&mut route["mirror"], namespace);
    }
    for own in route["match"].as_array_mut().into_iter().flatten() {
        let gateways = matching::gateways(&own["gateways"], namespace);
        if !gateways.is_empty() {
            own["gateways"] = gateways.into();
        }
    }
    route
}

fn name_in_full(to: &mut Value, namespace: &str) {
    if let Some(name) = to["host"].as_str() {
        to["host"] = host::full(name, namespace).into();
    }
}

/// Those that may decide of a request, in the order in which istiod tries them; with `None` for one that the caller may
/// not see. `Err` says why the order cannot be told.
pub(super) fn candidates<'a>(
    services: &'a [VirtualService],
    request: &Request,
) -> Result<Vec<(&'a VirtualService, Option<bool>)>, String> {
    let bound = services.iter().filter(|service| service.gateways.contains(&request.gateway));
    let seen = bound.filter_map(|service| {
        let distance = service.distance(&request.host)?;
        let visible = service.is_visible(request);
        (visible != Some(false)).then_some((distance, service, visible))
    });
    let seen: Vec<_> = seen.collect();
    let nearest = seen.iter().map(|(distance, ..)| *distance).min().unwrap_or_default();
    if seen.len() > 1 && seen.iter().any(|(_, _, visible)| visible.is_none()) {
        return Err("which VirtualServices the caller sees depends on its namespace".to_owned());
    }
    let mut nearest: Vec<_> = seen
        .into_iter()
        .filter(|(distance, ..)| *distance == nearest)
        .map(|(_, service, visible)| (service, visible))
        .collect();
    if request.is_at_gateway() && nearest.len() > 1 {
        return Err(format!("{} share the host at {}", names(&nearest), request.gateway));
    }
    for (index, (one, _)) in nearest.iter().enumerate() {
        if nearest[index + 1..].iter().any(|(other, _)| one.order(other).is_none()) {
            return Err(format!("{} name the host, and which is older is not known", names(&nearest)));
        }
    }
    nearest.sort_by(|(one, _), (other, _)| one.order(other).unwrap_or(Ordering::Equal));
    // Among wildcards only the first is asked.
    if nearest.first().is_some_and(|(first, _)| first.distance(&request.host) != Some(0)) {
        nearest.truncate(1);
    }
    Ok(nearest)
}

fn names(services: &[(&VirtualService, Option<bool>)]) -> String {
    services.iter().map(|(service, _)| service.name.as_str()).collect::<Vec<_>>().join(" and ")
}

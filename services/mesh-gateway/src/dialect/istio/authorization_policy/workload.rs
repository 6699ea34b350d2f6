//! What a step must know of the workloads that a policy selects: on which ports they take HTTP, and whether another
//! ALLOW policy selects them. Read from the pods, Services, Sidecars and policies that a plan is given.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ALL_AT_ONCE, action, compose::Workload, is_dry_run};
use crate::{
    dialect::{Need, Question, Unsupported},
    object,
};

/// Where policies for the whole mesh lie, unless the mesh was set up otherwise.
const ROOT_NAMESPACE: &str = "istio-system";
/// Begin the name of a port, or are its `appProtocol`.
const HTTP: [&str; 6] = ["http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws"];
const OTHER: [&str; 8] = ["tcp", "tls", "https", "mongo", "mysql", "redis", "udp", "kubernetes.io/wss"];

pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    let namespace = &question.target.namespace;
    vec![
        Need::all(&question.target.api_version, "AuthorizationPolicy"),
        Need::within("v1", "Pod", namespace),
        Need::within("v1", "Service", namespace),
        Need::within("networking.istio.io/v1", "Sidecar", namespace),
        Need::within("networking.istio.io/v1", "WorkloadEntry", namespace),
    ]
}

/// Reads it for the workloads that `spec` selects.
pub(super) fn read(question: &Question<'_>, spec: &Value) -> Result<Workload, Unsupported> {
    let namespace = question.target.namespace.as_str();
    if namespace == ROOT_NAMESPACE || ["targetRef", "targetRefs"].iter().any(|field| !spec[*field].is_null()) {
        return Err(unknown("the policy is not about workloads of its own namespace"));
    }
    let selector = &spec["selector"]["matchLabels"];
    let of_kind = |kind: &'static str| {
        let objects = question.neighbours.iter().filter(move |object| object["kind"] == kind);
        objects.filter(move |object| object["metadata"]["namespace"] == namespace)
    };
    if of_kind("WorkloadEntry").any(|entry| is_selected(&entry["spec"]["labels"], selector)) {
        return Err(unknown("the policy selects a WorkloadEntry"));
    }
    let pods: Vec<_> = of_kind("Pod").filter(|pod| is_selected(labels(pod), selector)).collect();
    if pods.is_empty() {
        return Err(unknown("the policy selects no pod now"));
    }
    let mut ports = BTreeMap::new();
    for pod in &pods {
        let sidecar = of_kind("Sidecar").find(|sidecar| {
            let selects = &sidecar["spec"]["workloadSelector"]["labels"];
            sidecar["spec"]["ingress"].is_array() && is_selected(labels(pod), selects)
        });
        match sidecar {
            Some(sidecar) => of_sidecar(sidecar, &mut ports)?,
            None => {
                let selects = |service: &&Value| {
                    let selector = &service["spec"]["selector"];
                    selector.as_object().is_some_and(|map| !map.is_empty()) && is_selected(labels(pod), selector)
                };
                for service in of_kind("Service").filter(selects) {
                    of_service(service, pod, &mut ports)?;
                }
            }
        }
    }
    let http: Vec<_> = ports.iter().filter(|(_, is_http)| **is_http).map(|(port, _)| port.to_string()).collect();
    if http.is_empty() {
        return Err(unknown("its workloads have no port that is declared to take HTTP"));
    }
    Ok(Workload { http, is_alone: is_alone(question, &pods)? })
}

fn unknown(why: &str) -> Unsupported {
    Unsupported::new(
        format!("{why}, so it cannot be told requests, which have an id, from connections, which have none"),
        format!("INSTANCE, or {ALL_AT_ONCE}"),
    )
}

fn labels(object: &Value) -> &Value {
    &object["metadata"]["labels"]
}

/// Whether labels carry all that a selector asks for; an empty one selects all.
fn is_selected(labels: &Value, selector: &Value) -> bool {
    selector.as_object().is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

fn of_sidecar(sidecar: &Value, ports: &mut BTreeMap<u64, bool>) -> Result<(), Unsupported> {
    for listener in sidecar["spec"]["ingress"].as_array().into_iter().flatten() {
        let protocol = listener["port"]["protocol"].as_str().unwrap_or_default().to_lowercase();
        let name = object::full_name(sidecar);
        add(ports, &listener["port"]["number"], is_http(&protocol), || format!("Sidecar {name}"))?;
    }
    Ok(())
}

fn of_service(service: &Value, pod: &Value, ports: &mut BTreeMap<u64, bool>) -> Result<(), Unsupported> {
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        if port["protocol"] == "UDP" {
            continue;
        }
        let said = port["appProtocol"].as_str().or_else(|| port["name"].as_str()).unwrap_or_default();
        let number = match &port["targetPort"] {
            Value::Null => &port["port"],
            Value::String(name) => named(pod, name),
            number => number,
        };
        let name = object::full_name(service);
        add(ports, number, is_http(said), || format!("Service {name}"))?;
    }
    Ok(())
}

fn named<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.find(|port| port["name"] == name).map_or(&Value::Null, |port| &port["containerPort"])
}

/// Whether what a port is called says that it takes HTTP; `None` if it says nothing, and the proxy looks at the bytes.
fn is_http(said: &str) -> Option<bool> {
    let is_one_of = |known: &[&str]| {
        known
            .iter()
            .any(|protocol| said == *protocol || said.strip_prefix(protocol).is_some_and(|rest| rest.starts_with('-')))
    };
    match (is_one_of(&HTTP), is_one_of(&OTHER)) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn add(
    ports: &mut BTreeMap<u64, bool>,
    number: &Value,
    is_http: Option<bool>,
    source: impl Fn() -> String,
) -> Result<(), Unsupported> {
    let Some(number) = number.as_u64() else {
        return Err(unknown(&format!("{} has a port whose number is not known", source())));
    };
    match (is_http, ports.get(&number)) {
        (None, _) => Err(unknown(&format!("port {number} of {} does not say its protocol", source()))),
        (Some(this), Some(that)) if this != *that => {
            Err(unknown(&format!("port {number} of {} is said to be HTTP and not to be", source())))
        }
        (Some(this), _) => {
            ports.insert(number, this);
            Ok(())
        }
    }
}

/// Whether no other ALLOW policy selects any of the pods. One that selects some of them only is refused.
fn is_alone(question: &Question<'_>, pods: &[&Value]) -> Result<bool, Unsupported> {
    let target = question.target;
    let others = question.neighbours.iter().filter(|other| {
        let namespace = other["metadata"]["namespace"].as_str().unwrap_or_default();
        other["kind"] == "AuthorizationPolicy"
            && [target.namespace.as_str(), ROOT_NAMESPACE].contains(&namespace)
            && !object::is_of(other, target)
            && action(object::spec(other)) == "ALLOW"
            && !is_dry_run(other)
            && ["targetRef", "targetRefs"].iter().all(|field| other["spec"][*field].is_null())
    });
    let others: Vec<_> = others.collect();
    let selects = |other: &&&Value, pod: &Value| is_selected(labels(pod), &other["spec"]["selector"]["matchLabels"]);
    let covered = pods.iter().filter(|pod| others.iter().any(|other| selects(&other, pod))).count();
    match covered {
        0 => Ok(true),
        all if all == pods.len() => Ok(false),
        some => Err(Unsupported::new(
            format!(
                "other ALLOW policies select {some} of its {} pods, and for the others it is the only one",
                pods.len()
            ),
            format!("select pods that are alike, or {ALL_AT_ONCE}"),
        )),
    }
}

//! The instances of a service, on a real API server.

use meshward_chassis::auth::Role;
use meshward_local::stack::NAMESPACE;
use meshward_proto::{gateway::v1 as pb, types::v1::ErrorReason as Reason};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    scenarios::gateway_without_rights,
    world::{Gateway, World, authorized, refused},
};

const SERVICE: &str = "ledger";

fn named(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let api_version = if kind == "WorkloadEntry" { "networking.istio.io/v1" } else { "v1" };
    json!({"apiVersion": api_version, "kind": kind, "spec": spec,
           "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}})
}

fn node(name: &str, zone: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
           "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}})
}

fn service(name: &str, selector: &Value) -> Value {
    named("Service", name, &json!({}), &json!({"selector": selector, "ports": [{"port": 80}]}))
}

/// A pod that nothing runs, with a status as a kubelet would write it.
async fn pod(world: &World, name: &str, cohort: &str, node: &str, (phase, ready): (&str, &str)) -> Value {
    let labels = json!({"app": SERVICE, "meshward.io/cohort": cohort});
    let containers =
        json!([{"name": "app", "image": "none"}, {"name": "istio-proxy", "image": "istio/proxyv2:1.27.1"}]);
    let pod = named("Pod", name, &labels, &json!({"nodeName": node, "containers": containers}));
    world.apply_as("kubectl", &pod).await;
    let mut status = named("Pod", name, &labels, &Value::Null);
    status["status"] = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
    status.as_object_mut().expect("an object").remove("spec");
    world.apply_status(&status).await;
    pod
}

async fn page(
    gateway: &Gateway,
    service: &str,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListInstancesResponse, Status> {
    let request = pb::ListInstancesRequest {
        cluster: String::new(),
        namespace: NAMESPACE.to_owned(),
        service: service.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    Ok(gateway.client.clone().list_instances(gateway.request(request)).await?.into_inner())
}

pub async fn a_service_is_listed_page_by_page(world: &World) {
    const RUNNING: (&str, &str) = ("Running", "True");
    let selector = json!({"app": SERVICE});
    let mut made = vec![node("node-a", "zone-1"), node("node-b", "zone-2"), service(SERVICE, &selector)];
    for name in ["ledger-vm-1", "ledger-vm-2"] {
        let spec = json!({"address": "192.0.2.7", "labels": {"app": SERVICE}, "locality": "r/zone-9"});
        made.push(named("WorkloadEntry", name, &json!({}), &spec));
    }
    let other = json!({"address": "192.0.2.8", "labels": {"app": "other"}});
    made.push(named("WorkloadEntry", "ledger-other", &json!({}), &other));
    for object in &made {
        world.apply_as("kubectl", object).await;
    }
    made.push(pod(world, "ledger-0", "stable", "node-a", RUNNING).await);
    made.push(pod(world, "ledger-1", "canary", "node-b", RUNNING).await);
    made.push(pod(world, "ledger-2", "stable", "node-b", ("Running", "False")).await);
    made.push(pod(world, "ledger-3", "stable", "node-b", ("Succeeded", "False")).await);

    let whole = page(&world.gateway, SERVICE, 0, "").await.expect("a page");
    let rows: Vec<_> = whole.instances.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "ledger-0 node-a zone-1 ready stable 1.27.1 meshed",
            "ledger-1 node-b zone-2 ready canary 1.27.1 meshed",
            "ledger-2 node-b zone-2 not stable 1.27.1 meshed",
            "ledger-vm-1  zone-9 ready   outside",
            "ledger-vm-2  zone-9 ready   outside",
        ]
    );
    assert_eq!(whole.next_page_token, "");
    for size in 1..=5 {
        let (mut paged, mut token) = (Vec::new(), String::new());
        loop {
            let next = page(&world.gateway, SERVICE, size, &token).await.expect("a page");
            assert!(next.instances.len() <= usize::try_from(size).expect("a size"));
            paged.extend(next.instances);
            token = next.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, whole.instances, "pages of {size}");
    }

    blind_to_nodes(world, &whole).await;
    for object in &made {
        world.remove(object).await;
    }
}

fn row(instance: &pb::Instance) -> String {
    let pb::Instance { pod, node, zone, cohort, proxy_version, .. } = instance;
    let ready = if instance.ready { "ready" } else { "not" };
    let meshed = if instance.meshed { "meshed" } else { "outside" };
    format!("{pod} {node} {zone} {ready} {cohort} {proxy_version} {meshed}")
}

/// Who may not read nodes sees no zones; who may not read pods is told so.
async fn blind_to_nodes(world: &World, whole: &pb::ListInstancesResponse) {
    let gateway = gateway_without_rights(world, "blind").await;
    let (metadata, _) = refused(page(&gateway, SERVICE, 0, "").await, Reason::ClusterForbidden);
    assert_eq!((&*metadata["verb"], &*metadata["resource"]), ("list", "services"));
    let rbac = |kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                                "metadata": {"name": "blind", "namespace": NAMESPACE}});
        object.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        object
    };
    let resources = json!(["services", "pods", "workloadentries"]);
    let rule = json!({"apiGroups": ["", "networking.istio.io"], "resources": resources, "verbs": ["list"]});
    let subject = json!({"kind": "ServiceAccount", "name": "blind", "namespace": NAMESPACE});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "blind"});
    world.apply_as("kubectl", &rbac("Role", json!({"rules": [rule]}))).await;
    world.apply_as("kubectl", &rbac("RoleBinding", json!({"subjects": [subject], "roleRef": role}))).await;
    // The API server's own view of roles follows its store within moments.
    let deadline = std::time::Instant::now() + super::world::PATIENCE;
    let seen = loop {
        match page(&gateway, SERVICE, 0, "").await {
            Ok(seen) => break seen,
            Err(status) => assert!(std::time::Instant::now() < deadline, "{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(seen.instances.len(), whole.instances.len());
    assert!(seen.instances[0].zone.is_empty() && seen.instances[0].node == "node-a", "{:?}", seen.instances[0]);
}

pub async fn what_cannot_be_listed_is_told(world: &World) {
    let gateway = &world.gateway;
    let (_, message) = refused(page(gateway, "nowhere", 0, "").await, Reason::ResourceNotFound);
    assert!(message.contains("shop/nowhere"), "{message}");
    let unselective = service("unselective", &Value::Null);
    world.apply_as("kubectl", &unselective).await;
    assert_eq!(page(gateway, "unselective", 0, "").await.expect("a page").instances, []);
    world.remove(&unselective).await;
    for (service, size, token) in [
        ("", 0, ""),
        ("../x", 0, ""),
        ("checkout", 501, ""),
        ("checkout", -1, ""),
        ("checkout", 0, "pods/shop/catalog/x"),
        ("checkout", 0, "pods/shop/checkout/nonsense"),
    ] {
        refused(page(gateway, service, size, token).await, Reason::FieldInvalid);
    }
    let request = pb::ListInstancesRequest {
        namespace: NAMESPACE.to_owned(),
        service: "checkout".to_owned(),
        ..pb::ListInstancesRequest::default()
    };
    let stranger = authorized(request, &world.token_within(Role::Viewer, "elsewhere"));
    refused(gateway.client.clone().list_instances(stranger).await, Reason::RoleMissing);
}

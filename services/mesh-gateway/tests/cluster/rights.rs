//! Exactly the rights that the gateway says it needs: they are enough, each is used, and what is missing is named.

use std::collections::BTreeSet;

use http::Method;
use meshward_local::stack::ApiServer;
use meshward_mesh_gateway::rights::{Right, rights};
use meshward_proto::{
    gateway::v1 as pb,
    types::v1::{ErrorReason as Reason, Mechanism},
};
use serde_json::{Value, json};

use super::{
    alone::{Alone, account, allow, apply_as, ask, eventually, kubeconfig},
    contract::{ACCOUNT, Real, install_admission},
    drift, life,
    world::{Gateway, intent, refused},
};

const CORE: &str = "/api/v1/namespaces/shop";
const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
/// Reading is one right to whoever grants it, though some things are only listed.
const SELDOM: &str = "get";
/// What the validator has listed that is no policy: version, kind and resource.
const REFERRED_TO: [(&str, &str, &str); 8] = [
    ("v1", "Namespace", "namespaces"),
    ("v1", "Node", "nodes"),
    ("v1", "Pod", "pods"),
    ("v1", "Secret", "secrets"),
    ("v1", "Service", "services"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("gateway.networking.k8s.io/v1", "Gateway", "gateways"),
    ("gateway.networking.k8s.io/v1", "GatewayClass", "gatewayclasses"),
];
const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways";

/// A verb, a group and a resource.
type Use = (String, String, String);

fn rules(leave_out: Option<(&str, &str)>) -> Value {
    let mut rules = Vec::new();
    for right in rights() {
        for resource in &right.resources {
            let verbs = right.verbs.iter().filter(|verb| leave_out != Some((verb, resource)));
            rules
                .push(json!({"apiGroups": [right.group], "resources": [resource], "verbs": verbs.collect::<Vec<_>>()}));
        }
    }
    rules.into()
}

/// What the account has asked for, and how it was answered, as the audit log tells it.
fn asked(server: &ApiServer, is_wanted: impl Fn(u64) -> bool) -> BTreeSet<Use> {
    let log = std::fs::read_to_string(server.audit_log()).expect("an audit log");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = lines.filter(|entry| entry["user"]["username"] == format!("system:serviceaccount:shop:{ACCOUNT}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let wanted = ours.filter(|entry| is_wanted(entry["responseStatus"]["code"].as_u64().unwrap_or_default()));
    let of = |entry: Value| {
        // An apply that makes its object needs the right to create besides the one to patch.
        let is_new = entry["responseStatus"]["code"] == 201;
        let verb = if is_new { "create".to_owned() } else { text(&entry["verb"]) };
        let object = &entry["objectRef"];
        (verb, text(&object["apiGroup"]), text(&object["resource"]))
    };
    wanted.map(of).filter(|(.., resource)| !resource.is_empty()).collect()
}

pub async fn they_are_enough_and_each_is_used(world: &Alone, server: &ApiServer) {
    let real = Real::with(world, server, &rules(None)).await;
    install_admission(&real).await;
    life::every_adapter_keeps_to_it(&real, 1).await;
    drift::what_others_do_is_told_and_what_we_do_is_not(world, server, real.kubeconfig()).await;
    let gateway = world.gateway(real.kubeconfig()).await;
    pods_are_divided_and_listed(&gateway, server).await;
    definitions_are_read(&gateway).await;
    what_policies_refer_to_is_listed(&gateway, server).await;
    // A watch begins when its list has been answered.
    let watched = || async {
        let used = asked(server, |code| code < 400);
        let is_watched = |resource: &str| used.iter().any(|(verb, _, of)| verb == "watch" && of == resource);
        REFERRED_TO.iter().all(|(.., resource)| is_watched(resource)).then_some(())
    };
    eventually("all that is listed is followed", watched).await;

    let denied = asked(server, |code| code == 403);
    assert!(denied.is_empty(), "not allowed: {denied:?}");
    // The policies are all treated alike; of the rest, each must have been of use.
    let used = asked(server, |code| code < 400);
    let others =
        rights().into_iter().filter(|right| !right.verbs.contains(&"delete") || right.resources == ["configmaps"]);
    for Right { group, resources, verbs, .. } in others {
        for (resource, verb) in resources.iter().flat_map(|resource| verbs.iter().map(move |verb| (resource, *verb))) {
            let is_used = used.contains(&(verb.to_owned(), group.to_owned(), resource.clone()));
            assert!(is_used || verb == SELDOM, "{verb} {resource} was never needed");
        }
    }
    println!("{} rights were used", used.len());
    gateway.stop().await;
}

/// By pods, with an admission policy for new ones, and the list of a service's instances.
async fn pods_are_divided_and_listed(gateway: &Gateway, server: &ApiServer) {
    let policy = |path: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": "rights", "namespace": "shop"},
               "spec": {"selector": {"matchLabels": {"app": "rights"}}, "action": "ALLOW",
                        "rules": [{"to": [{"operation": {"paths": [path]}}]}]}})
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "rights", "namespace": "shop"},
                         "spec": {"selector": {"app": "rights"}, "ports": [{"port": 80}]}});
    apply_as(server, "kubectl", &format!("{CORE}/services/rights"), &service).await;
    for name in ["rights-0", "rights-1"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
                         "metadata": {"name": name, "namespace": "shop", "labels": {"app": "rights"}},
                         "spec": {"nodeName": "a", "containers": [{"name": "app", "image": "none"}]}});
        apply_as(server, "kubectl", &format!("{CORE}/pods/{name}"), &pod).await;
    }
    apply_as(server, "kubectl", &format!("{POLICIES}/rights"), &policy("/old")).await;
    let canary = policy("/new");
    let (plan, baseline) = gateway.plan_by(Mechanism::Instance, &canary, &[5000, 10_000]).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    gateway.apply_phase(&at(1, 5000), 9).await.expect("half of the pods");
    let list = pb::ListInstancesRequest { namespace: "shop".into(), service: "rights".into(), ..Default::default() };
    let listed = gateway.client.clone().list_instances(gateway.request(list)).await.expect("a list").into_inner();
    let cohorts: BTreeSet<_> = listed.instances.iter().map(|instance| &*instance.cohort).collect();
    assert_eq!(cohorts, BTreeSet::from(["canary", "stable"]), "{listed:?}");
    gateway.restore_phase(&at(2, 0), 9).await.expect("back");
}

/// Each of them arrives, and of a Secret no more than its metadata.
async fn what_policies_refer_to_is_listed(gateway: &Gateway, server: &ApiServer) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rights", "namespace": "shop"},
                        "stringData": {"key": "not to be read"}});
    apply_as(server, "kubectl", &format!("{CORE}/secrets/rights"), &secret).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rights"}});
    apply_as(server, "kubectl", &format!("{CORE}/serviceaccounts/rights"), &account).await;
    let gateway_api = |kind: &str, spec: Value| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
               "metadata": {"name": "rights"}, "spec": spec})
    };
    let class = gateway_api("GatewayClass", json!({"controllerName": "a.example/b"}));
    apply_as(server, "kubectl", &format!("{CLASSES}/rights"), &class).await;
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    let entry = gateway_api("Gateway", json!({"gatewayClassName": "rights", "listeners": listeners}));
    apply_as(server, "kubectl", &format!("{GATEWAYS}/rights"), &entry).await;
    for (api_version, kind, resource) in REFERRED_TO {
        let page = list(gateway, api_version, kind).await.unwrap_or_else(|status| panic!("{kind}: {status:?}"));
        // Those that were there before are not made for this.
        let is_made = !["Namespace", "Node", "Pod"].contains(&kind);
        let is_there = page.objects_json.iter().any(|object| object.contains(r#""name":"rights""#));
        assert!(page.served && is_there == is_made, "{resource}: {page:?}");
        assert!(!page.objects_json.iter().any(|object| object.contains(r#""data":"#)), "{resource} with contents");
    }
}

async fn list(gateway: &Gateway, api_version: &str, kind: &str) -> Result<pb::ListObjectsResponse, tonic::Status> {
    let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
    let ask = pb::ListObjectsRequest { api_version, kind, page_size: 500, ..Default::default() };
    Ok(gateway.client.clone().list_objects(gateway.request(ask)).await?.into_inner())
}

/// Those by which the cluster checks policies, page by page.
async fn definitions_are_read(gateway: &Gateway) {
    let mut names = Vec::new();
    let mut ask = pb::ListObjectsRequest {
        api_version: "apiextensions.k8s.io/v1".into(),
        kind: "CustomResourceDefinition".into(),
        page_size: 5,
        ..Default::default()
    };
    loop {
        let page =
            gateway.client.clone().list_objects(gateway.request(ask.clone())).await.expect("a page").into_inner();
        let definitions = page.objects_json.iter().map(|text| serde_json::from_str::<Value>(text).expect("it is JSON"));
        names.extend(definitions.map(|definition| definition["metadata"]["name"].as_str().expect("a name").to_owned()));
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
    }
    assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    for name in ["virtualservices.networking.istio.io", "servers.policy.linkerd.io"] {
        assert!(names.iter().any(|other| other == name), "{name} is not among {names:?}");
    }
}

/// One right is taken away at a time: the refusal says which.
pub async fn a_missing_one_is_named(world: &Alone, server: &ApiServer) {
    let token = account(server, "lacking").await;
    let file = world.file("lacking.kubeconfig", &kubeconfig(server, None, Some(&token)).to_string());
    for (verb, resource, kind, api_version) in [
        ("get", "virtualservices", "VirtualService", "networking.istio.io/v1"),
        ("patch", "virtualservices", "VirtualService", "networking.istio.io/v1"),
        ("get", "servers", "Server", "policy.linkerd.io/v1beta3"),
        ("patch", "servers", "Server", "policy.linkerd.io/v1beta3"),
        ("create", "virtualservices", "VirtualService", "networking.istio.io/v1"),
    ] {
        allow(server, "lacking", &rules(Some((verb, resource)))).await;
        let gateway = world.gateway(&file).await;
        let spec = |port: u16, host: &str| match kind {
            "Server" => json!({"podSelector": {"matchLabels": {"app": "a"}}, "port": port, "proxyProtocol": "HTTP/2"}),
            _ => json!({"hosts": ["lacking"], "http": [{"route": [{"destination": {"host": host}}]}]}),
        };
        let name = format!("lacking-{verb}");
        let canary = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec(80, "b")});
        let plural_path = format!("/apis/{api_version}/namespaces/shop/{resource}");
        if verb != "create" {
            let mut before = canary.clone();
            before["spec"] = spec(81, "a");
            apply_as(server, "kubectl", &format!("{plural_path}/{name}"), &before).await;
        }
        let tried = || async {
            let (plan, baseline) = match gateway.plan(&canary, &[10_000]).await {
                Ok(planned) => planned,
                Err(status) => return named(&status, verb).then_some(status),
            };
            let status = gateway.apply(&intent(&canary, &plan, &baseline, 1, 10_000)).await.err()?;
            named(&status, verb).then_some(status)
        };
        let status = eventually(&format!("{verb} {resource} is missed"), tried).await;
        let (metadata, message) = refused::<()>(Err(status), Reason::ClusterForbidden);
        let group = api_version.split('/').next().expect("a group");
        assert_eq!((&*metadata["verb"], &*metadata["resource"]), (verb, &*format!("{resource}.{group}")), "{message}");
        gateway.stop().await;
    }
    let _ = ask(server, Method::DELETE, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/lacking", &Value::Null)
        .await;
}

/// What cannot be listed is told to whoever lists for a validation, who then knows what is lacking.
pub async fn a_missing_list_is_named(world: &Alone, server: &ApiServer) {
    for (api_version, kind, resource) in REFERRED_TO {
        // An account each: it may do nothing at all until the API server knows its role.
        let name = format!("blind-to-{resource}");
        let token = account(server, &name).await;
        allow(server, &name, &rules(Some(("list", resource)))).await;
        let file = world.file("blind.kubeconfig", &kubeconfig(server, None, Some(&token)).to_string());
        let gateway = world.gateway(&file).await;
        let other = if kind == "Pod" { "Service" } else { "Pod" };
        let others_are_listed = || async { list(&gateway, "v1", other).await.ok() };
        eventually(&format!("{name} has its rights"), others_are_listed).await;
        let (metadata, message) = refused(list(&gateway, api_version, kind).await, Reason::ClusterForbidden);
        let group = api_version.split_once('/').map_or_else(String::new, |(group, _)| format!(".{group}"));
        assert_eq!((&*metadata["verb"], &*metadata["resource"]), ("list", &*format!("{resource}{group}")), "{message}");
        gateway.stop().await;
    }
}

/// The API server's own view of the roles may be behind: until it has followed, another right is missing.
fn named(status: &tonic::Status, verb: &str) -> bool {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().is_some_and(|info| info.metadata.get("verb").is_some_and(|named| named == verb))
}

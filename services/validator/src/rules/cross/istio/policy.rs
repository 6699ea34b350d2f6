//! What policies on workloads refer to: the workloads themselves, namespaces, targets; and what one alone does not do.

use std::collections::BTreeSet;

use super::gateway::shown;
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, cross::given, field::Field},
    world::{Entry, Kind, Labels, View, Workload, labels, matches},
};

/// The label of the Pods that serve a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

pub(super) fn authorization(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = attached(entry, view);
    hits.extend(no_workload(entry, view));
    for rule in entry.spec().get("rules").items() {
        for from in rule.get("from").items() {
            let source = from.get("source");
            for list in ["namespaces", "notNamespaces"] {
                hits.extend(source.get(list).items().iter().filter_map(|field| namespace(field, view)));
            }
        }
    }
    hits
}

/// What selects or names the objects that a policy is for.
pub(in super::super) fn attached(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let spec = entry.spec();
    let mut references = spec.get("targetRefs").items();
    references.extend(Some(spec.get("targetRef")).filter(Field::is_set));
    if references.is_empty() {
        return ineffective(entry, view).into_iter().collect();
    }
    references.iter().filter_map(|reference| target(entry, reference, view)).collect()
}

fn target(entry: &Entry, reference: &Field<'_>, view: &View<'_>) -> Option<Hit> {
    let (group, name) = (reference.get("group").text(), reference.get("name"));
    let kind = Kind::named(group, reference.get("kind").text())?;
    if !matches!(kind, Kind::Service | Kind::ServiceEntry | Kind::KubernetesGateway | Kind::GatewayClass) {
        return None;
    }
    let namespace = if kind.is_cluster_wide() { "" } else { entry.namespace() };
    if view.named(kind, namespace, name.text()).is_some() {
        return None;
    }
    let sure = view.absence(&[kind], "objects that policies are attached to")?;
    let message =
        format!("there is no {} {}, so the policy is for nothing", reference.get("kind").text(), quote(name.text()));
    Some(Hit::new(rule::TARGET_MISSING, name.path(), message).sure(sure).workloads("ignored", Vec::new()))
}

/// A selector on the workload of a Gateway of the Gateway API: Istio attaches there by targetRef only.
fn ineffective(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let selector = entry.spec().get("selector");
    if !selector.is_set() {
        return None;
    }
    let wanted = labels(&selector.get("matchLabels"));
    let workloads = view.selected(entry.namespace(), &wanted);
    let of_gateway =
        |workload: &&Workload<'_>| workload.labels.contains_key(GATEWAY_NAME) && matches(&wanted, &workload.labels);
    let workload = workloads.iter().find(of_gateway)?;
    let name = workload.labels.get(GATEWAY_NAME).copied().unwrap_or_default();
    let message =
        format!("the selector selects the workload of the Gateway {}, where selectors have no effect", quote(name));
    let hit = Hit::new(rule::SELECTOR_INEFFECTIVE, selector.path(), message);
    Some(
        hit.suggest(format!("use targetRefs with the Gateway {name}"))
            .workloads("ignored", vec![workload.entry.full_name()]),
    )
}

/// Whether Istio sees the requests of a workload.
fn is_in_mesh(workload: &Workload<'_>, view: &View<'_>) -> bool {
    let by_namespace = || {
        let namespace = view.named(Kind::Namespace, "", workload.entry.namespace());
        namespace.is_some_and(|namespace| {
            let own = namespace.root().get("metadata").get("labels");
            own.get("istio-injection").text() == "enabled"
        })
    };
    workload.is_ambient() || workload.is_injected().unwrap_or_else(by_namespace)
}

fn no_workload(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    if spec.get("targetRef").is_set() || spec.get("targetRefs").is_set() {
        return None;
    }
    let field = spec.get("selector");
    let selector = labels(&field.get("matchLabels"));
    let global = entry.namespace() == view.root_namespace();
    if global && !field.is_set() {
        return None;
    }
    let workloads = if global { view.all_workloads() } else { view.selected(entry.namespace(), &selector) };
    if workloads.iter().any(|workload| matches(&selector, &workload.labels) && is_in_mesh(workload, view)) {
        return None;
    }
    let sure = view.absence(&[Kind::Workload], "workloads of AuthorizationPolicies")?;
    let message = if field.is_set() {
        format!("no workload of the mesh has the labels {}, so the policy protects nothing", quote(&shown(&selector)))
    } else {
        format!(
            "the namespace {} has no workload of the mesh, so the policy protects nothing",
            quote(entry.namespace())
        )
    };
    let path = if field.is_set() {
        field.path().clone()
    } else {
        entry.root().get("metadata").get("namespace").path().clone()
    };
    Some(Hit::new(rule::POLICY_NO_WORKLOAD, &path, message).sure(sure).workloads("ignored", vec![shown(&selector)]))
}

/// A source's namespace, which may begin or end with a wildcard.
fn namespace(field: &Field<'_>, view: &View<'_>) -> Option<Hit> {
    let wanted = given(field)?;
    let fits = |name: &str| match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name.eq_ignore_ascii_case(wanted),
    };
    if view.all(Kind::Namespace).iter().any(|namespace| fits(&namespace.head.name)) {
        return None;
    }
    let sure = view.absence(&[Kind::Namespace], "namespaces that AuthorizationPolicies name")?;
    let message = format!("there is no namespace {}, so no request comes from it", quote(wanted));
    Some(Hit::new(rule::SOURCE_NAMESPACE_MISSING, field.path(), message).sure(sure))
}

pub(in super::super) fn request_authentication(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = attached(entry, view);
    hits.extend(tokenless(entry, view));
    hits
}

/// Requests without a token pass, unless an AuthorizationPolicy asks for what only a token gives.
fn tokenless(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    if spec.get("jwtRules").items().is_empty() {
        return None;
    }
    let own = labels(&spec.get("selector").get("matchLabels"));
    let root = view.root_namespace();
    let mut policies = view.all_in(Kind::AuthorizationPolicy, entry.namespace());
    if entry.namespace() == root {
        policies = view.all(Kind::AuthorizationPolicy);
    } else {
        policies.extend(view.all_in(Kind::AuthorizationPolicy, root));
    }
    let asks = |policy: &&Entry| {
        let theirs = labels(&policy.spec().get("selector").get("matchLabels"));
        (matches(&theirs, &own) || matches(&own, &theirs) || policy.spec().get("targetRefs").is_set())
            && asks_for_token(policy)
    };
    if policies.iter().any(asks) {
        return None;
    }
    let sure = view.absence(&[Kind::AuthorizationPolicy], "whether an AuthorizationPolicy asks for tokens")?;
    let message = "a request with a wrong token is refused, but one without any token is let in: no AuthorizationPolicy asks for one";
    let hit = Hit::new(rule::TOKENLESS, spec.get("jwtRules").path(), message).sure(sure);
    let hit = hit.suggest("add an AuthorizationPolicy that allows requestPrincipals: [\"*\"] only");
    Some(hit.workloads("allowed", vec![format!("{}/{}", entry.namespace(), shown(&own))]))
}

fn asks_for_token(policy: &Entry) -> bool {
    policy.spec().get("rules").items().iter().any(|rule| {
        let sources = rule.get("from").items();
        let of_source = |from: &Field<'_>| {
            let source = from.get("source");
            ["requestPrincipals", "notRequestPrincipals"].iter().any(|name| !source.get(name).items().is_empty())
        };
        let of_key = |when: &Field<'_>| when.get("key").text().starts_with("request.auth.");
        sources.iter().any(of_source) || rule.get("when").items().iter().any(of_key)
    })
}

/// istiod's own Deployment: which addresses it fetches keys from.
pub(in super::super) fn istiod(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let metadata = entry.root().get("metadata");
    if entry.head.kind != "Deployment" || metadata.get("labels").get("app").text() != "istiod" {
        return Vec::new();
    }
    let blocked = Workload::of(entry).containers().iter().any(|container| {
        let mut variables = container.get("env").items().into_iter();
        variables
            .any(|one| one.get("name").text() == "BLOCKED_CIDRS_IN_JWKS_URIS" && !one.get("value").text().is_empty())
    });
    let policies = view.all(Kind::RequestAuthentication);
    if blocked || policies.is_empty() {
        return Vec::new();
    }
    let names: BTreeSet<String> = policies.iter().map(|policy| policy.full_name()).collect();
    let message = format!(
        "istiod fetches the keys of {} RequestAuthentications from any address, also inside the cluster",
        names.len()
    );
    let related =
        policies.iter().map(|policy| policy.related(policy.spec().get("jwtRules").path(), "names where keys are"));
    let hit = Hit::new(rule::JWKS_UNRESTRICTED, entry.name().path(), message).with_all(related);
    vec![hit.suggest("set BLOCKED_CIDRS_IN_JWKS_URIS on istiod")]
}

/// The workloads of a namespace, or of the mesh, that a policy's selector selects.
pub(super) fn selected<'w>(entry: &Entry, view: &View<'w>) -> Vec<Workload<'w>> {
    let wanted: Labels<'_> = labels(&entry.spec().get("selector").get("matchLabels"));
    let root = view.root_namespace();
    let mut workloads =
        if entry.namespace() == root { view.all_workloads() } else { view.selected(entry.namespace(), &wanted) };
    workloads.retain(|workload| matches(&wanted, &workload.labels));
    workloads
}

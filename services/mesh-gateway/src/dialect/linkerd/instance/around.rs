//! What hangs on the Servers that a change concerns, and what stands in the way of a second world.

use std::collections::BTreeSet;

use meshward_model::RelatedBaseline;
use serde_json::Value;

use super::super::{
    kind::{Kind, POLICY},
    need,
    object::{
        About, Parent, about, asks_for, kind_of, list, name, namespace, parents, refers, selects, target_of, twin_name,
    },
    route::is_catch_all,
    twins::{is_chosen, may_overlap, names_server, pod_labels},
};
use crate::{
    dialect::{Need, Question, Unsupported, steps::ALL_AT_ONCE},
    object::{self, spec},
};

/// What a plan by pods builds on.
pub(super) struct Around {
    /// The Servers, by name.
    pub(super) servers: Vec<String>,
    /// Everything but the target: the Servers, which are changed, and what hangs on them, which is copied.
    pub(super) related: Vec<RelatedBaseline>,
    pub(super) not_covered: Vec<String>,
    /// How many pods there are to share: of the Server that has fewest.
    pub(super) pods: usize,
}

/// The objects to ask for, none of them twice. Authentications and who asks for them may be in other namespaces.
pub(in super::super) fn pod_needs(question: &Question<'_>, kind: Kind) -> Vec<Need> {
    let mut needs: Vec<_> = super::within(question).collect();
    if kind.is_authentication() {
        let policies = need(Kind::AuthorizationPolicy, None);
        needs.retain(|need| need.kind != policies.kind);
        needs.push(policies);
    }
    if kind == Kind::AuthorizationPolicy {
        needs.extend([need(Kind::MeshTls, None), need(Kind::Network, None)]);
    }
    needs
}

fn refuse<T>(reason: impl Into<String>, would_work: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported::new(reason, would_work))
}

/// The target in one version, and the objects around it.
struct View<'a> {
    question: &'a Question<'a>,
    kind: Kind,
    /// All others of the namespace.
    others: Vec<&'a Value>,
}

pub(super) fn look(question: &Question<'_>, kind: Kind) -> Result<Around, Unsupported> {
    let is_other = |object: &&Value| !object::is_of(object, question.target);
    let here = |object: &&Value| namespace(object) == question.target.namespace;
    let others = question.neighbours.iter().filter(is_other).filter(here).collect();
    let view = View { question, kind, others };
    let names = view.names_of_servers()?;
    let servers = view.servers(&names)?;
    for server in &servers {
        view.check_pods(server, &servers)?;
    }
    let hanging = view.hanging(&servers);
    view.check_kind(&servers, &hanging)?;
    view.check_names(&servers, &hanging)?;
    let pods = view.fewest_pods(&servers);
    if pods < 2 {
        return refuse(
            format!("the Servers {names:?} have {pods} pods, and one pod cannot be both stable and canary"),
            format!("run at least two, or {ALL_AT_ONCE}"),
        );
    }
    let related = servers.iter().filter(|server| is_other(server)).chain(&hanging).map(|object| RelatedBaseline {
        target: target_of(object, &question.target.cluster),
        object: Some((*object).clone()),
    });
    let not_covered = view.not_covered(&hanging);
    Ok(Around { related: related.collect(), not_covered, pods, servers: names.into_iter().collect() })
}

impl<'a> View<'a> {
    /// The new version; the live one if the new one is that the object is gone.
    fn version(&self) -> &'a Value {
        let canary = self.question.canary;
        self.question.baseline.object.as_ref().filter(|_| canary.is_null()).unwrap_or(canary)
    }

    fn target_name(&self) -> &'a str {
        &self.question.target.name
    }

    /// The Servers that a version of the target concerns.
    fn names_of_servers(&self) -> Result<BTreeSet<String>, Unsupported> {
        let stable = self.question.baseline.object.as_ref();
        let after = self.servers_of(self.kind, self.version())?;
        let before = stable.map_or(Ok(after.clone()), |stable| self.servers_of(self.kind, stable))?;
        if before != after {
            return refuse(
                "the versions are not about the same Servers, and no pod would be governed by one version alone",
                format!("release a second object for the other Server and then remove this one, or {ALL_AT_ONCE}"),
            );
        }
        if after.is_empty() {
            return refuse(
                format!("{} concerns no Server of its namespace, so there are no pods to share", self.question.target),
                "put it in place all at once (mechanism NONE, 100 %); nothing changes until something refers to it",
            );
        }
        Ok(after)
    }

    fn servers_of(&self, kind: Kind, object: &Value) -> Result<BTreeSet<String>, Unsupported> {
        let one = |name: String| BTreeSet::from([name]);
        match kind {
            Kind::Server => Ok(one(self.target_name().to_owned())),
            Kind::ServerAuthorization => Ok(self.chosen(&spec(object)["server"])),
            Kind::AuthorizationPolicy | Kind::RateLimit => match about(spec(object)) {
                About::Server(name) => Ok(one(name)),
                About::Route(kind, name) => self.servers_of_route(kind, &name),
                About::Namespace => refuse(
                    "the policy is about the whole Namespace: policies add up, so whatever a second one says, this one \
                     goes on allowing what it allows",
                    "write it as one AuthorizationPolicy for each Server; these can be exposed by pods",
                ),
                About::Other(kind) => refuse(format!("its targetRef is to {kind}, which has no pods"), ALL_AT_ONCE),
            },
            kind if kind.is_http_route() => parents(kind, spec(object), &self.question.target.namespace)
                .into_iter()
                .map(|parent| match parent {
                    Parent::Server(name) => Ok(name),
                    other => refuse(
                        format!("the route is not about Servers alone ({other:?}); whoever calls has no cohort"),
                        "ask for WEIGHT, HEADER or NAMESPACE for a route of a Service",
                    ),
                })
                .collect(),
            _ => self.servers_of_authentication(),
        }
    }

    fn chosen(&self, choice: &Value) -> BTreeSet<String> {
        if let Some(name) = choice["name"].as_str() {
            return BTreeSet::from([name.to_owned()]);
        }
        let servers = self.of_kind(Kind::Server).filter(|server| is_chosen(choice, server));
        servers.map(|server| name(server).to_owned()).collect()
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Value> {
        self.others.iter().copied().filter(move |object| kind_of(object) == Some(kind))
    }

    fn servers_of_route(&self, kind: Kind, wanted: &str) -> Result<BTreeSet<String>, Unsupported> {
        let Some(route) = self.of_kind(kind).find(|route| name(route) == wanted) else {
            return refuse(
                format!("its targetRef is to the {} {wanted}, which does not exist", kind.row().name),
                "make the route first",
            );
        };
        self.servers_of(kind, route)
    }

    /// The Servers whose policies ask for the authentication that the deployment is about.
    fn servers_of_authentication(&self) -> Result<BTreeSet<String>, Unsupported> {
        let target = self.question.target;
        let mut servers = BTreeSet::new();
        let policies = self.question.neighbours.iter().filter(|one| kind_of(one) == Some(Kind::AuthorizationPolicy));
        for policy in policies.filter(|policy| asks_for(policy, self.kind, &target.namespace, &target.name)) {
            if namespace(policy) != target.namespace {
                return refuse(
                    format!("AuthorizationPolicy {} of another namespace asks for it", object::full_name(policy)),
                    "give each namespace an authentication of its own, and release them one by one",
                );
            }
            servers.extend(self.servers_of(Kind::AuthorizationPolicy, policy)?);
        }
        Ok(servers)
    }

    /// The Servers themselves; the target in its new version.
    fn servers(&self, names: &BTreeSet<String>) -> Result<Vec<&'a Value>, Unsupported> {
        if self.kind == Kind::Server {
            return Ok(vec![self.version()]);
        }
        let find = |wanted: &String| {
            let found = self.of_kind(Kind::Server).find(|server| name(server) == wanted);
            found.ok_or_else(|| {
                Unsupported::new(
                    format!("it is about the Server {wanted}, which does not exist, so it decides nothing"),
                    "make the Server first",
                )
            })
        };
        names.iter().map(find).collect()
    }

    /// Whether the pods of a Server can be told apart by a label, and no other Server has them.
    fn check_pods(&self, server: &Value, all: &[&Value]) -> Result<(), Unsupported> {
        let own = name(server);
        let selector = |server: &'_ Value| spec(server)["podSelector"].clone();
        if !spec(server)["podSelector"].is_object() {
            return refuse(
                format!("Server {own} selects ExternalWorkloads, and Meshward labels pods"),
                format!(
                    "release a second Server for some of the ExternalWorkloads by a label of yours, or {ALL_AT_ONCE}"
                ),
            );
        }
        let stable = self.question.baseline.object.as_ref().filter(|_| self.kind == Kind::Server);
        if stable.is_some_and(|stable| selector(stable) != selector(server)) {
            return refuse(
                "the versions differ in spec.podSelector, so they have no pods to share",
                format!("leave the selector as it is and release a second Server for the other pods, or {ALL_AT_ONCE}"),
            );
        }
        if pod_labels(server).is_none() {
            return refuse(
                format!(
                    "Server {own} selects its pods by expressions, and a cohort is counted among pods with given labels"
                ),
                format!("write spec.podSelector with matchLabels, or {ALL_AT_ONCE}"),
            );
        }
        let is_in_the_way = |other: &&Value| {
            let is_one = |known: &&Value| name(known) == name(other);
            let overlaps = |version: &Value| may_overlap(version, other);
            !all.iter().any(is_one) && (overlaps(server) || stable.is_some_and(overlaps))
        };
        if let Some(other) = self.of_kind(Kind::Server).find(is_in_the_way) {
            return refuse(
                format!(
                    "Server {} selects pods of Server {own} on the same port: the older one of two wins, and the one for \
                     the canary's pods would be the youngest",
                    name(other)
                ),
                "let one Server select each port of a pod",
            );
        }
        let shares_some = |other: &&&Value| {
            let other_pods = serde_json::json!({"podSelector": selector(other), "port": spec(server)["port"]});
            selector(other) != selector(server) && may_overlap(server, &serde_json::json!({"spec": other_pods}))
        };
        match all.iter().find(shares_some) {
            Some(other) => refuse(
                format!("the Servers {own} and {} have only some of their pods in common", name(other)),
                "release the change for one Server after the other, each by an object of its own",
            ),
            None => Ok(()),
        }
    }

    fn fewest_pods(&self, servers: &[&Value]) -> usize {
        let is_pod = |one: &&&Value| one["kind"] == "Pod" && one["apiVersion"] == "v1";
        let has_ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let pods: Vec<_> = self.others.iter().filter(is_pod).filter(|pod| !has_ended(pod)).collect();
        let count = |server: &&Value| {
            let selector = &spec(server)["podSelector"];
            pods.iter().filter(|pod| selects(selector, object::metadata_map(pod, "labels"))).count()
        };
        servers.iter().map(count).min().unwrap_or_default()
    }

    /// What hangs on the Servers, besides the target: routes, policies, limits, and policies about those routes.
    fn hanging(&self, servers: &[&Value]) -> Vec<&'a Value> {
        let direct = |object: &&&Value| names_server(object, servers);
        let mut found: Vec<_> = self.others.iter().filter(direct).copied().collect();
        let own_route = Some(self.version()).filter(|_| self.kind.is_http_route());
        let routes: Vec<_> =
            found.iter().copied().chain(own_route).map(|route| (kind_of(route), name(route).to_owned())).collect();
        let is_about_route = |policy: &&Value| match about(spec(policy)) {
            About::Route(kind, name) => routes.contains(&(Some(kind), name)),
            _ => false,
        };
        found.extend(self.of_kind(Kind::AuthorizationPolicy).filter(is_about_route));
        // Of an authentication only the policies matter that ask for it, but they hang on these Servers as well.
        found
    }

    fn check_kind(&self, servers: &[&Value], hanging: &[&Value]) -> Result<(), Unsupported> {
        match self.kind {
            Kind::ServerAuthorization => self.check_union(),
            _ if self.question.canary.is_null() => Ok(()),
            Kind::Server => self.check_somebody_may_call(hanging),
            Kind::AuthorizationPolicy => check_references(self.question),
            kind if kind.is_http_route() => self.check_first_route(servers),
            _ => Ok(()),
        }
    }

    /// A Server that denies by itself, and that nobody is authorized for, denies everything.
    fn check_somebody_may_call(&self, hanging: &[&Value]) -> Result<(), Unsupported> {
        let access = spec(self.question.canary)["accessPolicy"].as_str().unwrap_or("deny");
        let authorizes =
            |one: &&Value| matches!(kind_of(one), Some(Kind::AuthorizationPolicy | Kind::ServerAuthorization));
        let of_namespace = |one: &Value| about(spec(one)) == About::Namespace;
        let is_open = access != "deny"
            || hanging.iter().any(authorizes)
            || self.of_kind(Kind::AuthorizationPolicy).any(of_namespace);
        if is_open {
            return Ok(());
        }
        refuse(
            "accessPolicy is deny (also if it is left out), and no policy authorizes anybody for the Server: its pods \
             would refuse every request, and the kubelet's probes",
            "make the AuthorizationPolicy first; it may name a Server that does not exist yet",
        )
    }

    /// Whether the live version would go on to authorize for the canary's Server, which carries no labels.
    fn check_union(&self) -> Result<(), Unsupported> {
        let selects_anything = |version: &Value| {
            let selector = &spec(version)["server"]["selector"];
            selector.is_object() && selects(selector, None)
        };
        if !self.question.baseline.object.as_ref().is_some_and(selects_anything) {
            return Ok(());
        }
        refuse(
            "the live version selects Servers without labels too, and would go on to authorize for the canary's Server: \
             authorizations add up",
            "let server.selector ask for a label, or name the Server",
        )
    }

    /// The first route of a Server takes away Linkerd's own routes: for every path, and for the probes.
    fn check_first_route(&self, servers: &[&Value]) -> Result<(), Unsupported> {
        let is_route = |object: &&Value| kind_of(object).is_some_and(Kind::is_http_route);
        let has_others = self.others.iter().filter(|one| is_route(one)).any(|one| names_server(one, servers));
        if self.question.baseline.object.is_some() || has_others || matches_everything(spec(self.question.canary)) {
            return Ok(());
        }
        refuse(
            "it would be the first route of its Server, which takes away the default route and those for the kubelet's \
             probes: whatever it does not match is answered with 404",
            "add a rule that matches every path (PathPrefix /), with the probes' paths authorized for the kubelet's \
             network",
        )
    }

    /// Whether the names of the helpers are free, and each authorization has one Server.
    fn check_names(&self, servers: &[&Value], hanging: &[&Value]) -> Result<(), Unsupported> {
        let own = std::iter::once((Some(self.kind), self.target_name()));
        let all = servers.iter().chain(hanging).map(|object| (kind_of(object), name(object))).chain(own);
        for (kind, name_of) in all {
            let twin = twin_name(name_of);
            if self.others.iter().any(|other| kind_of(other) == kind && name(other) == twin) {
                let kind = kind.map_or("", |kind| kind.row().name);
                return refuse(
                    format!("{kind} {twin} exists already, and the canary's pods need that name"),
                    "remove it if it is left from a deployment, or give it another name",
                );
            }
        }
        let several = hanging.iter().find(|object| {
            let choice = &spec(object)["server"];
            servers.iter().filter(|server| is_chosen(choice, server)).count() > 1
        });
        match several {
            Some(object) => refuse(
                format!("ServerAuthorization {} is about several of the Servers", name(object)),
                "name one Server in each",
            ),
            None => Ok(()),
        }
    }

    /// What a plan must admit.
    fn not_covered(&self, hanging: &[&Value]) -> Vec<String> {
        let mut sentences = vec![
            "Pods that come during the deployment are stable until the next step counts them.".to_owned(),
            "What others add to the Server during the deployment (policies, routes, limits) governs the stable pods only."
                .to_owned(),
        ];
        let (before, after) = (self.question.baseline.object.as_ref().map(spec), spec(self.version()));
        if before.is_some_and(|before| before["proxyProtocol"] != after["proxyProtocol"]) {
            sentences.push("Open connections keep their protocol; only new ones get the canary's.".to_owned());
        }
        let protocol = after["proxyProtocol"].as_str().unwrap_or("unknown");
        let is = |one: &Value, wanted: fn(Kind) -> bool| kind_of(one).is_some_and(wanted);
        if matches!(protocol, "opaque" | "TLS" | "gRPC")
            && hanging.iter().any(|one| is(one, |kind| kind == Kind::RateLimit))
        {
            sentences.push(format!("The rate limit of the Server is not in force with proxyProtocol {protocol}."));
        }
        if matches!(protocol, "opaque" | "TLS") && hanging.iter().any(|one| is(one, Kind::is_http_route)) {
            sentences.push(format!("The routes of the Server are not in force with proxyProtocol {protocol}."));
        }
        if self.kind == Kind::AuthorizationPolicy && list(after, "requiredAuthenticationRefs").is_empty() {
            sentences.push("The new version asks for no authentication: it allows everyone.".to_owned());
        }
        if self.kind == Kind::RateLimit {
            sentences
                .push("Each pod counts its requests by itself; a change of policy begins to count anew.".to_owned());
        }
        sentences
    }
}

/// Whether a rule matches every request.
fn matches_everything(spec: &Value) -> bool {
    list(spec, "rules").iter().any(is_catch_all)
}

/// Authentications that do not exist make Linkerd drop the policy, and so deny.
pub(in super::super) fn check_references(question: &Question<'_>) -> Result<(), Unsupported> {
    for reference in list(spec(question.canary), "requiredAuthenticationRefs") {
        for kind in [Kind::MeshTls, Kind::Network] {
            if !refers(reference, POLICY, kind.row().name) {
                continue;
            }
            let wanted = reference["name"].as_str().unwrap_or_default();
            let within = reference["namespace"].as_str().unwrap_or(&question.target.namespace);
            let is_it = |one: &Value| kind_of(one) == Some(kind) && name(one) == wanted && namespace(one) == within;
            if !question.neighbours.iter().any(is_it) {
                return refuse(
                    format!(
                        "it asks for the {} {within}/{wanted}, which does not exist: Linkerd drops such a policy, \
                         and what it should allow is denied",
                        kind.row().name
                    ),
                    "make the authentication first",
                );
            }
        }
    }
    Ok(())
}

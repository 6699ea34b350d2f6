//! The stack with one server, random policies for it, and requests to it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kube::{
    api::{Api, DeleteParams, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use meshward_local::{
    stack::{NAMESPACE, Server, Stack, StackOptions, Upstreams},
    tools::Tools,
    upstream::{Upstream, UpstreamConfig},
};
use meshward_validator::access::Workload;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Request,
    identity::{ASKS_FOR_CERTIFICATES, Authority, CALLERS, SERVER_NAMES, origin},
};

/// Addresses from which requests come.
pub const CLIENTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.9.9.9"];

/// Signs tokens, as the RequestAuthentication knows it.
const SECRET: &[u8] = b"a secret of this test alone, 32 b";
const SECRET_BASE64: &str = "YSBzZWNyZXQgb2YgdGhpcyB0ZXN0IGFsb25lLCAzMiBi";
/// Far more than anything here takes, also where another stack and a build share two cores: the two share no port, address or
/// memory region of Envoy, so that time is all that they can take from each other.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    stack: Stack,
    server: Server,
    upstream: Upstream,
    /// What both callers of the stack may call.
    catalog: Upstream,
    /// By address, then by caller.
    clients: Vec<Vec<reqwest::Client>>,
    _dir: TempDir,
}

impl World {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // Nothing listens there: nobody of this stack calls it.
        let nowhere = "127.0.0.1:9".parse().expect("an address");
        let catalog = Upstream::start(UpstreamConfig::new("catalog")).await.expect("a server");
        let upstreams = Upstreams { checkout: nowhere, checkout_next: nowhere, catalog: catalog.address() };
        let tools = Tools::locate().expect("the tools");
        let stack = Stack::start(StackOptions { dir: dir.path().to_owned(), tools, upstreams }).await.expect("a stack");
        let upstream = Upstream::start(UpstreamConfig::new("server")).await.expect("a server");
        let server = stack.start_server(upstream.address()).await.expect("its sidecar");
        let authority = Authority::new(dir.path(), server.ingress.ip());
        let client = |address: &str, caller: Option<&str>| {
            let local = address.parse().expect("an address");
            // Each request on a connection of its own: one that is open keeps the policies it began with.
            let mut builder =
                reqwest::Client::builder().no_proxy().local_address(Some(local)).pool_max_idle_per_host(0);
            for name in SERVER_NAMES {
                builder = builder.resolve(name, server.ingress);
            }
            if let Some(principal) = caller {
                builder = builder.tls_backend_preconfigured(authority.caller(principal));
            }
            builder.timeout(PATIENCE).build().expect("a client")
        };
        let clients = CLIENTS.iter().map(|address| CALLERS.iter().map(|caller| client(address, *caller)).collect());
        let clients = clients.collect();
        let world = Self { stack, server, upstream, catalog, clients, _dir: dir };
        let keys = json!({"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": SECRET_BASE64}]}).to_string();
        let issuer = |issuer: &str| json!({"issuer": issuer, "jwks": keys});
        let rules = json!([issuer("https://a.example"), issuer("https://b.example/x")]);
        let authentication =
            object("RequestAuthentication", "tokens", json!({"selector": selector(), "jwtRules": rules}));
        let labels = json!({"app": Server::APP});
        let mut certificate = object("EnvoyFilter", "certificate", authority.server_certificate(&labels));
        certificate["apiVersion"] = json!("networking.istio.io/v1alpha3");
        // Both kinds of callers come in.
        let mutual = json!({"selector": selector(), "mtls": {"mode": "PERMISSIVE"}});
        for set_up in [authentication, certificate, object("PeerAuthentication", "mutual", mutual)] {
            world.apply(&set_up).await;
        }
        world
    }

    pub async fn stop(self) {
        self.server.stop().await;
        self.upstream.stop().await;
        self.catalog.stop().await;
        self.stack.stop().await;
    }

    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    pub fn address(&self) -> SocketAddr {
        self.server.ingress
    }

    pub fn workload(&self) -> Workload {
        let labels = BTreeMap::from([("app".to_owned(), Server::APP.to_owned())]);
        Workload { namespace: NAMESPACE.to_owned(), labels }
    }

    fn api(&self, group_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = group_version.split_once('/').expect("a group and a version");
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.stack.client().clone(), NAMESPACE, &resource)
    }

    async fn apply(&self, object: &Value) {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).expect("a text");
        let api = self.api(text("/apiVersion"), text("/kind"));
        let parameters = PatchParams::apply("test").force();
        let applied = api.patch(text("/metadata/name"), &parameters, &Patch::Apply(object)).await;
        applied.unwrap_or_else(|error| panic!("{error}: {object:#}"));
    }

    /// Makes these the only policies, and waits until Envoy has them: a last one names a caller of its own. It is the
    /// newest, so that who has it has the others; and that caller is of the mesh's own trust domain, `trust_domain`.
    pub async fn put_in_place(&self, set: usize, trust_domain: &str, policies: &[Value]) {
        let api = self.api("security.istio.io/v1", "AuthorizationPolicy");
        for policy in api.list(&Default::default()).await.expect("a list") {
            api.delete(policy.metadata.name.as_deref().expect("a name"), &DeleteParams::default())
                .await
                .expect("it goes");
        }
        for policy in policies {
            self.apply(policy).await;
        }
        let caller = format!("/ns/none/sa/set-{set}-is-in-place");
        let rules = json!([{"from": [{"source": {"principals": [format!("cluster.local{caller}")]}}]}]);
        let last = json!({"selector": selector(), "action": "DENY", "rules": rules});
        self.apply(&object("AuthorizationPolicy", "zz-in-place", last)).await;
        let (begun, marker) = (std::time::Instant::now(), format!("spiffe://{trust_domain}{caller}"));
        loop {
            let dump = self.ask(format!("{}/config_dump?resource=dynamic_listeners", self.server.admin_url)).await;
            let dump = dump.json().await.expect("a dump");
            let Some(lack) = lack(&dump, &marker) else { return };
            if begun.elapsed() > PATIENCE {
                let told = self.ask(format!("{}/debug/syncz", self.stack.istiod_debug_url())).await;
                let told = told.text().await.expect("a text");
                panic!("set {set} is not in place after {PATIENCE:?}: Envoy {lack}; istiod has sent {told}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ask(&self, url: String) -> reqwest::Response {
        self.clients[0][0].get(url).send().await.expect("it answers")
    }

    pub async fn is_let_in(&self, request: &Request) -> bool {
        let method = Method::from_bytes(request.method.as_bytes()).expect("a method");
        let origin = origin(request.caller, request.server_name, self.address());
        let url = format!("{origin}{}{}", request.path, request.query);
        let mut sent = self.clients[request.client][request.caller].request(method, url).header("host", request.host);
        if let Some(address) = request.forwarded_for {
            sent = sent.header("x-forwarded-for", address);
        }
        if let Some(team) = request.team {
            sent = sent.header("x-team", team);
        }
        if let Some(claims) = &request.claims {
            let header = Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::HS256) };
            let token = jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(SECRET)).expect("a token");
            sent = sent.bearer_auth(token);
        }
        let response = sent.send().await.expect("Envoy answers");
        match response.status() {
            StatusCode::FORBIDDEN => false,
            StatusCode::UNAUTHORIZED => panic!("the token is not taken: {}", response.text().await.unwrap_or_default()),
            _ => true,
        }
    }

    /// A random policy for the server, or for another workload.
    pub fn policy(&self, dice: &mut Dice, index: usize) -> Value {
        let action = dice.pick(&["ALLOW", "ALLOW", "ALLOW", "DENY", "AUDIT"]);
        let rules: Vec<_> = (0..=dice.below(3)).map(|_| self.rule(dice)).collect();
        let mut spec = json!({"action": action, "rules": rules});
        match dice.below(8) {
            0 => spec["selector"] = json!({"matchLabels": {"app": "another"}}),
            1 => {}
            _ => spec["selector"] = selector(),
        }
        let mut policy = object("AuthorizationPolicy", &format!("policy-{index}"), spec);
        if action != "AUDIT" && dice.maybe(12) {
            policy["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
        }
        policy
    }

    /// A random policy that goes by who calls, and by nothing else.
    pub fn policy_on_callers(dice: &mut Dice, index: usize) -> Value {
        let (field, values) = [principals, principals, trust_domains][dice.below(3)](dice);
        let rules = json!([{"from": [{"source": {(negated(dice, field)): values}}]}]);
        let spec = json!({"selector": selector(), "action": dice.pick(&["ALLOW", "DENY"]), "rules": rules});
        object("AuthorizationPolicy", &format!("policy-{index}"), spec)
    }

    fn rule(&self, dice: &mut Dice) -> Value {
        let mut rule = json!({});
        if dice.maybe(3) {
            rule["to"] = (0..=dice.below(2)).map(|_| json!({"operation": self.operation(dice)})).collect();
        }
        if dice.maybe(2) {
            rule["from"] = json!([{"source": Self::source(dice)}]);
        }
        if dice.maybe(3) {
            rule["when"] = json!([self.condition(dice)]);
        }
        rule
    }

    fn operation(&self, dice: &mut Dice) -> Value {
        let mut operation = json!({});
        let port = self.address().port().to_string();
        for _ in 0..=dice.below(2) {
            let (field, values) = match dice.below(4) {
                0 => ("methods", dice.some(&["GET", "POST", "P*", "*T", "*"])),
                1 => ("hosts", dice.some(&["cart.shop", "CART.*", "*.example", "cart.shop:8080", "*"])),
                2 => ("ports", json!([if dice.maybe(3) { "9999".to_owned() } else { port.clone() }])),
                _ => ("paths", dice.some(&["/", "/a", "/a/*", "*/b", "/admin*", "/{*}/b", "/items/{*}/{**}", "/A"])),
            };
            operation[negated(dice, field)] = values;
        }
        operation
    }

    fn source(dice: &mut Dice) -> Value {
        let mut source = json!({});
        let with_identity = !dice.maybe(4);
        if with_identity {
            let (field, values) = [principals, namespaces, service_accounts, trust_domains][dice.below(4)](dice);
            source[negated(dice, field)] = values;
            // Istio takes service accounts alone, or the two others.
            if field != "serviceAccounts" && dice.maybe(3) {
                let (field, values) = [principals, namespaces][dice.below(2)](dice);
                source[negated(dice, field)] = values;
            }
        }
        if !with_identity || dice.maybe(6) {
            let (field, values) = match dice.below(4) {
                0 => ("ipBlocks", dice.some(&["127.0.0.1", "127.0.0.0/24", "127.9.0.0/16", "10.0.0.0/8"])),
                1 => ("remoteIpBlocks", dice.some(&["203.0.113.0/24", "127.0.0.0/8", "198.51.100.1"])),
                _ => (
                    "requestPrincipals",
                    dice.some(&["*", "https://a.example/ann", "https://a.example/*", "*/bob", "https://b.example/x/*"]),
                ),
            };
            source[negated(dice, field)] = values;
        }
        source
    }

    fn condition(&self, dice: &mut Dice) -> Value {
        let address = self.address();
        let (key, values) = match dice.below(15) {
            0 => ("request.headers[X-Team]", dice.some(&["red", "green*", "*ish", "*"])),
            1 => ("source.ip", dice.some(&["127.0.0.0/24", "127.9.9.9"])),
            2 => ("remote.ip", dice.some(&["203.0.113.9", "127.0.0.0/8"])),
            3 => (
                "destination.ip",
                json!([if dice.maybe(3) { "10.1.1.1".to_owned() } else { address.ip().to_string() }]),
            ),
            4 => ("destination.port", json!([if dice.maybe(3) { "1".to_owned() } else { address.port().to_string() }])),
            5 => ("request.auth.audiences", dice.some(&["one", "t*", "*"])),
            6 => ("request.auth.presenter", dice.some(&["app", "c*"])),
            7 => ("request.auth.claims[scope]", dice.some(&["read", "write", "*"])),
            8 => ("request.auth.claims[role]", dice.some(&["admin", "user", "*user"])),
            9 => ("source.principal", principals(dice).1),
            10 => ("source.namespace", namespaces(dice).1),
            11 => ("source.serviceAccount", service_accounts(dice).1),
            12 => ("source.trustDomain", trust_domains(dice).1),
            13 => ("connection.sni", dice.some(&["ledger.shop", "*.example", "ledger*", "*"])),
            _ => ("request.auth.claims[realm][groups]", dice.some(&["red", "b*", "*"])),
        };
        json!({"key": key, if dice.maybe(3) { "notValues" } else { "values" }: values})
    }
}

/// What keeps an Envoy with this dump of its listeners from being asked; none if it has all.
///
/// A listener that drains is of no matter. It takes no new connection from then on, and Envoy lists it for ten minutes more:
/// one that istiod sent before it knew the server's Sidecar, and the one without TLS that was there before this test began.
fn lack(dump: &Value, marker: &str) -> Option<&'static str> {
    let listeners = dump["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let any = |is_so: &dyn Fn(&Value) -> bool| listeners.iter().any(is_so);
    [
        (!any(&|one| one["active_state"].to_string().contains(marker)), "does not have the last policy yet"),
        (
            !any(&|one| one["active_state"].to_string().contains(ASKS_FOR_CERTIFICATES)),
            "does not ask for certificates yet",
        ),
        (any(&|one| !one["warming_state"].is_null()), "still warms a listener up"),
    ]
    .into_iter()
    .find_map(|(is_so, lack)| is_so.then_some(lack))
}

/// A field on identities and values of it.
type Field = (&'static str, Value);

fn principals(dice: &mut Dice) -> Field {
    let exact = CALLERS[1 + dice.below(CALLERS.len() - 1)].expect("only the first has none");
    let pattern = dice.pick(&[
        "*",
        "cluster.local/*",
        "cluster.local/ns/web/*",
        "cluster.local/ns/web/sa/fro*",
        "*/sa/front",
        "*/ns/web/sa/admin",
        "*front",
        "*.local/ns/web/sa/front",
        "cluster.local/ns/nobody/sa/none",
        "cluster*/ns/web/sa/front",
        "*.example/ns/web/sa/front",
        "*-mesh/ns/shop/sa/front",
        "new.example/ns/web/sa/fro*",
    ]);
    ("principals", dice.some(&[exact, pattern]))
}

fn namespaces(dice: &mut Dice) -> Field {
    ("namespaces", dice.some(&["web", "shop", "shop-eu", "sh*", "*eb", "s*p", "*", "we"]))
}

fn service_accounts(dice: &mut Dice) -> Field {
    ("serviceAccounts", dice.some(&["front", "web/front", "web/admin", "shop/front", "shop-eu/front", "shop-eu/one"]))
}

fn trust_domains(dice: &mut Dice) -> Field {
    (
        "trustDomains",
        dice.some(&["cluster.local", "other.example", "old-mesh", "*.local", "*-mesh", "other*", "*", "local"]),
    )
}

fn negated(dice: &mut Dice, field: &str) -> String {
    if !dice.maybe(3) {
        return field.to_owned();
    }
    format!("not{}{}", field[..1].to_uppercase(), &field[1..])
}

fn selector() -> Value {
    json!({"matchLabels": {"app": Server::APP}})
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

/// Numbers that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % count
    }

    /// Once in so many times.
    pub fn maybe(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    pub fn pick_value(&mut self, from: &[Value]) -> Value {
        from[self.below(from.len())].clone()
    }

    /// One or two of them.
    fn some(&mut self, from: &[&'static str]) -> Value {
        let (first, second) = (self.pick(from), self.pick(from));
        if first == second || self.maybe(2) { json!([first]) } else { json!([first, second]) }
    }
}

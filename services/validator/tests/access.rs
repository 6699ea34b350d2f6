//! The evaluation of AuthorizationPolicies against real Envoys: random policies are applied to a real API server, istiod
//! makes of them what it makes in production, and thousands of random requests go through a server's sidecar. Every
//! one must get the answer that [`access::decide`] gives. Run `deploy/local/install stack` once before.
//!
//! Callers come in plain text, or with a certificate that says who they are, as between sidecars. The mesh has several trust
//! domains one after the other, with aliases.
//!
//! The same for the routes of VirtualServices ([`routes`]), on the same stack, through the sidecars of two callers.

#[path = "access/identity.rs"]
mod identity;
#[path = "access/routes.rs"]
mod routes;
#[path = "access/world.rs"]
mod world;

use std::net::IpAddr;

use futures::{StreamExt as _, stream};
use meshward_validator::access::{self, Call, Policy, TrustDomains};
use serde_json::{Value, json};

use identity::{CALLERS, MESHES, SERVER_NAMES};
use world::{CLIENTS, Dice, World};

/// Requests for each set.
const REQUESTS: usize = 250;
/// Requests at once.
const PARALLEL: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_decided_as_envoy_decides_it() {
    let world = World::start().await;
    let mut dice = Dice::new(3);
    let (mut compared, mut denied, mut disagreements) = (0, 0, Vec::new());
    let (mut known, mut for_who_it_is, mut for_the_mesh) = (0, 0, 0);
    let meshes = MESHES.iter().flat_map(|(domains, sets)| (0..*sets).map(move |of_mesh| (*domains, of_mesh)));
    for (set, (domains, of_mesh)) in meshes.enumerate() {
        if of_mesh == 0 {
            world.stack().set_trust_domains(domains[0], &domains[1..]).expect("settings of the mesh");
        }
        // What a mesh's trust domains change is seen where nothing else decides.
        let policies: Vec<_> = match domains[0] == MESHES[0].0[0] || of_mesh % 2 == 1 {
            true => (0..=dice.below(4)).map(|index| world.policy(&mut dice, index)).collect(),
            false => vec![World::policy_on_callers(&mut dice, 0)],
        };
        world.put_in_place(set, domains[0], &policies).await;
        let trust = json!({"trustDomain": domains[0], "trustDomainAliases": domains[1..]});
        let [read, read_alone] = [TrustDomains::of_mesh(&trust), TrustDomains::default()]
            .map(|trust| policies.iter().map(|one| Policy::new(one, &trust).expect("it is read")).collect::<Vec<_>>());
        let requests: Vec<_> = (0..REQUESTS).map(|_| Request::thrown(&mut dice)).collect();
        let answers = stream::iter(requests).map(|request| async {
            let got = world.is_let_in(&request).await;
            (request, got)
        });
        let answers: Vec<_> = answers.buffer_unordered(PARALLEL).collect().await;
        for (request, let_in) in answers {
            let decide_by =
                |read: &[Policy], call: &Call| access::decide(read, "istio-system", &world.workload(), call);
            let decide = |call: &Call| decide_by(&read, call);
            let call = request.as_call(&world);
            let decision = decide(&call);
            compared += 1;
            for_the_mesh += usize::from(decide_by(&read_alone, &call).lets_in() != decision.lets_in());
            known += usize::from(call.principal != access::Fact::Absent);
            let unknown = Call { principal: access::Fact::Absent, ..call };
            for_who_it_is += usize::from(decide(&unknown).lets_in() != decision.lets_in());
            denied += usize::from(!let_in);
            if decision.lets_in() != Some(let_in) {
                disagreements.push(format!("{request:?}: Envoy {let_in}, we {decision:?}, {}", json!(policies)));
            }
        }
    }
    let (routed, misrouted) = routes::compare(world.stack(), &mut dice).await;
    world.stop().await;
    println!(
        "{compared} requests compared, {denied} denied, {known} with an identity, which decided {for_who_it_is}, \
         {for_the_mesh} by the mesh's trust domains; {} disagreements",
        disagreements.len()
    );
    assert!(
        disagreements.is_empty(),
        "{} of {compared}:\n{}",
        disagreements.len(),
        disagreements[..1.min(disagreements.len())].join("\n")
    );
    assert!(misrouted.is_empty(), "{} of {routed}:\n{}", misrouted.len(), misrouted[0]);
    assert_eq!(compared, MESHES.iter().map(|(_, sets)| sets * REQUESTS).sum::<usize>());
    assert!(for_the_mesh > 50, "{for_the_mesh} decided by the mesh's trust domains");
    assert!(denied > compared / 5 && denied < compared * 4 / 5, "{denied} of {compared} denied: the test sees both");
    assert!(known > compared / 2 && for_who_it_is > known / 20, "{for_who_it_is} of {known} decided by who calls");
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    client: usize,
    caller: usize,
    server_name: Option<&'static str>,
    method: &'static str,
    path: &'static str,
    query: &'static str,
    host: &'static str,
    forwarded_for: Option<&'static str>,
    team: Option<&'static str>,
    claims: Option<Value>,
}

impl Request {
    fn thrown(dice: &mut Dice) -> Self {
        let claims = json!({
            "iss": dice.pick(&["https://a.example", "https://b.example/x"]),
            "sub": dice.pick(&["ann", "bob"]),
            "aud": dice.pick_value(&[json!("one"), json!(["one", "two"]), json!(["three"])]),
            "azp": dice.pick(&["app", "cli"]),
            "scope": dice.pick(&["read", "read write", ""]),
            "role": dice.pick(&["admin", "admin user", "user"]),
            "realm": {"groups": dice.pick_value(&[json!(["red", "blue"]), json!([]), json!("red")])},
            "exp": 4_000_000_000_u64,
        });
        Self {
            client: dice.below(CLIENTS.len()),
            caller: dice.below(CALLERS.len()),
            server_name: dice.maybe(2).then(|| dice.pick(&SERVER_NAMES)),
            method: dice.pick(&["GET", "POST", "PUT"]),
            path: dice.pick(&["/", "/a", "/a/b", "/a/b/c", "/admin", "/admin/x", "/A", "/items/7/notes"]),
            query: dice.pick(&["", "", "?q=/a"]),
            host: dice.pick(&["cart.shop", "Cart.Shop", "cart.shop:8080", "other.example"]),
            forwarded_for: dice.maybe(3).then(|| dice.pick(&["203.0.113.9", "198.51.100.1"])),
            team: dice.maybe(2).then(|| dice.pick(&["red", "green", "greenish", ""])),
            claims: dice.maybe(2).then_some(claims),
        }
    }

    fn as_call(&self, world: &World) -> Call {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let source = address(CLIENTS[self.client]);
        let principal = CALLERS[self.caller];
        // Without TLS there is no handshake.
        let server_name = principal.and(self.server_name);
        let fact = |text: Option<&str>| text.map_or(access::Fact::Absent, |text| text.to_owned().into());
        let headers = self.team.map(|team| ("x-team".to_owned(), team.to_owned()));
        Call {
            principal: fact(principal),
            source_ip: source.into(),
            remote_ip: self.forwarded_for.map_or(source, address).into(),
            destination_ip: world.address().ip().into(),
            port: world.address().port().into(),
            sni: fact(server_name),
            host: self.host.to_owned().into(),
            method: self.method.to_owned().into(),
            path: self.path.to_owned().into(),
            headers: headers.into_iter().collect(),
            all_headers: true,
            token: self
                .claims
                .clone()
                .map_or(access::Fact::Absent, |claims| access::Fact::Known(access::Token { claims })),
        }
    }
}

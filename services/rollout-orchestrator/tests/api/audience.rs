//! To whom a version is given: told by the strategy, kept with the deployment, remembered by everything that the gateway is asked.

use std::sync::{Arc, Mutex};

use meshward_model::PropagationState;
use meshward_proto::{
    gateway::v1::{Audience, HeaderMatch, header_match::Value},
    rollout::v1::*,
    types::v1::Mechanism,
};
use serde_json::json;
use tonic::Code;

use crate::support::{Service, fields, reason, request, strategy};

fn header(name: &str) -> Option<HeaderMatch> {
    Some(HeaderMatch { name: name.to_owned(), is_cookie: false, value: Some(Value::Exact("on".to_owned())) })
}

fn given_to(mechanism: Mechanism, audience: Option<Audience>) -> CreateDeploymentRequest {
    let strategy = Strategy { mechanism: mechanism.into(), audience, ..strategy() };
    CreateDeploymentRequest { strategy: Some(strategy), ..request("p1") }
}

#[tokio::test]
async fn an_audience_that_cannot_be_heard_is_refused_by_its_field() {
    let service = Service::new().await;
    let of = |header, namespaces: &[&str]| {
        Some(Audience { header, namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect() })
    };
    let many: Vec<_> = (0..101).map(|number| format!("n{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (mechanism, audience, field) in [
        (Mechanism::Header, None, "strategy.audience.header"),
        (Mechanism::Header, of(None, &[]), "strategy.audience.header"),
        (Mechanism::Header, of(header("x beta"), &[]), "strategy.audience.header.name"),
        (Mechanism::Weight, of(header("x-beta"), &[]), "strategy.audience.header"),
        (Mechanism::Request, of(None, &["web"]), "strategy.audience.namespaces"),
        (Mechanism::Namespace, of(None, &many), "strategy.audience.namespaces"),
        // The best mechanism is by request ids, which no namespaces are asked for: that is known when it is planned.
        (Mechanism::Unspecified, of(None, &["web"]), "strategy.audience.namespaces"),
    ] {
        let row = format!("{mechanism:?} for {audience:?}");
        let status = service.try_create(given_to(mechanism, audience)).await.expect_err(&row);
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "FIELD_INVALID"), "{row}");
        assert_eq!(fields(&status), [field], "{row}");
    }
    assert_eq!(service.ports.store.list("", "", 10).await.expect("a list"), []);
}

/// What the gateway is asked to write, to prove and to put back comes with what its plan found out about the audience.
#[tokio::test]
async fn an_audience_is_shown_and_remembered_on_the_way_there_and_back() {
    for (mechanism, end) in
        [(Mechanism::Header, DeploymentState::Promoted), (Mechanism::Unspecified, DeploymentState::RolledBack)]
    {
        let service = Service::new().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let intents = Arc::clone(&seen);
        service.world.state().proofs = Box::new(move |intent| {
            intents.lock().expect("no holder panics").push(intent);
            PropagationState::Live
        });
        let audience = Audience { header: header("X-Beta"), namespaces: Vec::new() };
        let created = service.try_create(given_to(mechanism, Some(audience))).await.expect("a deployment");
        let id = created.id;
        service.until(&id, DeploymentState::Baking).await;
        if end == DeploymentState::RolledBack {
            let abort = AbortDeploymentRequest { id: id.clone(), ..Default::default() };
            service.client.clone().abort_deployment(service.ask(abort)).await.expect("aborted");
        }
        let ended = service.until(&id, end).await;
        let told = ended.strategy.expect("a strategy").audience.expect("its audience");
        assert_eq!(told, Audience { header: header("x-beta"), namespaces: Vec::new() });
        assert_eq!(ended.plan.expect("a plan").mechanism(), Mechanism::Header);
        let wanted = json!({"name": "x-beta", "is_cookie": false, "value": {"exact": "on"}});
        let seen = seen.lock().expect("no holder panics");
        assert!(seen.len() >= 2, "there and to the end: {}", seen.len());
        assert!(seen.iter().all(|intent| intent.baseline.facts["audience"]["header"] == wanted), "{seen:?}");
    }
}

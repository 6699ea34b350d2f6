//! Linkerd's control plane, asked over the streams that its proxies ask.
//!
//! Nothing else proves a write. Most kinds have no status; where there is one it has no `observedGeneration` and is not
//! written again after a change, and an update that the controller cannot convert is `Accepted` while the version before
//! goes on being served. So the policy-controller is asked what a proxy asks it:
//!
//! - `InboundServerPolicies/GetPort` for each pod and port that the object concerns: servers, authorizations, limits,
//!   routes on servers;
//! - `OutboundPolicies/Get` for one pod of each client namespace (all of a namespace are told the same) and each address
//!   of the parent: routes on services, networks outside the cluster;
//! - the destination controller's `Destination/GetProfile` likewise: service profiles.
//!
//! What the answer should say follows from the live objects ([`facts`], and a pure function for each direction:
//! [`inbound`], [`outbound`], [`profile`]). It is held against what it does say, both in one form ([`shape`]). What is
//! neither what was written nor older, but something unforeseen, counts as older: a prediction that is wrong costs a
//! release, never a false proof.
//!
//! Every replica is asked, since each has an index of its own. Linkerd's proxies acknowledge nothing; the controller
//! gives an answer to this question and to the proxy's own stream from one state, and what a proxy has been sent it
//! applies to the next request.

mod authorization;
mod facts;
mod inbound;
mod outbound;
mod profile;
mod shape;

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use linkerd2_proxy_api::{
    destination::{GetDestination, destination_client::DestinationClient},
    inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient},
    outbound::{TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec::Target},
};
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use self::facts::Facts;
use super::{Content, Expected, Look, Plane, ProxyLook};
use crate::cluster::Cluster;

/// Longest time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Questions asked at once, per replica.
const PARALLEL: usize = 32;

/// The replicas of Linkerd's controllers, and the cluster that they are of.
pub struct Linkerd {
    policy: Vec<Replica>,
    destination: Vec<Replica>,
    cluster: Arc<dyn Cluster>,
}

struct Replica {
    url: String,
    channel: Channel,
}

/// What a client or a pod is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Inbound(inbound::Place),
    Outbound(outbound::Place),
    Profile(profile::Place),
}

/// A question and its right answers.
struct Question {
    place: Place,
    wanted: Value,
    others: Vec<Value>,
}

impl Linkerd {
    /// Base URLs such as `http://10.0.0.7:8090`, one for each replica: of the policy-controller, and of the destination
    /// controller (port 8086). `cluster` may be a cache: see [`facts`].
    ///
    /// # Errors
    /// If one is no URL.
    pub fn new(policy: &[String], destination: &[String], cluster: Arc<dyn Cluster>) -> Result<Self, String> {
        let replicas = |urls: &[String]| urls.iter().map(|url| Replica::new(url)).collect::<Result<_, _>>();
        Ok(Self { policy: replicas(policy)?, destination: replicas(destination)?, cluster })
    }

    /// The answers of the first replica to all questions, then those of the next.
    async fn answers(
        &self,
        replicas: &[Replica],
        facts: &Facts,
        expected: &Expected,
        questions: &[Question],
    ) -> Result<Vec<Value>, String> {
        let count = questions.len();
        let ask = |index: usize| self.ask(&replicas[index / count], facts, expected, &questions[index % count].place);
        let asked = futures::stream::iter((0..replicas.len() * count).map(ask));
        asked.buffered(PARALLEL * replicas.len()).try_collect().await
    }

    async fn ask(&self, replica: &Replica, facts: &Facts, expected: &Expected, place: &Place) -> Result<Value, String> {
        let found = match place {
            Place::Inbound(place) => replica.inbound(place).await.map(|it| inbound::found(facts, expected, place, &it)),
            Place::Outbound(place) => replica.outbound(place).await.map(|it| outbound::found(expected, &it)),
            Place::Profile(place) => replica.profile(place).await.map(|it| profile::found(expected, &it)),
        };
        match found {
            Ok(found) => Ok(found),
            // It has not read the pod or the service yet.
            Err(status) if status.code() == Code::NotFound => Ok(json!("not known")),
            Err(status) => Err(format!("{}: {}", replica.url, told(&status))),
        }
    }
}

/// A status in few words: what it says, and what lies at the bottom of it ("Connection refused").
fn told(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    let said = if status.message().is_empty() { status.code().description() } else { status.message() };
    match cause.map(ToString::to_string) {
        Some(cause) if !cause.contains(said) => format!("{said}: {cause}"),
        _ => said.to_owned(),
    }
}

impl Replica {
    fn new(url: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| format!("{url}: {error}"))?;
        let channel = endpoint.connect_timeout(Duration::from_secs(2)).timeout(TIMEOUT).connect_lazy();
        Ok(Self { url: url.to_owned(), channel })
    }

    async fn inbound(&self, place: &inbound::Place) -> Result<linkerd2_proxy_api::inbound::Server, Status> {
        let workload = workload(&place.namespace, &place.pod);
        let spec = PortSpec { workload, port: place.port.into() };
        let answer = InboundServerPoliciesClient::new(self.channel.clone()).get_port(timed(spec)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn outbound(&self, place: &outbound::Place) -> Result<linkerd2_proxy_api::outbound::OutboundPolicy, Status> {
        let source_workload = workload(&place.namespace, &place.pod);
        let target = Target::Addr(SocketAddr::new(place.address, place.port).into());
        let spec = TrafficSpec { source_workload, target: Some(target) };
        let answer = OutboundPoliciesClient::new(self.channel.clone()).get(timed(spec)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn profile(
        &self,
        place: &profile::Place,
    ) -> Result<linkerd2_proxy_api::destination::DestinationProfile, Status> {
        let context_token = workload(&place.namespace, &place.pod);
        let wanted = GetDestination { path: place.path.clone(), context_token, ..GetDestination::default() };
        let first = async {
            let mut stream =
                DestinationClient::new(self.channel.clone()).get_profile(timed(wanted)).await?.into_inner();
            stream.message().await?.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
        };
        let late = |_| Status::deadline_exceeded("no profile in time");
        tokio::time::timeout(TIMEOUT, first).await.map_err(late)?
    }
}

/// A pod as the controllers call it.
fn workload(namespace: &str, pod: &str) -> String {
    json!({"ns": namespace, "pod": pod}).to_string()
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// Whom the object concerns, or concerned, and what they should be told. Pure.
fn questions(facts: &Facts, expected: &Expected) -> Vec<Question> {
    let places: Vec<Place> = match expected.target.kind.as_str() {
        "ServiceProfile" => profile::places(facts, expected).into_iter().map(Place::Profile).collect(),
        "EgressNetwork" | "TLSRoute" | "TCPRoute" => {
            outbound::places(facts, expected).into_iter().map(Place::Outbound).collect()
        }
        "HTTPRoute" | "GRPCRoute" => {
            let inbound = inbound::places(facts, expected).into_iter().map(Place::Inbound);
            inbound.chain(outbound::places(facts, expected).into_iter().map(Place::Outbound)).collect()
        }
        _ => inbound::places(facts, expected).into_iter().map(Place::Inbound).collect(),
    };
    let written = expected.object.as_ref().map(|object| &object["spec"]);
    let worlds: Vec<_> = expected.others.iter().map(|spec| (facts.with_spec(expected, spec), spec)).collect();
    let question = |place: Place| {
        let wanted = wanted(facts, expected, written, &place);
        let others: Vec<_> =
            worlds.iter().map(|(facts, spec)| self::wanted(facts, expected, Some(spec), &place)).collect();
        // Of what is gone, and nobody knows what it was, anybody may still have something.
        let is_forgotten = expected.object.is_none() && others.is_empty();
        let concerns = is_forgotten || [&wanted].into_iter().chain(&others).any(|shape| !shape.is_null());
        concerns.then_some(Question { place, wanted, others })
    };
    places.into_iter().filter_map(question).collect()
}

fn wanted(facts: &Facts, expected: &Expected, spec: Option<&Value>, place: &Place) -> Value {
    match place {
        Place::Inbound(place) => inbound::wanted(facts, expected, spec, place),
        Place::Outbound(place) => outbound::wanted(facts, expected, spec, place),
        Place::Profile(place) => profile::wanted(spec, place),
    }
}

impl Question {
    /// What an answer means.
    fn content(&self, found: &Value) -> Content {
        let is_old = self.others.iter().any(|other| shape::fits(other, found));
        match (shape::fits(&self.wanted, found), is_old) {
            (true, false) => Content::Shows,
            // Of somebody whom the object does not concern any more nothing else is expected.
            (true, true) if self.wanted.is_null() => Content::Shows,
            (true, true) => Content::Unclear,
            (false, _) => Content::Older,
        }
    }

    /// The pod that is told, or that stands for its namespace.
    fn proxy(&self) -> String {
        let (pod, namespace) = match &self.place {
            Place::Inbound(place) => (&place.pod, &place.namespace),
            Place::Outbound(place) => (&place.pod, &place.namespace),
            Place::Profile(place) => (&place.pod, &place.namespace),
        };
        format!("{pod}.{namespace}")
    }
}

/// The answers that one proxy gets, from all replicas and on all ports: the worst counts.
#[derive(Default)]
struct Answers {
    worst: Option<Content>,
    all: DefaultHasher,
}

impl Answers {
    fn add(&mut self, content: Content, found: &Value) {
        let rank = |content: &Content| match content {
            Content::Shows => 0,
            Content::Unused => 1,
            Content::Unclear => 2,
            Content::Unread => 3,
            Content::Older => 4,
        };
        self.worst = self.worst.into_iter().chain([content]).max_by_key(rank);
        found.to_string().hash(&mut self.all);
    }

    fn look(self, name: String) -> ProxyLook {
        ProxyLook {
            name,
            content: self.worst.unwrap_or(Content::Older),
            pushed: true,
            nonce: format!("{:x}", self.all.finish()),
            acknowledged: true,
            error: None,
        }
    }
}

#[async_trait]
impl Plane for Linkerd {
    async fn look(&self, expected: &Expected) -> Result<Look, String> {
        let (replicas, flag) = match expected.target.kind.as_str() {
            "ServiceProfile" => (&self.destination, "--linkerd-destination http://HOST:8086"),
            _ => (&self.policy, "--linkerd-policy http://HOST:8090"),
        };
        if replicas.is_empty() {
            return Err(format!(
                "no controller of Linkerd is configured: start the gateway with {flag}, once per replica"
            ));
        }
        let facts = Facts::read(&*self.cluster, expected).await.map_err(|error| error.to_string())?;
        let questions = questions(&facts, expected);
        let answers = self.answers(replicas, &facts, expected, &questions).await?;
        let mut proxies = BTreeMap::<String, Answers>::new();
        for (question, found) in questions.iter().cycle().zip(&answers) {
            proxies.entry(question.proxy()).or_default().add(question.content(found), found);
        }
        let proxies = proxies.into_iter().map(|(name, answers)| answers.look(name)).collect();
        Ok(Look { proxies, ..Look::default() })
    }
}

#[cfg(test)]
mod tests;

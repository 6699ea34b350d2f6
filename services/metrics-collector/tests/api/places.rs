//! The same traffic counted in two places, in one, or in none, in a real Prometheus; and services as a whole.

use meshward_proto::{
    gateway::v1 as gateway,
    metrics::v1 as proto,
    types::v1::{Mechanism, Mesh, Verdict},
};
use proto::QueryState;
use tonic::Code;

use super::{
    meshes::steady,
    world::{Source, World, analysis, traffic},
};

/// Requests, errors, failed connections, trips and denials of a tick, as Istio's own proxy tells them.
fn by_istio(text: &mut String, labels: &str, [served, failed, unreached, tripped, denied]: [i64; 5]) {
    for (answer, count) in [
        ("response_code=\"200\",response_flags=\"-\"", served),
        ("response_code=\"500\",response_flags=\"-\"", failed),
        ("response_code=\"503\",response_flags=\"UF,URX\"", unreached),
        ("response_code=\"503\",response_flags=\"UO\"", tripped),
        ("response_code=\"403\",response_flags=\"-\"", denied),
    ] {
        steady(text, &format!("istio_requests_total{{{labels},{answer}}}"), count);
    }
    for edge in ["10", "20", "+Inf"] {
        steady(text, &format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"{edge}\"}}"), served);
    }
}

/// The same as Envoy's counters of a cluster, under the names of Istio's bootstrap.
fn by_envoy(text: &mut String, cluster: &str, [served, failed, unreached, tripped, denied]: [i64; 5]) {
    let name = |what: &str, more: &str| format!("envoy_cluster_{what}{{cluster_name=\"{cluster}\"{more}}}");
    let errors = failed + unreached + tripped;
    for (what, more, count) in [
        ("upstream_rq_completed", "", served + errors + denied),
        ("upstream_rq", ",response_code_class=\"2xx\"", served),
        ("upstream_rq", ",response_code_class=\"5xx\"", errors),
        ("upstream_rq", ",response_code=\"503\"", unreached + tripped),
        ("upstream_rq", ",response_code=\"403\"", denied),
        ("upstream_cx_connect_fail", "", unreached),
        ("upstream_rq_pending_overflow", "", tripped),
    ] {
        steady(text, &name(what, more), count);
    }
    for edge in ["10", "20", "+Inf"] {
        steady(text, &name("upstream_rq_time_bucket", &format!(",le=\"{edge}\"")), served);
    }
}

/// A service with a cluster for each version, and routes that count neither failed connections nor trips.
fn twins(text: &mut String, host: &str) {
    let vhost = format!("envoy_vhost_{}_80_route", host.replace('.', "_"));
    for (series, subset, counts) in [("canary", "canary", [90, 2, 3, 1, 4]), ("stable", "", [900, 1, 0, 0, 5])] {
        by_envoy(text, &format!("outbound|80|{subset}|{host}"), counts);
        let [served, failed, unreached, tripped, denied] = counts;
        let route = format!("{vhost}_{series}_upstream_rq");
        let errors = failed + unreached + tripped;
        steady(text, &format!("{route}_completed"), served + errors + denied);
        steady(text, &format!("{route}{{response_code_class=\"5xx\"}}"), errors);
        steady(text, &format!("{route}{{response_code=\"403\"}}"), denied);
        steady(text, &format!("{route}_time_bucket{{le=\"+Inf\"}}"), served);
    }
}

/// "both" is counted in both places, and by Envoy with other numbers; "istio" and "envoy" in one.
fn history() -> String {
    let mut text = String::new();
    for (service, istio, envoy) in [("both", 1, 7), ("istio", 1, 0), ("envoy", 0, 1)] {
        for (subset, counts) in [("v2", [90, 2, 3, 1, 4]), ("v1", [900, 1, 0, 0, 5])] {
            let host = format!("{service}.bank.svc.cluster.local");
            let labels = format!("destination_service=\"{host}\",destination_version=\"{subset}\"");
            for reporter in ["source", "destination"].iter().take(2 * istio) {
                by_istio(&mut text, &format!("reporter=\"{reporter}\",{labels}"), counts);
            }
            if envoy > 0 {
                by_envoy(&mut text, &format!("outbound|80|{subset}|{host}"), counts.map(|count| count * envoy));
            }
        }
    }
    twins(&mut text, "twins.bank.svc.cluster.local");
    destinations(&mut text);
    by_envoy(&mut text, "outbound|80|v2|envoyance.bank.svc.cluster.local", [500; 5]);
    text + "# EOF\n"
}

/// The canary's "cart-next" beside the control's "cart", whose port 9090 is nobody's, in the places that they name.
fn destinations(text: &mut String) {
    let counts = [("cart-next", 80, [90, 2, 3, 1, 4]), ("cart", 80, [900, 1, 0, 0, 5]), ("cart", 9090, [7000; 5])];
    for (service, port, counts) in counts {
        by_envoy(text, &format!("outbound|{port}||{service}.envoy.svc.cluster.local"), counts);
    }
    for (service, _, counts) in &counts[..2] {
        let labels = format!("reporter=\"source\",destination_service=\"{service}.istio.svc.cluster.local\"");
        by_istio(text, &labels, *counts);
        by_envoy(text, &format!("outbound|80||{service}.istio.svc.cluster.local"), counts.map(|count| 7 * count));
    }
}

fn target(service: &str, mechanism: Mechanism, (canary, control): (&str, &str)) -> gateway::MetricsTarget {
    gateway::MetricsTarget {
        mesh: Mesh::Istio.into(),
        mechanism: mechanism.into(),
        hosts: vec![format!("{service}.bank.svc.cluster.local")],
        canary_series: canary.to_owned(),
        control_series: control.to_owned(),
        ..gateway::MetricsTarget::default()
    }
}

/// A tick's requests, errors, failed connections, trips and denials.
fn counted(arm: Option<proto::CohortTraffic>) -> [i64; 5] {
    let arm = arm.expect("set");
    let others = [arm.connection_failures, arm.circuit_breaker_trips, arm.denials].map(|one| one.expect("counted"));
    let [unreached, tripped, denied] = others;
    [arm.requests, arm.errors, unreached, tripped, denied].map(|count| count / 20)
}

#[tokio::test]
async fn what_two_places_count_is_counted_once_and_one_place_is_enough() {
    let world = World::with(Source::Prometheus(history())).await;
    for service in ["both", "istio", "envoy"] {
        let by_weight = target(service, Mechanism::Weight, ("v2", "v1"));
        let mut request = traffic("any", 20, 300);
        request.target = Some(by_weight.clone());
        let reply = world.traffic(request).await.expect(service);
        let found = (counted(reply.canary), counted(reply.control));
        assert_eq!(found, ([100, 6, 3, 1, 4], [906, 1, 0, 0, 5]), "{service}");
        let latency = reply.canary.expect("set").latency_p50_ms;
        assert!((latency - 5.0).abs() < 1e-6, "{service}: {latency}");

        let check = proto::CheckQueriesRequest { target: Some(by_weight.clone()), templates: String::new() };
        let checks = world.client().check_queries(world.request(check)).await.expect(service).into_inner().checks;
        let states: Vec<QueryState> = checks.iter().map(proto::QueryCheck::state).collect();
        assert_eq!(states, [QueryState::Data; 3], "{service}: {checks:?}");

        let mut request = analysis("any");
        request.target = Some(by_weight);
        let judged = world.analyse(request).await.expect(service);
        assert_eq!(judged.verdict(), Verdict::Regression, "{service}: {}", judged.explanation);
    }
    let mut nobody = analysis("any");
    nobody.target = Some(target("nobody", Mechanism::Weight, ("v2", "v1")));
    let judged = world.analyse(nobody).await.expect("an answer");
    assert_eq!(judged.verdict(), Verdict::NoData, "{}", judged.explanation);
}

#[tokio::test]
async fn a_service_as_a_whole_is_counted_where_nothing_tells_versions_apart() {
    let world = World::with(Source::Prometheus(history())).await;
    for service in ["both", "istio", "envoy"] {
        let mut request = traffic("any", 20, 300);
        request.target = Some(target(service, Mechanism::None, ("", "")));
        let reply = world.traffic(request).await.expect(service);
        assert_eq!(reply.canary.expect("set").requests, 0, "{service}");
        // Istio's trips are told by caller and server, each of its own limits.
        let [requests, errors, unreached, tripped, denied] = counted(reply.control);
        assert_eq!([requests, errors, unreached, denied], [1006, 7, 3, 9], "{service}");
        assert_eq!(tripped, if service == "envoy" { 1 } else { 2 }, "{service}");
    }
    let mut named = traffic("any", 20, 300);
    named.target = Some(target("istio", Mechanism::None, ("v2", "")));
    let status = world.traffic(named).await.expect_err("versions of a whole");
    assert_eq!(
        (status.code(), World::fields(&status)),
        (Code::InvalidArgument, vec!["target.canary_series".to_owned()])
    );
}

/// A release by weight from one host to another: each has counters of its own.
#[tokio::test]
async fn a_release_from_host_to_host_is_counted_by_its_destinations() {
    let world = World::with(Source::Prometheus(history())).await;
    let by_weight = |canary: String, control: String| gateway::MetricsTarget {
        canary_clusters: vec![canary],
        control_clusters: vec![control],
        ..target("any", Mechanism::Weight, ("canary", "stable"))
    };
    for (name, target) in [
        (
            "Istio's proxy before Envoy",
            by_weight("|cart-next.istio.svc.cluster.local".to_owned(), "|cart.istio.svc.cluster.local".to_owned()),
        ),
        (
            "a port",
            by_weight("|cart-next.envoy.svc.cluster.local".to_owned(), "80||cart.envoy.svc.cluster.local".to_owned()),
        ),
        (
            "subsets",
            by_weight("v2|envoy.bank.svc.cluster.local".to_owned(), "v1|envoy.bank.svc.cluster.local".to_owned()),
        ),
    ] {
        let mut request = traffic("any", 20, 300);
        request.target = Some(target.clone());
        let reply = world.traffic(request).await.expect(name);
        let found = (counted(reply.canary), counted(reply.control));
        assert_eq!(found, ([100, 6, 3, 1, 4], [906, 1, 0, 0, 5]), "{name}");

        let mut request = analysis("any");
        request.target = Some(target);
        let judged = world.analyse(request).await.expect(name);
        assert_eq!(judged.verdict(), Verdict::Regression, "{name}: {}", judged.explanation);
    }
}

/// A DestinationRule is mostly about connections and breakers, which its routes do not count.
#[tokio::test]
async fn failed_connections_and_trips_of_twin_subsets_are_counted_by_their_clusters() {
    let world = World::with(Source::Prometheus(history())).await;
    let host = "twins.bank.svc.cluster.local";
    let routes = target("twins", Mechanism::Subset, ("canary", "stable"));
    let clusters = gateway::MetricsTarget {
        canary_clusters: vec![format!("canary|{host}"), format!("v1-canary|{host}")],
        control_clusters: vec![format!("|{host}"), format!("v1|{host}")],
        ..routes.clone()
    };
    let mut request = traffic("any", 20, 300);
    request.target = Some(clusters);
    let reply = world.traffic(request.clone()).await.expect("traffic");
    assert_eq!((counted(reply.canary), counted(reply.control)), ([100, 6, 3, 1, 4], [906, 1, 0, 0, 5]));
    request.target = Some(routes);
    let reply = world.traffic(request).await.expect("traffic");
    let canary = reply.canary.expect("set");
    assert_eq!((canary.requests / 20, canary.connection_failures), (100, None), "nothing counts them");
}

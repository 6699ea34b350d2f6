//! Canary and control where other proxies count them, and counters with holes, in a real Prometheus.

use std::fmt::Write as _;

use meshward_proto::{
    gateway::v1 as gateway,
    metrics::v1 as proto,
    types::v1::{Mechanism, Mesh, Verdict},
};
use proto::QueryState;

use super::{
    history::{START, TICK, at},
    world::{Source, World, traffic},
};

/// One series: its value at the end of each of the 20 ticks and at the start, as text; `None` = no sample.
fn series(text: &mut String, name: &str, value: impl Fn(i64) -> Option<String>) {
    for (tick, value) in (0..=20).filter_map(|tick| Some((tick, value(tick)?))) {
        writeln!(text, "{name} {value} {}", START + tick * TICK).expect("a String takes everything");
    }
}

pub fn steady(text: &mut String, name: &str, per_tick: i64) {
    series(text, name, |tick| Some((1000 + per_tick * tick).to_string()));
}

/// A split between the backends `ledger` and `ledger-v2`, counted by two callers.
fn linkerd_backends(text: &mut String) {
    let counted = |what: &str, backend: &str, labels: &str| {
        format!(
            "outbound_{what}{{parent_name=\"ledger\",parent_namespace=\"bank\",backend_name=\"{backend}\",{labels}}}"
        )
    };
    let http = "http_route_backend_response_statuses_total";
    let grpc = "grpc_route_backend_response_statuses_total";
    for (labels, canary, control) in [
        ("http_status=\"200\",error=\"\",pod=\"a\"", 100, 900),
        ("http_status=\"200\",error=\"\",pod=\"b\"", 40, 400),
        ("http_status=\"403\",error=\"\",pod=\"a\"", 5, 10),
        ("http_status=\"503\",error=\"\",pod=\"a\"", 10, 0),
        ("http_status=\"\",error=\"FAIL_FAST\",pod=\"a\"", 1, 0),
    ] {
        steady(text, &counted(http, "ledger-v2", labels), canary);
        steady(text, &counted(http, "ledger", labels), control);
    }
    steady(text, &counted(grpc, "ledger-v2", "grpc_status=\"OK\",error=\"\""), 20);
    steady(text, &counted(grpc, "ledger-v2", "grpc_status=\"UNAVAILABLE\",error=\"\""), 4);
    let latency = "http_route_backend_response_duration_seconds_bucket";
    for backend in ["ledger-v2", "ledger"] {
        steady(text, &counted(latency, backend, "le=\"0.05\""), 100);
        steady(text, &counted(latency, backend, "le=\"0.1\""), 200);
        steady(text, &counted(latency, backend, "le=\"+Inf\""), 200);
    }
    // Failed connections are counted per Service, the balancer's gate per backend; other Services' are left alone.
    for (service, failed) in [("ledger-v2", 2), ("ledger", 1), ("other", 50)] {
        let labels = format!("direction=\"outbound\",peer=\"dst\",dst_namespace=\"bank\",dst_service=\"{service}\"");
        steady(text, &format!("tcp_close_total{{{labels},errno=\"ECONNREFUSED\"}}"), failed);
        steady(text, &format!("tcp_close_total{{{labels},errno=\"\"}}"), 300);
    }
    steady(text, &counted("http_balancer_queue_gate_shut_total", "ledger-v2", "pod=\"a\""), 3);
    // Another service's backend of the same name.
    let other = "outbound_http_route_backend_response_statuses_total{parent_name=\"other\",parent_namespace=\"bank\",\
                 backend_name=\"ledger-v2\",http_status=\"500\",error=\"\"}";
    steady(text, other, 500);
}

/// Servers `ledger-http` and `ledger-http-v2`. What was denied, not routed and limited has the same labels under
/// different names.
fn linkerd_servers(text: &mut String) {
    for (server, requests, failed, denied) in [("ledger-http-v2", 100, 2, 7), ("ledger-http", 900, 1, 0)] {
        let labels = format!("namespace=\"bank\",srv_name=\"{server}\"");
        steady(text, &format!("request_total{{direction=\"inbound\",{labels}}}"), requests);
        let response = |class| format!("response_total{{direction=\"inbound\",{labels},classification=\"{class}\"}}");
        steady(text, &response("success"), requests - failed);
        steady(text, &response("failure"), failed);
        steady(text, &format!("inbound_http_authz_deny_total{{{labels}}}"), denied);
        steady(text, &format!("inbound_http_route_not_found_total{{{labels}}}"), denied);
        // What was allowed names who allowed it, and what was denied names nobody.
        steady(text, &format!("inbound_http_authz_allow_total{{{labels},authz_name=\"web\"}}"), requests);
        let closed = format!("direction=\"inbound\",peer=\"src\",{labels}");
        steady(text, &format!("tcp_close_total{{{closed},errno=\"ECONNRESET\"}}"), denied / 7);
        steady(text, &format!("tcp_close_total{{{closed},errno=\"\"}}"), requests);
        steady(text, &format!("inbound_tcp_authz_deny_total{{{labels}}}"), denied / 7 * 2);
        for edge in ["50", "100", "+Inf"] {
            let name = format!("response_latency_ms_bucket{{direction=\"inbound\",{labels},le=\"{edge}\"}}");
            steady(text, &name, requests);
        }
    }
}

/// The pods of the Servers `teller` and `teller-admin`: those with the label went over to the twins and have counted anew
/// there, beside what they had counted before. Another Server of the same pods is left alone.
fn linkerd_labelled_pods(text: &mut String) {
    let canary = "namespace=\"bank\",meshward_io_cohort_0123abcd=\"canary\"";
    let other = "namespace=\"bank\",meshward_io_cohort_99999999=\"canary\"";
    for (labels, server, requests, failed) in [
        (canary, "teller-meshward", 50, 3),
        (canary, "teller-admin-meshward", 5, 1),
        (canary, "teller", 0, 0),
        ("namespace=\"bank\"", "teller", 450, 1),
        (other, "teller-admin", 45, 0),
        (canary, "else", 700, 700),
    ] {
        let labels = format!("{labels},srv_name=\"{server}\"");
        steady(text, &format!("request_total{{direction=\"inbound\",{labels}}}"), requests);
        let response = |class| format!("response_total{{direction=\"inbound\",{labels},classification=\"{class}\"}}");
        steady(text, &response("success"), requests - failed);
        steady(text, &response("failure"), failed);
        steady(text, &format!("inbound_http_authz_deny_total{{{labels}}}"), failed);
        for edge in ["10", "20", "+Inf"] {
            let name = format!("response_latency_ms_bucket{{direction=\"inbound\",{labels},le=\"{edge}\"}}");
            steady(text, &name, requests);
        }
    }
}

/// Pods with the target's label are the canary, pods without it the control, whatever other rollouts call them. What the
/// callers report is left alone.
fn istio_pods(text: &mut String, label: &str, service: &str) {
    let counted = |labels: &str| {
        format!(
            "istio_requests_total{{destination_service_name=\"{service}\",destination_service_namespace=\"bank\",{labels}}}"
        )
    };
    let at_server = "reporter=\"destination\",meshward_io_cohort_9999999999=\"canary\"";
    let canary = format!("reporter=\"destination\",{label}=\"canary\"");
    steady(text, &counted(&format!("{canary},response_code=\"200\",grpc_response_status=\"0\"")), 100);
    steady(text, &counted(&format!("{canary},response_code=\"200\",grpc_response_status=\"14\"")), 2);
    steady(text, &counted(&format!("{canary},response_code=\"503\",response_flags=\"UF,URX\"")), 2);
    steady(text, &counted(&format!("{canary},response_code=\"503\",response_flags=\"UO\"")), 1);
    steady(text, &counted(&format!("{canary},response_code=\"403\",response_flags=\"-\"")), 4);
    steady(text, &counted(&format!("{canary},response_code=\"200\",grpc_response_status=\"7\"")), 5);
    steady(text, &counted(&format!("{at_server},response_code=\"200\"")), 900);
    steady(text, &counted("reporter=\"source\",response_code=\"500\""), 5000);
}

/// Ordinary routes, canary 150 a tick, that were not read well.
fn holes(text: &mut String) {
    let route = |service: &str, route: &str| {
        format!(
            "envoy_vhost_shop_svc_cluster_local_80_route_{route}_upstream_rq_completed{{envoy_virtual_host=\"{service}\"}}"
        )
    };
    for (name, per_tick) in [("canary", 150), ("stable", 1350)] {
        let value = move |tick: i64| (per_tick * tick).to_string();
        // Nobody scraped for three minutes.
        series(text, &route("unseen", name), |tick| (!(5..17).contains(&tick)).then(|| value(tick)));
        series(text, &route("odd", name), |tick| {
            Some(match tick {
                5 | 6 => "NaN".to_owned(),
                9 => "+Inf".to_owned(),
                12 => "-7".to_owned(),
                _ => value(tick),
            })
        });
        // Restarted after each fifth tick, from zero.
        series(text, &route("restless", name), |tick| {
            Some((per_tick * ((tick - 1).max(0) % 5 + tick.min(1))).to_string())
        });
    }
}

pub fn bank() -> String {
    let mut text = String::new();
    linkerd_backends(&mut text);
    linkerd_servers(&mut text);
    linkerd_labelled_pods(&mut text);
    istio_pods(&mut text, "meshward_io_cohort_0123456789", "ledger");
    istio_pods(&mut text, "meshward_io_cohort", "mapped");
    holes(&mut text);
    text.push_str("# EOF\n");
    text
}

fn ledger(mesh: Mesh, mechanism: Mechanism, canary: &str, control: &str) -> gateway::MetricsTarget {
    gateway::MetricsTarget {
        mesh: mesh.into(),
        mechanism: mechanism.into(),
        cluster: String::new(),
        hosts: vec!["ledger.bank.svc.cluster.local".to_owned()],
        canary_series: canary.to_owned(),
        control_series: control.to_owned(),
        ..Default::default()
    }
}

/// Of `services`, whose pods with the label `key` are the canary.
fn labelled(mesh: Mesh, services: &[&str], key: &str) -> gateway::MetricsTarget {
    gateway::MetricsTarget {
        hosts: services.iter().map(|name| format!("{name}.bank.svc.cluster.local")).collect(),
        cohort_label: key.to_owned(),
        ..ledger(mesh, Mechanism::Instance, "canary", "")
    }
}

fn counted(traffic: Option<proto::CohortTraffic>) -> (i64, i64) {
    traffic.map(|traffic| (traffic.requests, traffic.errors)).expect("set")
}

#[tokio::test]
async fn every_mesh_counts_requests_errors_and_denials_its_own_way() {
    let world = World::with(Source::Prometheus(bank())).await;
    let cases = [
        (
            "Linkerd's backends",
            ledger(Mesh::Linkerd, Mechanism::Weight, "ledger-v2", "ledger"),
            (20 * 180, 20 * 15),
            (20 * 1310, 0),
            Some(50.0),
            [(2, 1), (3, 0), (5, 10)],
        ),
        (
            "Linkerd's Servers",
            ledger(Mesh::Linkerd, Mechanism::Instance, "ledger-http-v2", "ledger-http"),
            (20 * 114, 20 * 9),
            (20 * 900, 20),
            Some(25.0),
            [(3, 0), (-1, -1), (7, 0)],
        ),
        (
            "Linkerd's pods, several Servers",
            labelled(
                Mesh::Linkerd,
                &["teller", "teller-admin", "teller-meshward", "teller-admin-meshward"],
                "meshward.io/cohort-0123abcd",
            ),
            (20 * 59, 20 * 4),
            (20 * 496, 20),
            Some(5.0),
            [(0, 0), (-1, -1), (4, 1)],
        ),
        (
            "Istio's pods",
            labelled(Mesh::Istio, &["ledger"], "meshward.io/cohort-0123456789"),
            (20 * 114, 20 * 5),
            (20 * 900, 0),
            None,
            [(2, 0), (1, 0), (9, 0)],
        ),
        (
            "Istio's pods, by a label of the operator's own labelmap",
            labelled(Mesh::Istio, &["mapped"], "meshward.io/cohort"),
            (20 * 114, 20 * 5),
            (20 * 900, 0),
            None,
            [(2, 0), (1, 0), (9, 0)],
        ),
    ];
    for (name, target, canary, control, median, failures) in cases {
        let mut request = traffic("ledger", 20, 300);
        request.target = Some(target.clone());
        let reply = world.traffic(request).await.expect(name);
        assert_eq!((counted(reply.canary), counted(reply.control)), (canary, control), "{name}");
        // A tick's, in both arms; -1 = nothing counts them.
        let of = |traffic: Option<proto::CohortTraffic>| {
            let traffic = traffic.expect("set");
            [traffic.connection_failures, traffic.circuit_breaker_trips, traffic.denials]
                .map(|one| one.map_or(-1, |one| one / 20))
        };
        assert_eq!(
            (of(reply.canary), of(reply.control)),
            (failures.map(|one| one.0), failures.map(|one| one.1)),
            "{name}"
        );
        let found = reply.canary.expect("set").latency_p50_ms;
        assert!(median.map_or(found.is_nan(), |median| (found - median).abs() < 1e-6), "{name}: {found}");

        let request =
            world.request(proto::CheckQueriesRequest { target: Some(target.clone()), templates: String::new() });
        let checks = world.client().check_queries(request).await.expect(name).into_inner().checks;
        assert_eq!(checks[0].state(), QueryState::Data, "{name}: {}", checks[0].reason);

        let mut request = super::world::analysis("ledger");
        (request.target, request.periods[0].weight_bp) = (Some(target), 1200);
        let analysis = world.analyse(request).await.expect(name);
        assert_eq!(analysis.verdict(), Verdict::Regression, "{name}: {}", analysis.explanation);
    }
}

#[tokio::test]
async fn a_host_outside_of_the_cluster_has_no_namespace_to_count_in() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let mut target = ledger(Mesh::Linkerd, Mechanism::Weight, "ledger-v2", "ledger");
    target.hosts = vec!["bank.example.com".to_owned()];
    let request = world.request(proto::CheckQueriesRequest { target: Some(target), templates: String::new() });
    let status = world.client().check_queries(request).await.expect_err("not to be asked");
    assert_eq!(World::fields(&status), ["target.hosts"], "{}", status.message());
}

#[tokio::test]
async fn holes_restarts_and_values_that_are_no_counts_lose_no_request() {
    let world = World::with(Source::Prometheus(bank())).await;
    for service in ["unseen", "odd", "restless"] {
        let reply = world.traffic(traffic(service, 20, 300)).await.expect(service);
        assert_eq!((counted(reply.canary), counted(reply.control)), ((3000, 0), (27_000, 0)), "{service}");
        let analysis = world.analyse(super::world::analysis(service)).await.expect(service);
        assert_eq!(analysis.verdict(), Verdict::Healthy, "{service}: {}", analysis.explanation);
        assert!(analysis.evidence.is_finite(), "{service}");
        assert_eq!(analysis.samples.iter().map(|sample| sample.canary_requests).sum::<i64>(), 3000, "{service}");
    }
    let mut early = traffic("unseen", 0, 300);
    early.end_time = Some(at(-1000));
    let reply = world.traffic(early).await.expect("an answer");
    assert_eq!(counted(reply.canary), (0, 0), "before anything was counted");
}

/// Scraped 8 s before the end of each tick; 10 % of 100 rps are the canary's, and half of them from the tenth tick on.
fn late() -> String {
    let mut text = String::new();
    for (name, before, since) in [("canary", 10, 50), ("stable", 90, 50)] {
        for second in (7..20 * TICK).step_by(usize::try_from(TICK).expect("positive")) {
            let count = before * second.min(10 * TICK) + since * (second - 10 * TICK).max(0);
            let name = format!("envoy_vhost_shop_svc_cluster_local_80_route_{name}_upstream_rq_completed");
            writeln!(text, "{name}{{envoy_virtual_host=\"late\"}} {count} {}", START + second).expect("a String");
        }
    }
    text + "# EOF\n"
}

#[tokio::test]
async fn a_step_is_counted_from_the_first_scrape_after_it_was_live() {
    for (seconds, ticks, share) in [(0, 10, 0.4787), (15, 9, 0.5)] {
        let setup = |args: &mut meshward_metrics_collector::Args, _: &std::path::Path| {
            args.source.scrape_interval = std::time::Duration::from_secs(seconds);
        };
        let world = World::with_args(Source::Prometheus(late()), setup).await;
        let mut request = super::world::analysis("late");
        request.periods.push(proto::WeightPeriod { start_time: Some(at(10)), weight_bp: 5000 });
        let analysis = world.analyse(request).await.expect("an analysis");
        let (canary, control) = (analysis.canary.expect("set"), analysis.control.expect("set"));
        assert_eq!(canary.requests + control.requests, ticks * 15 * 100, "{seconds} s: whole ticks of the step");
        assert!((analysis.observed_share - share).abs() < 1e-4, "{seconds} s: {}", analysis.observed_share);
        let all: i64 = analysis.samples.iter().map(|tick| tick.canary_requests).sum();
        assert!(all > canary.requests, "the evidence is of all ticks");
    }
}

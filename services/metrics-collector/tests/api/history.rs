//! What Prometheus remembers: five minutes of a namespace `shop`, scraped every 15 s, as OpenMetrics text.

use std::fmt::Write as _;

/// When every history begins, seconds since the epoch.
pub const START: i64 = 1_700_000_000;
/// Seconds between two scrapes, and length of a tick.
pub const TICK: i64 = 15;
const TICKS: i64 = 20;

/// The end of a tick; 0 = the start.
pub fn at(tick: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: START + tick * TICK, nanos: 0 }
}

/// One line per sample: `value` gives the counter at the end of each tick, `None` where there is no sample.
fn counter(text: &mut String, series: &str, value: impl Fn(i64) -> Option<i64>) {
    for (tick, value) in (0..=TICKS).filter_map(|tick| Some((tick, value(tick)?))) {
        writeln!(text, "{series} {value} {}", START + tick * TICK).expect("a String takes everything");
    }
}

/// The route counters of one service as Envoy's own rules name them: the service is a label.
fn envoy(service: &str, name: &str, what: &str, labels: &str) -> String {
    route(service, name, &format!("rq_{what}"), labels)
}

fn route(service: &str, name: &str, what: &str, labels: &str) -> String {
    format!(
        "envoy_vhost_shop_svc_cluster_local_8080_route_{name}_upstream_{what}\
         {{envoy_virtual_host=\"{service}\"{labels}}}"
    )
}

fn errors(service: &str, route: &str, class: u8) -> String {
    envoy(service, route, "xx", &format!(",envoy_response_code_class=\"{class}\""))
}

/// All services of the shop.
pub fn shop() -> String {
    let mut text = String::new();
    good(&mut text);
    bad(&mut text);
    bad_istio(&mut text);
    for (route, per_tick) in [("canary", 0), ("stable", 0)] {
        counter(&mut text, &envoy("silent", route, "completed", ""), |tick| Some(7 + per_tick * tick));
    }
    for (route, per_tick) in [("canary", 0), ("stable", 1350)] {
        counter(&mut text, &envoy("unreached", route, "completed", ""), |tick| Some(per_tick * tick));
    }
    counter(&mut text, &envoy("half", "stable", "completed", ""), |tick| Some(1350 * tick));
    // Scraped every minute only; the reader's grid is finer.
    for (route, per_tick) in [("canary", 150), ("stable", 1350)] {
        counter(&mut text, &envoy("slow-scrape", route, "completed", ""), |tick| {
            (tick % 4 == 0).then_some(1_000_000 + per_tick * tick)
        });
    }
    text.push_str("# EOF\n");
    text
}

/// Two callers. The second restarts after tick 10: its counters begin anew. Errors that are no server errors do not
/// count.
fn good(text: &mut String) {
    for (route, per_tick) in [("canary", 150), ("stable", 1350)] {
        let steady = |tick: i64| Some(5000 + per_tick * tick);
        let restarted =
            move |tick: i64| Some(if tick <= 10 { 9_000 + per_tick * tick } else { per_tick * (tick - 10) });
        for what in ["completed", "xx", "time_bucket"] {
            match what {
                "completed" => {
                    counter(text, &envoy("good", route, what, ",instance=\"a\""), steady);
                    counter(text, &envoy("good", route, what, ",instance=\"b\""), restarted);
                }
                "xx" => counter(text, &errors("good", route, 4), steady),
                _ => {
                    counter(text, &envoy("good", route, what, ",le=\"10\""), |tick| Some(per_tick / 2 * tick));
                    counter(text, &envoy("good", route, what, ",le=\"25\""), |tick| Some(per_tick * tick));
                    counter(text, &envoy("good", route, what, ",le=\"+Inf\""), |tick| Some(per_tick * tick));
                }
            }
        }
    }
    // A class repeats what the codes count; a breaker turned away retries.
    let code = ",envoy_response_code=\"403\"";
    counter(text, &route("good", "canary", "rq", code), |tick| (tick >= 3).then_some(2));
    counter(text, &route("good", "stable", "rq", code), |tick| Some(40 + tick));
    counter(text, &route("good", "stable", "rq_retry_overflow", ""), |tick| (tick >= 9).then_some(5));
    counter(text, &errors("good", "canary", 5), |tick| (tick >= 6).then_some(1));
    counter(text, &errors("good", "stable", 5), |tick| Some(300 + 2 * tick));
}

/// Fails from the eighth tick on, one request in ten of the canary's.
fn bad(text: &mut String) {
    for (route, per_tick) in [("canary", 150), ("stable", 1350)] {
        counter(text, &envoy("bad", route, "completed", ""), |tick| Some(per_tick * tick));
    }
    counter(text, &errors("bad", "canary", 5), |tick| (tick >= 8).then(|| 20 * (tick - 7)));
    counter(text, &errors("bad", "stable", 5), |tick| Some(2 * tick));
}

/// The same as Istio's bootstrap names it. The series per status code repeat what the class counts.
fn bad_istio(text: &mut String) {
    let name = |route: &str, rest: &str| {
        format!("envoy_vhost_bad_istio_shop_svc_cluster_local_8080_route_{route}_upstream_rq{rest}")
    };
    for (route, per_tick) in [("canary", 150), ("stable", 1350)] {
        counter(text, &name(route, "_completed"), |tick| Some(per_tick * tick));
    }
    counter(text, &name("canary", "{response_code=\"403\"}"), Some);
    counter(text, &name("stable", "{response_code=\"403\"}"), |tick| Some(9 * tick));
    for labels in ["{response_code_class=\"5xx\"}", "{response_code=\"503\"}"] {
        counter(text, &name("canary", labels), |tick| (tick >= 8).then(|| 20 * (tick - 7)));
        counter(text, &name("stable", labels), |tick| Some(2 * tick));
    }
}

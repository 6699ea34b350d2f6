//! The proxy of one pod, a caller's sidecar most often: upstream Envoy with a bootstrap like that of Istio's own sidecar.
//!
//! A route of a VirtualService with `match.statPrefix: canary` gives these series, which Prometheus labels with `pod`,
//! `namespace` and `app` (the dots, dashes and colon of the virtual host `checkout.shop.svc.cluster.local:8080` become `_`):
//!
//! ```text
//! envoy_vhost_checkout_shop_svc_cluster_local_8080_route_canary_upstream_rq{response_code="200"}
//! envoy_vhost_checkout_shop_svc_cluster_local_8080_route_canary_upstream_rq{response_code_class="2xx"}
//! envoy_vhost_checkout_shop_svc_cluster_local_8080_route_canary_upstream_rq_completed
//! envoy_vhost_checkout_shop_svc_cluster_local_8080_route_canary_upstream_rq_time_bucket{le="…"}   milliseconds
//! ```
//!
//! The first two share one name: a sum over it counts each request twice unless it asks for one of the labels. Counters
//! move at once; the histogram of times is brought up to date every 5 s only. A series is there from its first request on.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::mesh::{NAMESPACE, Workload};
use super::{READY, StackError, answers, error, http_client};
use crate::process::{Process, Program};
use crate::tools::Tools;

/// Envoy's admin interface, on the address of its pod; the same number as in Istio.
pub(super) const ADMIN_PORT: u16 = 15000;
/// Where it tells Prometheus what it has counted.
pub(super) const METRICS_PATH: &str = "/stats/prometheus";

/// What the proxy says it is; istiod sends an older proxy less.
const ISTIO_VERSION: &str = "1.32.0";

/// Istio's bootstrap raises the limit for regular expressions to this; Envoy's own is 100. It is also what makes Envoy
/// refuse a bigger program, which istiod would send.
const REGEX_PROGRAM_LIMIT: u32 = 32768;

/// Where a proxy is reached.
pub(super) struct Addresses {
    /// Its listener.
    pub listener: SocketAddr,
    /// `http://IP:PORT` without a slash at the end.
    pub admin_url: String,
}

/// Starts the proxy; returns when it has its listener from istiod and accepts connections.
pub(super) async fn start(
    workload: &Workload,
    istiod: SocketAddr,
    dir: &Path,
    tools: &Tools,
    logs: &Path,
) -> Result<(Process, Addresses), StackError> {
    let dir = dir.join("envoy");
    error::create_dir(&dir)?;
    let bootstrap_file = dir.join(format!("{}.json", workload.pod));
    let address = workload.address;
    error::write(&bootstrap_file, format!("{:#}", bootstrap(workload, istiod)))?;
    let program = Program::new(format!("envoy-{}", workload.pod), &tools.envoy)
        .directory(&dir)
        .arg("--config-path")
        .arg(&bootstrap_file)
        .args(["--concurrency", "1", "--drain-strategy", "immediate", "--log-level", "info"])
        // A shared memory region of its own, so that several Envoys run on one machine.
        .arg("--use-dynamic-base-id");
    let http = http_client()?;
    let process = Process::start(program, logs).await?;
    let admin_url = format!("http://{address}:{ADMIN_PORT}");
    let listener = workload.listener();
    process.ready(READY, || is_live(&http, &admin_url, listener)).await?;
    Ok((process, Addresses { listener, admin_url }))
}

async fn is_live(http: &reqwest::Client, admin_url: &str, egress: SocketAddr) -> Result<(), String> {
    answers(http, &format!("{admin_url}/ready")).await?;
    // An Envoy without listeners calls itself ready, too.
    tokio::net::TcpStream::connect(egress).await.map_err(|error| format!("{egress}: {error}"))?;
    Ok(())
}

fn bootstrap(workload: &Workload, istiod: SocketAddr) -> Value {
    let Workload { app, pod, address, gateway_port } = workload;
    let role = if gateway_port.is_some() { "router" } else { "sidecar" };
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "node": {
            "id": format!("{role}~{address}~{pod}.{NAMESPACE}~{NAMESPACE}.svc.cluster.local"),
            "cluster": format!("{app}.{NAMESPACE}"),
            "metadata": {
                "NAME": pod,
                "NAMESPACE": NAMESPACE,
                "INSTANCE_IPS": address.to_string(),
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": ISTIO_VERSION,
                // The caller sends to the sidecar by itself; no traffic is captured.
                "INTERCEPTION_MODE": "NONE",
                "LABELS": {"app": app},
            },
        },
        "layered_runtime": {
            "layers": [
                {"name": "global", "static_layer": {"re2.max_program_size.error_level": REGEX_PROGRAM_LIMIT}},
                {"name": "admin", "admin_layer": {}},
            ],
        },
        "stats_config": stats_config(),
        "admin": {"address": socket_address(SocketAddr::from((*address, ADMIN_PORT)))},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(istiod)}}]}],
                },
            }],
        },
    })
}

/// Which statistics exist and how their names split into labels, as in Istio's own bootstrap: what is measured here can be
/// measured in a cluster, under the same names. (Envoy's own rules would name the labels `envoy_response_code…` and cut a
/// virtual host's name at its first dot.)
fn stats_config() -> Value {
    let tag = |name: &str, regex: &str| json!({"tag_name": name, "regex": regex});
    let prefix = |text: &str| json!({"prefix": text});
    let suffix = |text: &str| json!({"suffix": text});
    json!({
        "use_all_default_tags": false,
        "stats_tags": [
            tag("cluster_name", r"^cluster(\.(.+);)"),
            tag(
                "http_conn_manager_prefix",
                r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
            ),
            tag("response_code", r"_rq(_(\d{3}))$"),
            tag("response_code_class", r"_rq(_(\dxx))$"),
            tag("authz_enforce_result", r"rbac(\.(allowed|denied))"),
            tag("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
            tag("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
        ],
        "stats_matcher": {"inclusion_list": {"patterns": [
            prefix("cluster_manager"),
            prefix("listener_manager"),
            prefix("server"),
            prefix("cluster.xds-grpc"),
            suffix("rbac.allowed"),
            suffix("rbac.denied"),
            suffix("shadow_allowed"),
            suffix("shadow_denied"),
            suffix("downstream_cx_active"),
            // The routes that a VirtualService gives a `statPrefix`.
            json!({"safe_regex": {"regex": r"vhost\..*\.route\..*"}}),
            // Not by default: as an operator has it who lets the proxies keep what tells of destinations and of what they let in
            // (sidecar.istio.io/statsInclusionRegexps).
            json!({"safe_regex": {"regex": r"http\.inbound_.*\.downstream_rq_(completed|[1-5]xx|time)"}}),
            json!({"safe_regex": {"regex": r"cluster\.(in|out)bound.*\.upstream_(rq_(completed|[1-5]xx|[0-9]{3}|time|pending_overflow|retry_overflow)|cx_(connect_fail|overflow))"}}),
        ]}},
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

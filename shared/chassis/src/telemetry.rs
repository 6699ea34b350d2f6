//! Logs, traces and metrics, set up once per process.
//!
//! Logs are JSON lines on stderr, each with the trace and span id it belongs to. Traces go to an OTLP endpoint if one
//! is given; without one, spans still exist, so that ids are in the logs and travel on to peers. RED metrics per RPC
//! come from the tower layer in `layer.rs`, which reads the status from headers *or trailers* and counts abandoned
//! calls.

mod body;
mod layer;
mod log;
mod metrics;

use std::{collections::HashMap, time::Duration};

use clap::Args;
use opentelemetry::{Context, KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use body::Observed;
pub use metrics::Metrics;

pub(crate) use layer::{Observer, code_label, mark, observe};

const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// What the exporter itself does must not make spans or debug lines, or exporting would never end.
const SILENCED: &str = "h2=off,hyper=off,hyper_util=off,tower=off,tonic=off,\
    opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off";

/// Flags about logs and traces.
#[derive(Debug, Clone, Args)]
pub struct TelemetryArgs {
    /// What to log: a level, or directives such as "info,meshward_chassis=debug".
    #[arg(long, env = "MESHWARD_LOG", default_value = "info")]
    pub log: String,

    /// Where to send traces: an OTLP/gRPC endpoint such as http://127.0.0.1:4317. Not set: traces are not exported.
    #[arg(long, env = "MESHWARD_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
}

/// Keeps the exporter alive; [`Telemetry::flush`] at the end sends what is still waiting.
#[derive(Debug)]
#[must_use = "the last spans are lost unless it is flushed"]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Sets up the process: subscriber, propagator, exporter. Must run inside a tokio runtime. A second call in the same
/// process (tests) leaves the first subscriber in place.
///
/// # Errors
/// A sentence, if the log directives or the endpoint are malformed.
pub fn init(service_name: &str, args: &TelemetryArgs) -> Result<Telemetry, String> {
    let filter = |level: &str| EnvFilter::try_new(format!("{level},{SILENCED}"));
    let lines_filter = filter(&args.log).map_err(|error| format!("--log {:?} is not understood: {error}", args.log))?;
    // Quiet logs must not thin out the traces.
    let spans_filter = filter("info").map_err(|error| error.to_string())?;
    let provider = provider(service_name, args.otlp_endpoint.as_deref())?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("meshward"))
        .with_location(false)
        .with_filter(spans_filter);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(log::JsonLines::new(service_name))
        .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
        .with_writer(std::io::stderr)
        .with_filter(lines_filter);
    // An error here only says that a subscriber is there already.
    let _ = tracing_subscriber::registry().with(spans).with(lines).try_init();
    Ok(Telemetry { provider })
}

fn provider(service_name: &str, endpoint: Option<&str>) -> Result<SdkTracerProvider, String> {
    let resource = Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = endpoint else { return Ok(builder.build()) };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_DEADLINE)
        .build()
        .map_err(|error| format!("--otlp-endpoint {endpoint:?}: {error}"))?;
    Ok(builder.with_batch_exporter(exporter).build())
}

impl Telemetry {
    /// Sends what is waiting, for at most five seconds. Blocks: call it from a blocking thread while the runtime still
    /// runs.
    pub fn flush(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(EXPORT_DEADLINE) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// The W3C `traceparent` of the current span, to store with work that goes on later. `None` outside of any trace.
pub fn current_traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    let context = tracing::Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
    carrier.remove("traceparent")
}

/// A span called `name` that continues the trace of a stored `traceparent`. A malformed one starts a new trace.
pub fn span_with_parent(name: &str, traceparent: &str) -> tracing::Span {
    let span = tracing::info_span!("background", otel.name = name);
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    adopt(&span, &carrier);
    span
}

/// Makes `span` a child of the context in `carrier`.
pub(crate) fn adopt(span: &tracing::Span, carrier: &dyn opentelemetry::propagation::Extractor) {
    let parent: Context = global::get_text_map_propagator(|propagator| propagator.extract(carrier));
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(?error, "the parent of a span was not set");
    }
}

/// Header maps as the propagator wants to see them.
pub(crate) struct Headers<'a>(pub &'a http::HeaderMap);

impl opentelemetry::propagation::Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Writes the current context into headers.
pub(crate) fn inject(span: &tracing::Span, headers: &mut http::HeaderMap) {
    let mut carrier = HashMap::<String, String>::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&span.context(), &mut carrier));
    for (key, value) in carrier {
        if let (Ok(key), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            headers.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests;

//! The receiver behind the generated client, and trees of hand-made spans.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// An export of one service with spans of (trace, span, parent) ids; 0 for no parent.
fn export(service: &str, spans: &[(u8, u8, u8)]) -> ExportTraceServiceRequest {
    let name = AnyValue { value: Some(Value::StringValue(service.to_owned())) };
    let attributes = vec![KeyValue { key: "service.name".to_owned(), value: Some(name), ..KeyValue::default() }];
    let spans = spans.iter().map(|(trace, id, parent)| otlp::Span {
        trace_id: vec![*trace; 16],
        span_id: vec![*id; 8],
        parent_span_id: if *parent == 0 { Vec::new() } else { vec![*parent; 8] },
        name: format!("span\n{id}"),
        start_time_unix_nano: u64::from(*id) * 1_000_000,
        end_time_unix_nano: u64::from(*id) * 2_000_000,
        ..otlp::Span::default()
    });
    let scope_spans = vec![otlp::ScopeSpans { spans: spans.collect(), ..otlp::ScopeSpans::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportTraceServiceRequest {
        resource_spans: vec![otlp::ResourceSpans { resource, scope_spans, ..otlp::ResourceSpans::default() }],
    }
}

#[tokio::test]
async fn spans_of_two_services_come_together_by_trace() {
    let mut receiver = OtlpReceiver::start().await.unwrap();
    let connected = TraceServiceClient::connect(receiver.endpoint()).await.unwrap();
    let mut client = connected.send_compressed(CompressionEncoding::Gzip);
    let trace = "01".repeat(16);
    let services = ["gateway", "orchestrator"];
    let (seen, ()) = tokio::join!(receiver.wait_for_services(&trace, &services, Duration::from_secs(30)), async {
        client.export(export("gateway", &[(1, 3, 2), (2, 9, 0)])).await.unwrap();
        client.export(export("orchestrator", &[(1, 2, 0)])).await.unwrap();
        // An exporter whose answer got lost sends again.
        client.export(export("orchestrator", &[(1, 2, 0)])).await.unwrap();
    });
    assert_eq!(seen, BTreeSet::from(services.map(str::to_owned)));
    assert_eq!(receiver.trace_ids(), [trace.clone(), "02".repeat(16)]);
    let spans = receiver.spans_of_trace(&trace);
    let told: Vec<_> = spans.iter().map(|span| (span.service.as_str(), span.name.as_str())).collect();
    assert_eq!(told, [("orchestrator", "span 2"), ("gateway", "span 3")]);
    assert_eq!(spans[1].parent_id.as_deref(), Some("0202020202020202"));
    assert_eq!(spans[1].duration, Duration::from_millis(3));
    assert_eq!(spans[0].parent_id, None);

    receiver.stop().await;
    assert!(TraceServiceClient::connect(receiver.endpoint()).await.is_err(), "the port is free again");
    assert_eq!(receiver.services_in_trace(&trace).len(), 2, "what was collected can still be read");
}

#[tokio::test]
async fn waiting_ends_when_the_time_is_over() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let seen = receiver.wait_for_services(TRACE, &["gateway"], Duration::from_millis(20)).await;
    assert!(seen.is_empty());
    assert_eq!(receiver.render(TRACE, 60), "no spans\n");
}

#[test]
fn the_oldest_spans_go_first_and_are_counted() {
    let mut store = SpanStore::new(3);
    store.add(export("gateway", &[(1, 1, 0), (1, 2, 1), (2, 3, 0), (2, 4, 3)]));
    assert_eq!((store.dropped(), store.of_trace(&"01".repeat(16)).len()), (1, 1));
    store.add(ExportTraceServiceRequest { resource_spans: vec![otlp::ResourceSpans::default()] });
    store.add(export("", &[(3, 1, 0)]));
    assert_eq!(store.dropped(), 2);
    assert_eq!(store.trace_ids(), ["02".repeat(16), "03".repeat(16)]);
    assert_eq!(store.of_trace(&"03".repeat(16))[0].service, "(unknown service)");
}

#[test]
fn statuses_are_kept_and_long_texts_cut() {
    let mut request = export("gateway", &[(1, 1, 0), (1, 2, 0), (1, 3, 0)]);
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans[0].status = Some(otlp::Status { code: 1, message: String::new() });
    spans[1].status = Some(otlp::Status { code: 2, message: "no\n".repeat(1_000) });
    spans[2].end_time_unix_nano = 0;
    let mut store = SpanStore::new(9);
    store.add(request);
    let spans = store.of_trace(&"01".repeat(16));
    assert_eq!(spans[0].status, SpanStatus::Ok);
    assert!(matches!(&spans[1].status, SpanStatus::Error(text) if text.len() == 160 && text.starts_with("no no ")));
    assert_eq!((&spans[2].status, spans[2].duration), (&SpanStatus::Unset, Duration::ZERO));
}

/// A span that starts at `id` and takes `ms`.
fn span(id: u32, parent: u32, service: &str, name: &str, ms: u64) -> Span {
    Span {
        trace_id: TRACE.to_owned(),
        span_id: format!("{id:016x}"),
        parent_id: (parent != 0).then(|| format!("{parent:016x}")),
        service: service.to_owned(),
        name: name.to_owned(),
        start_nanos: u64::from(id) * 1_000_000,
        duration: Duration::from_millis(ms),
        status: SpanStatus::Unset,
    }
}

#[test]
fn a_tree_tells_who_called_whom() {
    let mut spans = vec![
        span(1, 0, "orchestrator", "Deploy", 83_200),
        span(2, 1, "registry", "GetVersion", 4),
        span(90, 1, "gateway", "Restore", 150),
        span(95, 77, "collector", "Compare", 7),
    ];
    for call in 0..42 {
        spans.push(span(10 + call, 1, "gateway", "ApplyExposure", 3));
        spans.push(span(100 + call, 10 + call, "gateway", "PATCH", 2));
    }
    spans[2].status = SpanStatus::Error("conflict".to_owned());
    spans[8].status = SpanStatus::Error("too late".to_owned());
    let expected = [
        "trace 0af7651916cd43dd8448eb211c80319c · 88 spans · 4 services · 83.2 s",
        "orchestrator  Deploy  83.2 s",
        "  registry  GetVersion  4.0 ms",
        "  gateway  ApplyExposure  × 42, median 3.0 ms, 1 failed: too late",
        "    gateway  PATCH  × 42, median 2.0 ms",
        "  gateway  Restore  150 ms, failed: conflict",
        "(parent not seen)",
        "  collector  Compare  7.0 ms",
    ];
    let text = render_trace(&spans, 60);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn any_trace_fits_the_lines_and_hides_no_span_silently() {
    let mut chain: Vec<Span> = (1..=50_000).map(|id| span(id, id - 1, "gateway", "retry", 1)).collect();
    let wide: Vec<Span> = (1..=500).map(|id| span(id, 0, "gateway", &format!("call {id}"), 1)).collect();
    let bushy: Vec<Span> = (1..=500).map(|id| span(id, id / 8, "gateway", &format!("call {id}"), 1)).collect();
    let table = [("deep", chain.clone()), ("wide", wide), ("bushy", bushy)];
    for (name, spans) in &table {
        for max in [2, 3, 10, 60] {
            let text = render_trace(spans, max);
            assert!(text.lines().count() <= max, "{name} in {max} lines:\n{text}");
            let told: usize = text.lines().skip(1).map(spans_told).sum();
            assert_eq!(told, spans.len(), "{name} in {max} lines:\n{text}");
        }
    }
    chain[0].parent_id = Some(chain[9].span_id.clone());
    let text = render_trace(&chain[..10], 60);
    assert!(text.contains("(parent not seen)\n  gateway  retry  × 10"), "a loop is printed and cut:\n{text}");
}

/// How many spans a line of `gateway` spans says that it stands for.
fn spans_told(line: &str) -> usize {
    let number_after = |mark: &str| {
        let rest = line.split_once(mark)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    let own = usize::from(line.trim_start().starts_with("gateway"));
    own + number_after("(+ ").unwrap_or(0) + number_after("… and ").unwrap_or(0)
}

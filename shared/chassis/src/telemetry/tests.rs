use http::HeaderMap;
use http_body_util::{BodyExt as _, Full, StreamBody};
use std::sync::{Arc, Mutex};
use tonic::Code;

use super::*;

fn recorder() -> (Arc<Mutex<Vec<Code>>>, impl FnOnce(Code) + Send + 'static) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&seen);
    (seen, move |code| writer.lock().expect("no panic").push(code))
}

fn trailers(code: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code.parse().expect("a value"))])
}

#[tokio::test]
async fn the_status_is_taken_once_from_wherever_it_comes() {
    let (seen, on_end) = recorder();
    let body = Full::new(bytes::Bytes::from_static(b"x")).with_trailers(async { Some(Ok(trailers("5"))) });
    Observed::new(body, &HeaderMap::new(), on_end).collect().await.expect("a body");
    assert_eq!(*seen.lock().expect("no panic"), [Code::NotFound], "trailers");

    let (seen, on_end) = recorder();
    drop(Observed::new(Full::new(bytes::Bytes::new()), &trailers("7"), on_end));
    assert_eq!(*seen.lock().expect("no panic"), [Code::PermissionDenied], "headers");

    let (seen, on_end) = recorder();
    drop(Observed::new(Full::new(bytes::Bytes::from_static(b"x")), &HeaderMap::new(), on_end));
    assert_eq!(*seen.lock().expect("no panic"), [Code::Cancelled], "dropped");

    let (seen, on_end) = recorder();
    let broken = futures::stream::iter([Err::<http_body::Frame<bytes::Bytes>, _>(std::io::Error::other("cut"))]);
    assert!(Observed::new(StreamBody::new(broken), &HeaderMap::new(), on_end).collect().await.is_err());
    assert_eq!(*seen.lock().expect("no panic"), [Code::Internal], "broken");
}

#[tokio::test]
async fn background_work_continues_a_stored_trace() {
    let args = TelemetryArgs { log: "error".to_owned(), otlp_endpoint: None };
    let _telemetry = init("test", &args).expect("telemetry");
    let stored = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let inside = span_with_parent("tick", stored).in_scope(current_traceparent).expect("a context");
    assert!(inside.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{inside}");
    assert_ne!(inside, stored, "it is a child");
    let fresh = span_with_parent("tick", "nonsense").in_scope(current_traceparent).expect("a context");
    assert!(!fresh.contains("0af7651916cd43dd8448eb211c80319c"));
}

#[test]
fn malformed_flags_are_told() {
    let args = TelemetryArgs { log: "loud=[".to_owned(), otlp_endpoint: None };
    assert!(init("test", &args).expect_err("malformed").contains("--log"));
}

#[test]
fn log_lines_are_json_with_the_ids_of_their_trace() {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let provider = provider("test", None).expect("a provider");
    let subscriber =
        tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test"))).with(
            tracing_subscriber::fmt::layer()
                .event_format(log::JsonLines::new("test"))
                .with_writer(move || writer.clone()),
        );
    let trace_id = tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("work");
        span.in_scope(|| tracing::info!(step = 3, "a \"quoted\" word\nand a new line"));
        tracing::info!("outside");
        opentelemetry::trace::TraceContextExt::span(&span.context()).span_context().trace_id().to_string()
    });
    let text = String::from_utf8(buffer.0.lock().expect("no panic").clone()).expect("UTF-8");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["message"], "a \"quoted\" word\nand a new line");
    assert_eq!((&lines[0]["step"], &lines[0]["trace_id"]), (&serde_json::json!(3), &serde_json::json!(trace_id)));
    assert_eq!(lines[1].get("trace_id"), None, "{text}");
}

//! The bounded store of spans, and what is kept of each.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

/// Names and messages are cut to this many characters, so that the number of spans bounds the memory.
const MAX_TEXT: usize = 160;
/// The name of a service that does not say its name.
const UNKNOWN_SERVICE: &str = "(unknown service)";

/// What is kept of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 32 lower-case hex digits.
    pub trace_id: String,
    /// 16 lower-case hex digits.
    pub span_id: String,
    /// The id of the span that caused this one; `None` for the root of a trace.
    pub parent_id: Option<String>,
    /// `service.name` of the process that made it.
    pub service: String,
    /// What was done.
    pub name: String,
    /// Nanoseconds since 1970, by the clock of the process that made it.
    pub start_nanos: u64,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub status: SpanStatus,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nobody said: by convention no error.
    Unset,
    /// Said to be well.
    Ok,
    /// An error, with its message (may be empty).
    Error(String),
}

/// A ring of spans in the order in which they came.
#[derive(Debug)]
pub(super) struct SpanStore {
    spans: VecDeque<Span>,
    max: usize,
    dropped: u64,
}

impl SpanStore {
    pub(super) fn new(max: usize) -> Self {
        Self { spans: VecDeque::new(), max, dropped: 0 }
    }

    pub(super) fn add(&mut self, export: ExportTraceServiceRequest) {
        for of_resource in export.resource_spans {
            let service = service_name(of_resource.resource.as_ref());
            let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
            spans.for_each(|span| self.push(kept(span, &service)));
        }
    }

    fn push(&mut self, span: Span) {
        self.spans.push_back(span);
        while self.spans.len() > self.max {
            self.spans.pop_front();
            self.dropped += 1;
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn trace_ids(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let ids = self.spans.iter().map(|span| &span.trace_id);
        ids.filter(|id| seen.insert(id.as_str())).cloned().collect()
    }

    pub(super) fn of_trace(&self, trace_id: &str) -> Vec<Span> {
        let mut seen = HashSet::new();
        let of_trace = self.spans.iter().filter(|span| span.trace_id == trace_id);
        let mut spans: Vec<Span> = of_trace.filter(|span| seen.insert(span.span_id.as_str())).cloned().collect();
        spans.sort_by_key(|span| span.start_nanos);
        spans
    }
}

fn kept(span: otlp::Span, service: &str) -> Span {
    let status = span.status.unwrap_or_default();
    Span {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        // Both an absent and an all-zero id mean that there is no parent.
        parent_id: span.parent_span_id.iter().any(|byte| *byte != 0).then(|| hex(&span.parent_span_id)),
        service: service.to_owned(),
        name: cut(&span.name),
        start_nanos: span.start_time_unix_nano,
        duration: Duration::from_nanos(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)),
        status: match status.code() {
            StatusCode::Unset => SpanStatus::Unset,
            StatusCode::Ok => SpanStatus::Ok,
            StatusCode::Error => SpanStatus::Error(cut(&status.message)),
        },
    }
}

fn service_name(resource: Option<&Resource>) -> String {
    let mut attributes = resource.into_iter().flat_map(|resource| &resource.attributes);
    let value = attributes.find(|pair| pair.key == "service.name").and_then(|pair| pair.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(name)) if !name.is_empty() => cut(name),
        _ => UNKNOWN_SERVICE.to_owned(),
    }
}

/// Cuts a text and takes out what would break the lines of the printed tree.
fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Ids are 8 or 16 bytes; what is longer is no id, and is cut so that it cannot fill the memory.
fn hex(id: &[u8]) -> String {
    id.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

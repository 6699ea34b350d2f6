//! From gRPC answers to HTTP: messages, streams and errors.

use axum::{body::Body, response::Response};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream};
use meshward_proto::types::v1::ErrorReason;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{POOL, routes::Refusal};
use crate::{problem::Problem, telemetry::code_label};

/// Bytes before each message: compression flag and length.
const FRAME_HEAD: usize = 5;

/// One message as a JSON body; an error in the trailers wins.
pub(super) async fn unary(answer: Response, output: MessageDescriptor) -> Response {
    let (parts, body) = answer.into_parts();
    let collected = match body.collect().await {
        Ok(collected) => collected,
        Err(error) => return problem(Problem::internal(&error)),
    };
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let ended = Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("the answer has no status"));
    if ended.code() != Code::Ok {
        return status(&ended, &parts.headers);
    }
    let mut buffer = BytesMut::from(&collected.to_bytes()[..]);
    match next_message(&mut buffer)
        .ok_or_else(|| Status::internal("the answer has no message"))
        .and_then(|m| to_json(m, output))
    {
        Ok(json) => respond(StatusCode::OK, &json),
        Err(broken) => status(&broken, &parts.headers),
    }
}

/// A server stream as NDJSON or server-sent events. An error after the start is its last line: `{"error": {…}}`.
pub(super) fn stream(answer: Response, output: MessageDescriptor, events: bool) -> Response {
    let lines = messages(BodyStream::new(answer.into_body()), output);
    let text = lines.map(move |item| {
        let (name, json) = match item {
            Ok(json) => ("message", json),
            Err(status) => ("error", json!({"error": error_json(&status)})),
        };
        let line = if events { format!("event: {name}\ndata: {json}\n\n") } else { format!("{json}\n") };
        Ok::<_, std::convert::Infallible>(line)
    });
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    let mut response = Response::new(Body::from_stream(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a stream is doing.
struct Reading {
    frames: BodyStream<Body>,
    buffer: BytesMut,
    output: MessageDescriptor,
}

fn messages(frames: BodyStream<Body>, output: MessageDescriptor) -> impl Stream<Item = Result<Value, Status>> + Send {
    let reading = Reading { frames, buffer: BytesMut::new(), output };
    stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(json)) => Some((Ok(json), Some(reading))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
}

impl Reading {
    /// The next message, or `None` after an OK status.
    async fn next(&mut self) -> Result<Option<Value>, Status> {
        loop {
            if let Some(message) = next_message(&mut self.buffer) {
                return to_json(message, self.output.clone()).map(Some);
            }
            let frame = self.frames.next().await.ok_or_else(|| Status::unknown("the stream broke off"))?;
            let frame = frame.map_err(|_| Status::unavailable("the stream broke off"))?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    let status = status.unwrap_or_else(|| Status::unknown("the stream has no status"));
                    return if status.code() == Code::Ok { Ok(None) } else { Err(status) };
                }
            }
        }
    }
}

/// Takes one whole frame off the buffer.
fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let head: [u8; FRAME_HEAD] = buffer.get(..FRAME_HEAD)?.try_into().ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if buffer.len() < FRAME_HEAD + length {
        return None;
    }
    buffer.advance(FRAME_HEAD);
    Some(buffer.split_to(length).freeze())
}

fn to_json(message: Bytes, output: MessageDescriptor) -> Result<Value, Status> {
    let message = DynamicMessage::decode(output, message).map_err(|error| Status::internal(error.to_string()))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|e| Status::internal(e.to_string()))
}

fn respond(status: StatusCode, json: &Value) -> Response {
    let mut response = Response::new(Body::from(json.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An error of the RPC, with the headers that HTTP has for it.
pub(super) fn status(status: &Status, headers: &HeaderMap) -> Response {
    let mut response = respond(http_status(status.code()), &error_json(status));
    if let Some(challenge) = headers.get(header::WWW_AUTHENTICATE) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1)));
    }
    response
}

/// An error of the mapping itself.
pub(super) fn problem(problem: Problem) -> Response {
    status(&problem.into(), &HeaderMap::new())
}

/// An error for which HTTP has a better status than the code's own.
pub(super) fn with_status(error: Problem, status: StatusCode) -> Response {
    let mut response = problem(error);
    *response.status_mut() = status;
    response
}

/// 404 or 405 with `allow`.
pub(super) fn refused(refusal: &Refusal, method: &Method, path: &str) -> Response {
    match refusal {
        Refusal::NoSuchPath => problem(Problem::not_found("HTTP path", path)),
        Refusal::WrongMethod(allowed) => {
            let allowed = allowed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("{path} does not take {method}, but {allowed}");
            let error = Problem::new(Code::Unimplemented, ErrorReason::FieldInvalid, message);
            let mut response = with_status(error, StatusCode::METHOD_NOT_ALLOWED);
            if let Ok(value) = HeaderValue::try_from(allowed) {
                response.headers_mut().insert(HeaderName::from_static("allow"), value);
            }
            response
        }
    }
}

/// `{code, status, message, details}`: the number and the name of the gRPC code, and the details as ProtoJSON.
fn error_json(status: &Status) -> Value {
    json!({
        "code": status.code() as i32,
        "status": code_label(status.code()),
        "message": status.message(),
        "details": details(status).unwrap_or_else(|| json!([])),
    })
}

fn details(status: &Status) -> Option<Value> {
    let rpc_status = POOL.get_message_by_name("google.rpc.Status")?;
    let message = DynamicMessage::decode(rpc_status, status.details()).ok()?;
    // A detail of a type that the pool does not know cannot be shown; the error without details is better than none.
    serde_json::to_value(&message).ok()?.get_mut("details").map(Value::take)
}

/// The mapping of google.rpc.Code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

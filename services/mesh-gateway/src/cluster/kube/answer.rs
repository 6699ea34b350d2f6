//! What an answer of the API server means.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use serde_json::Value;

use super::{
    super::{ClusterError, Written},
    retry::Failed,
};

/// More than any list of policies that fits a cluster.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// An answer that is no refusal.
pub(super) enum Answer {
    Found(Written),
    /// There is no such object, namespace or kind; in the API server's words.
    Missing(String),
}

pub(super) async fn read(response: Response<Body>, verb: &'static str, resource: &str) -> Result<Answer, Failed> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| Failed::connection(&*error))?.to_bytes();
    let object: Option<Value> = serde_json::from_slice(&body).ok();
    if parts.status.is_success() {
        let object = object.ok_or_else(|| Failed::for_now("the answer is no JSON".to_owned(), None))?;
        return Ok(Answer::Found(Written { object, warnings: warnings(&parts.headers) }));
    }
    let message = object.as_ref().and_then(|status| status["message"].as_str());
    let message = message.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
    if parts.status == StatusCode::NOT_FOUND {
        return Ok(Answer::Missing(message));
    }
    Err(refusal(parts.status, message, verb, resource, retry_after(&parts.headers)))
}

fn refusal(status: StatusCode, message: String, verb: &'static str, resource: &str, after: Option<Duration>) -> Failed {
    // A webhook can refuse with any status, so its words decide; a webhook that does not answer is worth another try.
    let by_admission = message.contains("denied the request") || message.contains("denied request");
    let by_schema =
        message.contains("failed to create typed patch object") || message.contains("strict decoding error");
    let forbidden = |message| ClusterError::Forbidden { verb, resource: resource.to_owned(), message };
    match status {
        _ if by_admission => Failed::for_good(ClusterError::Admission(message)),
        _ if by_schema => Failed::for_good(ClusterError::Schema(message)),
        StatusCode::GONE => Failed::for_good(ClusterError::Expired(message)),
        StatusCode::CONFLICT => Failed::for_good(ClusterError::Conflict(message)),
        StatusCode::FORBIDDEN => Failed::for_good(forbidden(message)),
        StatusCode::UNAUTHORIZED => Failed::for_good(forbidden(format!("its credentials are refused ({message})"))),
        StatusCode::TOO_MANY_REQUESTS => Failed::for_now(format!("{status}: {message}"), after),
        status if status.is_server_error() => Failed::for_now(format!("{status}: {message}"), after),
        _ => Failed::for_good(ClusterError::Schema(message)),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The texts of `Warning: 299 - "text"` headers.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::WARNING).into_iter().filter_map(|value| value.to_str().ok());
    let text = |value: &str| {
        let quoted = value.splitn(3, ' ').nth(2).unwrap_or(value).trim();
        let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
        inner.replace("\\\"", "\"")
    };
    values.map(text).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn error(status: u16, message: &str) -> Result<ClusterError, String> {
        refusal(StatusCode::from_u16(status).unwrap(), message.to_owned(), "patch", "widgets.example.com", None).kind()
    }

    #[test]
    fn each_refusal_has_its_kind() {
        let webhook = "admission webhook \"rev.validation.istio.io\" denied the request: configuration is invalid";
        let policy = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        let forbidden = |message: &str| ClusterError::Forbidden {
            verb: "patch",
            resource: "widgets.example.com".into(),
            message: message.into(),
        };
        for (status, message, expected) in [
            (400, webhook, ClusterError::Admission(webhook.into())),
            (403, webhook, ClusterError::Admission(webhook.into())),
            (422, policy, ClusterError::Admission(policy.into())),
            (410, "m", ClusterError::Expired("m".into())),
            (409, "m", ClusterError::Conflict("m".into())),
            (422, "spec.hosts: Required value", ClusterError::Schema("spec.hosts: Required value".into())),
            (403, "widgets is forbidden", forbidden("widgets is forbidden")),
            (401, "Unauthorized", forbidden("its credentials are refused (Unauthorized)")),
        ] {
            assert_eq!(error(status, message), Ok(expected), "{status} {message}");
        }
        for status in [429, 500, 503] {
            assert!(error(status, "busy").unwrap_err().contains("busy"), "{status} is worth another try");
        }
    }

    #[test]
    fn warnings_are_unquoted() {
        let mut headers = HeaderMap::new();
        headers.append(header::WARNING, HeaderValue::from_static("299 - \"unknown field \\\"spec.x\\\"\""));
        assert_eq!(warnings(&headers), ["unknown field \"spec.x\""]);
    }
}

//! How one request went, and the rules by which an answer is told from a loss.

use http::{HeaderMap, HeaderName, StatusCode};

/// Labels taken from response headers are cut to this many characters.
const MAX_LABEL: usize = 64;

/// How one request went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole response came that the application made, or that at least is no error.
    Answered {
        /// The status code.
        status: u16,
        /// The policy version that chose the route, from the response header; `None` where it is absent.
        version: Option<String>,
        /// The application that answered, from the response header; `None` where it is absent.
        upstream: Option<String>,
    },
    /// The application's answer did not come.
    Lost(Loss),
}

/// Why a request got no answer from the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// No connection could be made.
    Connect(String),
    /// The time for the request ran out.
    Timeout,
    /// The connection was closed or reset before the response was whole.
    Closed(String),
    /// What came was no HTTP response that we take.
    Protocol(String),
    /// An error response (400 or above) without the application's header: the proxy made it up.
    Proxy(u16),
}

impl Outcome {
    /// Classifies a whole response by its status and the two headers that say who made it.
    pub(super) fn of_response(
        status: StatusCode,
        headers: &HeaderMap,
        version: &HeaderName,
        upstream: &HeaderName,
    ) -> Self {
        let (version, upstream) = (label(headers, version), label(headers, upstream));
        if upstream.is_none() && status.as_u16() >= 400 {
            return Self::Lost(Loss::Proxy(status.as_u16()));
        }
        Self::Answered { status: status.as_u16(), version, upstream }
    }

    /// Whether the caller would call this a failure: a loss, or the application's own 5xx.
    pub fn failed(&self) -> bool {
        match self {
            Self::Answered { status, .. } => *status >= 500,
            Self::Lost(_) => true,
        }
    }

    /// Whether this is a good answer (below 400) that no policy version owns up to.
    pub fn answered_by_neither(&self) -> bool {
        matches!(self, Self::Answered { status, version: None, .. } if *status < 400)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { status, version, upstream } => {
                let or_nobody = |label: &Option<String>| label.clone().unwrap_or_else(|| "nobody".to_owned());
                write!(f, "{status} from {} by {}", or_nobody(upstream), or_nobody(version))
            }
            Self::Lost(loss) => loss.fmt(f),
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed(why) => write!(f, "connection closed: {why}"),
            Self::Protocol(why) => write!(f, "bad response: {why}"),
            Self::Proxy(status) => write!(f, "{status} made by the proxy"),
        }
    }
}

/// An empty header says as little as an absent one.
fn label(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
    let label: String = value.trim().chars().take(MAX_LABEL).collect();
    (!label.is_empty()).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_decides() {
        let version = HeaderName::from_static("x-version");
        let upstream = HeaderName::from_static("x-upstream");
        // status, version header, upstream header → lost, failed, by neither
        let table = [
            (200, Some("v1"), Some("checkout"), (false, false, false)),
            (200, None, Some("checkout"), (false, false, true)),
            (200, Some(" "), Some("checkout"), (false, false, true)),
            (200, None, None, (false, false, true)),
            (302, Some("v1"), None, (false, false, false)),
            (404, Some("v1"), Some("checkout"), (false, false, false)),
            (404, None, Some("checkout"), (false, false, false)),
            (503, Some("v2"), Some("checkout"), (false, true, false)),
            (503, None, Some("checkout"), (false, true, false)),
            // Envoy adds a route's response headers to its own errors as well, so the version header proves nothing.
            (503, Some("v2"), None, (true, true, false)),
            (503, None, None, (true, true, false)),
            (404, None, None, (true, true, false)),
        ];
        for (status, by, from, expected) in table {
            let mut headers = HeaderMap::new();
            by.map(|by| headers.insert(&version, by.parse().unwrap()));
            from.map(|from| headers.insert(&upstream, from.parse().unwrap()));
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = Outcome::of_response(status, &headers, &version, &upstream);
            let lost = matches!(outcome, Outcome::Lost(Loss::Proxy(_)));
            assert_eq!((lost, outcome.failed(), outcome.answered_by_neither()), expected, "{status} {by:?} {from:?}");
        }
    }

    #[test]
    fn a_label_is_cut() {
        let name = HeaderName::from_static("x-version");
        let headers = HeaderMap::from_iter([(name.clone(), "v".repeat(500).parse().unwrap())]);
        assert_eq!(label(&headers, &name), Some("v".repeat(MAX_LABEL)));
    }
}

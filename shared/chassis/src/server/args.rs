//! Flags that every server has.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use crate::telemetry::TelemetryArgs;

/// Flags that every server has; each can also come from the environment.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Address for gRPC (without TLS) and HTTP/JSON. Port 0 picks a free port.
    #[arg(long, env = "MESHWARD_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Address for /metrics, /healthz and /readyz. Not set: they are not served.
    #[arg(long, env = "MESHWARD_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,

    /// Keys that tokens are verified with: path or URL of a JSON Web Key Set (RS256, ES256, EdDSA).
    #[arg(long, env = "MESHWARD_JWKS")]
    pub jwks: String,

    /// The issuer (iss) that tokens must have.
    #[arg(long, env = "MESHWARD_JWT_ISSUER")]
    pub jwt_issuer: String,

    /// The audience (aud) that tokens must have.
    #[arg(long, env = "MESHWARD_JWT_AUDIENCE", default_value = "meshward")]
    pub jwt_audience: String,

    /// Longest time that a call may take; a caller's own shorter deadline wins. Streams only have to begin within it.
    #[arg(long, env = "MESHWARD_REQUEST_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    pub request_timeout: Duration,

    /// Largest request message, in bytes.
    #[arg(long, env = "MESHWARD_MAX_MESSAGE_BYTES", default_value_t = 4 * 1024 * 1024)]
    pub max_message_bytes: usize,

    /// Most connections at once; further ones are closed.
    #[arg(long, env = "MESHWARD_MAX_CONNECTIONS", default_value_t = 1024)]
    pub max_connections: usize,

    /// Most calls worked on at once.
    #[arg(long, env = "MESHWARD_MAX_CONCURRENCY", default_value_t = 256)]
    pub max_concurrency: usize,

    /// Most calls waiting for their turn; further ones get RESOURCE_EXHAUSTED.
    #[arg(long, env = "MESHWARD_MAX_QUEUE", default_value_t = 256)]
    pub max_queue: usize,

    /// A new connection must send its first request line or HTTP/2 preface within this time.
    #[arg(long, env = "MESHWARD_PREFACE_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub preface_timeout: Duration,

    /// How long open calls may go on after SIGTERM.
    #[arg(long, env = "MESHWARD_DRAIN_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub drain_timeout: Duration,

    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Parses a duration such as `500ms`, `30s` or `2m`; for clap's `value_parser`.
///
/// # Errors
/// A sentence, if the text is not a duration or is negative.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "not a duration such as 500ms, 30s or 2m".to_owned())?;
    Duration::try_from(duration).map_err(|_| "a duration must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "soon", "-3s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}

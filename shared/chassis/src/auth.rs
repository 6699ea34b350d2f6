//! Who calls and what they may do.
//!
//! Every RPC except `grpc.health` and `grpc.reflection` carries a JSON Web Token in `authorization: Bearer …`. The
//! layer here verifies it ([`token`]) against a key set ([`jwks`]) and puts an [`Identity`] into the request's
//! extensions; handlers ask [`Identity::of`] and [`Identity::require`]. The token itself is never logged.

pub mod jwks;
pub mod token;

use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State, middleware::Next, response::Response};
use http::{HeaderMap, HeaderValue, header};
use meshward_proto::types::v1::ErrorReason;

use crate::problem::Problem;

pub use token::Verifier;

/// What somebody may do. Admin includes Developer, which includes Viewer; Service includes Viewer only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads everything in its namespaces.
    Viewer,
    /// Writes policies, starts deployments.
    Developer,
    /// Approves, overrides, stops.
    Admin,
    /// A Meshward service that acts in the background, e.g. writes to a cluster for a deployment.
    Service,
}

impl Role {
    /// All roles, weakest first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Developer, Self::Admin, Self::Service];

    /// The name in the token's `roles` claim.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
            Self::Service => "service",
        }
    }

    /// The role of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether holding `self` is enough where `wanted` is asked for.
    pub fn includes(self, wanted: Self) -> bool {
        match self {
            Self::Admin => wanted != Self::Service,
            Self::Developer => matches!(wanted, Self::Developer | Self::Viewer),
            Self::Service => matches!(wanted, Self::Service | Self::Viewer),
            Self::Viewer => wanted == Self::Viewer,
        }
    }
}

/// A verified caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`: who it is, as audit records name them.
    pub subject: String,
    /// The token's `roles`; names that Meshward does not know are left out.
    pub roles: BTreeSet<Role>,
    /// The token's `namespaces`: Kubernetes namespace names, or `*` for all.
    pub namespaces: BTreeSet<String>,
}

impl Identity {
    /// The caller of this request.
    ///
    /// # Errors
    /// UNAUTHENTICATED if no token was verified, which happens only when the layer is missing.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Problem> {
        request.extensions().get::<Self>().ok_or_else(token::missing)
    }

    /// Demands a role in a namespace.
    ///
    /// # Errors
    /// PERMISSION_DENIED that names the role and the namespace.
    pub fn require(&self, role: Role, namespace: &str) -> Result<(), Problem> {
        let has_role = self.roles.iter().any(|held| held.includes(role));
        let has_namespace = self.namespaces.contains("*") || self.namespaces.contains(namespace);
        if has_role && has_namespace {
            return Ok(());
        }
        let missing = match (has_role, has_namespace) {
            (false, true) => format!("the role {:?}", role.name()),
            (true, false) => format!("the namespace {namespace:?}"),
            _ => format!("the role {:?} and the namespace {namespace:?}", role.name()),
        };
        let message = format!("{} lacks {missing}", self.subject);
        Err(Problem::permission_denied(ErrorReason::RoleMissing, message)
            .metadata("role", role.name())
            .metadata("namespace", namespace))
    }
}

/// Whether an RPC path needs no token.
pub fn is_open(path: &str) -> bool {
    ["/grpc.health.", "/grpc.reflection."].iter().any(|prefix| path.starts_with(prefix))
}

/// The layer: verifies the token and adds the [`Identity`].
pub(crate) async fn authenticate(
    State(verifier): State<Arc<Verifier>>,
    mut request: axum::extract::Request,
    next: Next,
) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    match verifier.identify(request.headers()).await {
        Ok(identity) => {
            tracing::Span::current().record("enduser.id", identity.subject.as_str());
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(problem) => refuse(problem),
    }
}

fn refuse(problem: Problem) -> Response {
    let challenge = challenge(&problem);
    let mut response = tonic::Status::from(problem).into_http::<axum::body::Body>();
    response.headers_mut().extend(challenge);
    response
}

/// RFC 6750: a refused caller is told which scheme to use and what was wrong with it.
fn challenge(problem: &Problem) -> HeaderMap {
    let value = match problem.reason() {
        ErrorReason::TokenMissing => "Bearer realm=\"meshward\"",
        ErrorReason::TokenInvalid => "Bearer realm=\"meshward\", error=\"invalid_token\"",
        _ => return HeaderMap::new(),
    };
    HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_static(value))])
}

#[cfg(test)]
mod tests;

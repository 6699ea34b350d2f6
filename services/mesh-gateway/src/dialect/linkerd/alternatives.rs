//! Why the other mechanisms were not chosen.

use meshward_model::{Alternative, Mechanism};

use super::kind::Kind;
use crate::dialect::capabilities::MECHANISMS;

/// One sentence for each mechanism but the chosen one.
pub(super) fn of(kind: Kind, chosen: Mechanism) -> Vec<Alternative> {
    all(chosen, |mechanism| reason(kind, mechanism))
}

/// The same for what a Server's pods read.
pub(super) fn inbound(kind: Kind, chosen: Mechanism) -> Vec<Alternative> {
    all(chosen, |mechanism| inbound_reason(kind, mechanism))
}

fn all(chosen: Mechanism, reason: impl Fn(Mechanism) -> &'static str) -> Vec<Alternative> {
    let others = MECHANISMS.into_iter().filter(|other| *other != chosen);
    others.map(|mechanism| Alternative { mechanism, reason: reason(mechanism).to_owned() }).collect()
}

/// Why a mechanism was not chosen for a kind that has it, or why the kind has it not.
pub(super) fn reason(kind: Kind, mechanism: Mechanism) -> &'static str {
    let has = kind.row().mechanisms.contains(&mechanism);
    match (kind, mechanism) {
        (_, Mechanism::Request) => {
            "Linkerd makes no request ids; HEADER goes by the ids of traces, where there are any."
        }
        (_, Mechanism::Subset) => "Is for Istio's DestinationRule.",
        (_, Mechanism::None) => "All at once: there is no control, and a mistake reaches everybody.",
        (_, Mechanism::Weight) if has => "Chooses destinations only, and draws each request anew.",
        (Kind::Egress, Mechanism::Weight) => {
            "A share of the addresses is no share of the requests; an EgressNetwork of its own for a smaller range comes \
             before this one, and is released all at once."
        }
        (_, Mechanism::Weight) => "Is for destinations.",
        (_, Mechanism::Instance) if has => "Is for what hangs on a Server, and not for what callers read.",
        (_, Mechanism::Instance) => "It is read by those who call, whatever pod answers.",
        (_, Mechanism::Namespace) if has => "Serves whole namespaces of callers, not a share of the requests.",
        (Kind::TlsRoute, Mechanism::Namespace) => {
            "A caller's own copy wins only by a more specific server name, and no list of names stands for all that a \
             wildcard or no name stands for."
        }
        (Kind::TcpRoute, Mechanism::Namespace) => {
            "Of the TCPRoutes of a Service only the oldest is served, so a caller's own copy never is."
        }
        (_, Mechanism::Namespace) => "A copy in another namespace would govern that namespace's pods, not a share.",
        (_, Mechanism::Header) if has => "Reaches only requests that carry a traceparent with a random id.",
        (Kind::TlsRoute | Kind::TcpRoute, Mechanism::Header) => "A connection has no headers.",
        (Kind::RateLimit, Mechanism::Header) => {
            "A limit belongs to the whole Server; spec.overrides names clients, and is a version of its own."
        }
        (_, Mechanism::Header) => "Callers could choose their version by sending the header.",
        (_, Mechanism::Shadow) if has => "An audit decides nothing, and needs a live version that allows everything.",
        (_, Mechanism::Shadow) => "Linkerd has no dry run of it.",
    }
}

/// The same for what a Server's pods read.
pub(super) fn inbound_reason(kind: Kind, mechanism: Mechanism) -> &'static str {
    let by_request = kind == Kind::AuthorizationPolicy || kind.is_http_route();
    match mechanism {
        Mechanism::Instance => "Serves whole pods, whoever calls.",
        Mechanism::Header if by_request => {
            "Serves whole clients by their identity, and gives the Server routes; only if asked for."
        }
        Mechanism::Weight if by_request => {
            "Needs callers with a proxy, and gives the Server and its Services routes; only if asked for."
        }
        Mechanism::Namespace => "A Server's pods do not ask in which namespace a caller is.",
        _ => reason(kind, mechanism),
    }
}

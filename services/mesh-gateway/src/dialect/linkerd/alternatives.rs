//! Why the other mechanisms were not chosen.

use meshward_model::{Alternative, Mechanism};

use super::kind::Kind;
use crate::dialect::capabilities::MECHANISMS;

/// One sentence for each mechanism but the chosen one.
pub(super) fn of(kind: Kind, chosen: Mechanism) -> Vec<Alternative> {
    let others = MECHANISMS.into_iter().filter(|other| *other != chosen);
    others.map(|mechanism| Alternative { mechanism, reason: reason(kind, mechanism).to_owned() }).collect()
}

fn reason(kind: Kind, mechanism: Mechanism) -> &'static str {
    let has = kind.row().mechanisms.contains(&mechanism);
    if kind == Kind::AuthorizationPolicy && has {
        return of_policy(mechanism);
    }
    match mechanism {
        Mechanism::Request => "Linkerd makes no request ids; HEADER goes by the ids of traces, where there are any.",
        Mechanism::Subset => "Is for Istio's DestinationRule.",
        Mechanism::None => "All at once: there is no control, and a mistake reaches everybody.",
        Mechanism::Weight if has => "Chooses destinations only, and draws each request anew.",
        Mechanism::Weight => "Is for destinations.",
        Mechanism::Instance if has => "Is for what hangs on a Server, and not for what callers read.",
        Mechanism::Instance => "It is read by those who call, whatever pod answers.",
        Mechanism::Namespace if has => "Serves whole namespaces of callers, not a share of the requests.",
        Mechanism::Namespace => "A copy in another namespace would govern that namespace's pods, not a share.",
        Mechanism::Header if has => "Reaches only requests that carry a traceparent with a random id.",
        Mechanism::Header => "Callers could choose their version by sending the header.",
        Mechanism::Shadow if has => "An audit decides nothing, and needs a live version that allows everything.",
        Mechanism::Shadow => "Linkerd has no dry run of it.",
    }
}

/// Those of an AuthorizationPolicy.
fn of_policy(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Header => "Serves whole clients by their identity, and gives the Server routes; only if asked for.",
        Mechanism::Weight => {
            "Needs callers with a proxy, and gives the Server and its Services routes; only if asked for."
        }
        Mechanism::Shadow => "Only counts, and only what a stricter version would deny.",
        _ => "Serves whole pods, whoever calls.",
    }
}

//! Linkerd's kinds, and the routes of the Gateway API and the TrafficSplit that it reads.
//!
//! | mechanism | for | how |
//! |---|---|---|
//! | [`instance`] | Server and what hangs on it | a second Server for the pods of the canary, with a twin of all that hangs on the first |
//! | [`weight`] | destinations | blended weights in the one object |
//! | [`header`] | routes of a Service | a more specific copy for the ids of some traces |
//! | [`consumer`] | routes, profiles, networks | copies in some of the callers' namespaces |
//! | [`by_route`] | AuthorizationPolicy, routes of a Server | a route of its own for the requests of some clients, or of a share; or only counted |
//! | [`shadow`] | Server | an audit instead of a denial |
//!
//! Linkerd writes no status for most kinds, keeps what it had when it cannot convert an update, and says `Accepted` all
//! the same. So what it would not do is refused ([`route::check_in_force`]) also where it is put in place all at once.
//!
//! Routes of the group gateway.networking.k8s.io belong to this dialect, also in a cluster that has Istio: those of a
//! gateway, or of a mesh that is Istio's, are refused by their parents.

mod alternatives;
mod blend;
mod by_route;
mod consumer;
mod defaults;
mod header;
mod instance;
mod kind;
mod object;
mod route;
mod shadow;
mod split;
mod twins;
mod weight;

use meshward_model::{ExposureIntent, Mechanism, Mesh, Target};
use serde_json::Value;

use super::{
    Capability, Dialect, Need, Phase, Planned, PodCohorts, Question, Unsupported, capabilities::mechanism_name, direct,
};
use kind::{KINDS, Kind};
use route::Place;

/// The dialect.
pub struct Linkerd;

/// The objects of a kind, in the newest version that the cluster serves.
fn need(kind: Kind, namespace: Option<&str>) -> Need {
    let row = kind.row();
    let version = |version: &&str| format!("{}/{version}", row.group);
    let mut versions = row.versions.iter().map(version);
    Need {
        api_version: versions.next().unwrap_or_default(),
        older: versions.collect(),
        kind: row.name.to_owned(),
        namespace: namespace.map(str::to_owned),
    }
}

fn no_version_yet(question: &Question<'_>) -> Unsupported {
    Unsupported::new(
        format!("{} does not exist, so there is no version to share the traffic with", question.target),
        "create it all at once (mechanism NONE, 100 %)",
    )
}

/// The Services that an object is about, by their full names.
fn hosts(question: &Question<'_>, kind: Kind) -> Vec<String> {
    let canary = question.canary;
    match kind {
        Kind::Profile => vec![question.target.name.clone()],
        Kind::Split => {
            let service = crate::object::spec(canary)["service"].as_str().unwrap_or_default();
            let service = service.split('.').next().unwrap_or_default();
            vec![format!("{service}.{}.svc.cluster.local", question.target.namespace)]
        }
        kind if kind.is_route() && !canary.is_null() => route::hosts(kind, canary),
        _ => Vec::new(),
    }
}

/// The mechanisms that could do for an object, best first: a route's depend on where it is read.
fn mechanisms(question: &Question<'_>, kind: Kind) -> Result<Vec<Mechanism>, Unsupported> {
    let all = kind.row().mechanisms.iter().copied();
    if !kind.is_http_route() || question.canary.is_null() {
        return Ok(all.collect());
    }
    Ok(match route::place(kind, question.canary)? {
        Place::Inbound => vec![Mechanism::Instance, Mechanism::Header, Mechanism::Weight],
        Place::Outbound => all.filter(|mechanism| *mechanism != Mechanism::Instance).collect(),
    })
}

/// Whether requests of this object's cohort are told by a route of a Server.
fn is_by_route(kind: Option<Kind>, object: &Value) -> bool {
    kind.is_some_and(|kind| {
        kind == Kind::AuthorizationPolicy
            || kind.is_http_route() && route::place(kind, object).is_ok_and(|place| place == Place::Inbound)
    })
}

fn plan_by(question: &Question<'_>, kind: Kind, mechanism: Mechanism) -> Result<Planned, Unsupported> {
    if question.canary.is_null() && mechanism != Mechanism::Instance {
        return Err(Unsupported::new(
            format!("{} shall be gone, and nothing can stand for that beside the live version", question.target),
            "remove it all at once (mechanism NONE, 100 %)",
        ));
    }
    match mechanism {
        Mechanism::Instance => instance::plan(question, kind),
        Mechanism::Shadow if kind == Kind::AuthorizationPolicy => by_route::plan_shadow(question),
        Mechanism::Header | Mechanism::Weight if is_by_route(Some(kind), question.canary) => {
            by_route::plan(question, kind, mechanism)
        }
        Mechanism::Weight => weight::plan(question, kind),
        Mechanism::Header => header::plan(question, kind),
        Mechanism::Namespace => consumer::plan(question, kind),
        Mechanism::Shadow => shadow::plan(question),
        other => Err(Unsupported::new(
            format!("{} is not exposed by {}", kind.row().name, mechanism_name(other)),
            "leave the mechanism out",
        )),
    }
}

/// Mechanisms that are only for who asks for them: an audit exposes nothing, and routes that a Server has not had change
/// the names of its series.
fn is_for_who_asks(question: &Question<'_>, kind: Kind, mechanism: Mechanism) -> bool {
    mechanism == Mechanism::Shadow
        || is_by_route(Some(kind), question.canary) && matches!(mechanism, Mechanism::Header | Mechanism::Weight)
}

/// The first mechanism that can do it; if none can, what the first one says.
fn plan_best(question: &Question<'_>, kind: Kind) -> Result<Planned, Unsupported> {
    let mut first = None;
    let mechanisms = mechanisms(question, kind)?.into_iter();
    for mechanism in mechanisms.filter(|mechanism| !is_for_who_asks(question, kind, *mechanism)) {
        match plan_by(question, kind, mechanism) {
            Ok(planned) => return Ok(planned),
            Err(unsupported) => first = first.or(Some(unsupported)),
        }
    }
    Err(first.unwrap_or_else(|| no_version_yet(question)))
}

fn plan_asked(question: &Question<'_>, kind: Kind, wanted: Mechanism) -> Result<Planned, Unsupported> {
    let known = mechanisms(question, kind)?;
    if known.contains(&wanted) {
        return plan_by(question, kind, wanted);
    }
    let names: Vec<_> = known.into_iter().map(mechanism_name).collect();
    let why = match is_by_route(Some(kind), question.canary) {
        true => alternatives::inbound_reason(kind, wanted),
        false => alternatives::reason(kind, wanted),
    };
    Err(Unsupported::new(
        format!("this {} cannot be exposed by {}: {}", kind.row().name, mechanism_name(wanted), uncapitalized(why)),
        format!("leave the mechanism out, or ask for {} or NONE", names.join(", ")),
    ))
}

/// A header that is named is for HEADER, and asks for it.
fn for_audience<'a>(question: &Question<'a>) -> Result<Question<'a>, Unsupported> {
    let is_named = question.audience.header.is_some() && !direct::is_all_at_once(question);
    match question.wanted {
        Some(wanted) if is_named && wanted != Mechanism::Header => Err(Unsupported::new(
            format!(
                "audience.header names whose requests get the new version, and {} asks no header",
                mechanism_name(wanted)
            ),
            "leave audience.header out, or ask for HEADER",
        )),
        wanted => Ok(Question { wanted: wanted.or(is_named.then_some(Mechanism::Header)), ..*question }),
    }
}

/// A sentence as the end of another, without its full stop.
fn uncapitalized(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let is_name = sentence.starts_with("Linkerd") || sentence.starts_with("Istio");
    match sentence.chars().next().filter(|_| !is_name) {
        Some(first) => format!("{}{}", first.to_lowercase(), &sentence[first.len_utf8()..]),
        None => sentence.to_owned(),
    }
}

/// A kind has several versions, and none is converted into another: what the older one has no field for is left out
/// when the object is read in it, and lost when it is written.
fn check_version(question: &Question<'_>) -> Result<(), Unsupported> {
    let target = question.target;
    let Some(newest) = question.neighbours.iter().find(|one| crate::object::is_of(one, target)) else { return Ok(()) };
    let api_version = newest["apiVersion"].as_str().unwrap_or_default();
    let Some(stable) = question.baseline.object.as_ref().filter(|_| api_version != target.api_version) else {
        return Ok(());
    };
    let as_newest = defaults::stored(&Target { api_version: api_version.to_owned(), ..target.clone() }, stable);
    if crate::object::spec(&as_newest) == crate::object::spec(newest) {
        return Ok(());
    }
    Err(Unsupported::new(
        format!(
            "{} has no place for all that the live object says in {api_version}, and would lose it",
            target.api_version
        ),
        format!("write the version in {api_version}"),
    ))
}

fn unknown_kind(question: &Question<'_>) -> Unsupported {
    let kinds: Vec<_> = KINDS.iter().map(|row| row.name).collect();
    Unsupported::new(
        format!("{} of {} is none of Linkerd's kinds", question.target.kind, question.target.api_version),
        format!("its kinds are {}", kinds.join(", ")),
    )
}

fn is_policy(intent: &ExposureIntent) -> bool {
    Kind::of_target(&intent.target) == Some(Kind::AuthorizationPolicy)
}

/// Of an intent that a plan by route has made.
fn goes_by_route(intent: &ExposureIntent) -> bool {
    is_by_route(Kind::of_target(&intent.target), &intent.canary)
}

impl Dialect for Linkerd {
    fn capabilities(&self) -> Vec<Capability> {
        let row = |row: &kind::Row| Capability {
            mesh: Mesh::Linkerd,
            group: row.group,
            kind: row.name,
            mechanisms: row.mechanisms.iter().copied().chain([Mechanism::None]).collect(),
        };
        KINDS.iter().map(row).collect()
    }

    fn needs(&self, question: &Question<'_>) -> Vec<Need> {
        let (Some(kind), Ok(question)) = (Kind::of_target(question.target), for_audience(question)) else {
            return Vec::new();
        };
        let question = &question;
        let of = |kinds: &[Kind]| kinds.iter().map(|kind| need(*kind, None)).collect::<Vec<_>>();
        let routes =
            [Kind::PolicyRoute, Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute, Kind::Profile];
        let place = if kind.is_http_route() { route::place(kind, question.canary).ok() } else { None };
        let mut needs = match kind {
            Kind::Split => Vec::new(),
            Kind::Profile => of(&[Kind::Profile]),
            Kind::Egress => of(&[routes.as_slice(), &[Kind::Egress]].concat()),
            kind if kind.is_route() && place != Some(Place::Inbound) => of(&routes),
            kind => match question.wanted.filter(|wanted| is_for_who_asks(question, kind, *wanted)) {
                Some(wanted) if kind != Kind::Server => by_route::needs(question, wanted),
                _ => instance::needs(question, kind),
            },
        };
        if kind.row().mechanisms.contains(&Mechanism::Namespace) && !direct::is_all_at_once(question) {
            needs.push(Need::all("v1", "Namespace"));
        }
        needs
    }

    fn plan(&self, question: &Question<'_>) -> Result<Planned, Unsupported> {
        let kind = Kind::of_target(question.target).ok_or_else(|| unknown_kind(question))?;
        check_version(question)?;
        let question = &for_audience(question)?;
        if kind.is_route() && !question.canary.is_null() {
            route::check_in_force(question, kind)?;
        }
        match question.wanted {
            Some(Mechanism::None) => direct::plan(question, hosts(question, kind)),
            Some(wanted) => plan_asked(question, kind, wanted),
            None if direct::is_all_at_once(question) => direct::plan(question, hosts(question, kind)),
            None => plan_best(question, kind),
        }
    }

    fn render(&self, intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
        match intent.mechanism {
            Mechanism::None => direct::render(intent),
            Mechanism::Instance => instance::render(intent),
            Mechanism::Shadow if is_policy(intent) => by_route::render_shadow(intent),
            Mechanism::Header | Mechanism::Weight if goes_by_route(intent) => by_route::render(intent),
            Mechanism::Weight => weight::render(intent),
            Mechanism::Header => header::render(intent),
            Mechanism::Namespace => consumer::render(intent),
            Mechanism::Shadow => shadow::render(intent),
            mechanism => Err(Unsupported::new(
                format!("{} is not exposed by {}", intent.target.kind, mechanism_name(mechanism)),
                "ask for a plan and use its mechanism",
            )),
        }
    }

    fn undo(&self, intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
        Ok(match intent.mechanism {
            Mechanism::Instance => instance::undo(intent),
            Mechanism::Shadow if is_policy(intent) => by_route::undo_shadow(intent),
            Mechanism::Header | Mechanism::Weight if goes_by_route(intent) => by_route::undo(intent),
            Mechanism::Header => header::undo(intent),
            Mechanism::Namespace => consumer::undo(intent),
            Mechanism::Shadow => shadow::undo(intent),
            _ => direct::undo(intent),
        })
    }

    fn divided(&self, intent: &ExposureIntent) -> Option<PodCohorts> {
        (intent.mechanism == Mechanism::Instance).then(|| instance::divided(intent))?
    }

    fn stored(&self, target: &Target, object: &Value) -> Value {
        defaults::stored(target, object)
    }

    fn instead(&self, target: &Target, canary: &Value) -> Option<Unsupported> {
        (Kind::of_target(target) == Some(Kind::Split)).then(|| split::instead(canary))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::examples::examples;

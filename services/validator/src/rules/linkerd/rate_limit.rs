//! HTTPLocalRateLimitPolicy: how many requests per second a Server takes, from all, from each identity, from some.

use super::{
    POLICY_GROUP,
    reference::{self, CORE},
    shape::{self, ANY, Need, Shape},
};
use crate::{
    report::Hit,
    rules::{Object, catalogue as rule, field::Field},
};

const SHAPE: Shape = Shape::Map(&[
    ("targetRef", Need::Must, reference::LOCAL),
    ("total", Need::May, LIMIT),
    ("identity", Need::May, LIMIT),
    ("overrides", Need::May, Shape::List(&OVERRIDE, ANY)),
]);

const LIMIT: Shape = Shape::Map(&[("requestsPerSecond", Need::Must, RATE)]);
const OVERRIDE: Shape = Shape::Map(&[
    ("requestsPerSecond", Need::Must, RATE),
    ("clientRefs", Need::Must, Shape::List(&reference::NAMESPACED, ANY)),
]);
const RATE: Shape = Shape::Whole(0, u32::MAX as i64);

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    let target = spec.get("targetRef");
    if target.get("kind").is_set() && !reference::is_to(&target, POLICY_GROUP, "Server") {
        let message =
            format!("a rate limit is for a Server of {POLICY_GROUP}, not for {}", reference::kind_of(&target));
        hits.push(Hit::new(rule::LD_RATE_TARGET, target.get("kind").path(), message));
    }
    let total = spec.get("total");
    hits.extend(rate(&total, None));
    let most = total.get("requestsPerSecond").integer();
    hits.extend(rate(&spec.get("identity"), most));
    for one in spec.get("overrides").items() {
        hits.extend(rate(&one, most));
        hits.extend(one.get("clientRefs").items().iter().filter_map(client));
    }
    hits
}

/// A rate of 0, or one above the total.
fn rate(limit: &Field<'_>, most: Option<i64>) -> Option<Hit> {
    let rate = limit.get("requestsPerSecond");
    let message = match (rate.integer()?, most) {
        (0, _) => "a rate of 0 lets no request in".to_owned(),
        (rate, Some(most)) if rate > most => format!("{rate} requests per second are more than the total of {most}"),
        _ => return None,
    };
    Some(Hit::new(rule::LD_RATE, rate.path(), message))
}

fn client(client: &Field<'_>) -> Option<Hit> {
    let kind = client.get("kind");
    let good = !kind.is_set() || reference::is_to(client, CORE, "ServiceAccount");
    (!good).then(|| {
        let message = format!("an override is for ServiceAccounts, not for {}", reference::kind_of(client));
        Hit::new(rule::LD_RATE_CLIENT, kind.path(), message)
    })
}

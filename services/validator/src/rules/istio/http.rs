//! One HTTP route of a VirtualService.

use super::{
    common, header, regexp,
    virtual_service::{destination, shared_match, weighted},
};
use crate::{
    report::{Hit, list, quote},
    rules::{
        catalogue::{self as rule, Rule},
        field::Field,
    },
};

const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
];

const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

const LARGEST_BODY: usize = 1024 * 1024;

/// All rules of one route.
pub(super) fn check(route: &Field<'_>, is_delegate: bool) -> Vec<Hit> {
    let mut hits = actions(route, is_delegate);
    for item in route.get("match").items() {
        hits.extend(matching(&item));
    }
    hits.extend(header::operations(&route.get("headers")));
    hits.extend(authority(route));
    hits.extend(cors(&route.get("corsPolicy")));
    hits.extend(fault(&route.get("fault")));
    hits.extend(mirrors(route));
    hits.extend(redirect(route));
    hits.extend(direct_response(&route.get("directResponse")));
    hits.extend(retries(&route.get("retries")));
    hits.extend(rewrite(&route.get("rewrite")));
    let destinations = route.get("route").items();
    hits.extend(weighted(&route.get("route"), &destinations));
    hits.extend(destinations.iter().flat_map(|item| header::operations(&item.get("headers"))));
    hits.extend(common::duration(&route.get("timeout")));
    hits
}

/// What the route does: exactly one of route, redirect, directResponse and delegate.
fn actions(route: &Field<'_>, is_delegate: bool) -> Vec<Hit> {
    let hit = |rule: &'static Rule, name: &str, message: String| Hit::new(rule, route.get(name).path(), message);
    let conflict = |name: &str, other: &str| {
        hit(rule::VS_ACTION_CONFLICT, name, format!("a route cannot have both {name} and {other}")).at_key()
    };
    let has = |name: &str| route.get(name).is_set();
    if has("delegate") && !is_delegate {
        return route.set_among(&["redirect", "route"]).iter().map(|name| conflict(name, "delegate")).collect();
    }
    let mut hits = Vec::new();
    if has("delegate") {
        let message = "a delegate cannot delegate further".to_owned();
        hits.push(hit(rule::VS_ACTION_CONFLICT, "delegate", message));
    }
    let routes = !route.get("route").items().is_empty();
    let decisive = route.set_among(&["redirect", "directResponse"]);
    match decisive.first() {
        Some(first) => {
            hits.extend(routes.then(|| conflict("route", first)));
            hits.extend(route.set_among(&["fault", "rewrite"]).iter().map(|name| conflict(name, first)));
            hits.extend(decisive.get(1).map(|second| conflict(second, first)));
        }
        None if !routes => {
            let message = "a route needs a destination, a redirect, a direct response or a delegate";
            hits.push(Hit::new(rule::VS_ACTION_MISSING, route.path(), message).suggest("add route:"));
        }
        None => {}
    }
    if has("mirror") && !route.get("mirrors").items().is_empty() {
        hits.push(conflict("mirrors", "mirror"));
    }
    hits
}

fn matching(item: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (name, value) in item.get("headers").entries() {
        hits.extend(header::matched(name, &value));
        hits.extend(text_match(&value));
    }
    for (name, value) in item.get("withoutHeaders").entries() {
        hits.extend(header::matched(name, &value));
        // Istio reads this one as "present", not as a regular expression.
        if value.get("regex").text() != "*" {
            hits.extend(text_match(&value));
        }
    }
    hits.extend(regex_match(&item.get("uri")));
    hits.extend(["scheme", "method", "authority"].iter().filter_map(|name| text_match(&item.get(name))));
    hits.extend(item.get("queryParams").entries().iter().filter_map(|(_, value)| text_match(value)));
    hits.extend(shared_match(item));
    hits
}

/// exact, prefix or regex, of which an empty prefix is refused by Envoy.
fn text_match(field: &Field<'_>) -> Option<Hit> {
    let prefix = field.get("prefix");
    if prefix.is_set() && prefix.text().is_empty() {
        return Some(Hit::new(rule::VS_MATCH, prefix.path(), "the prefix is empty").suggest("remove the match"));
    }
    regex_match(field)
}

fn regex_match(field: &Field<'_>) -> Option<Hit> {
    let regex = field.get("regex");
    if regex.is_set() { regexp::check(&regex) } else { None }
}

/// The authority may be set in one place: rewrite, or a header that is set, or one that is added.
fn authority(route: &Field<'_>) -> Option<Hit> {
    let request = route.get("headers").get("request");
    let rewrite = route.get("rewrite").get("authority");
    let headers = ["set", "add"].iter().flat_map(|operation| request.get(operation).entries());
    let headers = headers.filter(|(name, _)| header::is_authority(name)).map(|(_, value)| value);
    let setting: Vec<Field<'_>> =
        [rewrite].into_iter().chain(headers).filter(|field| !field.text().is_empty()).collect();
    let [first, second, ..] = setting.as_slice() else { return None };
    let message = format!("the authority is set to {} already at {}", quote(first.text()), first.path());
    Some(Hit::new(rule::VS_AUTHORITY, second.path(), message).suggest("set it once"))
}

fn cors(policy: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for origin in policy.get("allowOrigins").items() {
        if ["exact", "prefix", "regex"].iter().all(|kind| origin.get(kind).text().is_empty()) {
            hits.push(Hit::new(rule::VS_CORS, origin.path(), "the origin has no exact, prefix or regex"));
        } else {
            hits.extend(regex_match(&origin));
        }
    }
    for method in policy.get("allowMethods").items() {
        if !METHODS.contains(&method.text()) {
            let message = format!("{} is no HTTP method", quote(method.text()));
            hits.push(
                Hit::new(rule::VS_CORS, method.path(), message).suggest(format!("one of {}", list(&METHODS, ", "))),
            );
        }
    }
    for name in ["allowHeaders", "exposeHeaders"].iter().flat_map(|place| policy.get(place).items()) {
        if name.text() != "*" && !header::is_token(name.text()) {
            let message = format!("{} is no header name", quote(name.text()));
            hits.push(Hit::new(rule::VS_HEADER_NAME, name.path(), message));
        }
    }
    let age = policy.get("maxAge");
    match common::duration(&age) {
        None if common::nanoseconds(age.text()).is_some_and(|nanos| nanos % 1_000_000_000 != 0) => {
            hits.push(Hit::new(rule::VS_CORS, age.path(), format!("{} is not whole seconds", quote(age.text()))));
        }
        hit => hits.extend(hit),
    }
    hits
}

fn fault(fault: &Field<'_>) -> Vec<Hit> {
    if !fault.is_set() {
        return Vec::new();
    }
    let (abort, delay) = (fault.get("abort"), fault.get("delay"));
    let mut hits = Vec::new();
    if !abort.is_set() && !delay.is_set() {
        hits.push(Hit::new(rule::VS_FAULT, fault.path(), "a fault needs an abort or a delay"));
    }
    hits.extend([&abort, &delay].iter().filter_map(|field| injected(&field.get("percentage"))));
    hits.extend(aborting(&abort));
    hits.extend(common::duration(&delay.get("fixedDelay")));
    let exponential = delay.get("exponentialDelay");
    hits.extend(common::duration(&exponential));
    if exponential.is_set() {
        hits.push(
            Hit::new(rule::VS_FAULT, exponential.path(), "Istio does not do exponentialDelay").suggest("fixedDelay"),
        );
    }
    hits
}

fn aborting(abort: &Field<'_>) -> Option<Hit> {
    let (http, grpc, http2) = (abort.get("httpStatus"), abort.get("grpcStatus"), abort.get("http2Error"));
    if http2.is_set() {
        return Some(Hit::new(rule::VS_FAULT, http2.path(), "Istio does not do http2Error").suggest("httpStatus"));
    }
    if grpc.is_set() {
        let message = format!("{} is no gRPC status", quote(grpc.text()));
        let known = GRPC.contains(&grpc.text());
        return (!known).then(|| Hit::new(rule::VS_STATUS, grpc.path(), message).suggest("e.g. NOT_FOUND"));
    }
    if !http.is_set() && abort.is_set() {
        let message = "an abort without httpStatus or grpcStatus aborts nothing";
        return Some(Hit::new(rule::VS_ABORT_EMPTY, abort.path(), message).suggest("add httpStatus"));
    }
    status(&http)
}

/// Istio says 200 to 599 and lets 600 pass; so do we, or a stored policy could not be validated again.
fn status(field: &Field<'_>) -> Option<Hit> {
    let number = field.integer().filter(|number| !(200..=600).contains(number))?;
    Some(Hit::new(rule::VS_STATUS, field.path(), format!("the HTTP status {number} is not within 200 to 599")))
}

/// The share of requests that get a fault: 0, or from 0.0001 to 100.
fn injected(percentage: &Field<'_>) -> Option<Hit> {
    let value = percentage.get("value");
    let number = value.number().filter(|number| *number != 0.0 && !(0.0001..=100.0).contains(number))?;
    let message = format!("the percentage {number} is neither 0 nor within 0.0001 to 100");
    Some(Hit::new(rule::VS_PERCENTAGE, value.path(), message))
}

fn mirrors(route: &Field<'_>) -> Vec<Hit> {
    let mut hits = destination(&route.get("mirror"));
    let old = route.get("mirrorPercent");
    let spelling = route.get("mirror_percent");
    for field in [old, spelling].iter().filter(|field| field.is_set()) {
        hits.extend(mirrored(field));
        let message = "mirrorPercent is deprecated";
        hits.push(Hit::new(rule::VS_DEPRECATED, field.path(), message).at_key().suggest("use mirrorPercentage"));
    }
    hits.extend(mirrored(&route.get("mirrorPercentage").get("value")));
    for mirror in route.get("mirrors").items() {
        let to = mirror.get("destination");
        if !to.is_set() {
            hits.push(Hit::new(rule::VS_DESTINATION, to.path(), "a mirror needs a destination"));
        }
        hits.extend(destination(&to));
        hits.extend(mirrored(&mirror.get("percentage").get("value")));
    }
    hits
}

fn mirrored(value: &Field<'_>) -> Option<Hit> {
    let number = value.number().filter(|number| !(0.0..=100.0).contains(number))?;
    Some(Hit::new(rule::VS_PERCENTAGE, value.path(), format!("the percentage {number} is not within 0 to 100")))
}

fn redirect(route: &Field<'_>) -> Option<Hit> {
    let redirect = route.get("redirect");
    if !redirect.is_set() {
        return None;
    }
    let hit = |name: &str, message: String| Some(Hit::new(rule::VS_REDIRECT, redirect.get(name).path(), message));
    let text = |name: &str| redirect.get(name).text();
    if !text("uri").is_empty() && !text("prefixRewrite").is_empty() {
        return hit("prefixRewrite", "a redirect cannot have both uri and prefixRewrite".to_owned());
    }
    if !text("prefixRewrite").is_empty() && route.get("match").items().iter().any(matches_uri_otherwise) {
        return hit("prefixRewrite", "prefixRewrite needs every uri match to be a prefix".to_owned());
    }
    let empty = ["uri", "prefixRewrite", "authority", "scheme"].iter().all(|name| text(name).is_empty());
    if empty && redirect.set_among(&["port", "derivePort"]).is_empty() {
        return Some(Hit::new(rule::VS_REDIRECT, redirect.path(), "a redirect needs a uri, authority, scheme or port"));
    }
    if let Some(code) = redirect.get("redirectCode").integer().filter(|code| *code != 0 && !(300..=399).contains(code))
    {
        return hit("redirectCode", format!("the redirect code {code} is not within 300 to 399"));
    }
    if !["", "http", "https"].contains(&text("scheme")) {
        return hit("scheme", format!("the scheme {} is not http or https", quote(text("scheme"))));
    }
    let port = redirect.get("port");
    if port.integer() == Some(0) { None } else { common::port(&port) }
}

fn matches_uri_otherwise(item: &Field<'_>) -> bool {
    let uri = item.get("uri");
    uri.is_set() && !uri.get("prefix").is_set()
}

fn direct_response(response: &Field<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = status(&response.get("status")).into_iter().collect();
    let body = response.get("body");
    // Bytes are base64: four characters for three bytes.
    let bytes = body.get("bytes").text().trim_end_matches('=').len() * 3 / 4;
    let size = body.get("string").text().len().max(bytes);
    if size > LARGEST_BODY {
        let message = format!("the body has {size} bytes, more than {LARGEST_BODY}");
        hits.push(Hit::new(rule::VS_BODY, body.path(), message).suggest("serve it from an upstream"));
    }
    hits
}

fn retries(retries: &Field<'_>) -> Vec<Hit> {
    if !retries.is_set() {
        return Vec::new();
    }
    let mut hits = Vec::new();
    let attempts = retries.get("attempts");
    let number = attempts.integer().unwrap_or_default();
    if number < 0 {
        let message = format!("attempts is {number}, and must not be negative");
        hits.push(Hit::new(rule::VS_RETRIES, attempts.path(), message));
    }
    let others = retries.set_among(&["perTryTimeout", "retryOn", "retryRemoteLocalities"]);
    let others: Vec<&str> =
        others.into_iter().filter(|name| *name != "retryOn" || !retries.get(name).text().is_empty()).collect();
    if number == 0 && !others.is_empty() {
        let message = format!("attempts is 0, so {} would have no effect", list(&others, " and "));
        hits.push(Hit::new(rule::VS_RETRIES, retries.path(), message).suggest("set attempts, or remove the others"));
    }
    hits.extend(common::duration(&retries.get("perTryTimeout")));
    hits.extend(common::duration(&retries.get("backoff")));
    let on = retries.get("retryOn");
    let unknown = on.text().split(',').find(|condition| !RETRY_ON.contains(condition) && !is_status(condition));
    if let Some(condition) = unknown.filter(|_| !on.text().is_empty()) {
        let message = format!("{} is no condition to retry on", quote(condition));
        let advice = format!("HTTP status codes and {}", list(&RETRY_ON, ", "));
        hits.push(Hit::new(rule::VS_RETRY_ON, on.path(), message).suggest(advice));
    }
    hits
}

/// A status code that has a name.
fn is_status(text: &str) -> bool {
    let Ok(code) = text.parse::<u16>() else { return false };
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451
        | 500..=508 | 510 | 511)
}

fn rewrite(rewrite: &Field<'_>) -> Option<Hit> {
    if !rewrite.is_set() {
        return None;
    }
    let (uri, regex) = (rewrite.get("uri"), rewrite.get("uriRegexRewrite"));
    if !uri.text().is_empty() && regex.is_set() {
        let message = "a rewrite cannot have both uri and uriRegexRewrite";
        return Some(Hit::new(rule::VS_REWRITE, regex.path(), message));
    }
    if uri.text().is_empty() && !regex.is_set() && rewrite.get("authority").text().is_empty() {
        let message = "a rewrite needs a uri, a uriRegexRewrite or an authority";
        return Some(Hit::new(rule::VS_REWRITE, rewrite.path(), message));
    }
    if !regex.is_set() {
        return None;
    }
    if regex.get("match").text().is_empty() || regex.get("rewrite").text().is_empty() {
        let message = "uriRegexRewrite needs both match and rewrite";
        return Some(Hit::new(rule::VS_REWRITE, regex.path(), message));
    }
    regexp::check(&regex.get("match"))
}

//! From `google.api.http` options to routes.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

/// All routes of a server, the more literal ones first, so that `/policies/watch` wins over `/policies/{id}`.
#[derive(Debug)]
pub(super) struct Routes(Vec<Route>);

/// One template of one RPC.
#[derive(Debug)]
pub(super) struct Route {
    http_method: Method,
    segments: Vec<Segment>,
    /// The part after the colon of `/{id}:verb`.
    verb: Option<String>,
    pub(super) method: MethodDescriptor,
    pub(super) body: BodyRule,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    /// Field path of the request message, e.g. `target.name`.
    Field(String),
}

/// Which part of the message the HTTP body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyRule {
    None,
    Whole,
    Field(String),
}

/// A request's route with what its path says.
#[derive(Debug)]
pub(super) struct Match<'a> {
    pub(super) method: &'a MethodDescriptor,
    pub(super) body: &'a BodyRule,
    /// Field path → decoded value.
    pub(super) bound: Vec<(&'a str, String)>,
}

/// Why a request has no route.
#[derive(Debug)]
pub(super) enum Refusal {
    NoSuchPath,
    /// The path exists with these methods.
    WrongMethod(BTreeSet<String>),
}

impl Routes {
    pub(super) fn of(pool: &DescriptorPool, services: &[&str]) -> Result<Self, String> {
        let http = pool.get_extension_by_name("google.api.http").ok_or("google.api.http is not in the descriptors")?;
        let mut routes = Vec::new();
        for name in services {
            let service = pool.get_service_by_name(name).ok_or_else(|| format!("{name} is not in the descriptors"))?;
            for method in service.methods() {
                let options = method.options();
                if let Some(rule) = options.has_extension(&http).then(|| options.get_extension(&http).into_owned()) {
                    let rule = rule.as_message().ok_or("google.api.http is not a message")?;
                    add(&mut routes, &method, rule).map_err(|why| format!("{}: {why}", method.full_name()))?;
                }
            }
        }
        refuse_twins(&routes)?;
        routes.sort_by_key(|route| std::cmp::Reverse(route.literals()));
        Ok(Self(routes))
    }

    pub(super) fn find(&self, http_method: &Method, path: &str) -> Result<Match<'_>, Refusal> {
        let mut allowed = BTreeSet::new();
        for route in &self.0 {
            let Some(bound) = route.bind(path) else { continue };
            if route.http_method == *http_method {
                return Ok(Match { method: &route.method, body: &route.body, bound });
            }
            allowed.insert(route.http_method.to_string());
        }
        Err(if allowed.is_empty() { Refusal::NoSuchPath } else { Refusal::WrongMethod(allowed) })
    }
}

impl Route {
    fn literals(&self) -> Vec<bool> {
        self.segments
            .iter()
            .map(|segment| matches!(segment, Segment::Literal(_)))
            .chain([self.verb.is_some()])
            .collect()
    }

    /// The fields that the path binds, or `None` if it is another path.
    fn bind(&self, path: &str) -> Option<Vec<(&str, String)>> {
        let path = match &self.verb {
            Some(verb) => path.strip_suffix(verb.as_str())?.strip_suffix(':')?,
            None => path,
        };
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if parts.len() != self.segments.len() {
            return None;
        }
        let mut bound = Vec::new();
        for (segment, part) in self.segments.iter().zip(parts) {
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Field(field) if !part.is_empty() => bound.push((field.as_str(), percent_decode(part)?)),
                _ => return None,
            }
        }
        Some(bound)
    }
}

fn add(routes: &mut Vec<Route>, method: &MethodDescriptor, rule: &DynamicMessage) -> Result<(), String> {
    if method.is_client_streaming() {
        return Err("a client stream has no HTTP/JSON form".to_owned());
    }
    routes.push(route(method, rule)?);
    let further = rule.get_field_by_name("additional_bindings");
    for rule in further.iter().filter_map(|value| value.as_list()).flatten().filter_map(|value| value.as_message()) {
        routes.push(route(method, rule)?);
    }
    Ok(())
}

fn route(method: &MethodDescriptor, rule: &DynamicMessage) -> Result<Route, String> {
    let verbs = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let (key, http_method) =
        verbs.into_iter().find(|(key, _)| rule.has_field_by_name(key)).ok_or("no get, put, post, delete or patch")?;
    if !text(rule, "response_body").is_empty() {
        return Err("response_body is not supported".to_owned());
    }
    let (segments, verb) = parse_template(&text(rule, key))?;
    for segment in &segments {
        if let Segment::Field(path) = segment {
            let field = resolve(&method.input(), path)?;
            if field.is_list() || matches!(field.kind(), Kind::Message(_)) {
                return Err(format!("{path} cannot stand in a path"));
            }
        }
    }
    let body = match text(rule, "body") {
        body if body.is_empty() => BodyRule::None,
        body if body == "*" => BodyRule::Whole,
        body => BodyRule::Field(resolve(&method.input(), &body)?.name().to_owned()),
    };
    Ok(Route { http_method, segments, verb, method: method.clone(), body })
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    rule.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Parses `/a/{b.c}/d` and `/a/{b}:verb`.
fn parse_template(template: &str) -> Result<(Vec<Segment>, Option<String>), String> {
    let refused = || format!("the template {template:?} is not of the form /a/{{field}}/b or /a/{{field}}:verb");
    let path = template.strip_prefix('/').ok_or_else(refused)?;
    let (path, verb) = match path.rsplit_once(':') {
        Some((path, verb)) => (path, Some(verb.to_owned())),
        None => (path, None),
    };
    let plain = |part: &str| !part.is_empty() && !part.contains(['{', '}', '*', '=', ':', '/']);
    let segment = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(field) if plain(field) => Ok(Segment::Field(field.to_owned())),
        None if plain(part) => Ok(Segment::Literal(part.to_owned())),
        _ => Err(refused()),
    };
    let segments = path.split('/').map(segment).collect::<Result<_, _>>()?;
    if verb.as_deref().is_some_and(|verb| !plain(verb)) {
        return Err(refused());
    }
    Ok((segments, verb))
}

/// The field at a dotted path, by proto or JSON names.
pub(super) fn resolve(message: &MessageDescriptor, path: &str) -> Result<FieldDescriptor, String> {
    let unknown = |message: &MessageDescriptor| format!("{} has no field {path:?}", message.full_name());
    let mut message = message.clone();
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let field = message.get_field_by_name(step).or_else(|| message.get_field_by_json_name(step));
        let field = field.ok_or_else(|| unknown(&message))?;
        if steps.peek().is_none() {
            return Ok(field);
        }
        match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => message = inner,
            _ => return Err(unknown(&message)),
        }
    }
    Err(unknown(&message))
}

/// Two RPCs under one method and path shape: one of them could never be reached.
fn refuse_twins(routes: &[Route]) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for route in routes {
        let shape = route.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => literal.as_str(),
            Segment::Field(_) => "{}",
        });
        let key = (route.http_method.as_str(), shape.collect::<Vec<_>>(), &route.verb);
        if let Some(other) = seen.insert(key, route.method.full_name()) {
            return Err(format!("{other} and {} have the same HTTP path", route.method.full_name()));
        }
    }
    Ok(())
}

/// Decodes `%41` in one path segment; `None` if it is malformed or not UTF-8.
fn percent_decode(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests;

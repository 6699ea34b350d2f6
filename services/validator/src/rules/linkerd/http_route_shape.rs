//! What an HTTPRoute of policy.linkerd.io looks like. The bounds on lists and numbers are the Gateway API's.

use super::{
    common::REGULAR_EXPRESSION,
    shape::{Entry, Form, Need, Shape},
};

const MOST_PARENTS: usize = 32;
const MOST_MATCHES: usize = 8;
const MOST: usize = 16;

/// An HTTPRoute below `spec`.
pub(super) const SHAPE: Shape = Shape::Map(&[
    ("parentRefs", Need::May, Shape::List(&PARENT, MOST_PARENTS)),
    ("hostnames", Need::May, Shape::List(&Shape::Text(Form::Filled), MOST)),
    ("rules", Need::May, Shape::List(&RULE, MOST)),
]);

const GROUP: Entry = ("group", Need::May, Shape::Text(Form::Group));
const KIND: Entry = ("kind", Need::May, Shape::Text(Form::Kind));
const NAME: Entry = ("name", Need::Must, Shape::Text(Form::Filled));
const NAMESPACE: Entry = ("namespace", Need::May, Shape::Text(Form::Label));
const PORT: Entry = ("port", Need::May, Shape::Whole(1, 65535));

const PARENT: Shape =
    Shape::Map(&[GROUP, KIND, NAME, NAMESPACE, PORT, ("sectionName", Need::May, Shape::Text(Form::Filled))]);

const RULE: Shape = Shape::Map(&[
    ("matches", Need::May, Shape::List(&MATCH, MOST_MATCHES)),
    ("filters", Need::May, Shape::List(&FILTER, MOST)),
    ("backendRefs", Need::May, Shape::List(&BACKEND, MOST)),
    ("timeouts", Need::May, TIMEOUTS),
]);

const MATCH: Shape = Shape::Map(&[
    (
        "path",
        Need::May,
        Shape::Map(&[
            ("type", Need::May, Shape::Words(&["Exact", "PathPrefix", REGULAR_EXPRESSION])),
            ("value", Need::May, Shape::Text(Form::Free)),
        ]),
    ),
    ("headers", Need::May, Shape::List(&MATCHED, MOST)),
    ("queryParams", Need::May, Shape::List(&MATCHED, MOST)),
    (
        "method",
        Need::May,
        Shape::Words(&["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]),
    ),
]);

const MATCHED: Shape = Shape::Map(&[
    ("type", Need::May, Shape::Words(&["Exact", REGULAR_EXPRESSION])),
    ("name", Need::Must, Shape::Text(Form::Filled)),
    ("value", Need::Must, Shape::Text(Form::Free)),
]);

const FILTER: Shape = Shape::Map(&[
    ("type", Need::Must, Shape::Words(&["RequestHeaderModifier", "RequestRedirect"])),
    ("requestHeaderModifier", Need::May, MODIFIER),
    ("requestRedirect", Need::May, REDIRECT),
]);

const BACKEND: Shape = Shape::Map(&[
    GROUP,
    KIND,
    NAME,
    NAMESPACE,
    PORT,
    ("weight", Need::May, Shape::Whole(0, 1_000_000)),
    ("filters", Need::May, Shape::List(&BACKEND_FILTER, MOST)),
]);

const BACKEND_FILTER: Shape = Shape::Map(&[
    ("type", Need::Must, Shape::Words(&["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect"])),
    ("requestHeaderModifier", Need::May, MODIFIER),
    ("responseHeaderModifier", Need::May, MODIFIER),
    ("requestRedirect", Need::May, REDIRECT),
]);

const MODIFIER: Shape = Shape::Map(&[
    ("set", Need::May, Shape::List(&HEADER, MOST)),
    ("add", Need::May, Shape::List(&HEADER, MOST)),
    ("remove", Need::May, Shape::List(&Shape::Text(Form::Free), MOST)),
]);

const HEADER: Shape =
    Shape::Map(&[("name", Need::Must, Shape::Text(Form::Filled)), ("value", Need::Must, Shape::Text(Form::Free))]);

const REDIRECT: Shape = Shape::Map(&[
    ("scheme", Need::May, Shape::Words(&["http", "https"])),
    ("hostname", Need::May, Shape::Text(Form::Filled)),
    (
        "path",
        Need::May,
        Shape::Map(&[
            ("type", Need::Must, Shape::Words(&["ReplaceFullPath", "ReplacePrefixMatch"])),
            ("replaceFullPath", Need::May, Shape::Text(Form::Free)),
            ("replacePrefixMatch", Need::May, Shape::Text(Form::Free)),
        ]),
    ),
    ("port", Need::May, Shape::Whole(1, 65535)),
    ("statusCode", Need::May, Shape::Whole(301, 302)),
]);

const TIMEOUTS: Shape = Shape::Map(&[
    ("request", Need::May, Shape::Text(Form::Free)),
    ("backendRequest", Need::May, Shape::Text(Form::Free)),
]);

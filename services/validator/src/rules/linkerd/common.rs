//! What several Linkerd kinds check the same way: networks, headers, regular expressions, selectors.

use std::net::IpAddr;

use regex::RegexBuilder;

use super::shape::{ANY, Form, Need, Shape};
use crate::{
    report::{Hit, quote},
    rules::{
        catalogue::{self as rule, Rule},
        field::Field,
    },
};

/// The type of a match by regular expression.
pub(super) const REGULAR_EXPRESSION: &str = "RegularExpression";

/// Memory that one expression may take while it is tried, in bytes. The syntax is checked before memory is used;
/// larger programs are left to Linkerd, which allows them.
const SIZE_LIMIT: usize = 16 * 1024;

/// Labels to select by.
pub(super) const SELECTOR: Shape = Shape::Map(&[
    ("matchLabels", Need::May, Shape::Texts),
    ("matchExpressions", Need::May, Shape::List(&EXPRESSION, ANY)),
]);

const EXPRESSION: Shape = Shape::Map(&[
    ("key", Need::Must, Shape::Text(Form::Free)),
    ("operator", Need::Must, Shape::Words(&["In", "NotIn", "Exists", "DoesNotExist"])),
    ("values", Need::May, Shape::List(&Shape::Text(Form::Free), ANY)),
]);

/// Blocks of addresses with exceptions.
pub(super) const NETWORKS: Shape = Shape::List(&NETWORK, ANY);

const NETWORK: Shape = Shape::Map(&[
    ("cidr", Need::Must, Shape::Text(Form::Free)),
    ("except", Need::May, Shape::List(&Shape::Text(Form::Free), ANY)),
]);

/// A block of addresses: the first and the last of them, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    is_v6: bool,
    first: u128,
    last: u128,
}

impl Block {
    /// From a CIDR block or an IP address.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let (is_v6, width, number) = match address.parse().ok()? {
            IpAddr::V4(address) => (false, 32, u128::from(u32::from(address))),
            IpAddr::V6(address) => (true, 128, u128::from(address)),
        };
        let bits: u32 = match bits {
            None => width,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|c| c.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        // What is left of the block once its prefix is fixed: no bit at all for an address.
        let rest = width.checked_sub(bits)?;
        let hosts = if rest == 128 { u128::MAX } else { (1 << rest) - 1 };
        Some(Self { is_v6, first: number & !hosts, last: number | hosts })
    }

    fn contains(&self, other: &Self) -> bool {
        self.is_v6 == other.is_v6 && self.first <= other.first && other.last <= self.last
    }
}

/// Networks whose blocks are malformed, or whose exceptions lie outside or leave nothing.
pub(super) fn networks(networks: &Field<'_>) -> Vec<Hit> {
    networks.items().iter().flat_map(network).collect()
}

/// The same for a list that must not be empty.
pub(super) fn some_networks(field: &Field<'_>) -> Vec<Hit> {
    let is_empty = field.value().and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty);
    if is_empty {
        let hit = Hit::new(rule::LD_NO_NETWORK, field.path(), "at least one network must be given");
        return vec![hit.suggest("write e.g. cidr: 10.0.0.0/8, or 0.0.0.0/0 and ::/0 for every address")];
    }
    networks(field)
}

fn network(network: &Field<'_>) -> Vec<Hit> {
    let cidr = network.get("cidr");
    let block = Block::parse(cidr.text());
    let mut hits: Vec<Hit> = block.is_none().then(|| malformed(&cidr)).flatten().into_iter().collect();
    for except in network.get("except").items() {
        let Some(hole) = Block::parse(except.text()) else {
            hits.extend(malformed(&except));
            continue;
        };
        let (network, hole_text) = (quote(cidr.text()), quote(except.text()));
        let message = match block {
            Some(block) if hole.contains(&block) => format!("the exception {hole_text} leaves nothing of {network}"),
            Some(block) if !block.contains(&hole) => format!("the exception {hole_text} is not inside {network}"),
            _ => continue,
        };
        hits.push(Hit::new(rule::LD_EXCEPT, except.path(), message));
    }
    hits
}

/// A block that is a text and malformed; what is no text is said by the shape.
fn malformed(field: &Field<'_>) -> Option<Hit> {
    let text = field.value()?.as_str()?;
    let message = format!("{} is no CIDR block and no IP address", quote(text));
    Some(Hit::new(rule::LD_CIDR, field.path(), message).suggest("write e.g. 10.0.0.0/8"))
}

/// The name and value of a header: of a filter, or of a match with an exact value.
pub(super) fn header(name: &Field<'_>, value: &Field<'_>) -> Vec<Hit> {
    let visible = |c: u8| c == b'\t' || (b' '..=b'~').contains(&c);
    let mut hits: Vec<Hit> = header_name(name).into_iter().collect();
    if !value.text().bytes().all(visible) {
        let message = format!("the header value {} has characters other than printable ASCII", quote(value.text()));
        hits.push(Hit::new(rule::LD_HEADER, value.path(), message));
    }
    hits
}

/// A header name that is a text and no token of RFC 9110.
pub(super) fn header_name(name: &Field<'_>) -> Option<Hit> {
    let text = name.value()?.as_str()?;
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    let good = !text.is_empty() && text.bytes().all(token);
    (!good).then(|| Hit::new(rule::LD_HEADER, name.path(), format!("{} is no header name", quote(text))))
}

/// A regular expression that is a text and malformed. The policy controller and the proxy read them as this crate does.
pub(super) fn regex(rule: &'static Rule, field: &Field<'_>) -> Option<Hit> {
    let text = field.value()?.as_str()?;
    match RegexBuilder::new(text).size_limit(SIZE_LIMIT).build() {
        Ok(_) | Err(regex::Error::CompiledTooBig(_)) => None,
        Err(error) => {
            let text_of_error = error.to_string();
            let last = text_of_error.lines().last().unwrap_or_default();
            let message = format!("{} is no regular expression: {}", quote(text), last.trim_start_matches("error: "));
            Some(Hit::new(rule, field.path(), message))
        }
    }
}

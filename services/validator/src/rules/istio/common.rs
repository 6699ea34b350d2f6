//! What several Istio kinds check the same way: hosts, labels, ports, durations, percentages, exportTo.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    report::{Hit, quote},
    rules::{
        catalogue::{self as rule, Rule},
        field::Field,
    },
};

const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;
const NANOS_PER_MILLI: i128 = 1_000_000;

/// A DNS label: letters, digits and inner dashes, at most 63.
pub(super) fn is_label(text: &str) -> bool {
    let ok = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    !text.is_empty()
        && text.len() <= LONGEST_LABEL
        && text.bytes().all(ok)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS name, or a sentence why it is none. A dot at the end is allowed.
pub(super) fn dns_name(text: &str) -> Result<(), String> {
    sized(text)?;
    labels(text, text)
}

/// A DNS name whose first label may be `*`, `*x` or `*-x`, or a sentence why it is none.
pub(super) fn wildcard_name(text: &str) -> Result<(), String> {
    sized(text)?;
    let (first, rest) = text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)));
    let plain = first.strip_prefix("*-").or_else(|| first.strip_prefix('*')).unwrap_or(first);
    let wildcard = first == "*" || (first.len() <= LONGEST_LABEL && is_label(plain));
    if !wildcard {
        return Err(format!("the label {} of {} is malformed", quote(first), quote(text)));
    }
    rest.map_or(Ok(()), |rest| labels(rest, text))
}

fn sized(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..=LONGEST_NAME => Ok(()),
        long => Err(format!("it has {long} characters, more than {LONGEST_NAME}")),
    }
}

fn labels(text: &str, whole: &str) -> Result<(), String> {
    let labels: Vec<&str> = text.split('.').collect();
    let last = labels.len() - 1;
    if labels[last].parse::<i64>().is_ok() {
        return Err(format!("its last label {} is a number", quote(labels[last])));
    }
    match labels.iter().enumerate().find(|(index, label)| !(is_label(label) || (*index == last && label.is_empty()))) {
        Some((_, label)) => Err(format!("the label {} of {} is malformed", quote(label), quote(whole))),
        None => Ok(()),
    }
}

/// Whether a host has a wildcard that is not a whole first label.
pub(super) fn is_partial_wildcard(host: &str) -> bool {
    host.contains('*') && host != "*" && !host.starts_with("*.")
}

/// An IP address; one of version 6 may have a zone.
pub(super) fn is_ip(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<IpAddr>().is_ok(),
    }
}

/// An IP address or a CIDR block.
pub(super) fn subnet(field: &Field<'_>) -> Option<Hit> {
    let text = field.text();
    let good = match text.split_once('/') {
        None => is_ip(text),
        Some((address, bits)) => {
            let longest = match (address.parse::<Ipv4Addr>(), address.parse::<Ipv6Addr>()) {
                (Ok(_), _) => 32,
                (_, Ok(_)) => 128,
                _ => return Some(bad_subnet(field, text)),
            };
            let canonical = bits == "0" || !bits.starts_with(['0', '+']);
            canonical && bits.parse::<u8>().is_ok_and(|bits| bits <= longest)
        }
    };
    (!good).then(|| bad_subnet(field, text))
}

fn bad_subnet(field: &Field<'_>, text: &str) -> Hit {
    Hit::new(rule::SUBNET, field.path(), format!("{} is no IP address and no CIDR block", quote(text)))
        .suggest("write e.g. 10.0.0.0/8")
}

/// A port number that is set and not within 1 to 65535.
pub(super) fn port(field: &Field<'_>) -> Option<Hit> {
    let number = field.integer()?;
    (!(1..=65535).contains(&number))
        .then(|| Hit::new(rule::PORT, field.path(), format!("the port {number} is not within 1 to 65535")))
}

/// The labels of a selector: names with an optional DNS prefix, values of at most 63 characters.
pub(super) fn label_map(field: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (name, value) in field.entries() {
        let (prefix, short) = name.split_once('/').map_or((None, name), |(prefix, short)| (Some(prefix), short));
        let prefix_is_good = prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_label));
        if !prefix_is_good || !is_qualified(short) {
            hits.push(Hit::new(rule::LABEL, value.path(), format!("{} is no label name", quote(name))).at_key());
        }
        if !value.text().is_empty() && !is_qualified(value.text()) {
            hits.push(Hit::new(rule::LABEL, value.path(), format!("{} is no label value", quote(value.text()))));
        }
    }
    hits
}

fn is_qualified(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= LONGEST_LABEL && text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

/// A duration in Go's form ("1h30m", "0.5s") in nanoseconds.
pub(in crate::rules) fn nanoseconds(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_end);
        total = total.checked_add(amount(number, unit)?)?;
        rest = next;
    }
    (!matches!(text, "-" | "+")).then_some(sign * total).filter(|nanos| i64::try_from(*nanos).is_ok())
}

fn amount(number: &str, unit: &str) -> Option<i128> {
    let nanos: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => NANOS_PER_MILLI,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond a nanosecond are cut, as Go does.
    let fraction = &fraction[..fraction.len().min(15)];
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole * nanos + part * nanos / scale)
}

/// A duration that is set and malformed, shorter than a millisecond, or finer than one.
pub(super) fn duration(field: &Field<'_>) -> Option<Hit> {
    if !field.is_set() {
        return None;
    }
    let text = field.text();
    let hit =
        |message: String| Some(Hit::new(rule::DURATION, field.path(), message).suggest("write e.g. 250ms, 10s or 1m"));
    match nanoseconds(text) {
        None => hit(format!("{} is no duration", quote(text))),
        Some(nanos) if nanos < NANOS_PER_MILLI => hit(format!("{} is shorter than 1ms", quote(text))),
        Some(nanos) if nanos % NANOS_PER_MILLI != 0 => hit(format!("{} is finer than 1ms", quote(text))),
        Some(_) => None,
    }
}

/// Who may see a resource, apart from the namespaces that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Every namespace.
    Anyone,
    /// Its own namespace only, because it has a workload selector.
    OnlyHere,
    /// Every namespace, or nobody at all (`~`).
    AnyoneOrNobody,
}

/// Who may see the resource: `.`, `*` or namespaces, each once, `*` and `~` alone.
pub(super) fn export_to(field: &Field<'_>, namespace: &str, audience: Audience) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut seen = HashSet::new();
    let entries = field.items();
    for entry in &entries {
        let text = entry.text();
        let key = if text == "." { namespace } else { text };
        let problem = match text {
            "~" if audience != Audience::AnyoneOrNobody => Some("~ (nobody) is for ServiceEntries only".to_owned()),
            _ if seen.contains(key) => Some(format!("{} is there already", quote(text))),
            "*" | "." | "~" => None,
            _ if !is_label(text) => Some(format!("{} is not \".\", \"*\" or a namespace", quote(text))),
            _ => None,
        };
        match problem {
            Some(problem) => hits.push(Hit::new(rule::EXPORT_TO, entry.path(), problem)),
            None => drop(seen.insert(key)),
        }
    }
    if seen.contains("*") && entries.len() > 1 {
        let message = "\"*\" exports to every namespace, so it stands alone";
        hits.push(Hit::new(rule::EXPORT_TO, field.path(), message).suggest("keep \"*\" or the namespaces"));
    }
    if seen.contains("~") && entries.len() > 1 {
        let message = "\"~\" exports to nobody, so it stands alone";
        hits.push(Hit::new(rule::EXPORT_TO, field.path(), message).suggest("keep \"~\" or the namespaces"));
    }
    if audience == Audience::OnlyHere && !seen.is_empty() && (seen.len() > 1 || !seen.contains(namespace)) {
        let message = "with a workloadSelector the rule can be exported to its own namespace only";
        hits.push(Hit::new(rule::EXPORT_TO, field.path(), message).suggest("write exportTo: [\".\"] or leave it out"));
    }
    hits
}

/// A limit that is negative.
pub(super) fn non_negative(rule: &'static Rule, field: &Field<'_>, name: &str) -> Option<Hit> {
    let number = field.integer().filter(|number| *number < 0)?;
    Some(Hit::new(rule, field.path(), format!("{name} is {number}, and must not be negative")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["*", "a", "*.bar", "*-foo.bar.com", "*foo.bar", "foo.bar.", "a-b.c1"] {
            assert_eq!(wildcard_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-", "foo.*.bar", "foo..bar", "a_b.c", "foo.123", "*-", "x-.com", &"a".repeat(64)] {
            assert!(wildcard_name(bad).is_err(), "{bad}");
        }
        assert!(dns_name("*.foo").is_err());
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("1s", Some(1_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("0.5s", Some(500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.0000005s", Some(1_000_000_500)),
            ("-1ms", Some(-1_000_000)),
            ("0", Some(0)),
            ("", None),
            ("-", None),
            ("1", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1s ", None),
            ("9999999999999999999h", None),
            ("1..5s", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text:?}");
        }
    }
}

//! The patterns that AuthorizationPolicies are written with, as Istio turns them into matchers of Envoy.

use std::net::IpAddr;

use regex::Regex;

/// A text, its beginning ("a*"), its end ("*a"), or anything ("*").
#[derive(Debug, Clone)]
pub(super) enum Text {
    Any,
    Exact(String),
    Begins(String),
    Ends(String),
    /// Against the whole text.
    Regex(Regex),
}

impl Text {
    pub(super) fn new(pattern: &str) -> Self {
        match (pattern, pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            ("*", ..) => Self::Any,
            (_, Some(end), _) => Self::Ends(end.to_owned()),
            (_, None, Some(start)) => Self::Begins(start.to_owned()),
            (exact, ..) => Self::Exact(exact.to_owned()),
        }
    }

    /// A host: letters of either case are the same.
    pub(super) fn host(pattern: &str) -> Self {
        Self::new(&pattern.to_lowercase())
    }

    /// A path: also a template with `{*}` for one segment and `{**}` for any number.
    pub(super) fn path(pattern: &str) -> Result<Self, String> {
        if !pattern.contains("{*}") && !pattern.contains("{**}") {
            return Ok(Self::new(pattern));
        }
        let mut expression = String::new();
        let mut rest = pattern;
        while let Some(at) = rest.find("{*") {
            expression.push_str(&regex::escape(&rest[..at]));
            rest = &rest[at..];
            let (glob, length) = if rest.starts_with("{**}") { (".*", 4) } else { ("[^/]+", 3) };
            expression.push_str(glob);
            rest = &rest[length.min(rest.len())..];
        }
        expression.push_str(&regex::escape(rest));
        Self::regex(&expression)
    }

    pub(super) fn regex(expression: &str) -> Result<Self, String> {
        // A line break in a text is a letter like any other.
        Regex::new(&format!("(?s)^(?:{expression})$")).map(Self::Regex).map_err(|error| error.to_string())
    }

    pub(super) fn is_met_by(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => text == exact,
            Self::Begins(start) => text.starts_with(start.as_str()),
            Self::Ends(end) => text.ends_with(end.as_str()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A network, or one address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| format!("{text:?} is no address or network"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(longest), str::parse).map_err(|_| format!("{text:?} has no prefix length"))?;
        if length > longest {
            return Err(format!("{text:?} has a prefix longer than {longest}"));
        }
        Ok(Self { address, length })
    }

    pub(super) fn contains(&self, other: &IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - self.length;
                shift == 32 || u32::from(own) >> shift == u32::from(*other) >> shift
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - self.length;
                shift == 128 || u128::from(own) >> shift == u128::from(*other) >> shift
            }
            _ => false,
        }
    }
}

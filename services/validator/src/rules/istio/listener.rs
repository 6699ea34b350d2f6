//! What the listeners of gateways and sidecars have in common, and the ports of services: protocols, names, addresses to
//! bind to, hosts with a namespace.

use super::common;
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
};

pub(super) const UNIX: &str = "unix://";

/// What Istio can tell of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP in the clear, all versions, gRPC too.
    Http,
    /// TLS, with or without HTTP within.
    Tls,
    /// Anything else.
    Opaque,
}

impl Protocol {
    /// The protocol of a name, which may be written in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "http2" | "http_proxy" | "grpc" | "grpc-web" => Self::Http,
            "https" | "tls" => Self::Tls,
            "tcp" | "udp" | "mongo" | "redis" | "mysql" | "hbone" | "double-hbone" => Self::Opaque,
            _ => return None,
        })
    }
}

/// A protocol that Istio does not know. Whether it may be absent is for the caller.
pub(super) fn protocol(field: &Field<'_>) -> Option<Hit> {
    let message = format!("the protocol {} is unknown", quote(field.text()));
    let advice = "one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS and MYSQL";
    Protocol::named(field.text()).is_none().then(|| Hit::new(rule::PROTOCOL, field.path(), message).suggest(advice))
}

/// A name of a port that is no DNS label; `at` is where it stands.
pub(super) fn port_name(name: &str, at: &Field<'_>) -> Option<Hit> {
    let message = format!("{} is no port name", quote(name));
    let advice = "at most 63 letters, digits and inner dashes";
    (!common::is_label(name)).then(|| Hit::new(rule::PORT_NAME, at.path(), message).suggest(advice))
}

/// A port number that is not within 1 to 65535, or not there at all; `around` is what lacks it then.
pub(super) fn port_number(number: &Field<'_>, around: &Field<'_>) -> Option<Hit> {
    if number.is_set() {
        return common::port(number);
    }
    Some(Hit::new(rule::PORT, around.path(), "the port has no number").suggest("add number"))
}

/// Why a text behind `unix://` is no socket, if it is none.
pub(super) fn unix_path(path: &str) -> Result<(), String> {
    match path {
        "" => Err("the path of the socket is empty".to_owned()),
        // An abstract socket has no file.
        _ if path.starts_with('@') => Ok(()),
        _ if !path.starts_with('/') || path.ends_with('/') => {
            Err(format!("{} is no absolute path of a file", quote(path)))
        }
        _ => Ok(()),
    }
}

/// An address to listen on that is no IP address.
pub(super) fn bind_to_ip(bind: &Field<'_>) -> Option<Hit> {
    let text = bind.text();
    let message = format!("{} is no IP address to listen on", quote(text));
    (!text.is_empty() && !common::is_ip(text)).then(|| Hit::new(rule::BIND, bind.path(), message))
}

/// A unix socket, given with its `unix://`, that cannot be.
pub(super) fn bind_to_socket(bind: &Field<'_>) -> Option<Hit> {
    let path = bind.text().strip_prefix(UNIX)?;
    unix_path(path).err().map(|problem| Hit::new(rule::BIND, bind.path(), problem))
}

/// Which kind names a host together with a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A Gateway, where the namespace may be left out and an IP address is a host.
    Gateway,
    /// A Gateway that Istio made of one of the Gateway API, where `~` stands for "no route yet".
    Unrouted,
    /// A Sidecar, where the namespace may be `~` for none, or `~x` for all but one.
    Sidecar,
}

/// Why `namespace/host` cannot be used, if it cannot.
pub(super) fn scoped_host(text: &str, side: Side) -> Result<(), String> {
    let Some((namespace, host)) = text.split_once('/') else {
        return match side {
            Side::Gateway | Side::Unrouted => host_part(text, side),
            Side::Sidecar => Err("it is not of the form namespace/host".to_owned()),
        };
    };
    let special = match side {
        Side::Gateway => ["*", "."].contains(&namespace),
        Side::Unrouted => ["*", ".", "~"].contains(&namespace),
        // `~` is no namespace, and `~x` leaves out one.
        Side::Sidecar => {
            ["*", ".", "~"].contains(&namespace) || namespace.strip_prefix('~').is_some_and(common::is_label)
        }
    };
    if !special && !common::is_label(namespace) {
        return Err(format!("{} is no namespace", quote(namespace)));
    }
    host_part(host, side)
}

fn host_part(host: &str, side: Side) -> Result<(), String> {
    if host != "*" && !host.contains('.') {
        return Err(format!("{} is a short name; write the full one", quote(host)));
    }
    let is_address = side != Side::Sidecar && common::is_ip(host);
    if !is_address {
        common::wildcard_name(host)?;
    }
    if common::is_partial_wildcard(host) {
        return Err(format!("{} has a partial wildcard; only a whole label may be *", quote(host)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_a_namespace() {
        for (text, gateway, sidecar) in [
            ("*", true, false),
            ("*/*", true, true),
            ("./a.b", true, true),
            ("~/*", false, true),
            ("~ns/*", false, true),
            ("~N_S/*", false, false),
            ("ns/*.a.b", true, true),
            ("ns/*a.b", false, false),
            ("ns/a", false, false),
            ("/a.b", false, false),
            ("ns/", false, false),
            ("N_S/a.b", false, false),
            ("10.0.0.1", true, false),
            ("ns/10.0.0.1", true, false),
        ] {
            assert_eq!(scoped_host(text, Side::Gateway).is_ok(), gateway, "{text} for a gateway");
            assert_eq!(scoped_host(text, Side::Sidecar).is_ok(), sidecar, "{text} for a sidecar");
        }
    }

    #[test]
    fn sockets() {
        for (path, good) in [("/a/b", true), ("@x", true), ("", false), ("a", false), ("/a/", false), ("/", false)] {
            assert_eq!(unix_path(path).is_ok(), good, "{path:?}");
        }
    }
}

//! Names of hosts as Istio compares them.

/// What every service's full name ends with.
pub const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// The full name of a host that stands in an object of a namespace: a name without a dot is a service of that namespace.
#[must_use]
pub fn full(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') || host.is_empty() {
        host.trim_end_matches('.').to_ascii_lowercase()
    } else {
        format!("{}.{namespace}.{CLUSTER_DOMAIN}", host.to_ascii_lowercase())
    }
}

/// Name and namespace of a service's full name.
#[must_use]
pub fn service(full: &str) -> Option<(&str, &str)> {
    full.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix('.')?.split_once('.').filter(|(_, rest)| !rest.contains('.'))
}

/// Whether every name of `inner` is one of `outer`; either may be a wildcard.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    match (outer.strip_prefix('*'), inner.strip_prefix('*')) {
        (Some(outer), Some(inner)) => inner.ends_with(outer),
        (Some(outer), None) => inner.len() > outer.len() && inner.ends_with(outer),
        (None, Some(_)) => false,
        (None, None) => outer == inner,
    }
}

/// Whether there is a name that both hosts have.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    covers(one, other) || covers(other, one)
}

/// The namespaces to which `exportTo` (or its absence) shows an object; `None` is everywhere.
#[must_use]
pub fn exported<'a>(entries: &[&'a str], namespace: &'a str) -> Option<Vec<&'a str>> {
    if entries.is_empty() || entries.contains(&"*") {
        return None;
    }
    Some(entries.iter().map(|entry| if *entry == "." { namespace } else { entry }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_as_istio_does() {
        assert_eq!(full("cart", "shop"), "cart.shop.svc.cluster.local");
        assert_eq!(full("cart.example.com", "shop"), "cart.example.com");
        assert_eq!(service("cart.shop.svc.cluster.local"), Some(("cart", "shop")));
        for name in ["a.cart.shop.svc.cluster.local", "cart.svc.cluster.local", "cart.shop"] {
            assert_eq!(service(name), None, "{name}");
        }
        for (one, other, expected) in [
            ("*", "a.b", true),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("*.b", "*.a.b", true),
            ("a.b", "*.b", false),
            ("a.b", "a.b", true),
            ("*.c", "a.b", false),
        ] {
            assert_eq!(covers(one, other), expected, "{one} {other}");
        }
        assert!(overlap("a.b", "*.b") && !overlap("*.a", "*.b"));
        assert_eq!(exported(&["."], "shop"), Some(vec!["shop"]));
        assert_eq!(exported(&[".", "*"], "shop"), None);
    }
}

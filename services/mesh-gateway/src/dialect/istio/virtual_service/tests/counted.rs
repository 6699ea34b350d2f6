//! Where releases by weight are counted, as a table.

use super::*;

/// A destination "host:port/subset", of which only the host must be there.
fn destination(text: &str) -> Value {
    let (address, subset) = text.split_once('/').map_or((text, None), |(address, subset)| (address, Some(subset)));
    let (host, port) = address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)));
    let mut destination = json!({"host": host});
    if let Some(subset) = subset {
        destination["subset"] = subset.into();
    }
    if let Some(port) = port {
        destination["port"] = json!({"number": port.parse::<u64>().unwrap()});
    }
    destination
}

/// One route for each text, to the destinations in it.
fn sending(routes: &[&str]) -> Value {
    let route = |(index, texts): (usize, &&str)| {
        let entries = texts.split(' ').map(|text| json!({"destination": destination(text), "weight": 1}));
        json!({"match": [{"uri": {"prefix": format!("/{index}")}}], "route": entries.collect::<Vec<_>>()})
    };
    json!({"hosts": ["shop"], "http": routes.iter().enumerate().map(route).collect::<Vec<_>>()})
}

fn other(spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": "other", "namespace": "web"}, "spec": spec})
}

fn by_weight(stable: &Value, canary: &Value, neighbours: &[Value]) -> ExposurePlan {
    ask(stable, canary, Some(Mechanism::Weight), neighbours).unwrap()
}

/// Both arms' clusters with host "x" for "x.shop.svc.cluster.local", or both subsets.
fn told_apart(target: &MetricsTarget) -> (String, String) {
    let short = |clusters: &[String]| clusters.join(" ").replace(".shop.svc.cluster.local", "");
    if target.canary_clusters.is_empty() {
        return (target.canary_series.clone(), target.control_series.clone());
    }
    assert_eq!((&*target.canary_series, &*target.control_series), ("canary", "stable"));
    (short(&target.canary_clusters), short(&target.control_clusters))
}

#[test]
fn destinations_of_one_version_only_tell_the_versions_apart() {
    for (stable, canary, expected, words) in [
        (&["a"][..], &["b"][..], ("|b", "|a"), "counted by its hosts"),
        (&["a:80"], &["b:90"], ("90||b", "80||a"), "counted by its hosts"),
        (&["a a/v1"], &["b c/v2"], ("|b v2|c", "|a v1|a"), "counted by its hosts"),
        (&["a", "a"], &["b", "c"], ("|b |c", "|a"), "counted by its hosts"),
        (&["a", "x"], &["b", "x"], ("|b", "|a"), "counted by its hosts"),
        (&["a/v1", "b/v1"], &["a/v2", "a/v2"], ("v2", "v1"), "counted by its subset"),
        (&["a"], &["a/v2"], ("v2|a", "|a"), "cluster statistics alone"),
        (&["a:80"], &["a:90"], ("90||a", "80||a"), "cluster statistics alone"),
        (&["a/v1"], &["a/v2 b"], ("v2|a |b", "v1|a"), "cluster statistics alone"),
    ] {
        let plan = by_weight(&sending(stable), &sending(canary), &[]);
        let (canary_names, control_names) = told_apart(&plan.metrics_target);
        assert_eq!((&*canary_names, &*control_names), expected, "{stable:?} to {canary:?}");
        assert!(!plan.metrics_target.hosts.iter().any(|host| host.starts_with("x.")), "hosts are those that count");
        let admitted = plan.not_covered.join("\n");
        assert!(admitted.contains(words), "{words} is not in {admitted}");
    }
}

#[test]
fn what_is_not_the_versions_own_is_not_counted_and_said() {
    let mirrored = |mut spec: Value, field: &str, value: Value| {
        spec["http"][0][field] = value;
        spec
    };
    let with_connections = |mut spec: Value, host: &str| {
        spec["tcp"] = json!([{"match": [{"port": 1}], "route": [to(host)]}]);
        spec
    };
    let one = |text: &str| sending(&[text]);
    let many: Vec<String> = (0..17).map(|index| format!("n{index}")).collect();
    let none = || vec![];
    for (stable, canary, neighbours, reason) in [
        (one("a b"), one("a c"), none(), "both send to a.shop.svc.cluster.local."),
        (one("a"), one("a:80 b"), none(), "both send to a.shop.svc.cluster.local:80."),
        (one("a/v1"), one("b a/v1"), none(), "both send to a.shop.svc.cluster.local (subset v1)."),
        (sending(&["a", "b"]), sending(&["b", "c"]), none(), "both send to b"),
        (sending(&["a", "a"]), sending(&["b", "a"]), none(), "other routes or mirrors of it send to a"),
        (sending(&["a", "b"]), sending(&["b", "b"]), none(), "other routes or mirrors of it send to b"),
        (sending(&["a", "a/v1"]), sending(&["b", "a/v1"]), none(), "other routes or mirrors of it send to a"),
        (
            mirrored(one("a"), "mirror", json!({"host": "b"})),
            mirrored(one("b"), "mirror", json!({"host": "b"})),
            none(),
            "other routes or mirrors of it send to b",
        ),
        (
            mirrored(one("a"), "mirrors", json!([{"destination": {"host": "a"}}])),
            mirrored(one("b"), "mirrors", json!([{"destination": {"host": "a"}}])),
            none(),
            "other routes or mirrors of it send to a",
        ),
        (
            with_connections(one("a"), "a"),
            with_connections(one("b"), "a"),
            none(),
            "other routes or mirrors of it send",
        ),
        (with_connections(one("a"), "c"), with_connections(one("a"), "d"), none(), "only requests are counted"),
        (
            one("a"),
            one("b"),
            vec![other(one("b.shop.svc.cluster.local"))],
            "VirtualService web/other sends to b.shop.svc.cluster.local, too.",
        ),
        (
            one("a/v1"),
            one("a/v2"),
            vec![other(one("a.shop.svc.cluster.local"))],
            "VirtualService web/other sends to a.shop.svc.cluster.local, too.",
        ),
        (
            one("a"),
            one("b"),
            vec![other(mirrored(one("x"), "mirror", json!({"host": "b.shop.svc.cluster.local"})))],
            "VirtualService web/other sends to b",
        ),
        (one("a"), one(&many.join(" ")), none(), "more destinations than can be asked for at once"),
    ] {
        let plan = by_weight(&stable, &canary, &neighbours);
        assert_eq!(told_apart(&plan.metrics_target), (String::new(), String::new()), "{reason}");
        let admitted = plan.not_covered.join("\n");
        assert!(admitted.contains("It cannot be judged: "), "{admitted}");
        assert!(admitted.contains(reason), "{reason} is not in {admitted}");
    }
    for (stable, canary, neighbour) in [
        // A neighbour's own short name is another host; another subset is nobody's here.
        (one("a"), one("b"), one("b")),
        (one("a/v1"), one("a/v2"), one("a.shop.svc.cluster.local/v3")),
        (one("a"), one("a/v2"), one("a.shop.svc.cluster.local/v3")),
    ] {
        let plan = by_weight(&stable, &canary, &[other(neighbour)]);
        assert_ne!(told_apart(&plan.metrics_target).0, "", "{canary}");
    }
}

#[test]
fn what_callers_can_send_past_the_routes_is_told() {
    let bound = |mut spec: Value, hosts: &[&str], gateway: &str| {
        spec["hosts"] = hosts.into();
        spec["gateways"] = json!([gateway]);
        spec
    };
    let here = |routes: &[&str], hosts: &[&str]| bound(sending(routes), hosts, "mesh");
    let edge = |routes: &[&str]| bound(sending(routes), &["shop.example.com"], "edge");
    let exported = |mut spec: Value| {
        spec["exportTo"] = json!(["web"]);
        spec
    };
    let (a, b) = ("a.shop.svc.cluster.local", "b.shop.svc.cluster.local");
    for (stable, canary, neighbours, past) in [
        (here(&["a"], &["a"]), here(&["b"], &["a"]), vec![], Some(b.to_owned())),
        (here(&["a"], &["a", "b"]), here(&["b"], &["a", "b"]), vec![], None),
        (here(&["a"], &["a"]), here(&["b"], &["a"]), vec![other(here(&["x"], &[b]))], None),
        (here(&["a"], &["a"]), here(&["b"], &["a"]), vec![other(here(&["x"], &["*.shop.svc.cluster.local"]))], None),
        (here(&["a"], &["a"]), here(&["b"], &["a"]), vec![other(exported(here(&["x"], &[b])))], Some(b.to_owned())),
        (
            here(&["a"], &["a"]),
            here(&["b"], &["a"]),
            vec![other(bound(sending(&["x"]), &[b], "g"))],
            Some(b.to_owned()),
        ),
        (edge(&["a"]), edge(&["b"]), vec![], Some(format!("{a}, {b}"))),
        (edge(&["a/v1"]), edge(&["a/v2"]), vec![], Some(a.to_owned())),
        (edge(&["a/v1"]), edge(&["a/v2 b/v1"]), vec![], None),
    ] {
        let admitted = by_weight(&stable, &canary, &neighbours).not_covered.join("\n");
        match past {
            Some(names) => assert!(admitted.contains(&format!("send to {names} by themselves")), "{names}: {admitted}"),
            None => assert!(!admitted.contains("by themselves"), "{admitted}"),
        }
    }
}

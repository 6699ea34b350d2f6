use std::collections::BTreeMap;

use super::*;

fn target(hosts: &[&str]) -> MetricsTarget {
    MetricsTarget {
        mesh: Mesh::Istio,
        mechanism: Mechanism::Request,
        cluster: String::new(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        canary_series: "canary".to_owned(),
        control_series: "stable".to_owned(),
        cohort_label: String::new(),
        canary_clusters: Vec::new(),
        control_clusters: Vec::new(),
        pod_labels: BTreeMap::new(),
    }
}

#[test]
fn the_queries_for_a_host() {
    let queries = Catalog::built_in().queries(&target(&["shop-v2.demo.svc.cluster.local"])).expect("a good target");
    assert_eq!(
        queries.traffic,
        "{__name__=~\"envoy_vhost_demo_svc_cluster_local_[0-9]+_route_(canary|stable)_upstream_rq_(completed|xx)\",\
         envoy_virtual_host=~\"shop-v2\",envoy_response_code_class=~\"|5\"} or \
         {__name__=~\"envoy_vhost_(shop_v2_demo_svc_cluster_local)_[0-9]+_route_(canary|stable)\
         _upstream_rq(_completed)?\",\
         envoy_virtual_host=\"\",response_code_class=~\"|5xx\",response_code=\"\"}"
    );
    assert_eq!(
        queries.latency,
        "{__name__=~\"envoy_vhost_demo_svc_cluster_local_[0-9]+_route_(canary|stable)_upstream_rq_time_bucket\",\
         envoy_virtual_host=~\"shop-v2\"} or \
         {__name__=~\"envoy_vhost_(shop_v2_demo_svc_cluster_local)_[0-9]+_route_(canary|stable)\
         _upstream_rq_time_bucket\",\
         envoy_virtual_host=\"\"}"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_by_field() {
    let many: Vec<String> = (0..160).map(|index| format!("service-{index}.namespace.svc.cluster.local")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for hosts in
        [vec![], vec![""], vec!["a..b"], vec!["a\"}"], vec!["a.*"], vec!["a b"], vec!["a:80"], vec!["ü.de"], many]
    {
        match Catalog::built_in().queries(&target(&hosts)) {
            Err(QueryError::Target { field: "hosts", .. }) => {}
            other => panic!("{hosts:?} gave {other:?}"),
        }
    }
    for name in ["", "a-b", "a|b", "a\""] {
        let wrong = MetricsTarget { canary_series: name.to_owned(), ..target(&["a.b"]) };
        assert!(
            matches!(Catalog::built_in().queries(&wrong), Err(QueryError::Target { field: "canary_series", .. })),
            "{name:?}"
        );
    }
    let same = MetricsTarget { canary_series: "stable".to_owned(), ..target(&["a.b"]) };
    assert!(matches!(Catalog::built_in().queries(&same), Err(QueryError::Target { field: "control_series", .. })));
    let shadow = MetricsTarget { mechanism: Mechanism::Shadow, ..target(&["a.b"]) };
    assert!(matches!(Catalog::built_in().queries(&shadow), Err(QueryError::Unsupported { .. })));
    let (mechanism, cohort_label) = (Mechanism::Instance, "a.b/cohort".to_owned());
    let outside = MetricsTarget { mechanism, cohort_label, ..target(&["shop.example.com"]) };
    assert!(matches!(
        Catalog::built_in().queries(&outside),
        Err(QueryError::Target { field: "hosts", problem }) if problem.contains("<service>.<namespace>.svc")
    ));
}

#[test]
fn series_are_told_apart_by_their_names() {
    let queries = Catalog::built_in().queries(&target(&["a.b"])).expect("a good target");
    let longer = MetricsTarget { canary_series: "x_route_stable".to_owned(), ..target(&["a.b"]) };
    let longer = Catalog::built_in().queries(&longer).expect("a good target");
    for (queries, name, arm) in [
        (&queries, "envoy_vhost_b_80_route_canary_upstream_rq_completed", Some(Arm::Canary)),
        (&queries, "envoy_vhost_b_80_route_stable_upstream_rq_xx", Some(Arm::Control)),
        (&queries, "envoy_vhost_b_80_route_stable_upstream_rq_time_bucket", Some(Arm::Control)),
        (&queries, "envoy_vhost_b_80_route_other_upstream_rq_xx", None),
        (&queries, "up", None),
        (&longer, "envoy_vhost_b_80_route_x_route_stable_upstream_rq", Some(Arm::Canary)),
        (&longer, "envoy_vhost_b_80_route_stable_upstream_rq", Some(Arm::Control)),
    ] {
        let labels = BTreeMap::from([("__name__".to_owned(), name.to_owned())]);
        assert_eq!(queries.arm(&Series { labels, points: vec![] }), arm, "{name}");
    }
}

#[test]
fn each_arm_is_asked_for_by_itself_and_marked() {
    let file = "templates:\n- mesh: linkerd\n  mechanisms: [weight]\n  by_arm:\n    requests: 'a{b=\"$SERIES\",c=~\"$HOSTS\"}'\n    \
                errors: 'd{b=\"$SERIES\",e=~\"$SERVICES\",f=~\"$NAMESPACES\"}'\n    latency: 'g{b=\"$SERIES\"}'\n    \
                latency_unit: s\n";
    let linkerd = MetricsTarget {
        mesh: Mesh::Linkerd,
        mechanism: Mechanism::Weight,
        canary_series: "checkout-v2".to_owned(),
        control_series: "checkout".to_owned(),
        ..target(&["checkout.shop.svc.cluster.local", "*.shop.svc.cluster.local"])
    };
    let queries = Catalog::with(file).expect("good templates").queries(&linkerd).expect("a good target");
    let requests =
        "a{b=\"checkout-v2\",c=~\".*[.]shop[.]svc[.]cluster[.]local|checkout[.]shop[.]svc[.]cluster[.]local\"}";
    let marked = format!(
        "label_replace(label_replace({requests}, \"meshward_arm\", \"canary\", \"\", \"\"), \
         \"meshward_counts\", \"requests\", \"\", \"\") or "
    );
    assert!(queries.traffic.starts_with(&marked), "{}", queries.traffic);
    assert!(queries.traffic.contains("d{b=\"checkout\",e=~\".*|checkout\",f=~\"shop\"}"), "{}", queries.traffic);
    assert_eq!(queries.traffic.matches(" or ").count(), 3);
    assert!((queries.latency_unit_ms - 1000.0).abs() < 1e-9);
    let series = |arm: &str, counts: &str| {
        let labels = [("meshward_arm", arm), ("meshward_counts", counts)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Series { labels: labels.into(), points: vec![] }
    };
    assert_eq!(queries.arm(&series("canary", "errors")), Some(Arm::Canary));
    assert_eq!(queries.arm(&series("control", "errors")), Some(Arm::Control));
    assert_eq!(queries.arm(&series("", "errors")), None);
    assert!(queries.counts_requests(&series("canary", "requests")));
    assert!(!queries.counts_requests(&series("canary", "errors")));
}

#[test]
fn every_built_in_template_fills_to_queries_that_can_be_sent() {
    let catalog = Catalog::built_in();
    for template in &catalog.templates {
        for mechanism in &template.mechanisms {
            let target = MetricsTarget {
                mesh: template.mesh,
                mechanism: *mechanism,
                cohort_label: if template.needs_cohort_label { "a/b".to_owned() } else { String::new() },
                canary_clusters: vec!["canary|checkout.shop.svc.cluster.local".to_owned()],
                control_clusters: vec!["|checkout.shop.svc.cluster.local".to_owned()],
                ..target(&["checkout.shop.svc.cluster.local"])
            };
            let unnamed =
                MetricsTarget { canary_series: String::new(), control_series: String::new(), ..target.clone() };
            let target = if template.whole_service { unnamed } else { target };
            if let Err(error) = catalog.queries(&target) {
                panic!("{:?} by {mechanism:?}: {error}", template.mesh);
            }
        }
    }
}

#[test]
fn pods_are_told_apart_by_the_label_that_prometheus_makes_of_the_targets_key() {
    let catalog = Catalog::built_in();
    let target = |mesh, key: &str| MetricsTarget {
        mesh,
        mechanism: Mechanism::Instance,
        control_series: String::new(),
        cohort_label: key.to_owned(),
        ..target(&["checkout.shop.svc.cluster.local"])
    };
    for (mesh, key, label) in [
        (Mesh::Istio, "meshward.io/cohort-0123abcdef", "meshward_io_cohort_0123abcdef"),
        (Mesh::Istio, "a.b/c.d_E-1", "a_b_c_d_E_1"),
        (Mesh::Linkerd, "meshward.io/cohort-01234567", "meshward_io_cohort_01234567"),
    ] {
        let queries = catalog.queries(&target(mesh, key)).expect("pods without the label are the control");
        for query in queries.texts() {
            for part in [format!(",{label}=~\"canary\""), format!(",{label}=~\"\"")] {
                assert!(query.contains(&part), "{mesh:?} {key}: {part} in {query}");
            }
            assert!(!query.contains("COHORT_LABEL"), "{query}");
        }
    }
    let stable = MetricsTarget {
        control_series: "stable".to_owned(),
        pod_labels: [("app".to_owned(), "till".to_owned()), ("a.b/c".to_owned(), String::new())].into(),
        ..target(Mesh::Istio, "x.y/cohort-0")
    };
    let queries = catalog.queries(&stable).expect("the control has a label, or none yet");
    assert_eq!(queries.cohort_label.as_deref(), Some("x_y_cohort_0"));
    let of_envoy = "namespace=~\"shop\",a_b_c=\"\",app=\"till\",x_y_cohort_0=~\"stable|\"}";
    for (query, times) in queries.texts().into_iter().zip([2, 1, 3]) {
        assert_eq!(query.matches(of_envoy).count(), times, "{query}");
        assert!(!query.contains("POD_LABELS"), "{query}");
    }
    let everybody = MetricsTarget { pod_labels: BTreeMap::new(), ..stable.clone() };
    let queries = catalog.queries(&everybody).expect("all pods of the namespace");
    assert!(queries.traffic.contains("namespace=~\"shop\",POD_LABELS=\"\",x_y_cohort_0"), "{}", queries.traffic);
    for (key, value) in [("", "a"), ("7/a", "b"), ("a", "\"}"), ("a", "b|c"), ("a", &*"b".repeat(64))] {
        let labels = [(key.to_owned(), value.to_owned())].into();
        let refused = catalog.queries(&MetricsTarget { pod_labels: labels, ..stable.clone() });
        assert!(matches!(refused, Err(QueryError::Target { field: "pod_labels", .. })), "{key}={value}: {refused:?}");
    }
    let by_route = MetricsTarget { cohort_label: String::new(), ..stable.clone() };
    let queries = catalog.queries(&by_route).expect("the callers' proxies have the routes");
    assert!(
        queries.cohort_label.is_none() && queries.traffic.contains("_route_(canary|stable)_"),
        "{}",
        queries.traffic
    );
    let by_server = catalog.queries(&target(Mesh::Linkerd, ""));
    assert!(matches!(by_server, Err(QueryError::Target { field: "control_series", .. })), "{by_server:?}");
    let long = "a".repeat(318);
    for key in ["7/cohort", "a=\"b\"", "a b", "ü", "a\"} or up{b=\"", &long] {
        let refused = catalog.queries(&target(Mesh::Istio, key));
        assert!(matches!(refused, Err(QueryError::Target { field: "cohort_label", .. })), "{key}: {refused:?}");
    }
}

#[test]
fn clusters_tell_what_routes_do_not_count() {
    let host = "cart.shop.svc.cluster.local";
    let with = |canary: &[String], control: &[String]| MetricsTarget {
        mechanism: Mechanism::Subset,
        canary_clusters: canary.to_vec(),
        control_clusters: control.to_vec(),
        ..target(&[host])
    };
    let (twins, own) =
        ([format!("canary|{host}"), format!("v1-canary|{host}")], [format!("|{host}"), format!("v1|{host}")]);
    let queries = Catalog::built_in().queries(&with(&twins, &own)).expect("a good target");
    let failures = queries.failures.expect("there are some");
    let escaped = host.replace('.', "[.]");
    for part in [
        format!(
            "cx_connect_fail{{cluster_name=~\"outbound[|]([0-9]+[|]canary[|]{escaped}|[0-9]+[|]v1-canary[|]{escaped})\""
        ),
        format!("cx_connect_fail{{cluster_name=~\"outbound[|]([0-9]+[|][|]{escaped}|[0-9]+[|]v1[|]{escaped})\""),
    ] {
        assert!(failures.contains(&part), "{part} in {failures}");
    }
    let without = Catalog::built_in().queries(&with(&[], &[])).expect("a good target");
    assert!(!without.failures.expect("denials").contains("cluster_name"), "nothing to ask for");
    let many = vec![format!("a|{host}"); 65];
    let wrong = |cluster: &str| vec![cluster.to_owned()];
    for clusters in [
        many,
        wrong(host),
        wrong("a|*.b"),
        wrong("a\"|b.c"),
        wrong("a|"),
        wrong("a|b|c"),
        wrong("080||b.c"),
        wrong("70000||b.c"),
        wrong("80|a|b|c"),
    ] {
        let refused = Catalog::built_in().queries(&with(&clusters, &own));
        assert!(
            matches!(refused, Err(QueryError::Target { field: "canary_clusters", .. })),
            "{clusters:?}: {refused:?}"
        );
    }
}

/// By host where no host is both versions', else by cluster; by subset where no clusters are named.
#[test]
fn destinations_by_weight_are_counted_where_that_is_exact() {
    let by_weight = |canary: &[&str], control: &[&str]| MetricsTarget {
        mechanism: Mechanism::Weight,
        canary_clusters: canary.iter().map(ToString::to_string).collect(),
        control_clusters: control.iter().map(ToString::to_string).collect(),
        ..target(&["cart.shop.svc.cluster.local"])
    };
    let by_host = "istio_requests_total{reporter=\"source\",destination_service=~\"next[.]shop\"}";
    let by_version = "destination_version=\"canary\"";
    let cluster = |ends: &str| format!("rq_completed{{cluster_name=~\"outbound[|]({ends})\"}}");
    for (canary, control, has, has_not) in [
        (
            &["|next.shop"][..],
            &["|cart.shop", "v1|cart.shop"][..],
            vec![
                by_host.to_owned(),
                cluster("[0-9]+[|][|]next[.]shop"),
                cluster("[0-9]+[|][|]cart[.]shop|[0-9]+[|]v1[|]cart[.]shop"),
            ],
            by_version,
        ),
        (
            &["v2|cart.shop", "|next.shop"],
            &["|cart.shop"],
            vec![cluster("[0-9]+[|][|]next[.]shop|[0-9]+[|]v2[|]cart[.]shop"), cluster("[0-9]+[|][|]cart[.]shop")],
            "istio_requests",
        ),
        (
            &["8080||cart.shop"],
            &["80||cart.shop"],
            vec![cluster("8080[|][|]cart[.]shop"), cluster("80[|][|]cart[.]shop")],
            "istio_requests",
        ),
        (&[], &[], vec![by_version.to_owned()], "outbound[|]("),
    ] {
        let queries = Catalog::built_in().queries(&by_weight(canary, control)).expect("a good target");
        for part in has {
            assert!(queries.traffic.contains(&part), "{part} in {}", queries.traffic);
        }
        for query in queries.texts() {
            assert!(!query.contains(has_not), "{has_not} in {query}");
        }
    }
    for control in ["|cart.shop", "80||cart.shop"] {
        let refused = Catalog::built_in().queries(&by_weight(&["|cart.shop"], &["|other.shop", control]));
        assert!(matches!(refused, Err(QueryError::Target { field: "control_clusters", .. })), "{refused:?}");
    }
}

/// mesh-gateway names up to 16 clusters of 800 bytes for each version.
#[test]
fn as_many_clusters_as_a_plan_names_fit_into_a_query() {
    let of = |letter: char| {
        (10..26).map(|index| format!("|{letter}{index}-{}.shop.svc.cluster.local", "x".repeat(22))).collect()
    };
    let target = MetricsTarget {
        mechanism: Mechanism::Weight,
        canary_clusters: of('a'),
        control_clusters: of('b'),
        ..target(&["cart.shop.svc.cluster.local"])
    };
    assert_eq!(target.canary_clusters.iter().map(String::len).sum::<usize>(), 800);
    let queries = Catalog::built_in().queries(&target).expect("short enough");
    assert!(queries.failures.is_some(), "the longest of them");
}

#[test]
fn an_operators_template_comes_first_also_where_a_target_names_a_label() {
    let file = "templates:\n- mesh: istio\n  mechanisms: [instance]\n  by_arm:\n    control_without_label: true\n    requests: \
                'a{track=\"$SERIES\"}'\n    errors: 'b{track=\"$SERIES\"}'\n    latency: 'c{track=\"$SERIES\"}'\n    \
                latency_unit: s\n";
    let target = MetricsTarget {
        mechanism: Mechanism::Instance,
        cohort_label: "meshward.io/cohort-1".to_owned(),
        ..target(&["checkout.shop.svc.cluster.local"])
    };
    let queries = Catalog::with(file).expect("good templates").queries(&target).expect("a good target");
    assert!(queries.traffic.contains("a{track=\"canary\"}"), "{}", queries.traffic);
}

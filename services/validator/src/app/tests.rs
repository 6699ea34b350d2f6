//! How the layers work together where definitions are absent, partial or newer than the rules.

use std::sync::Arc;

use serde_json::{Value, json};

use super::validate;
use crate::{report::Report, schema::Catalogue};

/// A definition of one kind whose spec is described, or open.
fn definition(group: &str, kind: &str, version: &str, spec: &Value) -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.add(&written(group, kind, version, spec));
    catalogue
}

fn written(group: &str, kind: &str, version: &str, spec: &Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": group,
            "names": {"kind": kind},
            "versions": [{"name": version, "served": true, "schema": schema}],
        },
    })
}

fn judge(api_version: &str, kind: &str, spec: &Value, catalogue: &Catalogue) -> Report {
    let object = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": spec,
    });
    validate(object.to_string().as_bytes(), "", catalogue)
}

fn ids(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.id.as_str()).collect()
}

#[test]
fn a_kind_of_linkerd_without_a_definition_is_judged_by_its_rules() {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let catalogue = definition("policy.linkerd.io", "Server", "v1beta3", &open);
    let profile = json!({"routes": [{"name": "a", "condition": {"method": "GET"}}]});
    let report = judge("linkerd.io/v1alpha2", "ServiceProfile", &profile, &catalogue);
    assert!(report.is_valid(), "{:?}", report.findings);
    assert!(report.skipped.iter().any(|reason| reason.contains("only other kinds of Linkerd")), "{:?}", report.skipped);
    assert_eq!(ids(&judge("linkerd.io/v1alpha2", "ServiceProfil", &profile, &catalogue)), ["MW2002"]);
}

#[test]
fn a_definition_that_is_newer_than_the_rules_has_the_last_word_on_fields_and_versions() {
    let properties =
        json!({"podSelector": {"type": "object"}, "port": {"type": "integer"}, "extra": {"type": "string"}});
    let catalogue =
        definition("policy.linkerd.io", "Server", "v9", &json!({"type": "object", "properties": properties}));
    let server = json!({"podSelector": {}, "port": 80, "extra": "a"});
    let report = judge("policy.linkerd.io/v9", "Server", &server, &catalogue);
    assert_eq!(ids(&report), Vec::<&str>::new());
    assert_eq!(report.skipped, ["semantic rules: those for Server do not know policy.linkerd.io/v9"]);
    let server = json!({"podSelector": {}, "port": 80, "other": "a"});
    assert_eq!(ids(&judge("policy.linkerd.io/v9", "Server", &server, &catalogue)), ["MW2004"]);
}

#[test]
fn the_webhook_of_service_profiles_is_strict_where_their_definition_is_open() {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let catalogue = definition("linkerd.io", "ServiceProfile", "v1alpha2", &open);
    let profile = json!({"routes": [{"name": "a", "condition": {"any": [{"path": "/"}]}}]});
    let report = judge("linkerd.io/v1alpha2", "ServiceProfile", &profile, &catalogue);
    assert!(ids(&report).contains(&"MW2004"), "{:?}", report.findings);
}

#[test]
fn a_route_of_the_gateway_api_is_judged_if_it_is_meant_for_linkerd() {
    let catalogue = Catalogue::default();
    let route = |group: &str| json!({"parentRefs": [{"group": group, "kind": "Server", "name": "a"}]});
    let api = "gateway.networking.k8s.io/v1";
    let report = judge(api, "HTTPRoute", &route("policy.linkerd.io"), &catalogue);
    assert!(report.is_valid() && report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.objects.len(), 1, "it can be kept and exposed");
    assert_eq!(ids(&judge(api, "HTTPRoute", &route("example.com"), &catalogue)), ["MW2001"]);
}

#[test]
fn what_a_rule_of_the_definition_says_is_said_once_at_the_place_of_ours() {
    let selector = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut spec =
        json!({"type": "object", "properties": {"selector": selector, "targetRef": selector, "targetRefs": selector}});
    let policy =
        json!({"selector": {"matchLabels": {"a": "b"}}, "targetRef": {"kind": "Service", "group": "", "name": "a"}});
    let mut found = Vec::new();
    for rule in [None, Some("!(has(self.selector) && has(self.targetRef))")] {
        if let Some(rule) = rule {
            spec["x-kubernetes-validations"] = json!([{"rule": rule, "message": "only one"}]);
        }
        let catalogue = definition("security.istio.io", "AuthorizationPolicy", "v1", &spec);
        let report = judge("security.istio.io/v1", "AuthorizationPolicy", &policy, &catalogue);
        let [finding] = report.findings.as_slice() else { panic!("{rule:?}: {:?}", report.findings) };
        assert_eq!(
            (finding.path.as_str(), finding.aliases.as_slice()),
            ("spec.targetRef", &["IST0106".to_owned()][..])
        );
        found.push((finding.id.clone(), finding.message.clone()));
    }
    assert_eq!(found[0].0, "MW3169");
    assert_eq!(found[1], ("MW2014".to_owned(), "only one".to_owned()));
}

#[test]
fn a_finding_is_told_again_wherever_it_has_moved() {
    let route = |host: &str| json!({"route": [{"destination": {"host": host}, "weight": -1}]});
    let prints = |http: &Value| -> Vec<(String, String)> {
        let catalogue = Catalogue::default();
        let report =
            judge("networking.istio.io/v1", "VirtualService", &json!({"hosts": ["a"], "http": http}), &catalogue);
        let wanted = report.findings.into_iter().filter(|finding| finding.id == "MW3109");
        wanted.map(|finding| (finding.path, finding.details.fingerprint)).collect()
    };
    let first = prints(&json!([route("a")]));
    let moved =
        prints(&json!([{"match": [{"uri": {"prefix": "/x"}}], "route": [{"destination": {"host": "a"}}]}, route("a")]));
    assert_eq!((first.len(), moved.len()), (1, 1));
    assert_ne!(first[0].0, moved[0].0, "it has moved");
    assert_eq!(first[0].1, moved[0].1);
    assert_eq!(first[0].1.len(), "sha256:".len() + 32);
    let other = prints(&json!([{"route": [{"destination": {"host": "a"}, "weight": -2}]}]));
    assert_ne!(first[0].1, other[0].1, "another value is another finding");
}

#[test]
fn a_context_that_ends_early_is_told_where_it_does() {
    let object = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "a", "namespace": "b"}, "spec": {}});
    for (context, line) in
        [("a: 1\nb: [", Some(2)), ("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}", None)]
    {
        let mut around = super::Warm::among(
            &super::Known::default(),
            &[super::Input { text: context.as_bytes(), source: "context[0]" }],
            false,
        );
        let accepted = super::Accepted { list: &[], now: jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0) };
        let catalogue = Catalogue::default();
        let report = super::validate_among(object.to_string().as_bytes(), "", &mut around, &accepted, &catalogue);
        let told = report.findings.iter().find(|finding| finding.id == "MW3006");
        assert_eq!(told.and_then(|finding| finding.at).map(|at| at.line), line, "{context}");
        assert!(told.is_none_or(|finding| finding.details.source == "context[0]" && report.is_valid()), "{told:?}");
    }
}

#[test]
fn a_cluster_is_taken_by_its_word_on_the_meshes_that_it_has() {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let closed = json!({"type": "object", "properties": {"podSelector": open}});
    let linkerd = "policy.linkerd.io";
    let catalogue = Arc::new(definition(linkerd, "Server", "v1beta3", &open));
    let server = json!({"podSelector": {}, "port": 80});
    let profile = json!({"routes": [{"name": "a", "condition": {"method": "GET"}}]});
    let fallback = "schema of \"Server\": the cluster has no definition of its mesh; those of the catalogue are used";
    for (what, cluster, api_version, kind, spec, expected, told) in [
        (
            "stricter",
            vec![written(linkerd, "Server", "v1beta3", &closed)],
            "policy.linkerd.io/v1beta3",
            "Server",
            &server,
            vec!["MW2004"],
            None,
        ),
        (
            "as the catalogue",
            vec![written(linkerd, "Server", "v1beta3", &open)],
            "policy.linkerd.io/v1beta3",
            "Server",
            &server,
            vec![],
            None,
        ),
        (
            "another version",
            vec![written(linkerd, "Server", "v1beta2", &open)],
            "policy.linkerd.io/v1beta3",
            "Server",
            &server,
            vec!["MW2003"],
            None,
        ),
        (
            "another kind",
            vec![written(linkerd, "Server", "v1beta3", &open)],
            "linkerd.io/v1alpha2",
            "ServiceProfile",
            &profile,
            vec!["MW2002"],
            None,
        ),
        (
            "another mesh",
            vec![written("networking.istio.io", "Sidecar", "v1", &open)],
            "policy.linkerd.io/v1beta3",
            "Server",
            &server,
            vec![],
            Some(fallback),
        ),
        ("no mesh", vec![], "policy.linkerd.io/v1beta3", "Server", &server, vec![], Some(fallback)),
    ] {
        let catalogue = Catalogue::of_cluster(&cluster, Arc::clone(&catalogue));
        let report = judge(api_version, kind, spec, &catalogue);
        assert_eq!(ids(&report), expected, "{what}: {:?}", report.findings);
        assert_eq!(report.skipped.iter().map(String::as_str).next(), told, "{what}: {:?}", report.skipped);
    }
}

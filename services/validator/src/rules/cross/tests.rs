//! Tables of objects and what is said of them.

mod access;
mod certificates;
mod istio;
mod linkerd;
mod networking;

use std::collections::BTreeSet;

use jiff::civil::{DateTime, date};

use crate::{
    app::{BatchReport, Input, batch},
    schema::Catalogue,
};

/// Everything of layers 4 and 5 that is said of a whole cluster.
pub(super) fn judge(yaml: &str) -> BatchReport {
    judge_at(date(2026, 11, 23).at(12, 0, 0, 0), yaml)
}

/// The same at another time.
pub(super) fn judge_at(now: DateTime, yaml: &str) -> BatchReport {
    let (mut report, _) = batch(&[Input { text: yaml.as_bytes(), source: "" }], true, now, &Catalogue::default());
    report.findings.retain(|finding| finding.id.as_str() > "MW4");
    report
}

/// "MW4101 VirtualService/cart spec.gateways[0]" of each finding.
pub(super) fn said(report: &BatchReport) -> BTreeSet<String> {
    let line = |finding: &meshward_model::Finding| {
        format!("{} {}/{} {}", finding.id, finding.object.kind, finding.object.name, finding.path)
    };
    report.findings.iter().map(line).collect()
}

/// Objects of kinds in short: each line is "kind namespace/name: spec in YAML's flow form"; a line that begins with a space
/// goes on with the one before. "@2020" behind the name is the year in which the object was made.
pub(super) fn yaml(short: &str) -> String {
    let joined = short.trim().lines().fold(String::new(), |text, line| {
        let joint = if line.trim_start().starts_with("..") || text.is_empty() { "" } else { "\n" };
        text + joint + line.trim_start().trim_start_matches("..")
    });
    joined.lines().filter(|line| !line.trim().is_empty()).map(object).collect::<Vec<_>>().join("---\n")
}

fn object(line: &str) -> String {
    let (head, spec) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
    let (kind, place) = head.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (place, year) = place.split_once('@').unwrap_or((place, ""));
    let (namespace, name) = place.split_once('/').unwrap_or_else(|| panic!("{line}"));
    let (version, kind) = match kind {
        "vs" => ("networking.istio.io/v1", "VirtualService"),
        "dr" => ("networking.istio.io/v1", "DestinationRule"),
        "gw" => ("networking.istio.io/v1", "Gateway"),
        "se" => ("networking.istio.io/v1", "ServiceEntry"),
        "sc" => ("networking.istio.io/v1", "Sidecar"),
        "ap" => ("security.istio.io/v1", "AuthorizationPolicy"),
        "ra" => ("security.istio.io/v1", "RequestAuthentication"),
        "pa" => ("security.istio.io/v1", "PeerAuthentication"),
        "tm" => ("telemetry.istio.io/v1", "Telemetry"),
        "svc" => ("v1", "Service"),
        "pod" => ("v1", "Pod"),
        "ns" => ("v1", "Namespace"),
        "sa" => ("v1", "ServiceAccount"),
        "secret" => ("v1", "Secret"),
        "http" => ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        "grpc" => ("gateway.networking.k8s.io/v1", "GRPCRoute"),
        "tcp" => ("gateway.networking.k8s.io/v1alpha2", "TCPRoute"),
        "lhttp" => ("policy.linkerd.io/v1beta3", "HTTPRoute"),
        "server" => ("policy.linkerd.io/v1beta3", "Server"),
        "lap" => ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"),
        "sauth" => ("policy.linkerd.io/v1beta1", "ServerAuthorization"),
        "mtls" => ("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication"),
        "egress" => ("policy.linkerd.io/v1alpha1", "EgressNetwork"),
        "rate" => ("policy.linkerd.io/v1alpha1", "HTTPLocalRateLimitPolicy"),
        "profile" => ("linkerd.io/v1alpha2", "ServiceProfile"),
        other => panic!("no kind {other}"),
    };
    let created =
        if year.is_empty() { String::new() } else { format!(", creationTimestamp: '{year}-01-01T00:00:00Z'") };
    let labels = spec.split_once(" labels ");
    let (spec, labels) = labels.map_or((spec, String::new()), |(spec, labels)| (spec, format!(", labels: {labels}")));
    let body = if kind == "Secret" { format!("data: {spec}") } else { format!("spec: {spec}") };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{labels}{created}}}\n{body}\n"
    )
}

/// Of a row: what it shows, the objects, and all that is said of them.
pub(super) type Row = (&'static str, &'static str, &'static [&'static str]);

/// Checks that exactly this is said. Rows name the rules that they are about: others may speak too.
#[track_caller]
pub(super) fn check(rows: &[Row]) {
    let ids: BTreeSet<&str> =
        rows.iter().flat_map(|(_, _, expected)| *expected).filter_map(|line| line.split(' ').next()).collect();
    for (what, short, expected) in rows {
        let report = judge(&yaml(short));
        let found = said(&report);
        let found: BTreeSet<&str> = found.iter().map(String::as_str).filter(|line| ids.contains(&line[..6])).collect();
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        assert_eq!(found, expected, "{what}");
        for finding in report.findings.iter().filter(|finding| ids.contains(finding.id.as_str())) {
            assert!(finding.at.is_some_and(|at| at.line > 0 && at.column > 0), "{what}: {finding:?}");
            assert!(!finding.message.is_empty() && finding.details.doc.contains("#mw"), "{what}: {finding:?}");
            let conflict = finding.id.starts_with("MW5");
            let alone = ["MW5112", "MW5113", "MW5116", "MW5115", "MW5201"].contains(&finding.id.as_str());
            assert!(
                !conflict || alone || !finding.details.related.is_empty(),
                "{what}: a conflict names the other: {finding:?}"
            );
            assert!(
                !conflict
                    || (finding.details.impact.is_some() && !finding.suggestion.is_empty())
                    || finding.id == "MW5133"
                    || finding.id == "MW5131"
                    || finding.id == "MW5132",
                "{what}: {finding:?}"
            );
            assert!(
                finding.details.related.iter().all(|other| !other.role.is_empty() && other.at.is_some()),
                "{what}: {finding:?}"
            );
        }
    }
}

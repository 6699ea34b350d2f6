//! Certificates of Gateways, made for the test, at different times.

use jiff::civil::DateTime;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{judge_at, yaml};

const GATEWAY: &str = "
    pod edge/in: {containers: [{name: istio-proxy, image: a}]} labels {gw: in}
    svc edge/in: {selector: {gw: in}, ports: [{port: 443, name: https}]}
    gw shop/a: {selector: {gw: in}, servers: [
     ..{hosts: [a], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: pair}}]}";

/// A certificate that holds from the first of a month to the first of another, and its key.
fn pair(from: (i32, u8), until: (i32, u8)) -> (String, String) {
    let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, 1);
    params.not_after = date_time_ymd(until.0, until.1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The Secret, with what it holds as text.
fn secret(names: (&str, &str), pair: &(String, String)) -> String {
    let block = |text: &str| text.lines().map(|line| format!("\n    {line}")).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: pair, namespace: edge}}\nstringData:\n  {}: |{}\n  {}: |{}\n",
        names.0,
        block(&pair.0),
        names.1,
        block(&pair.1)
    )
}

#[test]
fn certificates_hold_from_a_day_to_a_day() {
    let (year, month) = (pair((2026, 1), (2027, 1)), pair((2026, 11), (2026, 12)));
    let for_good = pair((2026, 1), (9999, 1));
    for (pair, now, expected) in [
        (&year, "2026-06-01T00:00", None),
        (&year, "2025-12-31T23:59", Some(("MW4110", "a certificate that holds from 2026-01-01 on"))),
        (&year, "2026-01-01T00:00", None),
        (&year, "2026-12-17T23:59", None),
        (&year, "2026-12-18T00:00", Some(("MW4130", "a certificate that expires on 2027-01-01"))),
        (&year, "2027-01-01T00:00", Some(("MW4130", "a certificate that expires on 2027-01-01"))),
        (&year, "2027-01-01T00:01", Some(("MW4110", "a certificate that expired on 2027-01-01"))),
        // A short life has a shorter end: six days of thirty.
        (&month, "2026-11-24T23:59", None),
        (&month, "2026-11-25T00:00", Some(("MW4130", "a certificate that expires on 2026-12-01"))),
        (&for_good, "2999-01-01T00:00", None),
    ] {
        for names in [("tls.crt", "tls.key"), ("cert", "key")] {
            let report = judge_at(now.parse::<DateTime>().unwrap(), &(yaml(GATEWAY) + &secret(names, pair)));
            let told: Vec<_> = report.findings.iter().map(|one| (one.id.as_str(), one.message.as_str())).collect();
            let expected: Vec<_> =
                expected.iter().map(|(id, what)| (*id, format!("the Secret \"edge/pair\" has {what}"))).collect();
            assert_eq!(told, expected.iter().map(|(id, what)| (*id, what.as_str())).collect::<Vec<_>>(), "{now}");
            // Nothing of what is in the Secret is told.
            let all = format!("{report:?}");
            let lines = pair.0.lines().chain(pair.1.lines()).filter(|line| !line.starts_with("-----"));
            assert!(lines.into_iter().all(|line| !all.contains(line)), "{all}");
            assert_eq!(report.skipped, ["schema: no CRD catalogue is configured; set --crds"]);
        }
    }
}

#[test]
fn a_secret_that_was_not_read_is_skipped() {
    let unread = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: pair, namespace: edge}\n";
    let report = judge_at("2026-06-01T00:00".parse().unwrap(), &(yaml(GATEWAY) + unread));
    assert_eq!(report.findings, []);
    let why = "expiry of Gateways' certificates: what is in the Secrets is not known";
    assert!(report.skipped.iter().any(|reason| reason == why), "{:?}", report.skipped);
}

//! Certificates of a Gateway: whoever asks is answered as of now.

use meshward_proto::{
    types::v1::Finding,
    validator::v1::{Context, ValidateBatchRequest, ValidateRequest, WhatIfRequest},
};
use serde_json::json;

use super::{World, ids};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_judged_as_of_now() {
    let world = World::new(None).await;
    let mut client = world.client();
    for (until, told) in [(2021, vec!["MW4110"]), (9999, vec![])] {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        let key = rcgen::KeyPair::generate().unwrap();
        let pair = json!({"tls.crt": params.self_signed(&key).unwrap().pem(), "tls.key": key.serialize_pem()});
        let named = |name: &str| json!({"name": name, "namespace": "shop", "labels": {"gw": "in"}});
        let port = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
        let server = json!({"hosts": ["a"], "port": port, "tls": {"mode": "SIMPLE", "credentialName": "pair"}});
        let spec = json!({"selector": {"gw": "in"}, "servers": [server]});
        let gateway =
            json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": named("a"), "spec": spec});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": named("pair"), "stringData": pair});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": named("in"), "spec": {}});
        let gateway = gateway.to_string();
        let around = vec![secret.to_string(), pod.to_string()];
        let of_certificates =
            |findings: &[Finding]| ids(findings).into_iter().filter(|id| *id == "MW4110").map(str::to_owned).collect();
        let context = Context { yaml: around.clone(), ..Context::default() };
        let request = ValidateRequest { yaml: gateway.clone(), context: Some(context), ..ValidateRequest::default() };
        let alone: Vec<String> =
            of_certificates(&client.validate(world.signed(request)).await.unwrap().into_inner().findings);
        assert_eq!(alone, told, "until {until}");

        let request = ValidateBatchRequest { yaml: around, complete: false, keep: true, ..Default::default() };
        let batch = client.validate_batch(world.signed(request)).await.unwrap().into_inner();
        let change = WhatIfRequest { session: batch.session, yaml: gateway };
        let change: Vec<String> =
            of_certificates(&client.what_if(world.signed(change)).await.unwrap().into_inner().findings);
        assert_eq!(change, told, "until {until}");
    }
}

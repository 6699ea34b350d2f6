use super::*;
use crate::transcode::pool;

const SERVICES: [&str; 2] =
    ["meshward.registry.v1.PolicyRegistryService", "meshward.rollout.v1.RolloutOrchestratorService"];

#[test]
fn requests_find_their_rpc() {
    let routes = Routes::of(&pool(), &SERVICES).expect("the contract can be served");
    let cases = [
        ("GET", "/api/v1/policies", "ListPolicies", ""),
        ("GET", "/api/v1/policies/watch", "WatchPolicies", ""),
        ("GET", "/api/v1/policies/a%2Fb%20c", "GetPolicy", "id=a/b c"),
        ("GET", "/api/v1/policies/p/versions/7", "GetPolicyVersion", "id=p version=7"),
        ("POST", "/api/v1/deployments/d/promote", "PromoteDeployment", "id=d"),
    ];
    for (method, path, rpc, bound) in cases {
        let found = routes.find(&method.parse().expect("a method"), path).expect(path);
        let fields: Vec<String> = found.bound.iter().map(|(field, value)| format!("{field}={value}")).collect();
        assert_eq!((found.method.name(), fields.join(" ").as_str()), (rpc, bound), "{path}");
    }
}

#[test]
fn other_requests_are_refused() {
    let routes = Routes::of(&pool(), &SERVICES).expect("the contract can be served");
    for path in [
        "/",
        "",
        "/api/v1",
        "/api/v1/policies/",
        "/api/v1/policies//versions",
        "/api/v1/policies/%zz",
        "/api/v1/policies/%ff",
    ] {
        assert!(matches!(routes.find(&Method::GET, path), Err(Refusal::NoSuchPath)), "{path}");
    }
    let Err(Refusal::WrongMethod(allowed)) = routes.find(&Method::PATCH, "/api/v1/policies/p") else {
        panic!("PATCH is not there");
    };
    assert_eq!(allowed.into_iter().collect::<Vec<_>>(), ["DELETE", "GET", "PUT"]);
}

#[test]
fn templates_that_cannot_be_served_are_errors() {
    for template in ["", "a", "/", "/a//b", "/{name=projects/*}", "/a/*", "/**", "/{id", "/a/{}", "/{id}:", "/x{id}"] {
        assert!(parse_template(template).is_err(), "{template:?}");
    }
    let (segments, verb) = parse_template("/v1/{a.b}:stop").expect("it is fine");
    assert_eq!(segments, [Segment::Literal("v1".to_owned()), Segment::Field("a.b".to_owned())]);
    assert_eq!(verb.as_deref(), Some("stop"));
}

#[test]
fn the_whole_contract_can_be_served() {
    for service in pool().services().filter(|service| service.full_name().starts_with("meshward.")) {
        Routes::of(&pool(), &[service.full_name()]).expect("every template of the contract is supported");
    }
    assert!(Routes::of(&pool(), &["meshward.NoSuchService"]).is_err());
}

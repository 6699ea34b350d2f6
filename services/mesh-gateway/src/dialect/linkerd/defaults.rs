//! What the API server fills in when it stores an object of Linkerd's: the defaults of the kinds' definitions.
//!
//! An object that was written by hand leaves them out, and one that was read has them. Whether an object is what was
//! written, whether two versions differ, and whether somebody else changed it are asked of the whole spec, so both must
//! be in one form: the stored one. A default that is not known here makes the gateway say that the cluster stored
//! something else than was sent.

use meshward_model::Target;
use serde_json::{Map, Value, json};

use super::kind::{GATEWAY, Kind, POLICY};

/// The object as the API server would store it.
pub(super) fn stored(target: &Target, object: &Value) -> Value {
    let mut object = object.clone();
    if let (Some(tree), Some(spec)) = (of(target), object.get_mut("spec")) {
        fill(spec, &tree);
    }
    object
}

/// The defaults of a kind in one version, as a tree: `default` is a value, `fields` and `items` lead on.
fn of(target: &Target) -> Option<Value> {
    let version = target.api_version.rsplit('/').next().unwrap_or_default();
    Some(match Kind::of_target(target)? {
        Kind::Server => {
            let mut fields = json!({"proxyProtocol": {"default": "unknown"}});
            if version == "v1beta3" {
                fields["accessPolicy"] = json!({"default": "deny"});
            }
            json!({"fields": fields})
        }
        Kind::PolicyRoute => route(POLICY, http()),
        Kind::HttpRoute => route(GATEWAY, http()),
        Kind::GrpcRoute => route(
            GATEWAY,
            json!({"matches": {"items": {"fields": {
                "headers": {"items": {"fields": {"type": {"default": "Exact"}}}},
                "method": {"fields": {"type": {"default": "Exact"}}},
            }}}}),
        ),
        Kind::TlsRoute | Kind::TcpRoute => route(GATEWAY, json!({})),
        _ => return None,
    })
}

/// The fields of a rule of HTTP.
fn http() -> Value {
    let typed = json!({"items": {"fields": {"type": {"default": "Exact"}}}});
    let path = json!({"type": "PathPrefix", "value": "/"});
    json!({
        "matches": {"default": [{"path": path}], "items": {"fields": {
            "path": {"default": path, "fields": {"type": {"default": "PathPrefix"}, "value": {"default": "/"}}},
            "headers": typed,
            "queryParams": typed,
        }}},
        "filters": {"items": {"fields": {"requestRedirect": {"fields": {"statusCode": {"default": 302}}}}}},
    })
}

fn route(group: &str, mut rule: Value) -> Value {
    let mut backend = json!({"group": {"default": ""}, "kind": {"default": "Service"}, "weight": {"default": 1}});
    backend["filters"] = rule["filters"].clone();
    rule["backendRefs"] = json!({"items": {"fields": backend}});
    rule["sessionPersistence"] = json!({"fields": {
        "type": {"default": "Cookie"},
        "cookieConfig": {"fields": {"lifetimeType": {"default": "Session"}}},
    }});
    let mut rules = json!({"items": {"fields": rule}});
    if let Some(matches) = rule["matches"].get("default") {
        rules["default"] = json!([{"matches": matches}]);
    }
    let parent = json!({"group": {"default": group}, "kind": {"default": "Gateway"}});
    json!({"fields": {"parentRefs": {"items": {"fields": parent}}, "rules": rules}})
}

fn fill(value: &mut Value, tree: &Value) {
    if let Some(fields) = value.as_object_mut() {
        let empty = Map::new();
        for (name, tree) in tree["fields"].as_object().unwrap_or(&empty) {
            let is_missing = fields.get(name).is_none_or(Value::is_null);
            match (is_missing, tree.get("default")) {
                (true, Some(default)) => {
                    fields.insert(name.clone(), default.clone());
                }
                (true, None) => continue,
                (false, _) => {}
            }
            if let Some(value) = fields.get_mut(name) {
                fill(value, tree);
            }
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        fill(item, &tree["items"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let every_path = json!({"type": "PathPrefix", "value": "/"});
        for (api_version, kind, spec, expected) in [
            (
                "policy.linkerd.io/v1beta3",
                "Server",
                json!({"port": 80}),
                json!({"port": 80, "proxyProtocol": "unknown", "accessPolicy": "deny"}),
            ),
            (
                "policy.linkerd.io/v1beta1",
                "Server",
                json!({"port": 80, "proxyProtocol": "HTTP/1"}),
                json!({"port": 80, "proxyProtocol": "HTTP/1"}),
            ),
            (
                "policy.linkerd.io/v1beta3",
                "HTTPRoute",
                json!({}),
                json!({"rules": [{"matches": [{"path": every_path}]}]}),
            ),
            (
                "gateway.networking.k8s.io/v1",
                "HTTPRoute",
                json!({"parentRefs": [{"name": "a"}], "rules": [
                    {"matches": [{"path": {"value": "/x"}, "headers": [{"name": "h", "value": "v"}]}],
                     "backendRefs": [{"name": "a", "port": 1}]}]}),
                json!({"parentRefs": [{"name": "a", "group": "gateway.networking.k8s.io", "kind": "Gateway"}], "rules": [
                    {"matches": [{"path": {"type": "PathPrefix", "value": "/x"},
                                  "headers": [{"type": "Exact", "name": "h", "value": "v"}]}],
                     "backendRefs": [{"group": "", "kind": "Service", "name": "a", "port": 1, "weight": 1}]}]}),
            ),
            (
                "gateway.networking.k8s.io/v1",
                "GRPCRoute",
                json!({"rules": [{"matches": [{"method": {"service": "s"}}]}, {}]}),
                json!({"rules": [{"matches": [{"method": {"service": "s", "type": "Exact"}}]}, {}]}),
            ),
            ("linkerd.io/v1alpha2", "ServiceProfile", json!({"routes": []}), json!({"routes": []})),
        ] {
            let target = Target::new("", api_version, kind, "n", "x").unwrap();
            let object = stored(&target, &json!({"spec": spec}));
            assert_eq!(object["spec"], expected, "{api_version} {kind}");
            assert_eq!(stored(&target, &object), object, "once is enough");
        }
    }
}

//! Lists with selectors, a page at a time, and watches.

use std::sync::Arc;

use serde_json::Value;

use super::{
    super::{Selected, Selection},
    Call,
};

/// Lists as a table of names and labels: a tenth of the bytes.
const ONLY_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const ONLY_METADATA_OF_ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

pub(super) fn call(selection: &Selection) -> Call {
    let limit = if selection.limit == 0 { String::new() } else { selection.limit.to_string() };
    let call = request("list", selection, &[("limit", &limit), ("continue", &selection.from)]);
    if selection.only_metadata { Call { accept: ONLY_METADATA, ..call } } else { call }
}

/// Bookmarks keep the place of a watch to which nothing happens, and tell a quiet connection from a dead one.
pub(super) fn watch(selection: &Selection, after: &str) -> Call {
    watching(selection, &[("resourceVersion", after)])
}

/// A watch that first tells what there is, at least as new as the moment of the question.
pub(super) fn first(selection: &Selection) -> Call {
    watching(selection, &[("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")])
}

fn watching(selection: &Selection, how: &[(&str, &str)]) -> Call {
    let parameters = [&[("watch", "true"), ("allowWatchBookmarks", "true")], how].concat();
    let call = request("watch", selection, &parameters);
    if selection.only_metadata { Call { accept: ONLY_METADATA_OF_ONE, ..call } } else { call }
}

fn request(verb: &'static str, selection: &Selection, parameters: &[(&str, &str)]) -> Call {
    let Selection { api_version, plural, namespace, .. } = selection;
    let (root, group) = match api_version.split_once('/') {
        Some((group, _)) => ("/apis", format!(".{group}")),
        None => ("/api", String::new()),
    };
    let namespace = namespace.as_ref().map_or_else(String::new, |name| format!("/namespaces/{}", escaped(name)));
    let path = format!("{root}/{api_version}{namespace}/{plural}{}", query(selection, parameters));
    Call::get(path, verb, format!("{plural}{group}"))
}

fn query(selection: &Selection, parameters: &[(&str, &str)]) -> String {
    let selectors = [("fieldSelector", &*selection.fields), ("labelSelector", &*selection.labels)];
    let given = selectors.iter().chain(parameters).filter(|(_, value)| !value.is_empty());
    let query: Vec<_> = given.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) }
}

/// Percent-encoded, all but what a URL never gives a meaning.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

pub(super) fn page(mut list: Value) -> Selected {
    let text = |field: &str| list["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (next, resource_version) = (text("continue"), text("resourceVersion"));
    let mut objects = match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    // Kinds that Kubernetes brings with it leave it out.
    let kind = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).unwrap_or_default();
    for object in objects.iter_mut().filter(|object| object["kind"].is_null()) {
        object["apiVersion"] = list["apiVersion"].clone();
        object["kind"] = kind.into();
    }
    let objects = objects.into_iter().map(Arc::new).collect();
    Selected { objects, next, resource_version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_one_request() {
        let pods = Selection {
            labels: "app=a,tier!=b".into(),
            limit: 2,
            from: "x/y".into(),
            ..Selection::of("v1", "pods").within("shop")
        };
        let expected = "/api/v1/namespaces/shop/pods?labelSelector=app%3Da%2Ctier%21%3Db&limit=2&continue=x%2Fy";
        assert_eq!((call(&pods).path.as_str(), call(&pods).resource.as_str()), (expected, "pods"));
        let escaping = Selection { namespace: Some("../../x?y".into()), ..pods };
        assert!(call(&escaping).path.starts_with("/api/v1/namespaces/..%2F..%2Fx%3Fy/pods?"), "it stays one name");
        let nodes = Selection { only_metadata: true, ..Selection::of("v1", "nodes") };
        assert_eq!((call(&nodes).path.as_str(), call(&nodes).accept), ("/api/v1/nodes", ONLY_METADATA));
        let entries = Selection::of("networking.istio.io/v1", "workloadentries");
        assert_eq!(call(&entries).resource, "workloadentries.networking.istio.io");
        let watching = Selection { limit: 2, from: "x".into(), ..entries };
        let expected = "/apis/networking.istio.io/v1/workloadentries\
                        ?watch=true&allowWatchBookmarks=true&resourceVersion=7";
        assert_eq!(watch(&watching, "7").path, expected, "a watch has no pages");
        let expected = "/apis/networking.istio.io/v1/workloadentries\
                        ?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        assert_eq!(first(&watching).path, expected);
    }
}

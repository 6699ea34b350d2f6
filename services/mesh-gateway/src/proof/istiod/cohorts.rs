//! Objects that govern a pod if its labels say so.
//!
//! What a proxy must show follows from two things that are both read live: the object's selector and the pod's labels. A
//! selected one must show the object, one that is not must not. In between stands istiod, which keeps labels of its own
//! for each connected proxy and pushes to it as soon as they change (`/debug/adsz` tells them). As long as they are not
//! those of the pod, the proxy is behind.
//!
//! - istiod does not look at the labels of a pod that is not Ready. It is not waited for, since it may never be, and
//!   goes by the cohort that istiod knows it by, which is one or the other. Only if istiod knows no cohort of it at all,
//!   it counts as behind: a policy that is narrowed to labelled pods would leave it with nothing.
//! - A push because of new labels carries the version of the push context before, so its nonce does not tell whether it
//!   is this push. What counts is that nothing moved for a moment after the labels were seen.
//! - An AuthorizationPolicy can be recognized in what istiod generates ([`super::content::rbac`]), and so can a DestinationRule for
//!   certain callers ([`super::content::clusters`]). Of other kinds nothing certain can be
//!   read: they count as live when the object and the labels are taken in, every kind of configuration that was ever
//!   sent to the proxy is acknowledged, and nothing moves any more.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::{CohortPod, Cohorts, Content, Expected, Look, ProxyLook, SELECTORS},
    content::Seen,
    sync,
    turns::Reading,
    unread,
};

/// The labels that istiod goes by, by proxy.
pub(super) type Views = BTreeMap<String, Value>;

/// Reads `/debug/adsz`.
pub(super) fn views(adsz: &Value) -> Views {
    let clients = adsz["clients"].as_array().into_iter().flatten();
    // "checkout-0.shop-12": the proxy, and a number for the connection.
    let view = |client: &Value| {
        let (proxy, _) = client["connectionId"].as_str()?.rsplit_once('-')?;
        Some((proxy.to_owned(), client["labels"].clone()))
    };
    clients.filter_map(view).collect()
}

/// Whether the object can be recognized in what a proxy has. A rule that selects nobody gives way, pod by pod, to one that
/// does.
pub(super) fn are_recognized(expected: &Expected) -> bool {
    let selects = |object: &Value| SELECTORS.iter().any(|path| object["spec"].pointer(path).is_some());
    match &*expected.target.kind {
        "AuthorizationPolicy" => true,
        "DestinationRule" => expected.object.as_ref().is_some_and(selects),
        _ => false,
    }
}

/// Adds a proxy to a look, if it is one of the pods; `None` = it could not be asked yet.
pub(super) fn look_at(
    name: &str,
    reading: Option<&Reading>,
    (views, known): (&Views, &Cohorts),
    syncz: &Value,
    expected: &Expected,
    look: &mut Look,
) {
    let Some(pod) = known.pods.iter().find(|pod| pod.proxy == name) else { return };
    let Some(labels) = views.get(name) else { return };
    let standing = Standing::of(pod, labels[&known.key].as_str().unwrap_or_default());
    if standing == Standing::HeldBack {
        look.held_back.push(name.to_owned());
    }
    let Some(reading) = reading else {
        look.proxies.extend(unread(name, syncz, expected));
        return;
    };
    let is_selected = expected.object.as_ref().is_some_and(|object| selects(&object["spec"], labels));
    let Some(seen) = read(reading, expected, is_selected, &sync::kinds(syncz, name)) else { return };
    let Some(push) = sync::last_push(syncz, name, &seen.kinds) else { return };
    look.proxies.push(ProxyLook {
        name: name.to_owned(),
        content: if standing == Standing::Behind { Content::Older } else { seen.content },
        // See above: the nonce does not tell.
        pushed: false,
        nonce: push.nonce,
        acknowledged: push.acknowledged,
        error: push.error,
    });
}

/// Whether istiod goes by the label that the pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Known,
    /// Not yet, and it does not matter.
    HeldBack,
    Behind,
}

impl Standing {
    fn of(pod: &CohortPod, view: &str) -> Self {
        match (pod.cohort == view, pod.ready) {
            (true, _) => Self::Known,
            (false, false) if !view.is_empty() => Self::HeldBack,
            (false, _) => Self::Behind,
        }
    }
}

fn selects(spec: &Value, labels: &Value) -> bool {
    let selectors = SELECTORS.iter().filter_map(|path| spec.pointer(path)?.as_object());
    selectors.flatten().all(|(key, value)| labels[key] == *value)
}

fn read<'a>(reading: &Reading, expected: &Expected, is_selected: bool, kinds: &[&'a str]) -> Option<Seen<'a>> {
    if !are_recognized(expected) {
        return Some(Seen { content: Content::Unclear, kinds: kinds.to_vec() });
    }
    let seen = reading.seen.clone()?;
    let content = match (is_selected, seen.content) {
        (true, Content::Unused) => Content::Older,
        (true, content) => content,
        (false, Content::Unused) => Content::Shows,
        (false, _) => Content::Older,
    };
    Some(Seen { content, ..seen })
}

#[cfg(test)]
mod tests {
    use meshward_model::Target;
    use serde_json::json;

    use super::{super::content, *};

    const KEY: &str = "meshward.io/cohort-1";

    fn expected(kind: &str, cohort: &str) -> Expected {
        Expected {
            target: Target::new("", "security.istio.io/v1", kind, "shop", "ledger").unwrap(),
            object: Some(json!({"spec": {"selector": {"matchLabels": {"app": "a", KEY: cohort}},
                                         "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}]}})),
            others: Vec::new(),
            rebinds: true,
            through: Vec::new(),
            cohorts: None,
            beside: Vec::new(),
            readers: crate::dialect::Readers::default(),
        }
    }

    /// A proxy that was sent listeners, with the policy in them or without.
    fn dump(has_policy: bool) -> Value {
        let policies = if has_policy {
            json!({"ns[shop]-policy[ledger]-rule[0]": {"permissions": [{"urlPath": {"path": {"exact": "/a"}}}]}})
        } else {
            json!({})
        };
        let filter = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                            "rules": {"policies": policies}});
        json!({"configs": [{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "filters": [filter]}]})
    }

    fn looked(expected: &Expected, pod: (&str, bool), view: &str, has_policy: bool) -> (Option<Content>, usize) {
        let nonce = format!("t/3{}", "0".repeat(36));
        let syncz = json!([{"proxy": "a-0.shop",
                            "resources": {sync::LISTENERS: {"sent": &nonce, "acked": &nonce}}}]);
        let mut labels = json!({"app": "a"});
        if !view.is_empty() {
            labels[KEY] = view.into();
        }
        let views = views(&json!({"clients": [{"connectionId": "a-0.shop-12", "labels": labels}]}));
        let (cohort, ready) = pod;
        let pod = CohortPod { proxy: "a-0.shop".into(), cohort: cohort.into(), ready };
        let known = Cohorts { key: KEY.into(), pods: vec![pod] };
        let mut look = Look::default();
        let reading = Reading { seen: content::read(&dump(has_policy), expected), version: None };
        look_at("a-0.shop", Some(&reading), (&views, &known), &syncz, expected, &mut look);
        look_at("other.shop", Some(&reading), (&views, &known), &syncz, expected, &mut look);
        assert!(look.proxies.len() < 2, "only pods that are divided are concerned");
        (look.proxies.first().map(|proxy| proxy.content), look.held_back.len())
    }

    #[test]
    fn a_selected_pod_shows_it_and_no_other_does() {
        let policy = expected("AuthorizationPolicy", "canary");
        for (name, pod, view, has_policy, content, held_back) in [
            ("selected, shows it", ("canary", true), "canary", true, Content::Shows, 0),
            ("selected, does not yet", ("canary", true), "canary", false, Content::Older, 0),
            ("not selected, shows it still", ("stable", true), "stable", true, Content::Older, 0),
            ("not selected, without it", ("stable", true), "stable", false, Content::Shows, 0),
            ("istiod goes by the old label", ("canary", true), "stable", false, Content::Older, 0),
            ("no label any more", ("", true), "canary", true, Content::Older, 0),
            ("not Ready: of its cohort before", ("canary", false), "stable", false, Content::Shows, 1),
            ("not Ready, and of none", ("stable", false), "", false, Content::Older, 0),
        ] {
            assert_eq!(looked(&policy, pod, view, has_policy), (Some(content), held_back), "{name}");
        }
    }

    #[test]
    fn a_ready_pod_without_a_label_is_governed_by_none_once_the_object_is_narrowed() {
        let pod =
            |cohort: &str, ready| CohortPod { proxy: format!("{cohort}-{ready}.shop"), cohort: cohort.into(), ready };
        let pods = vec![pod("", true), pod("", false), pod("stable", true), pod("canary", true)];
        let known = Cohorts { key: KEY.into(), pods };
        let narrowed = |field: &str, inner: &str, cohort| json!({"spec": {field: {inner: {"app": "a", KEY: cohort}}}});
        for (name, object, expected) in [
            ("to the stable ones", Some(narrowed("selector", "matchLabels", "stable")), vec!["-true.shop"]),
            ("a Sidecar", Some(narrowed("workloadSelector", "labels", "stable")), vec!["-true.shop"]),
            ("a Gateway", Some(json!({"spec": {"selector": {"app": "a", KEY: "stable"}}})), vec!["-true.shop"]),
            ("the canary's", Some(narrowed("selector", "matchLabels", "canary")), vec![]),
            ("not narrowed", Some(json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}})), vec![]),
            ("gone", None, vec![]),
        ] {
            assert_eq!(known.ungoverned(object.as_ref()), expected, "{name}");
        }
    }

    #[test]
    fn of_what_cannot_be_recognized_the_labels_decide() {
        let telemetry = expected("Telemetry", "canary");
        assert_eq!(looked(&telemetry, ("canary", true), "canary", false).0, Some(Content::Unclear));
        assert_eq!(looked(&telemetry, ("canary", true), "stable", false).0, Some(Content::Older));
    }
}

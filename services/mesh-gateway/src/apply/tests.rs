//! The decision tables, row by row.

use meshward_model::{Baseline, Mechanism, Weight};
use serde_json::json;

use super::*;

fn target() -> Target {
    Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "checkout").unwrap()
}

fn entry(manager: &str, operation: &str) -> Value {
    json!({"manager": manager, "operation": operation, "time": "2026-01-01T00:00:00Z"})
}

fn spec(timeout: &str) -> Value {
    json!({"hosts": ["checkout"], "http": [{"route": [{"destination": {"host": "a"}}], "timeout": timeout}]})
}

fn live(version: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": spec, "metadata": {
        "name": "checkout", "namespace": "shop", "uid": "u", "resourceVersion": version,
        "labels": {"team": "a"}, "annotations": {"note": "keep"}, "managedFields": [entry("kubectl", "Apply")]}})
}

fn intent(generation: u64, weight: Weight) -> ExposureIntent {
    let mut canary = live("", spec("2s"));
    canary["metadata"] =
        json!({"name": "checkout", "namespace": "shop", "labels": {"team": "b"}, "annotations": {"new": "1"}});
    ExposureIntent {
        deployment_id: "d1".into(),
        generation,
        target: target(),
        baseline: Baseline::of(Some(live("7", spec("1s")))),
        canary,
        mechanism: Mechanism::Request,
        weight,
    }
}

fn ten() -> Weight {
    Weight::from_basis_points(1000).unwrap()
}

fn decide(live: Option<&Value>, intent: &ExposureIntent) -> Result<Action, Error> {
    let phases = dialect::of(intent.target.mesh).render(intent)?;
    let [Phase::Objects(objects)] = &phases[..] else { panic!("not one phase: {phases:?}") };
    decide::decide(live, &Case::of(intent, &intent.target), &objects[0])
}

fn restore(live: Option<&Value>, intent: &ExposureIntent) -> Result<Action, Error> {
    restore::restore(live, &Case::of(intent, &intent.target))
}

/// The object after an action, as the API server would store it.
fn after(live: &Value, action: &Action) -> Value {
    let Action::Apply(applied) = action else { panic!("not an apply: {action:?}") };
    let mut object = live.clone();
    object["spec"] = applied["spec"].clone();
    object["metadata"]["resourceVersion"] = "8".into();
    for field in ["labels", "annotations"] {
        let mut map = object["metadata"][field].as_object().cloned().unwrap_or_default();
        for (key, value) in applied["metadata"][field].as_object().into_iter().flatten() {
            map.insert(key.clone(), value.clone());
        }
        object["metadata"][field] = map.into();
    }
    object["metadata"]["managedFields"] = json!([entry("kubectl", "Apply"), entry("meshward", "Apply")]);
    object
}

fn at_ten_percent(generation: u64) -> Value {
    let before = live("7", spec("1s"));
    after(&before, &decide(Some(&before), &intent(generation, ten())).unwrap())
}

#[test]
fn the_first_write_carries_marks_and_only_our_fields() {
    let before = live("7", spec("1s"));
    let Action::Apply(object) = decide(Some(&before), &intent(3, ten())).unwrap() else { panic!("not an apply") };
    assert_eq!(object["metadata"]["resourceVersion"], "7");
    assert_eq!(object["metadata"]["labels"], Value::Null);
    assert_eq!(object["metadata"]["annotations"]["meshward.io/generation"], "3");
    assert_eq!(object["metadata"]["annotations"].as_object().unwrap().len(), 3);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    assert_eq!(decide(Some(&at_ten_percent(3)), &intent(3, ten())).unwrap(), Action::Nothing);
    let mut promoted = live("9", spec("2s"));
    promoted["metadata"]["labels"] = json!({"team": "b", "extra": "x"});
    promoted["metadata"]["annotations"] = json!({"new": "1", "note": "keep"});
    assert_eq!(decide(Some(&promoted), &intent(9, Weight::FULL)).unwrap(), Action::Nothing);
}

#[test]
fn the_fence_holds_back_whoever_is_late_or_wrong() {
    let marked = at_ten_percent(5);
    let mut busy = marked.clone();
    busy["metadata"]["annotations"]["meshward.io/deployment"] = "d2".into();
    let mut drifted = marked.clone();
    drifted["spec"]["http"][0]["timeout"] = "9s".into();
    drifted["metadata"]["managedFields"].as_array_mut().unwrap().push(entry("argocd", "Update"));
    let restored = live("20", spec("1s"));
    let promoted = live("21", spec("2s"));
    let foreign = live("22", spec("3s"));
    for (name, object, generation, expected) in [
        ("a newer generation", Some(&marked), 4, "carries generation 5"),
        ("the same generation may repeat itself", Some(&marked), 5, ""),
        ("an older generation", Some(&marked), 6, ""),
        ("another deployment", Some(&busy), 9, "under the deployment d2"),
        ("drift", Some(&drifted), 6, "changed by \"argocd\""),
        ("restored", Some(&restored), 9, "not under deployment d1"),
        ("promoted", Some(&promoted), 9, "not under deployment d1"),
        ("changed since the plan", Some(&foreign), 1, "changed by \"kubectl\""),
        ("deleted", None, 1, "was deleted"),
    ] {
        let weight = Weight::from_basis_points(3000).unwrap();
        match decide(object, &intent(generation, weight)) {
            Ok(action) => assert!(expected.is_empty() && matches!(action, Action::Apply(_)), "{name}: {action:?}"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{name}: {error}"),
        }
    }
}

#[test]
fn a_field_that_apply_would_leave_behind_is_replaced_with_the_spec() {
    let mut intent = intent(1, ten());
    let mut before = live("7", spec("1s"));
    before["spec"]["exportTo"] = json!(["."]);
    intent.baseline.object = Some(before.clone());
    intent.weight = Weight::FULL;
    let Action::Patch(operations) = decide(Some(&before), &intent).unwrap() else { panic!("not a patch") };
    assert_eq!(
        operations,
        json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/spec", "value": spec("2s")},
            {"op": "add", "path": "/metadata/annotations", "value": {"note": "keep", "new": "1"}},
            {"op": "add", "path": "/metadata/labels", "value": {"team": "b"}},
        ])
    );
}

#[test]
fn the_end_takes_the_marks_away() {
    let Action::Apply(object) = decide(Some(&at_ten_percent(1)), &intent(2, Weight::FULL)).unwrap() else {
        panic!("not an apply")
    };
    assert_eq!(object["metadata"]["annotations"], json!({"new": "1"}), "apply removes what it no longer names");
    assert_eq!(object["metadata"]["labels"], json!({"team": "b"}));
    let mut patched = at_ten_percent(1);
    patched["metadata"]["managedFields"].as_array_mut().unwrap().push(entry("meshward", "Update"));
    let Action::Patch(operations) = decide(Some(&patched), &intent(2, Weight::FULL)).unwrap() else {
        panic!("apply would not remove what a patch has written")
    };
    assert_eq!(operations[2]["value"], json!({"note": "keep", "new": "1"}));
}

#[test]
fn restoring_takes_two_writes_at_most_and_can_be_repeated() {
    let (intent, baseline) = (intent(9, Weight::ZERO), live("7", spec("1s")));
    let marked = at_ten_percent(5);
    let Action::Patch(first) = restore(Some(&marked), &intent).unwrap() else { panic!("not a patch") };
    assert_eq!(first[1]["value"], spec("1s"));
    assert_eq!(first[2], json!({"op": "add", "path": "/metadata/labels", "value": {"team": "a"}}));
    assert_eq!(first[3], json!({"op": "add", "path": "/metadata/annotations", "value": {"note": "keep"}}));
    assert_eq!(first[4]["value"], baseline["metadata"]["managedFields"], "whole, if Kubernetes has nothing to add");

    let mut half = baseline.clone();
    half["metadata"]["resourceVersion"] = "30".into();
    half["metadata"]["managedFields"] = marked["metadata"]["managedFields"].clone();
    let Action::Patch(second) = restore(Some(&half), &intent).unwrap() else { panic!("not a patch") };
    assert_eq!(second[0]["value"], "30");
    assert_eq!(second[1]["value"], baseline["metadata"]["managedFields"]);

    let mut whole = half.clone();
    whole["metadata"]["managedFields"] = baseline["metadata"]["managedFields"].clone();
    assert_eq!(restore(Some(&whole), &intent).unwrap(), Action::Nothing);
}

#[test]
fn restoring_what_was_never_written_leaves_no_way_for_a_late_first_write() {
    let (undo, untouched) = (intent(9, Weight::ZERO), live("7", spec("1s")));
    assert!(
        matches!(decide(Some(&untouched), &intent(1, ten())), Ok(Action::Apply(_))),
        "a first write is let through"
    );

    let Action::Patch(marking) = restore(Some(&untouched), &undo).unwrap() else { panic!("not a patch") };
    let mut marked = untouched.clone();
    marked["metadata"]["resourceVersion"] = "8".into();
    marked["metadata"]["annotations"] = marking[1]["value"].clone();
    let late = decide(Some(&marked), &intent(1, ten())).unwrap_err();
    assert!(late.to_string().contains("carries generation 9"), "{late}");

    let Action::Patch(back) = restore(Some(&marked), &undo).unwrap() else { panic!("not a patch") };
    assert_eq!(back[3], json!({"op": "add", "path": "/metadata/annotations", "value": {"note": "keep"}}));
    let mut after = untouched;
    after["metadata"]["resourceVersion"] = "9".into();
    assert_eq!(restore(Some(&after), &undo).unwrap(), Action::Nothing);
    assert!(decide(Some(&after), &intent(1, ten())).is_err(), "the version has moved on");
}

#[test]
fn maps_that_were_not_there_go_again() {
    let mut intent = intent(9, Weight::ZERO);
    let mut baseline = live("7", spec("1s"));
    baseline["metadata"].as_object_mut().unwrap().retain(|key, _| key != "labels" && key != "annotations");
    intent.baseline.object = Some(baseline);
    let Action::Patch(first) = restore(Some(&at_ten_percent(1)), &intent).unwrap() else { panic!("no patch") };
    assert_eq!(first[2], json!({"op": "remove", "path": "/metadata/labels"}));
    assert_eq!(first[3], json!({"op": "remove", "path": "/metadata/annotations"}));
}

#[test]
fn restoring_is_fenced_as_well() {
    let mut promoted = live("21", spec("2s"));
    promoted["metadata"]["managedFields"].as_array_mut().unwrap().push(entry("meshward", "Apply"));
    let mut changed = promoted.clone();
    changed["spec"] = spec("3s");
    let mut other = live("3", spec("1s"));
    other["metadata"]["uid"] = "u2".into();
    let foreign = live("22", spec("3s"));
    for (name, object, generation, expected) in [
        ("as we left it at 100 %", Some(&promoted), 9, ""),
        ("changed after 100 %", Some(&changed), 9, "changed by \"kubectl\""),
        ("never ours", Some(&foreign), 9, "not under deployment d1"),
        ("made anew", Some(&other), 9, "made anew"),
        ("deleted", None, 9, "was deleted"),
        ("an older writer", Some(&at_ten_percent(5)), 4, "carries generation 5"),
    ] {
        match restore(object, &intent(generation, Weight::ZERO)) {
            Ok(action) => assert!(expected.is_empty() && matches!(action, Action::Patch(_)), "{name}: {action:?}"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{name}: {error}"),
        }
    }
}

#[test]
fn an_absence_is_restored_by_deleting_what_is_ours() {
    let mut intent = intent(1, Weight::FULL);
    intent.baseline.object = None;
    assert!(matches!(decide(None, &intent), Ok(Action::Create(_))));
    assert_eq!(restore(None, &intent).unwrap(), Action::Nothing);
    let mut created = live("8", spec("2s"));
    created["metadata"]["managedFields"] = json!([entry("meshward", "Update")]);
    let deletion = Action::Delete { uid: "u".into(), resource_version: "8".into() };
    assert_eq!(restore(Some(&created), &intent).unwrap(), deletion);
    let foreign = live("8", spec("2s"));
    assert!(restore(Some(&foreign), &intent).is_err(), "somebody else made the same object");
}

#[test]
fn what_an_earlier_deployment_set_is_not_taken_away() {
    let mut before = live("7", spec("1s"));
    let owned = json!({"f:metadata": {"f:labels": {"f:team": {}}, "f:annotations": {"f:note": {}}}});
    before["metadata"]["managedFields"] = json!([{"manager": "meshward", "operation": "Apply", "fieldsV1": owned}]);
    let Action::Apply(step) = decide(Some(&before), &intent(1, ten())).unwrap() else { panic!("not an apply") };
    assert_eq!(step["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(step["metadata"]["annotations"]["note"], "keep");
    let Action::Apply(last) = decide(Some(&before), &intent(1, Weight::FULL)).unwrap() else { panic!("not an apply") };
    assert_eq!(last["metadata"]["labels"], json!({"team": "b"}));
    assert_eq!(last["metadata"]["annotations"], json!({"note": "keep", "new": "1"}));
}

fn helper_target() -> Target {
    Target { name: "checkout-meshward-canary".into(), ..target() }
}

fn decide_helper(live: Option<&Value>, generation: u64, wanted: Wanted) -> Result<Action, Error> {
    let (target, intent) = (helper_target(), intent(generation, ten()));
    let desired = Desired { target: target.clone(), wanted };
    decide::decide(live, &Case::of(&intent, &target), &desired)
}

#[test]
fn a_helper_is_made_kept_changed_and_taken_away_by_its_deployment_only() {
    let wanted = |timeout: &str| Wanted::Helper(json!({"metadata": {"name": "h"}, "spec": spec(timeout)}));
    let Action::Create(mut made) = decide_helper(None, 3, wanted("1s")).unwrap() else { panic!("not created") };
    assert_eq!(made["metadata"]["annotations"]["meshward.io/deployment"], "d1");
    made["metadata"]["uid"] = "u2".into();
    made["metadata"]["resourceVersion"] = "30".into();
    let mut foreign = made.clone();
    foreign["metadata"]["annotations"] = json!({});
    let mut other = made.clone();
    other["metadata"]["annotations"]["meshward.io/deployment"] = "d2".into();
    let mut edited = made.clone();
    edited["spec"] = spec("9s");
    let deletion = Action::Delete { uid: "u2".into(), resource_version: "30".into() };
    for (name, live, generation, wanted, expected) in [
        ("is there", Some(&made), 9, wanted("1s"), Ok(Action::Nothing)),
        ("of a newer generation", Some(&made), 2, wanted("2s"), Err("carries generation 3")),
        ("somebody edited it", Some(&edited), 9, wanted("1s"), Err("was changed by")),
        ("the name is taken", Some(&foreign), 9, wanted("1s"), Err("not Meshward's")),
        ("of another deployment", Some(&other), 9, wanted("1s"), Err("under the deployment d2")),
        ("missing", None, 9, Wanted::Gone, Ok(Action::Nothing)),
        ("to go", Some(&made), 9, Wanted::Gone, Ok(deletion.clone())),
        ("edited, to go", Some(&edited), 9, Wanted::Gone, Ok(deletion)),
        ("foreign, to stay", Some(&foreign), 9, Wanted::Gone, Ok(Action::Nothing)),
        ("late, to go", Some(&made), 2, Wanted::Gone, Err("carries generation 3")),
    ] {
        match (decide_helper(live, generation, wanted), expected) {
            (Ok(action), Ok(expected)) => assert_eq!(action, expected, "{name}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{name}: {error}"),
            (got, expected) => panic!("{name}: {got:?} and not {expected:?}"),
        }
    }
    let changed = decide_helper(Some(&made), 4, wanted("2s")).unwrap();
    let Action::Patch(patch) = changed else { panic!("not a patch: {changed:?}") };
    assert_eq!(patch[1], json!({"op": "add", "path": "/spec", "value": spec("2s")}));
    assert_eq!(patch[2]["value"]["meshward.io/generation"], "4");
}

#[test]
fn a_related_object_is_held_against_its_own_baseline() {
    let target = helper_target();
    let mut intent = intent(3, ten());
    let before = live("40", spec("5s"));
    intent.baseline.related =
        vec![meshward_model::RelatedBaseline { target: target.clone(), object: Some(before.clone()) }];
    let case = Case::of(&intent, &target);
    let desired = Desired { target: target.clone(), wanted: Wanted::Step(json!({"metadata": {}, "spec": spec("6s")})) };
    assert!(matches!(decide::decide(Some(&before), &case, &desired), Ok(Action::Apply(_))), "the first write");
    let moved = live("41", spec("2s"));
    let refused = decide::decide(Some(&moved), &case, &desired).unwrap_err();
    assert!(matches!(refused, Error::Drift { .. }), "the spec of the canary is no excuse here: {refused}");
}

#[test]
fn a_related_object_that_has_left_is_left_alone() {
    let target = helper_target();
    let mut intent = intent(3, Weight::ZERO);
    let before = live("40", spec("5s"));
    intent.baseline.related =
        vec![meshward_model::RelatedBaseline { target: target.clone(), object: Some(before.clone()) }];
    let decide = |live: &Value, target: &Target| restore::restore(Some(live), &Case::of(&intent, target));
    let changed = live("44", spec("9s"));
    assert_eq!(decide(&changed, &target).unwrap(), Action::Nothing, "it was put back, and then changed");
    let mut half = changed.clone();
    half["metadata"]["managedFields"] = json!([entry("argocd", "Apply"), entry("meshward", "Apply")]);
    assert!(matches!(decide(&half, &target), Err(Error::Drift { .. })), "it was not put back yet");
    assert!(matches!(decide(&changed, &intent.target), Err(Error::Stale { .. })), "the object itself never leaves");
}

/// Seen with a DestinationRule that had been promoted before: the write that should have put back the time was none, for ever.
#[test]
fn what_meshward_owned_before_it_owns_again_at_another_time() {
    let mut intent = intent(3, Weight::ZERO);
    let mut before = live("40", spec("5s"));
    before["metadata"]["managedFields"] = json!([entry("kubectl", "Apply"), entry("meshward", "Apply")]);
    intent.baseline = Baseline::of(Some(before.clone()));
    let mut put_back = before.clone();
    put_back["metadata"]["resourceVersion"] = "44".into();
    put_back["metadata"]["managedFields"][1]["time"] = "2026-01-01T00:00:09Z".into();
    assert_eq!(restore(Some(&put_back), &intent).unwrap(), Action::Nothing);
    put_back["metadata"]["managedFields"][1]["operation"] = "Update".into();
    assert!(matches!(restore(Some(&put_back), &intent), Ok(Action::Patch(_))), "the owners are others");
}

#[test]
fn an_object_that_shall_be_gone_is_deleted_and_made_anew_on_the_way_back() {
    let mut intent = intent(3, Weight::FULL);
    intent.canary = Value::Null;
    let before = live("7", spec("1s"));
    let gone = decide(Some(&before), &intent).unwrap();
    assert_eq!(gone, Action::Delete { uid: "u".into(), resource_version: "7".into() });
    assert_eq!(decide(None, &intent).unwrap(), Action::Nothing);
    let changed = live("8", spec("3s"));
    assert!(matches!(decide(Some(&changed), &intent), Err(Error::Drift { .. })), "somebody changed it since the plan");

    let Action::Create(made) = restore(None, &intent).unwrap() else { panic!("not created") };
    assert_eq!((&made["spec"], &made["metadata"]["labels"]), (&before["spec"], &before["metadata"]["labels"]));
    assert_eq!(made["metadata"]["uid"], Value::Null);
    let mut anew = made;
    anew["metadata"]["uid"] = "u9".into();
    anew["metadata"]["resourceVersion"] = "9".into();
    anew["metadata"]["managedFields"] = json!([entry("meshward", "Update")]);
    let Action::Patch(owners) = restore(Some(&anew), &intent).unwrap() else { panic!("not a patch") };
    assert_eq!(owners[1]["path"], "/metadata/managedFields");
    anew["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
    assert_eq!(restore(Some(&anew), &intent).unwrap(), Action::Nothing);
}

//! Requests to domain values, for what the shared conversions do not cover.

use std::time::Duration;

use meshward_model::{AppliedObject, ExposureIntent, Mechanism, Target, Weight};
use meshward_proto::{ConvertError, canary, from_duration, gateway::v1 as pb, types::v1 as types};
use serde_json::Value;
use tonic::metadata::MetadataMap;

use crate::{
    dialect::Audience,
    instances::{Instance, Wanted},
    objects,
    proof::Patience,
};

/// Steps that a plan may have.
const MOST_STEPS: usize = 100;
/// Page size if none is asked for.
const USUAL_PAGE: u32 = 50;
/// Objects that one stream of drifts may follow.
const MOST_TARGETS: usize = 100;
/// Largest page.
const LARGEST_PAGE: u32 = 500;

/// A request for a plan.
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) canary: Value,
    pub(super) weights: Vec<Weight>,
    pub(super) wanted: Option<Mechanism>,
    pub(super) audience: Audience,
}

pub(super) fn plan(request: &pb::PlanExposureRequest) -> Result<Plan, ConvertError> {
    let target = target(request.target.as_ref())?;
    let canary = canary(request.canary_absent, &request.canary_json)?;
    check_canary(&canary, &target)?;
    let audience = request.audience.clone().unwrap_or_default().try_into();
    let audience = audience.map_err(|error: ConvertError| error.within("audience"))?;
    let weights = weights(&request.weights_bp)?;
    Ok(Plan { target, canary, weights, wanted: request.mechanism().to_model(), audience })
}

/// A version that is there is an object of the target.
fn check_canary(canary: &Value, target: &Target) -> Result<(), ConvertError> {
    match canary {
        Value::Null => Ok(()),
        Value::Object(_) => is_of("canary_json", canary, target),
        _ => Err(ConvertError::new("canary_json", "is no JSON object")),
    }
}

fn weights(basis_points: &[i32]) -> Result<Vec<Weight>, ConvertError> {
    let at = |problem: String| ConvertError::new("weights_bp", problem);
    if basis_points.is_empty() || basis_points.len() > MOST_STEPS {
        return Err(at(format!("has 1 to {MOST_STEPS} weights")));
    }
    let weights = basis_points.iter().map(|value| Weight::from_basis_points((*value).into()));
    let weights: Vec<_> = weights.collect::<Result<_, _>>().map_err(|error| at(error.to_string()))?;
    if weights.is_sorted_by(|a, b| a < b) { Ok(weights) } else { Err(at("does not rise from step to step".to_owned())) }
}

pub(super) fn target(target: Option<&types::Target>) -> Result<Target, ConvertError> {
    let target = target.cloned().ok_or_else(|| ConvertError::new("target", "is required"))?;
    target.try_into().map_err(|error: ConvertError| error.within("target"))
}

pub(super) fn intent(intent: Option<&pb::ExposureIntent>) -> Result<ExposureIntent, ConvertError> {
    let intent = intent.cloned().ok_or_else(|| ConvertError::new("intent", "is required"))?;
    let checked = || {
        let intent = ExposureIntent::try_from(intent)?;
        check_canary(&intent.canary, &intent.target)?;
        if let Some(baseline) = &intent.baseline.object {
            is_of("baseline.object_json", baseline, &intent.target)?;
        }
        Ok(intent)
    };
    checked().map_err(|error: ConvertError| error.within("intent"))
}

pub(super) fn verification(
    request: &pb::VerifyExposureRequest,
) -> Result<(Vec<AppliedObject>, Patience), ConvertError> {
    if request.objects.is_empty() {
        return Err(ConvertError::new("objects", "is empty; send what ApplyExposure or RestoreBaseline returned"));
    }
    let objects = request.objects.iter().cloned().map(AppliedObject::try_from).collect::<Result<_, _>>();
    let objects = objects.map_err(|error| error.within("objects"))?;
    let quorum = Weight::from_basis_points(request.quorum_bp.into());
    let quorum = quorum.map_err(|error| ConvertError::new("quorum_bp", error.to_string()))?;
    Ok((objects, Patience { timeout: from_duration("timeout", request.timeout.unwrap_or_default())?, quorum }))
}

pub(super) fn drift(request: &pb::WatchDriftRequest) -> Result<Vec<Target>, ConvertError> {
    if request.targets.is_empty() || request.targets.len() > MOST_TARGETS {
        return Err(ConvertError::new("targets", format!("has 1 to {MOST_TARGETS} objects")));
    }
    let targets = request.targets.iter().cloned().map(Target::try_from).collect::<Result<_, _>>();
    targets.map_err(|error: ConvertError| error.within("targets"))
}

pub(super) fn dry_run(request: &pb::DryRunApplyRequest) -> Result<(Target, Value), ConvertError> {
    let object = object("object_json", &request.object_json)?;
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let target = Target::new(&request.cluster, &api_version, &kind, &namespace, &name);
    Ok((target.map_err(|error| ConvertError::new("object_json", error))?, object))
}

pub(super) fn instances(request: &pb::ListInstancesRequest) -> Result<Wanted<'_>, ConvertError> {
    for (field, value) in [("namespace", &request.namespace), ("service", &request.service)] {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        if value.is_empty() || !value.bytes().all(is_name) {
            return Err(ConvertError::new(field, format!("is no name of Kubernetes: {value:?}")));
        }
    }
    let size = page_size(request.page_size)?;
    Ok(Wanted { namespace: &request.namespace, service: &request.service, size, token: &request.page_token })
}

pub(super) fn objects(request: &pb::ListObjectsRequest) -> Result<objects::Wanted<'_>, ConvertError> {
    let pb::ListObjectsRequest { api_version, kind, namespace, page_token, .. } = request;
    if !objects::is_listed(api_version, kind) {
        return Err(ConvertError::new("kind", format!("{kind:?} of {api_version:?} is not listed here")));
    }
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !namespace.bytes().all(is_name) {
        return Err(ConvertError::new("namespace", format!("is no name of Kubernetes: {namespace:?}")));
    }
    let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
    Ok(objects::Wanted { api_version, kind, namespace, size: page_size(request.page_size)?, token: page_token })
}

fn page_size(wanted: i32) -> Result<u32, ConvertError> {
    match u32::try_from(wanted) {
        Ok(0) => Ok(USUAL_PAGE),
        Ok(size) if size <= LARGEST_PAGE => Ok(size),
        _ => {
            let problem = format!("must be 1 to {LARGEST_PAGE}, or 0 for {USUAL_PAGE}; it is {wanted}");
            Err(ConvertError::new("page_size", problem))
        }
    }
}

pub(super) fn instance(instance: Instance) -> pb::Instance {
    let Instance { name, namespace, node, zone, ready, cohort, proxy_version, meshed } = instance;
    pb::Instance { pod: name, namespace, node, zone, ready, cohort, proxy_version, meshed }
}

fn object(field: &str, text: &str) -> Result<Value, ConvertError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| ConvertError::new(field, format!("no JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(ConvertError::new(field, "is no JSON object")) }
}

/// Whether a text is the object that the target names.
fn is_of(field: &str, object: &Value, target: &Target) -> Result<(), ConvertError> {
    let group =
        object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    for (part, said, wanted) in [
        ("apiVersion", group, target.group()),
        ("kind", object["kind"].as_str().unwrap_or_default(), &target.kind),
        ("metadata.namespace", object["metadata"]["namespace"].as_str().unwrap_or_default(), &target.namespace),
        ("metadata.name", object["metadata"]["name"].as_str().unwrap_or_default(), &target.name),
    ] {
        if said != wanted {
            return Err(ConvertError::new(field, format!("{part} is {said:?}, but the target's is {wanted:?}")));
        }
    }
    if object["spec"].is_object() { Ok(()) } else { Err(ConvertError::new(field, "has no spec")) }
}

/// What is left of the caller's deadline (`grpc-timeout`: at most eight digits and a unit).
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A count for the wire.
pub(super) fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_rise_and_are_shares() {
        assert!(weights(&[1000, 3000, 10_000]).is_ok());
        for bad in [&[][..], &[3000, 1000], &[1000, 1000], &[10_001], &[-1]] {
            assert_eq!(weights(bad).unwrap_err().field, "weights_bp", "{bad:?}");
        }
    }

    #[test]
    fn a_quorum_is_a_share() {
        let request = |quorum_bp| pb::VerifyExposureRequest {
            objects: vec![pb::AppliedObject {
                target: Some(Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "a").unwrap().into()),
                ..pb::AppliedObject::default()
            }],
            quorum_bp,
            ..pb::VerifyExposureRequest::default()
        };
        assert_eq!(verification(&request(9000)).unwrap().1.quorum.basis_points(), 9000);
        for bad in [-1, 10_001] {
            assert_eq!(verification(&request(bad)).unwrap_err().field, "quorum_bp", "{bad}");
        }
    }

    #[test]
    fn the_object_must_be_the_target() {
        let target = Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "a").unwrap();
        let object = |version: &str, kind: &str, name: &str| {
            serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "shop", "name": name},
                               "spec": {}})
        };
        assert!(is_of("f", &object("networking.istio.io/v1beta1", "VirtualService", "a"), &target).is_ok());
        for (wrong, part) in [
            (object("apps/v1", "VirtualService", "a"), "apiVersion"),
            (object("networking.istio.io/v1", "Gateway", "a"), "kind"),
            (object("networking.istio.io/v1", "VirtualService", "b"), "metadata.name"),
        ] {
            assert!(is_of("f", &wrong, &target).unwrap_err().problem.starts_with(part), "{part}");
        }
    }

    #[test]
    fn the_callers_deadline_is_read() {
        let mut metadata = MetadataMap::new();
        assert_eq!(deadline(&metadata), None);
        metadata.insert("grpc-timeout", "1500m".parse().unwrap());
        assert_eq!(deadline(&metadata), Some(Duration::from_millis(1500)));
    }
}

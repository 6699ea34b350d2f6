//! The shared vocabulary between its wire form and its domain form. What only one service knows is converted there.
//!
//! To the wire every conversion is `From`. From the wire it is `TryFrom` with a [`ConvertError`] that names the field.

mod analysis;
mod audience;
mod exposure;
mod finding;

pub use exposure::canary;

use jiff::{SignedDuration, Timestamp};
use meshward_model as model;

use crate::types::v1 as types;

/// A wire value that has no meaning, and the field that held it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertError {
    /// Path within the message that was converted, e.g. "target.kind".
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ConvertError {
    /// An error at a field.
    pub fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }

    /// The same error seen from the message around: `field` is put before the path.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        self.field = format!("{field}.{}", self.field);
        self
    }
}

impl std::fmt::Display for ConvertError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for ConvertError {}

/// A required message field.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is required"))
}

/// A moment for the wire.
#[must_use]
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A moment from the wire.
///
/// # Errors
/// If it is outside the years -9999 to 9999.
pub fn from_timestamp(field: &str, time: prost_types::Timestamp) -> Result<Timestamp, ConvertError> {
    Timestamp::new(time.seconds, time.nanos).map_err(|error| ConvertError::new(field, error))
}

/// A length of time for the wire.
#[must_use]
pub fn duration(duration: std::time::Duration) -> prost_types::Duration {
    // Lengths here are minutes to days; the clamp keeps the conversion total.
    let signed = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    prost_types::Duration { seconds: signed.as_secs(), nanos: signed.subsec_nanos() }
}

/// A length of time from the wire.
///
/// # Errors
/// If it is negative.
pub fn from_duration(field: &str, duration: prost_types::Duration) -> Result<std::time::Duration, ConvertError> {
    std::time::Duration::try_from(duration).map_err(|_| ConvertError::new(field, "is negative"))
}

/// A weight from basis points on the wire.
pub(crate) fn weight(field: &'static str, basis_points: i32) -> Result<model::Weight, ConvertError> {
    model::Weight::from_basis_points(basis_points.into()).map_err(|error| ConvertError::new(field, error))
}

/// JSON from a string field.
pub(crate) fn json(field: &'static str, text: &str) -> Result<serde_json::Value, ConvertError> {
    serde_json::from_str(text).map_err(|error| ConvertError::new(field, format!("is no JSON: {error}")))
}

impl From<model::Target> for types::Target {
    fn from(target: model::Target) -> Self {
        let mesh = match target.mesh {
            model::Mesh::Istio => types::Mesh::Istio,
            model::Mesh::Linkerd => types::Mesh::Linkerd,
        };
        Self {
            cluster: target.cluster,
            mesh: mesh.into(),
            api_version: target.api_version,
            kind: target.kind,
            namespace: target.namespace,
            name: target.name,
        }
    }
}

impl TryFrom<types::Target> for model::Target {
    type Error = ConvertError;

    /// The mesh is derived from the API group; one that contradicts it is refused.
    fn try_from(target: types::Target) -> Result<Self, ConvertError> {
        let said = target.mesh();
        let converted = Self::new(&target.cluster, &target.api_version, &target.kind, &target.namespace, &target.name)
            .map_err(|error| {
                let field = match error {
                    model::InvalidTarget::UnknownMesh(_) | model::InvalidTarget::Missing("apiVersion") => "api_version",
                    model::InvalidTarget::Missing(field) => field.strip_prefix("metadata.").unwrap_or(field),
                };
                ConvertError::new(field, error)
            })?;
        let derived = types::Target::from(converted.clone()).mesh();
        if said != types::Mesh::Unspecified && said != derived {
            return Err(ConvertError::new("mesh", "contradicts api_version; leave it out"));
        }
        Ok(converted)
    }
}

impl From<model::Mechanism> for types::Mechanism {
    fn from(mechanism: model::Mechanism) -> Self {
        match mechanism {
            model::Mechanism::Request => Self::Request,
            model::Mechanism::Weight => Self::Weight,
            model::Mechanism::Subset => Self::Subset,
            model::Mechanism::Instance => Self::Instance,
            model::Mechanism::Namespace => Self::Namespace,
            model::Mechanism::Header => Self::Header,
            model::Mechanism::Shadow => Self::Shadow,
            model::Mechanism::None => Self::None,
        }
    }
}

impl types::Mechanism {
    /// The domain's mechanism; `None` = unspecified, the gateway chooses.
    #[must_use]
    pub fn to_model(self) -> Option<model::Mechanism> {
        Some(match self {
            Self::Unspecified => return None,
            Self::Request => model::Mechanism::Request,
            Self::Weight => model::Mechanism::Weight,
            Self::Subset => model::Mechanism::Subset,
            Self::Instance => model::Mechanism::Instance,
            Self::Namespace => model::Mechanism::Namespace,
            Self::Header => model::Mechanism::Header,
            Self::Shadow => model::Mechanism::Shadow,
            Self::None => model::Mechanism::None,
        })
    }
}

/// A mechanism that must be said.
pub(crate) fn mechanism(value: types::Mechanism) -> Result<model::Mechanism, ConvertError> {
    value.to_model().ok_or_else(|| ConvertError::new("mechanism", "is required"))
}

#[cfg(test)]
mod tests;

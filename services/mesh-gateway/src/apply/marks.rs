//! The annotations that an object carries while a deployment has it.

use meshward_model::{Digest, ExposureIntent};
use serde_json::{Map, Value};

use crate::object;

const DEPLOYMENT: &str = "meshward.io/deployment";
const GENERATION: &str = "meshward.io/generation";
const SPEC_DIGEST: &str = "meshward.io/spec-digest";

/// Who wrote last, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The deployment.
    pub deployment: String,
    /// The generation of its intent.
    pub generation: u64,
    /// The digest of the spec that was written.
    pub spec_digest: String,
}

impl Marks {
    /// The marks on a live object; `None` if no deployment has it. What cannot be read counts as generation 0, so that
    /// a mark that somebody spoiled never outranks a writer.
    #[must_use]
    pub fn of(live: &Value) -> Option<Self> {
        let annotations = object::metadata_map(live, "annotations")?;
        let text = |key: &str| annotations.get(key).and_then(Value::as_str).unwrap_or_default();
        annotations.get(DEPLOYMENT)?;
        Some(Self {
            deployment: text(DEPLOYMENT).to_owned(),
            generation: text(GENERATION).parse().unwrap_or(0),
            spec_digest: text(SPEC_DIGEST).to_owned(),
        })
    }

    /// The marks of an intent that writes this spec.
    pub(super) fn new(intent: &ExposureIntent, spec: &Value) -> Self {
        Self {
            deployment: intent.deployment_id.clone(),
            generation: intent.generation,
            spec_digest: Digest::of(spec).to_string(),
        }
    }

    /// Whether the object's spec is the one that was marked.
    pub(super) fn fit(&self, live: &Value) -> bool {
        Digest::of(object::spec(live)).as_str() == self.spec_digest
    }

    /// Adds them to a map of annotations.
    pub(super) fn put(&self, annotations: &mut Map<String, Value>) {
        annotations.insert(DEPLOYMENT.to_owned(), self.deployment.clone().into());
        annotations.insert(GENERATION.to_owned(), self.generation.to_string().into());
        annotations.insert(SPEC_DIGEST.to_owned(), self.spec_digest.clone().into());
    }

    /// Takes them out of a map of annotations.
    pub(super) fn remove(annotations: &mut Map<String, Value>) {
        for key in [DEPLOYMENT, GENERATION, SPEC_DIGEST] {
            annotations.remove(key);
        }
    }
}

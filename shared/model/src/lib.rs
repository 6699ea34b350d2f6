//! The vocabulary that two or more services share: targets, weights, digests, findings, exposures, verdicts.
//!
//! Nothing here does I/O, is async, or knows a transport: every type can be made in a unit test with a literal. The wire form of
//! each type is in `proto/`, the conversions are in `meshward-proto`.

mod analysis;
mod audience;
mod digest;
mod exposure;
mod finding;
mod target;
mod weight;

pub use analysis::{Analysis, CohortTraffic, JudgeOptions, Objectives, TickSample, Verdict, WeightPeriod};
pub use audience::{Audience, HeaderMatch, HeaderValue};
pub use digest::{Digest, InvalidDigest, canonical_json};
pub use exposure::{
    Alternative, AppliedObject, Baseline, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Operation,
    PlannedCohort, PlannedPhase, PlannedStep, PlannedWrite, PropagationProof, PropagationState, Purpose, Refusal,
    RelatedBaseline,
};
pub use finding::{Confidence, Details, Finding, Impact, ObjectRef, Related, Severity, SourceRange, Suppression};
pub use target::{InvalidTarget, Mesh, Target};
pub use weight::{InvalidWeight, Weight};

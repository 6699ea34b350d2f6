//! Flags.

use std::time::Duration;

use clap::Parser;
use meshward_chassis::server::{ServerArgs, parse_duration};
use meshward_store::StoreArgs;

use crate::approval::Rules;

/// Stores service-mesh policies and their versions, and says which of them may be deployed.
#[derive(Debug, Clone, Parser)]
#[command(name = "meshward-policy-registry", version)]
pub struct Config {
    /// What every server has.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Where policies are kept.
    #[command(flatten)]
    pub store: StoreArgs,

    /// The validator, which checks each text, e.g. http://validator:8080.
    #[arg(long, env = "MESHWARD_VALIDATOR")]
    pub validator: String,

    /// How many people other than the author must approve a version before it can be deployed.
    #[arg(
        long,
        env = "MESHWARD_APPROVALS_REQUIRED",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10)
    )]
    pub approvals_required: u32,

    /// How long an approval counts, e.g. 168h; an expired one must be given again before the version is deployed.
    #[arg(long, env = "MESHWARD_APPROVAL_TTL", default_value = "168h", value_parser = parse_duration)]
    pub approval_ttl: Duration,
}

impl Config {
    /// What an approval needs to count.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules { required: self.approvals_required as usize, ttl: self.approval_ttl }
    }
}

//! What policy-registry holds for a cluster.

use std::time::Duration;

use serde_json::Value;

use crate::ports::{Bearer, HeldPage, Registry};

/// Most versions that are read.
const MOST_VERSIONS: usize = 20_000;

/// The versions of policies.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// In force.
    pub(super) active: Vec<Value>,
    /// Approved to take their place.
    pub(super) approved: Vec<Value>,
}

/// All versions that can be read in time, and why not all could.
pub(super) async fn read(
    registry: Option<&dyn Registry>,
    cluster: &str,
    within: Duration,
    bearer: &Bearer,
) -> (Held, Option<String>) {
    let mut held = Held::default();
    let Some(registry) = registry else {
        return (held, gap("--policy-registry is not set"));
    };
    let reading = tokio::time::timeout(within, pages(registry, cluster, bearer, &mut held)).await;
    let problem = match reading {
        Ok(Ok(())) => return (held, None),
        Ok(Err(problem)) => problem,
        Err(_) => format!("it took longer than {within:?}"),
    };
    (held, gap(&problem))
}

fn gap(problem: &str) -> Option<String> {
    Some(format!("context: the policy-registry was not read to its end: {problem}"))
}

async fn pages(registry: &dyn Registry, cluster: &str, bearer: &Bearer, held: &mut Held) -> Result<(), String> {
    let mut token = String::new();
    loop {
        let HeldPage { versions, next } = registry.effective(cluster, &token, bearer).await?;
        if held.active.len() + held.approved.len() + versions.len() > MOST_VERSIONS {
            return Err(format!("it holds more than {MOST_VERSIONS} versions"));
        }
        for version in versions {
            let list = if version.is_active { &mut held.active } else { &mut held.approved };
            list.push(version.object);
        }
        if next.is_empty() {
            return Ok(());
        }
        token = next;
    }
}

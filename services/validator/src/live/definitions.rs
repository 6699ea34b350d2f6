//! What a cluster itself checks objects of the meshes by: its CustomResourceDefinitions, read through mesh-gateway.
//!
//! They are the same for every caller, and are read anew as often as what is live. As long as they are the same ones by uid and
//! generation, so is the catalogue made of them, for its schemas take a while to compile.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use meshward_chassis::clock::Clock;
use serde_json::Value;

use super::{Limits, named};
use crate::{
    ports::{Bearer, Gateway, ObjectPage, Wanted},
    schema::Catalogue,
};

/// Most clusters whose definitions are kept.
const MOST_CLUSTERS: usize = 8;
/// Most that is read of one cluster; those of both meshes together are some megabytes.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// The definitions that were read last.
pub struct Definitions {
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// For what no cluster says.
    catalogue: Arc<Catalogue>,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    cluster: String,
    read: Timestamp,
    state: Vec<[String; 2]>,
    catalogue: Arc<Catalogue>,
}

/// What objects are checked by.
#[derive(Debug, Clone)]
pub struct Checks {
    /// The definitions.
    pub catalogue: Arc<Catalogue>,
    /// Why they are not the cluster's own, though they should be.
    pub gap: Option<String>,
}

impl Definitions {
    /// Nothing was read yet. What a cluster does not say is for `catalogue` to say.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limits: Limits, catalogue: Arc<Catalogue>) -> Self {
        Self { clock, limits, catalogue, kept: Mutex::default() }
    }

    /// The definitions of a cluster, or else the catalogue and the reason; the catalogue if no cluster is meant.
    pub async fn of<G: Gateway>(&self, gateway: &G, cluster: Option<&str>, bearer: &Bearer) -> Checks {
        let catalogue = Arc::clone(&self.catalogue);
        let Some(cluster) = cluster else { return Checks { catalogue, gap: None } };
        if let Some(catalogue) = self.young(cluster) {
            return Checks { catalogue, gap: None };
        }
        let begun = self.clock.now();
        let Limits { within, .. } = self.limits;
        let reading = tokio::time::timeout(within, all(gateway, cluster, bearer)).await;
        match reading.unwrap_or_else(|_| Err(too_slow(within))) {
            Ok(definitions) => Checks { catalogue: self.keep(cluster, begun, &definitions), gap: None },
            Err(why) => {
                let gap = format!(
                    "schema: the definitions of {} were not read, so those of the catalogue are used: {why}",
                    named(cluster)
                );
                Checks { catalogue, gap: Some(gap) }
            }
        }
    }

    fn young(&self, cluster: &str) -> Option<Arc<Catalogue>> {
        let now = self.clock.now();
        let is_young = |kept: &&Kept| now.duration_since(kept.read).unsigned_abs() <= self.limits.max_age;
        let kept = self.kept();
        let found = kept.iter().find(|kept| kept.cluster == cluster);
        found.filter(is_young).map(|kept| Arc::clone(&kept.catalogue))
    }

    /// The catalogue of these definitions: the one that is there, if they are still the same.
    fn keep(&self, cluster: &str, read: Timestamp, definitions: &[Value]) -> Arc<Catalogue> {
        let mut state: Vec<_> = definitions.iter().map(state).collect();
        state.sort_unstable();
        let mut kept = self.kept();
        let before = kept.iter().position(|kept| kept.cluster == cluster).map(|index| kept.remove(index));
        let catalogue = match before.filter(|before| before.state == state) {
            Some(same) => same.catalogue,
            None => Arc::new(Catalogue::of_cluster(definitions, Arc::clone(&self.catalogue))),
        };
        kept.push(Kept { cluster: cluster.to_owned(), read, state, catalogue: Arc::clone(&catalogue) });
        let over = kept.len().saturating_sub(MOST_CLUSTERS);
        kept.drain(..over);
        catalogue
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_slow(within: Duration) -> String {
    format!("it took longer than {within:?}")
}

/// What tells one content of a definition from another.
fn state(definition: &Value) -> [String; 2] {
    ["uid", "generation"].map(|field| definition["metadata"][field].to_string())
}

/// All definitions of the meshes' kinds.
async fn all<G: Gateway>(gateway: &G, cluster: &str, bearer: &Bearer) -> Result<Vec<Value>, String> {
    let (mut definitions, mut token, mut bytes) = (Vec::new(), String::new(), 0);
    loop {
        let (api_version, kind) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let wanted = Wanted { cluster, api_version, kind, namespace: None, token: &token };
        let page = gateway.list(wanted, bearer).await.map_err(|error| error.to_string())?;
        let ObjectPage { objects, next, .. } = page;
        bytes += objects.iter().map(|object| object.to_string().len()).sum::<usize>();
        if bytes > MOST_BYTES {
            return Err(format!("they are more than {MOST_BYTES} bytes"));
        }
        definitions.extend(objects);
        if next.is_empty() {
            return Ok(definitions);
        }
        token = next;
    }
}

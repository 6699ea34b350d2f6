//! Istio's control plane, asked over its debug interface (port 15014).
//!
//! Of its pages four together are a proof:
//!
//! - `/debug/configz` lists every object that istiod has read, with its resourceVersion: has it read *this* write?
//! - `/debug/config_dump?proxyID=…&types=…` is what istiod would generate for a proxy now, from the push context that
//!   this proxy was last given. Routes name the VirtualService that they come from, so it also tells which proxies an
//!   object concerns. Nothing in it tells the *version* of the object, so its content is compared ([`content`]): a canary
//!   by request ids has an expression that no other weight has. **Asking for it at the wrong moment makes istiod push old
//!   configuration**: [`turns`] says when it is asked for.
//! - `/debug/sidecarz?proxyID=…` has the version of that push context (`<time>/<counter>`).
//! - `/debug/syncz` has per proxy and kind of configuration the nonce last sent and the one last acknowledged; a nonce
//!   begins with the version of the push context that it was made from. After a refusal `lastError` has Envoy's words.
//!
//! Where labels decide which object governs a pod, `/debug/adsz` has the labels that istiod goes by, and comes before the
//! dumps: see [`cohorts`]. `/debug/connections` has the names by which dumps are asked for.
//!
//! They are read in this order, so that an acknowledgement is never older than the content that it is held against.
//! Every replica is asked, since each knows only the proxies that are connected to it.
//!
//! Cost: a look asks for four pages, and for one dump per proxy that was pushed something since the look before, eight at
//! a time.
//!
//! What it does not tell: an Envoy acknowledges when its main thread has accepted a configuration; its workers follow
//! within the same millisecond or so. A proxy that connects later gets the newest configuration at once and needs no
//! proof.

mod cohorts;
mod content;
mod sync;
mod turns;

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use meshward_model::{AppliedObject, Target};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use self::{
    sync::Version,
    turns::{Memory, Reading, Subject, Turn},
};
use super::{Content, Expected, Look, Mark, Plane, ProxyLook};
use crate::object;

/// Longest time for one page.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest page: some hundred kilobytes per proxy and thousand services.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Pages asked for at once, per replica.
const PARALLEL: usize = 8;

/// The newest state that a proxy had, by replica.
pub(super) type Marks = Vec<(String, Option<Version>)>;

/// The replicas of istiod.
pub struct Istiod {
    http: reqwest::Client,
    replicas: Vec<String>,
    memory: Memory,
}

impl Istiod {
    /// `replicas` are base URLs such as `http://istiod.istio-system:15014`, one for each replica.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(replicas: &[String]) -> Result<Self, reqwest::Error> {
        let http =
            reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(Duration::from_secs(2)).no_proxy().build()?;
        let replicas = replicas.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self { http, replicas, memory: Memory::default() })
    }

    /// Whether every replica answers.
    ///
    /// # Errors
    /// Which one does not, and why.
    pub async fn ready(&self) -> Result<(), String> {
        for replica in &self.replicas {
            self.page::<Value>(replica, "syncz", &[]).await?;
        }
        Ok(())
    }

    async fn look_at(&self, replica: &str, expected: &Expected) -> Result<Look, String> {
        let configs = self.page::<Value>(replica, "configz", &[]).await?.unwrap_or_default();
        if !has_taken_in(&configs, expected) {
            return Ok(Look { not_taken_in: vec![replica.to_owned()], ..Look::default() });
        }
        let views = match expected.cohorts {
            Some(_) => cohorts::views(&self.page::<Value>(replica, "adsz", &[]).await?.unwrap_or_default()),
            None => cohorts::Views::default(),
        };
        let readings = self.readings(replica, expected).await?;
        let syncz = self.page::<Value>(replica, "syncz", &[]).await?.unwrap_or_default();
        let mut look = Look::default();
        for (name, reading) in &readings {
            match &expected.cohorts {
                Some(known) => {
                    cohorts::look_at(name, reading.as_ref(), (&views, known), &syncz, expected, &mut look);
                }
                None => look.proxies.extend(look_at_proxy(name, reading.as_ref(), &syncz, expected)),
            }
        }
        look.proxies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(look)
    }

    /// What each proxy has, as far as it may be asked: see [`turns`].
    async fn readings(&self, replica: &str, expected: &Expected) -> Result<Vec<(String, Option<Reading>)>, String> {
        let syncz = self.page::<Value>(replica, "syncz", &[]).await?.unwrap_or_default();
        let names = sync::proxies(&syncz).into_iter().filter(|name| is_looked_at(name, expected));
        let Some(types) = content::types(expected) else {
            return Ok(names.map(|name| (name, Some(Reading::default()))).collect());
        };
        let (names, subject) = (names.collect(), subject(replica, expected));
        let is_harmless = types == content::LISTENERS_ALONE;
        let now = Instant::now();
        let turns = self.memory.with(subject, &syncz, now, |turns| turns.of_all(names, &syncz, is_harmless, now));
        let connections = self.page::<Value>(replica, "connections", &[]).await?.unwrap_or_default();
        let (syncz, connections) = (&syncz, &connections);
        futures::stream::iter(turns)
            .map(|(name, turn)| async move {
                let is_asked = match (turn, connection(connections, &name)) {
                    (Turn::Known(reading), _) => return Ok((name, Some(reading))),
                    (Turn::Now, Some(proxy)) => Some(proxy),
                    (Turn::From(version), Some(proxy)) => {
                        (self.state(replica, proxy).await? >= Some(version)).then_some(proxy)
                    }
                    _ => None,
                };
                let Some(proxy) = is_asked else { return Ok((name, None)) };
                let reading = self.ask(replica, proxy, types, expected).await?;
                if let Some(reading) = &reading {
                    let now = Instant::now();
                    self.memory.with(subject, syncz, now, |turns| turns.keep(&name, syncz, reading, now));
                }
                Ok((name, reading))
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }

    /// What istiod would generate for a proxy; `None` if it went away.
    async fn ask(
        &self,
        replica: &str,
        proxy: &str,
        types: &str,
        expected: &Expected,
    ) -> Result<Option<Reading>, String> {
        let query = [("proxyID", proxy), ("types", types)];
        let Some(dump) = self.page::<Value>(replica, "config_dump", &query).await? else { return Ok(None) };
        let seen = content::read(&dump, expected);
        // After the dump, so that it is not older.
        let version = match types {
            // A policy leaves it as it is.
            content::LISTENERS_ALONE => None,
            _ => self.state(replica, proxy).await?,
        };
        Ok(Some(Reading { seen, version }))
    }

    /// The state that the routes and clusters of a proxy are generated from.
    async fn state(&self, replica: &str, proxy: &str) -> Result<Option<Version>, String> {
        let scope: Option<Option<Scope>> = self.page(replica, "sidecarz", &[("proxyID", proxy)]).await?;
        Ok(scope.flatten().and_then(|scope| sync::parse(&scope.version)))
    }

    /// One page as JSON; `None` if istiod knows no such proxy.
    async fn page<T: DeserializeOwned>(
        &self,
        replica: &str,
        page: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{replica}/debug/{page}: {error}");
        let chain = |error: reqwest::Error| failed(&meshward_chassis::problem::chain(&error.without_url()));
        let request = self.http.get(format!("{replica}/debug/{page}")).query(query);
        let mut response = request.send().await.map_err(chain)?;
        if response.status() == http::StatusCode::NOT_FOUND && !query.is_empty() {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(failed(&response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(chain)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(failed(&"the page is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| failed(&error))
    }
}

/// Which of the looks so far are of the same.
fn subject(replica: &str, expected: &Expected) -> Subject {
    let Expected { target, object, others, rebinds, through, cohorts, beside, .. } = expected;
    let version = object.as_ref().map(object::resource_version);
    let others: Vec<_> = others.iter().map(Value::to_string).collect();
    Subject {
        object: hash(&(replica, target, version, &others, rebinds, through, cohorts.is_some())),
        write: write(replica, beside),
        is_gone: object.is_none(),
    }
}

/// Objects that are written together, at a replica.
fn write(replica: &str, objects: &[AppliedObject]) -> u64 {
    let versions: Vec<_> = objects.iter().map(|applied| (&applied.target, &applied.resource_version)).collect();
    hash(&(replica, versions))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// `/debug/sidecarz`: what of a mesh is shown to a proxy.
#[derive(Deserialize)]
struct Scope {
    version: String,
}

/// The newest connection of a proxy, as istiod names it in `/debug/connections`: "checkout-0.shop-12".
///
/// istiod looks for the proxy of a dump by a *part* of that name, and takes any that fits: by "cart-0.shop" it may answer
/// with that of "minicart-0.shop", or with a connection that is dead. By the whole name it hardly can.
fn connection<'a>(connections: &'a Value, proxy: &str) -> Option<&'a str> {
    let clients = connections["clients"].as_array().into_iter().flatten();
    let number = |id: &str| id.strip_prefix(proxy)?.strip_prefix('-')?.parse::<u64>().ok();
    let ids = clients.filter_map(|client| client["connectionId"].as_str());
    ids.filter_map(|id| Some((number(id)?, id))).max().map(|(_, id)| id)
}

#[async_trait]
impl Plane for Istiod {
    async fn look(&self, expected: &Expected) -> Result<Look, String> {
        if self.replicas.is_empty() {
            return Err(
                "no istiod is configured: start the gateway with --istiod http://HOST:15014, once per replica".into()
            );
        }
        let looks = self.replicas.iter().map(|replica| self.look_at(replica, expected));
        let mut whole = Look::default();
        for look in futures::future::try_join_all(looks).await? {
            whole.not_taken_in.extend(look.not_taken_in);
            whole.proxies.extend(look.proxies);
            whole.held_back.extend(look.held_back);
        }
        Ok(whole)
    }

    async fn mark(&self, _: &Target) -> Mark {
        let marks = self.replicas.iter().map(|replica| async move {
            let syncz: Value = self.page(replica, "syncz", &[]).await.ok().flatten()?;
            Some((replica.clone(), turns::newest(&syncz)))
        });
        // Who does not answer is not waited for: the looks find out by themselves, only later.
        Mark(futures::future::join_all(marks).await.into_iter().flatten().collect())
    }

    fn wrote(&self, objects: &[AppliedObject], Mark(marks): Mark) {
        let is_gone = objects.iter().all(|applied| applied.absent);
        for (replica, before) in marks {
            self.memory.wrote(write(&replica, objects), is_gone, before, Instant::now());
        }
    }
}

/// Whether istiod has read the object as it stands in the cluster.
fn has_taken_in(configs: &Value, expected: &Expected) -> bool {
    let target = &expected.target;
    let is_it = |config: &&Value| {
        config["kind"] == target.kind.as_str()
            && config["metadata"]["name"] == target.name.as_str()
            && config["metadata"]["namespace"] == target.namespace.as_str()
            && group(config) == target.group()
    };
    let read = configs.as_array().into_iter().flatten().find(is_it).map(object::resource_version);
    read == expected.object.as_ref().map(object::resource_version)
}

fn group(config: &Value) -> &str {
    let api_version = config["apiVersion"].as_str().unwrap_or_default();
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether the object may concern a proxy at all. Its name ends with its namespace.
fn is_looked_at(name: &str, expected: &Expected) -> bool {
    match &expected.cohorts {
        Some(known) => known.pods.iter().any(|pod| pod.proxy == name),
        None => expected.readers.are_in(name.rsplit('.').next().unwrap_or_default()),
    }
}

/// The proxy, if the object concerns it, or may, as long as that cannot be told.
fn look_at_proxy(name: &str, reading: Option<&Reading>, syncz: &Value, expected: &Expected) -> Option<ProxyLook> {
    let Some(reading) = reading else { return unread(name, syncz, expected) };
    let seen = reading.seen.as_ref()?;
    let push = sync::last_push(syncz, name, &seen.kinds)?;
    Some(ProxyLook {
        name: name.to_owned(),
        content: seen.content,
        pushed: reading.version.as_ref().is_some_and(|version| sync::is_at_least(&push.nonce, version)),
        nonce: push.nonce,
        acknowledged: push.acknowledged,
        error: push.error,
    })
}

/// A proxy that could not be asked yet, if it is still connected.
fn unread(name: &str, syncz: &Value, expected: &Expected) -> Option<ProxyLook> {
    let likely = || sync::last_push(syncz, name, content::likely_kinds(expected));
    let push = likely().or_else(|| sync::last_push(syncz, name, &sync::kinds(syncz, name)))?;
    Some(ProxyLook {
        name: name.to_owned(),
        content: Content::Unread,
        pushed: false,
        nonce: push.nonce,
        acknowledged: push.acknowledged,
        error: push.error,
    })
}

#[cfg(test)]
mod tests;

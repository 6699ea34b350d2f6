//! Istio's control plane, asked over its debug interface (port 15014).
//!
//! Three of its pages together are a proof:
//!
//! - `/debug/configz` lists every object that istiod has read, with its resourceVersion: has it read *this* write?
//! - `/debug/config_dump?proxyID=…` is what istiod would generate for a proxy now, from the push context that this
//!   proxy was last given, and the version of that context (`<time>/<counter>`). Routes name the VirtualService that
//!   they come from, so it also tells which proxies an object concerns. Nothing in it tells the *version* of the
//!   object, so its content is compared ([`content`]): a canary by request ids has an expression that no other weight
//!   has.
//! - `/debug/syncz` has per proxy and kind of configuration the nonce last sent and the one last acknowledged; a nonce
//!   begins with the version of the push context that it was made from. After a refusal `lastError` has Envoy's words.
//!
//! Where labels decide which object governs a pod, `/debug/adsz` has the labels that istiod goes by, and comes before the
//! dumps: see [`cohorts`].
//!
//! They are read in this order, so that an acknowledgement is never older than the content that it is held against.
//! Every replica is asked, since each knows only the proxies that are connected to it.
//!
//! Cost: a look asks for one dump per connected proxy, eight at a time, until the answer is final.
//!
//! What it does not tell: an Envoy acknowledges when its main thread has accepted a configuration; its workers follow
//! within the same millisecond or so. A proxy that connects later gets the newest configuration at once and needs no
//! proof.

mod cohorts;
mod content;
mod sync;

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{Expected, Look, Plane, ProxyLook};
use crate::object;

/// Longest time for one page.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest page: some hundred kilobytes per proxy and thousand services.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Pages asked for at once, per replica.
const PARALLEL: usize = 8;

/// The replicas of istiod.
pub struct Istiod {
    http: reqwest::Client,
    replicas: Vec<String>,
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
        Ok(Self { http, replicas })
    }

    /// Whether every replica answers.
    ///
    /// # Errors
    /// Which one does not, and why.
    pub async fn ready(&self) -> Result<(), String> {
        for replica in &self.replicas {
            self.page(replica, "syncz", &[]).await?;
        }
        Ok(())
    }

    async fn look_at(&self, replica: &str, expected: &Expected) -> Result<Look, String> {
        let configs = self.page(replica, "configz", &[]).await?.unwrap_or_default();
        if !has_taken_in(&configs, expected) {
            return Ok(Look { not_taken_in: vec![replica.to_owned()], ..Look::default() });
        }
        let views = match expected.cohorts {
            Some(_) => cohorts::views(&self.page(replica, "adsz", &[]).await?.unwrap_or_default()),
            None => cohorts::Views::default(),
        };
        let syncz = self.page(replica, "syncz", &[]).await?.unwrap_or_default();
        let names = sync::proxies(&syncz);
        // Endpoints are left out of a dump unless they are asked for.
        let with_endpoints = content::endpoints::are_told_by(expected);
        let dumps: Vec<_> = futures::stream::iter(names)
            .map(|name| async move {
                let query = [("proxyID", name.as_str()), ("include_eds", "true")];
                let query = if with_endpoints { &query[..] } else { &query[..1] };
                let dump = self.page(replica, "config_dump", query).await?;
                Ok::<_, String>((name, dump))
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let syncz = self.page(replica, "syncz", &[]).await?.unwrap_or_default();
        // A proxy that went away in between has no page any more.
        let present = dumps.into_iter().filter_map(|(name, dump)| Some((name, dump?)));
        let mut look = Look::default();
        for (name, dump) in present {
            match &expected.cohorts {
                Some(known) => cohorts::look_at(&name, &dump, (&views, known), &syncz, expected, &mut look),
                None => look.proxies.extend(look_at_proxy(&name, &dump, &syncz, expected)),
            }
        }
        look.proxies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(look)
    }

    /// One page as JSON; `None` if istiod knows no such proxy.
    async fn page(&self, replica: &str, page: &str, query: &[(&str, &str)]) -> Result<Option<Value>, String> {
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

/// The proxy, if the object concerns it. Its name ends with its namespace.
fn look_at_proxy(name: &str, dump: &Value, syncz: &Value, expected: &Expected) -> Option<ProxyLook> {
    if !expected.readers.are_in(name.rsplit('.').next().unwrap_or_default()) {
        return None;
    }
    let seen = content::read(dump, expected)?;
    let push = sync::last_push(syncz, name, &seen.kinds)?;
    Some(ProxyLook {
        name: name.to_owned(),
        content: seen.content,
        pushed: sync::is_at_least(&push.nonce, &seen.version),
        nonce: push.nonce,
        acknowledged: push.acknowledged,
        error: push.error,
    })
}

#[cfg(test)]
mod tests;

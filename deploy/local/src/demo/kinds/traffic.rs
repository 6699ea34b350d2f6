//! Which version decides, as requests find it out.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::StatusCode;

use crate::{
    demo::{Cohorts, policies},
    load::LoadPlan,
};

/// An id of the cohort at every share.
const FIRST: &str = "6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b00";
/// An id of the cohort at 100 % only.
const LAST: &str = "6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1bff";
/// A path that no version lets in to: only without a policy anybody gets there.
pub const ANYWHERE: &str = "/anywhere";
/// A path that all versions but the bad ones let in to: what everybody asks for.
pub const SERVED: &str = "/served";
/// Requests on which half is measured, and how far it may be off: five standard deviations.
const ENOUGH: u64 = 600;
const TOLERANCE: f64 = 0.1;

/// How the versions of a case can be told apart.
pub enum Traffic {
    /// By the counters of the caller's Envoy at this address, while a load goes through it.
    Counted(String),
    /// By who is let in where, by the ids of the requests.
    Requests(Door),
    /// Pod by pod.
    Pods(Pods),
    /// By who is answered by which version, with the header of the audience and without.
    Audience(Entry),
}

/// How the version of a pod is told.
pub enum Pods {
    /// By who is let in where.
    ByPath(Vec<Door>),
    /// By what it answers.
    ByAnswer(Vec<Entry>),
}

impl Pods {
    /// How many have the newer version, and how many there are.
    async fn newer(&self, older: &str, newer: &str) -> anyhow::Result<(usize, usize)> {
        let mut count = 0;
        match self {
            Self::ByPath(doors) => {
                for door in doors {
                    count += usize::from(door.is_newer(older, newer, FIRST).await?);
                }
                Ok((count, doors.len()))
            }
            Self::ByAnswer(entries) => {
                for entry in entries {
                    count += usize::from(entry.is_newer(older, newer, false).await?);
                }
                Ok((count, entries.len()))
            }
        }
    }
}

/// For whom the newer version decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Nobody,
    Half,
    Everybody,
}

/// A server behind its Envoy.
pub struct Door {
    http: reqwest::Client,
    ingress: SocketAddr,
}

impl Door {
    /// Every request goes on a connection of its own: one that is open keeps the policies of before until it is drained.
    pub fn new(ingress: SocketAddr) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self { http, ingress })
    }

    fn load(&self, rate: f64) -> LoadPlan {
        let paths = vec![SERVED.to_owned()];
        LoadPlan { rate, paths, ..LoadPlan::new(format!("http://{}", self.ingress), self.ingress.to_string()) }
    }

    async fn lets_in(&self, path: &str, id: &str) -> anyhow::Result<bool> {
        let request = self.http.get(format!("http://{}{path}", self.ingress)).header("x-request-id", id);
        match request.send().await.context("Envoy answers")?.status() {
            StatusCode::OK => Ok(true),
            StatusCode::FORBIDDEN => Ok(false),
            other => bail!("{path} of {}: {other}", self.ingress),
        }
    }

    /// Whether the newer version decides, which lets in to its own path only, or to all if it is that there is none; it is an
    /// error if both do, or none.
    async fn is_newer(&self, older: &str, newer: &str, id: &str) -> anyhow::Result<bool> {
        match (self.lets_in(older, id).await?, self.lets_in(newer, id).await?) {
            (true, false) => Ok(false),
            (false, true) => Ok(true),
            (true, true) if newer == ANYWHERE => Ok(true),
            both_or_none => bail!("{} lets in to {older} and {newer}: {both_or_none:?}", self.ingress),
        }
    }
}

/// A caller's Envoy, through which a host is asked.
pub struct Entry {
    http: reqwest::Client,
    egress: SocketAddr,
    host: &'static str,
    path: &'static str,
}

/// The header of the audience.
pub const AUDIENCE: (&str, &str) = ("x-beta", "on");

impl Entry {
    pub fn new(egress: SocketAddr, host: &'static str, path: &'static str) -> anyhow::Result<Self> {
        // As with a door.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self { http, egress, host, path })
    }

    fn load(&self, rate: f64) -> LoadPlan {
        let paths = vec![self.path.to_owned()];
        LoadPlan { rate, paths, ..LoadPlan::new(format!("http://{}", self.egress), self.host) }
    }

    /// Whether the newer version answers; it is an error if neither does.
    async fn is_newer(&self, older: &str, newer: &str, with: bool) -> anyhow::Result<bool> {
        let url = format!("http://{}{}", self.egress, self.path);
        let request = self.http.get(url).header(reqwest::header::HOST, self.host);
        let request = if with { request.header(AUDIENCE.0, AUDIENCE.1) } else { request };
        let answer = request.send().await.context("Envoy answers")?;
        let version = answer.headers().get(policies::VERSION_HEADER).and_then(|value| value.to_str().ok());
        match version {
            Some(version) if version == newer => Ok(true),
            Some(version) if version == older => Ok(false),
            other => bail!("{} is answered by {other:?}, neither {older} nor {newer}", self.host),
        }
    }
}

impl Traffic {
    /// Loads without which nobody can tell whether a version is any good: the audience's, and each pod's.
    pub fn own_loads(&self, rate: f64) -> Vec<LoadPlan> {
        match self {
            Self::Counted(_) | Self::Requests(_) => Vec::new(),
            Self::Pods(Pods::ByPath(doors)) => doors.iter().map(|door| door.load(rate)).collect(),
            Self::Pods(Pods::ByAnswer(entries)) => entries.iter().map(|entry| entry.load(rate)).collect(),
            Self::Audience(entry) => {
                let header = Some((AUDIENCE.0.to_owned(), AUDIENCE.1.to_owned()));
                vec![LoadPlan { header, ..entry.load(rate) }]
            }
        }
    }

    /// Whether the newer of two versions decides for this share, and what was seen.
    pub async fn is(&self, share: Share, older: &str, newer: &str) -> anyhow::Result<(bool, String)> {
        match self {
            Self::Counted(admin) => Self::counted(admin, share).await,
            Self::Requests(door) => {
                let seen = (door.is_newer(older, newer, FIRST).await?, door.is_newer(older, newer, LAST).await?);
                let wanted = (share != Share::Nobody, share == Share::Everybody);
                Ok((seen == wanted, format!("first and last id of the newer version: {seen:?}")))
            }
            Self::Pods(pods) => {
                let (count, all) = pods.newer(older, newer).await?;
                let wanted = match share {
                    Share::Nobody => 0,
                    Share::Half => all / 2,
                    Share::Everybody => all,
                };
                Ok((count == wanted, format!("{count} of {all} pods have the newer version")))
            }
            Self::Audience(entry) => {
                let seen = (entry.is_newer(older, newer, true).await?, entry.is_newer(older, newer, false).await?);
                let wanted = (share != Share::Nobody, share == Share::Everybody);
                Ok((seen == wanted, format!("newer for requests with the header, and without: {seen:?}")))
            }
        }
    }

    /// Only a half can be counted: before and after, nothing divides the requests.
    async fn counted(admin: &str, share: Share) -> anyhow::Result<(bool, String)> {
        if share != Share::Half {
            return Ok((true, "nothing to count".to_owned()));
        }
        let before = Cohorts::read(admin).await?;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let seen = Cohorts::read(admin).await?.since(before);
            if seen.total() >= ENOUGH {
                let share = seen.share().unwrap_or_default();
                let held = (share - 0.5).abs() < TOLERANCE;
                return Ok((held, format!("{:.1} % of {} requests", share * 100.0, seen.total())));
            }
        }
    }
}

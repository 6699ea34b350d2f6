//! What a request to Prometheus carries: who asks, and for which tenant.

use std::{path::PathBuf, str::FromStr};

use reqwest::{
    RequestBuilder,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};

use super::tls::Tls;

/// How Prometheus lets us in. Files are read for each query, so that a secret can be changed; nothing of them is logged.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// File with a bearer token.
    pub bearer_file: Option<PathBuf>,
    /// File with `user:password` for basic authentication.
    pub basic_auth_file: Option<PathBuf>,
    /// Sent with every query: tenants of Thanos and Mimir.
    pub headers: Vec<Header>,
    /// Certificates.
    pub tls: Tls,
}

/// A file for one cluster's Prometheus, or for all that have none of their own: `NAME=FILE` or `FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedFile {
    /// Which cluster; `None` = all others.
    pub cluster: Option<String>,
    /// Where it is.
    pub path: PathBuf,
}

impl FromStr for ScopedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            // The sign may be a part of the path itself.
            Some((name, path)) if !name.contains('/') && !name.is_empty() && !path.is_empty() => {
                Ok(Self { cluster: Some(name.to_owned()), path: path.into() })
            }
            _ if text.is_empty() => Err("name a file".to_owned()),
            _ => Ok(Self { cluster: None, path: text.into() }),
        }
    }
}

/// The file for a cluster's Prometheus, if there is one.
#[must_use]
pub fn file_of(files: &[ScopedFile], cluster: Option<&str>) -> Option<PathBuf> {
    let of = |wanted: Option<&str>| files.iter().find(|file| file.cluster.as_deref() == wanted);
    of(cluster).or_else(|| of(None)).map(|file| file.path.clone())
}

/// One `--prometheus-header`: `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        if name == AUTHORIZATION {
            return Err("a secret does not belong on a command line; use a bearer or basic-auth file".to_owned());
        }
        let value = value.trim().parse().map_err(|_| format!("the value of {name} does not fit a header"))?;
        Ok(Self { name, value })
    }
}

impl Access {
    /// Adds everything to a request.
    ///
    /// # Errors
    /// If a file cannot be read or holds something else: a sentence without its content.
    pub(super) async fn add_to(&self, mut request: RequestBuilder) -> Result<RequestBuilder, String> {
        for Header { name, value } in &self.headers {
            request = request.header(name, value);
        }
        if let Some(file) = &self.bearer_file {
            request = request.bearer_auth(read(file).await?);
        }
        if let Some(file) = &self.basic_auth_file {
            let text = read(file).await?;
            let (user, password) = text.split_once(':').ok_or("it does not hold user:password")?;
            request = request.basic_auth(user, Some(password));
        }
        Ok(request)
    }
}

async fn read(file: &PathBuf) -> Result<String, String> {
    let text = tokio::fs::read_to_string(file).await.map_err(|error| error.to_string())?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_for_one_cluster_or_for_all_others() {
        let files: Vec<ScopedFile> = ["west=/a", "/b=c"].map(|text| text.parse().expect(text)).into();
        for (cluster, path) in [(Some("west"), "/a"), (Some("east"), "/b=c"), (None, "/b=c")] {
            assert_eq!(file_of(&files, cluster), Some(path.into()), "{cluster:?}");
        }
        assert_eq!(file_of(&files[..1], Some("east")), None);
        assert!(ScopedFile::from_str("").is_err());
    }

    #[test]
    fn headers_are_checked_when_they_are_given() {
        let tenant = Header { name: HeaderName::from_static("x-scope-orgid"), value: HeaderValue::from_static("a=b") };
        assert_eq!(Header::from_str("X-Scope-OrgID=a=b"), Ok(tenant));
        for (text, problem) in [
            ("THANOS-TENANT", "NAME=VALUE"),
            ("a b=c", "no name of a header"),
            ("=c", "no name of a header"),
            ("a=\u{1}", "does not fit a header"),
            ("Authorization=Bearer x", "does not belong on a command line"),
        ] {
            let error = Header::from_str(text).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}

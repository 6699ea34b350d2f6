//! Which source knows which cluster.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use super::MetricsSource;

/// One `--prometheus`: `URL`, or `NAME=URL` for the cluster of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which cluster; `None` = the default one.
    pub cluster: Option<String>,
    /// Where.
    pub url: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match text.split_once('=') {
            Some((name, url)) if is_name(name) => Ok(Self { cluster: Some(name.to_owned()), url: url.to_owned() }),
            // The sign may be a part of the address itself.
            Some((front, _)) if !front.contains("://") => Err(format!("{front:?} is no name of a cluster")),
            _ => Ok(Self { cluster: None, url: text.to_owned() }),
        }
    }
}

/// The sources, by cluster.
#[derive(Clone, Default)]
pub struct Sources {
    default: Option<Arc<dyn MetricsSource>>,
    named: BTreeMap<String, Arc<dyn MetricsSource>>,
}

/// No source knows this cluster. Asking another cluster's would judge the traffic of somebody else: the same services
/// run there, too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no --prometheus is given for the cluster {cluster:?}; there is one for {}", list(.known))]
pub struct UnknownCluster {
    /// What was asked for.
    pub cluster: String,
    /// What there is.
    pub known: Vec<String>,
}

fn list(known: &[String]) -> String {
    known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

impl Sources {
    /// One source for all clusters.
    #[must_use]
    pub fn single(source: Arc<dyn MetricsSource>) -> Self {
        Self { default: Some(source), named: BTreeMap::new() }
    }

    /// Adds the source of a cluster, or the default one.
    ///
    /// # Errors
    /// If there is one already.
    pub fn add(&mut self, cluster: Option<&str>, source: Arc<dyn MetricsSource>) -> Result<(), String> {
        let before = match cluster {
            None => self.default.replace(source),
            Some(name) => self.named.insert(name.to_owned(), source),
        };
        match (before, cluster) {
            (None, _) => Ok(()),
            (Some(_), Some(name)) => Err(format!("the cluster {name:?} is given twice")),
            (Some(_), None) => Err("only one can be the default; write NAME=URL for the others".to_owned()),
        }
    }

    /// The source for a cluster. The default is for the empty name, and for every cluster if no names are given.
    ///
    /// # Errors
    /// If no source is for this cluster.
    pub fn of(&self, cluster: &str) -> Result<&Arc<dyn MetricsSource>, UnknownCluster> {
        let default = self.default.as_ref().filter(|_| cluster.is_empty() || self.named.is_empty());
        self.named.get(cluster).or(default).ok_or_else(|| {
            let unnamed = self.default.iter().map(|_| String::new());
            UnknownCluster { cluster: cluster.to_owned(), known: unnamed.chain(self.named.keys().cloned()).collect() }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use async_trait::async_trait;

    use super::*;
    use crate::{
        source::{Answer, SourceError},
        window::Grid,
    };

    struct Named(&'static str);

    #[async_trait]
    impl MetricsSource for Named {
        fn address(&self) -> &str {
            self.0
        }

        async fn range(&self, _: &str, _: &Grid, _: Instant) -> Result<Answer, SourceError> {
            Ok(Answer::default())
        }
    }

    #[test]
    fn addresses_with_and_without_a_name() {
        let cases = [
            ("http://a:9090", Ok((None, "http://a:9090"))),
            ("west=http://a:9090/x", Ok((Some("west"), "http://a:9090/x"))),
            ("http://a:9090/x?tenant=b", Ok((None, "http://a:9090/x?tenant=b"))),
            ("west=http://a/?b=c", Ok((Some("west"), "http://a/?b=c"))),
            ("=http://a", Err("\"\" is no name of a cluster")),
            ("we st=http://a", Err("\"we st\" is no name of a cluster")),
        ];
        for (text, expected) in cases {
            let found = Address::from_str(text);
            let found = found.as_ref().map(|one| (one.cluster.as_deref(), one.url.as_str()));
            assert_eq!(found.map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn a_cluster_is_never_answered_by_another_clusters_source() {
        let single = Sources::single(Arc::new(Named("default")));
        assert_eq!(single.of("anything").map(|source| source.address()), Ok("default"));

        let mut sources = single.clone();
        assert_eq!(sources.add(Some("west"), Arc::new(Named("west"))), Ok(()));
        assert_eq!(sources.of("").map(|source| source.address()), Ok("default"));
        assert_eq!(sources.of("west").map(|source| source.address()), Ok("west"));
        let Err(unknown) = sources.of("east") else { panic!("nobody knows the east") };
        let said = "no --prometheus is given for the cluster \"east\"; there is one for \"\", \"west\"";
        assert_eq!(unknown.to_string(), said);
        assert!(sources.add(Some("west"), Arc::new(Named("w"))).is_err());
        assert!(sources.add(None, Arc::new(Named("d"))).is_err());

        let mut only_named = Sources::default();
        assert_eq!(only_named.add(Some("west"), Arc::new(Named("west"))), Ok(()));
        assert!(only_named.of("").is_err());
    }
}

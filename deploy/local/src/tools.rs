//! Where the programs are that the local stack runs: what `deploy/local/install` put into the cache folder.
//!
//! Each path can be overridden by its own environment variable (`MESHWARD_TOOL_ENVOY=/opt/envoy`), so that a machine that
//! already has a program need not install it again.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// The programs and files that a stack is started from. All of them exist when [`Tools::locate`] returned them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// One program that is etcd, kube-apiserver or istiod by its first argument.
    pub control_plane: PathBuf,
    /// Envoy, the sidecar of the callers.
    pub envoy: PathBuf,
    /// The Prometheus server.
    pub prometheus: PathBuf,
    /// grpcurl, for the command lines that the demo prints; by its bare name where it is not installed.
    pub grpcurl: PathBuf,
    /// The definitions of Istio's kinds: one YAML file of several documents.
    pub crds: PathBuf,
    /// The folder with the definitions of the Gateway API's kinds, where it is installed.
    pub gateway_api: Option<PathBuf>,
}

/// Why the tools could not be located.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// A tool is not named anywhere, or its file is not there.
    #[error("{variable}: {what}. Run `deploy/local/install stack` first (looked in {file})", file = file.display())]
    Missing {
        /// The variable that would name it.
        variable: &'static str,
        /// What is wrong with it.
        what: String,
        /// The file of variables that the installer writes.
        file: PathBuf,
    },
    /// The installer's file of variables could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Tools {
    /// Finds every tool by its `MESHWARD_*` variable, or else in the file that `deploy/local/install` wrote.
    ///
    /// # Errors
    /// [`ToolsError`] when one is missing; its message says what to run.
    pub fn locate() -> Result<Self, ToolsError> {
        let (file, variables) = installed()?;
        Self::from_variables(&file, &variables)
    }

    /// The same for a cluster that is there already: only the definitions of the kinds are needed, the servers may be missing.
    ///
    /// # Errors
    /// [`ToolsError`] when the definitions are missing.
    pub fn locate_for_cluster() -> Result<Self, ToolsError> {
        let (file, variables) = installed()?;
        let server = |variable: &str| variables(variable).map(PathBuf::from).unwrap_or_default();
        Ok(Self {
            control_plane: server("MESHWARD_TOOL_CONTROLPLANE"),
            envoy: server("MESHWARD_TOOL_ENVOY"),
            prometheus: server("MESHWARD_TOOL_PROMETHEUS"),
            grpcurl: grpcurl(&variables),
            crds: existing("MESHWARD_CRDS", &file, &variables)?,
            gateway_api: gateway_api(&variables),
        })
    }

    fn from_variables(file: &Path, value: &Variables) -> Result<Self, ToolsError> {
        Ok(Self {
            control_plane: existing("MESHWARD_TOOL_CONTROLPLANE", file, value)?,
            envoy: existing("MESHWARD_TOOL_ENVOY", file, value)?,
            prometheus: existing("MESHWARD_TOOL_PROMETHEUS", file, value)?,
            grpcurl: grpcurl(value),
            crds: existing("MESHWARD_CRDS", file, value)?,
            gateway_api: gateway_api(value),
        })
    }
}

/// Looks a variable up.
type Variables = dyn Fn(&str) -> Option<String>;

/// The environment, and behind it what the installer wrote.
fn installed() -> Result<(PathBuf, Box<Variables>), ToolsError> {
    let file = cache_dir().join("tools.env");
    let written = match std::fs::read_to_string(&file) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
        Err(source) => return Err(ToolsError::Unreadable { path: file, source }),
    };
    Ok((file, Box::new(move |name| std::env::var(name).ok().or_else(|| written.get(name).cloned()))))
}

/// The file that a variable names.
fn existing(variable: &'static str, file: &Path, value: &Variables) -> Result<PathBuf, ToolsError> {
    let missing = |what: String| ToolsError::Missing { variable, what, file: file.to_owned() };
    let path = PathBuf::from(value(variable).ok_or_else(|| missing("not installed".to_owned()))?);
    if path.is_file() { Ok(path) } else { Err(missing(format!("{} is no file", path.display()))) }
}

/// By its bare name where it is not installed: only the lines that the demo prints need it.
fn grpcurl(value: &Variables) -> PathBuf {
    existing("MESHWARD_TOOL_GRPCURL", Path::new(""), value).unwrap_or_else(|_| "grpcurl".into())
}

/// Only those who look for the Gateway API's kinds need them.
fn gateway_api(value: &Variables) -> Option<PathBuf> {
    value("MESHWARD_TOOL_GATEWAY_API_CRDS").map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// The folder that `deploy/local/install` uses; the same rule as in that script.
fn cache_dir() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("MESHWARD_CACHE").unwrap_or_else(|| {
        let cache = folder("XDG_CACHE_HOME").unwrap_or_else(|| folder("HOME").unwrap_or_default().join(".cache"));
        cache.join("meshward")
    })
}

/// `NAME=value` lines; anything else is passed over.
fn parse(text: &str) -> HashMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().expect("temp folder");
        let program = folder.path().join("program");
        std::fs::write(&program, "").expect("write");
        let all = move |name: &str| (name != "MESHWARD_TOOL_ENVOY").then(|| program.display().to_string());

        let error = Tools::from_variables(Path::new("tools.env"), &all).expect_err("no Envoy");

        let message = error.to_string();
        assert!(message.contains("MESHWARD_TOOL_ENVOY") && message.contains("deploy/local/install stack"), "{message}");
    }

    #[test]
    fn a_path_to_nothing_is_refused() {
        let error = Tools::from_variables(Path::new("tools.env"), &|_: &str| Some("/nowhere/at/all".into()))
            .expect_err("no file");
        assert!(error.to_string().contains("/nowhere/at/all is no file"), "{error}");
    }

    #[test]
    fn variables_are_read_from_lines() {
        let variables = parse("MESHWARD_TOOL_BUF=/a/buf\n# a remark\nMESHWARD_TOOL_GO=/usr/bin/go=1\n");
        assert_eq!(variables["MESHWARD_TOOL_BUF"], "/a/buf");
        assert_eq!(variables["MESHWARD_TOOL_GO"], "/usr/bin/go=1");
    }
}

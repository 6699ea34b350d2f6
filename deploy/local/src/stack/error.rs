//! Why a stack does not start.

use std::io;
use std::path::{Path, PathBuf};

use crate::process::ProcessError;

/// Why a stack could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A server did not start, ended by itself, or did not get ready; with the end of its log.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No free port or loopback address.
    #[error("no free port on loopback: {0}")]
    Port(#[source] io::Error),
    /// A file of the stack could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The API server refused an object of ours.
    #[error("{what}: {source}")]
    Kubernetes {
        /// The object.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A file that the stack reads or writes itself is not what it should be: the installed tools do not fit together.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// Which thing.
        what: String,
        /// Why.
        why: String,
    },
    /// The client for readiness checks could not be made.
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

impl StackError {
    pub(super) fn malformed(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Malformed { what: what.into(), why: why.to_string() }
    }

    pub(super) fn kubernetes(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kubernetes { what, source: Box::new(source) }
    }
}

pub(super) fn port<T>(result: io::Result<T>) -> Result<T, StackError> {
    result.map_err(StackError::Port)
}

pub(crate) fn create_dir(path: &Path) -> Result<(), StackError> {
    std::fs::create_dir_all(path).map_err(|source| StackError::File { path: path.to_owned(), source })
}

pub(super) fn read(path: &Path) -> Result<String, StackError> {
    std::fs::read_to_string(path).map_err(|source| StackError::File { path: path.to_owned(), source })
}

pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), StackError> {
    std::fs::write(path, text).map_err(|source| StackError::File { path: path.to_owned(), source })
}

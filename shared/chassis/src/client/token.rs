//! The token with which a service acts in the background.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use clap::Args;
use meshward_proto::types::v1::ErrorReason;

use crate::problem::Problem;

/// Flag that names the file with the service's own token.
#[derive(Debug, Clone, Args)]
pub struct ServiceTokenArgs {
    /// File with the JSON Web Token (role "service") that this service shows to others when it works in the background.
    /// Read again when it changes.
    #[arg(long, env = "MESHWARD_SERVICE_TOKEN_FILE")]
    pub service_token_file: PathBuf,
}

/// A token in a file, read again when the file's modification time changes. Clones share the copy in memory.
#[derive(Clone)]
pub struct ServiceToken {
    path: PathBuf,
    cached: Arc<Mutex<Option<(SystemTime, String)>>>,
}

impl std::fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceToken").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ServiceToken {
    /// The token in the file at `path`. Nothing is read yet.
    pub fn in_file(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), cached: Arc::default() }
    }

    /// Adds the token to a request.
    ///
    /// # Errors
    /// UNAVAILABLE if the file cannot be read, INTERNAL if it holds no token.
    pub fn authorize<T>(&self, request: &mut tonic::Request<T>) -> Result<(), Problem> {
        super::bearer(request, &self.current()?)
    }

    fn current(&self) -> Result<String, Problem> {
        let modified =
            std::fs::metadata(&self.path).and_then(|meta| meta.modified()).map_err(|e| self.unreadable(&e))?;
        let mut cached = self.cached.lock().expect("no holder panics");
        match &*cached {
            Some((at, token)) if *at == modified => Ok(token.clone()),
            _ => {
                let token = std::fs::read_to_string(&self.path).map_err(|e| self.unreadable(&e))?.trim().to_owned();
                *cached = Some((modified, token.clone()));
                Ok(token)
            }
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Problem {
        tracing::warn!(path = %self.path.display(), %error, "the service token cannot be read");
        Problem::unavailable(ErrorReason::KeysUnavailable, "this service cannot read its own token")
    }
}

impl From<&ServiceTokenArgs> for ServiceToken {
    fn from(args: &ServiceTokenArgs) -> Self {
        Self::in_file(&args.service_token_file)
    }
}

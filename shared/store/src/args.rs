//! The flag that names the database.

use clap::Args;

/// Where the service keeps its state.
#[derive(Debug, Clone, Default, Args)]
pub struct StoreArgs {
    /// Database: sqlite:PATH. Not set: a SQLite file named after the service in the working directory.
    #[arg(long, env = "MESHWARD_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

impl StoreArgs {
    /// The URL to open: what was configured, else `sqlite:<service>.db`.
    #[must_use]
    pub fn url(&self, service: &str) -> String {
        match self.database_url.as_deref() {
            None | Some("") => format!("sqlite:{service}.db"),
            Some(url) => url.to_owned(),
        }
    }
}

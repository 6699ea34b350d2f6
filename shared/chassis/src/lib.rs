//! What every Meshward server does, written once.
//!
//! A service is its gRPC implementation, a store and perhaps a background worker; everything around that lives here:
//!
//! - [`server`]: flags, one listener for gRPC and HTTP/JSON, health, reflection, limits, drain, and [`server::run`] for
//!   a whole process;
//! - [`auth`]: JSON Web Tokens on every RPC, roles and namespaces;
//! - [`telemetry`]: JSON logs, traces in W3C context, RED metrics;
//! - [`transcode`]: the HTTP/JSON API, driven by the `google.api.http` options of the protos;
//! - [`client`]: channels to the other services;
//! - [`problem`]: errors with `google.rpc` details;
//! - [`clock`] and [`ids`]: time and chance as ports;
//! - [`testing`]: tokens and servers for tests and the local demo.
//!
//! Layers run in this order, outermost first: trace and metrics, panic guard, deadline, load shedding, token, service.
//! The HTTP/JSON API calls through the same stack in process, so both protocols share every rule.

pub mod auth;
pub mod client;
pub mod clock;
pub mod ids;
pub mod problem;
pub mod server;
pub mod telemetry;
pub mod testing;
pub mod transcode;

//! The rollout-orchestrator over real gRPC and a real SQLite file, with peers that live in memory ([`world`]).

mod audience;
mod commands;
mod create;
mod deletion;
mod drift;
mod http_json;
mod propagation;
mod reading;
mod sim;
mod store;
mod stories;
mod support;
mod verdicts;
mod world;

//! Tests that need the whole of Meshward. `workspace.rs` holds the code to its layout; `main_job.rs` runs the main job on a
//! real mesh. `served_cases.rs` asks a real API server with Istio's webhook what it says of the validator's cases, and
//! `live_context.rs` has policies judged among what such a server holds.

//! Tests that need the whole of Meshward. `workspace.rs` holds the code to its layout; `main_job.rs` runs the main job on a real mesh.

//! Compiles the contract in `proto/` with protox, so that no protoc is needed on the machine.

use std::{env, error::Error, fs, path::PathBuf};

const SERVICES: [&str; 5] = [
    "meshward/registry/v1/policy_registry_service.proto",
    "meshward/validator/v1/validator_service.proto",
    "meshward/gateway/v1/mesh_gateway_service.proto",
    "meshward/metrics/v1/metrics_collector_service.proto",
    "meshward/rollout/v1/rollout_orchestrator_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(SERVICES)?;
    compiler.open_file("meshward/type/v1/error_reason.proto")?;
    // The raw bytes keep the google.api.http options, which a trip through prost-types drops.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("meshward.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().build_transport(false).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

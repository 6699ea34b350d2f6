//! The layout, held by a test: what is pure stays pure, services know each other only by the contract.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(under: &Path) -> Vec<PathBuf> {
    if under.is_file() {
        return vec![under.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(under).unwrap_or_else(|error| panic!("{}: {error}", under.display())) {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Code without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source can be read");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_decides_knows_no_transport_no_database_and_no_clock() {
    let pure = [
        "shared/model/src",
        "services/rollout-orchestrator/src/decide.rs",
        "services/rollout-orchestrator/src/decide",
        "services/rollout-orchestrator/src/deployment.rs",
        "services/rollout-orchestrator/src/strategy.rs",
        "services/mesh-gateway/src/cohorts.rs",
        "services/mesh-gateway/src/dialect.rs",
        "services/mesh-gateway/src/dialect",
        "services/mesh-gateway/src/proof/judge.rs",
        "services/mesh-gateway/src/proof/linkerd/authorization.rs",
        "services/mesh-gateway/src/proof/linkerd/inbound.rs",
        "services/mesh-gateway/src/proof/linkerd/outbound.rs",
        "services/mesh-gateway/src/proof/linkerd/profile.rs",
        "services/mesh-gateway/src/proof/linkerd/shape.rs",
        "services/metrics-collector/src/judge.rs",
        "services/metrics-collector/src/judge",
        "services/policy-registry/src/lifecycle.rs",
        "services/policy-registry/src/approval.rs",
        "services/validator/src/rules.rs",
        "services/validator/src/rules",
        "services/validator/src/explain.rs",
        "services/validator/src/explain",
        "services/validator/src/access.rs",
        "services/validator/src/access",
        "services/validator/src/impact.rs",
        "services/validator/src/impact",
        "services/validator/src/routing.rs",
        "services/validator/src/routing",
    ];
    let foreign = ["tonic", "sqlx", "kube", "tokio", "reqwest", "axum", "meshward_proto", "meshward_chassis"];
    for path in pure.iter().flat_map(|path| rust_files(&root().join(path))) {
        let code = code(&path);
        for name in foreign {
            assert!(!code.contains(&format!("{name}::")), "{} is pure and names {name}", path.display());
        }
        assert!(!code.contains("async fn"), "{} is pure and async", path.display());
    }
}

#[test]
fn services_know_each_other_only_by_the_contract() {
    let services = ["policy-registry", "validator", "mesh-gateway", "metrics-collector", "rollout-orchestrator"];
    for service in services {
        let manifest =
            fs::read_to_string(root().join("services").join(service).join("Cargo.toml")).expect("a manifest");
        for other in services.iter().filter(|other| **other != service) {
            assert!(!manifest.contains(&format!("meshward-{other}")), "{service} depends on {other}");
        }
    }
}

#[test]
fn a_main_is_thin_and_no_file_is_a_god() {
    for folder in ["shared", "services", "deploy", "tests"] {
        for path in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&path).expect("a source can be read").lines().count();
            assert!(lines <= 500, "{} has {lines} lines; split it", path.display());
            let service = path.components().any(|part| part.as_os_str() == "services");
            if service && path.ends_with("src/main.rs") {
                assert!(lines < 40, "{} has {lines} lines; a main only wires", path.display());
            }
        }
    }
}

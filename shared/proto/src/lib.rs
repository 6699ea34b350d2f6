//! The contract as Rust: messages, clients and servers generated from `proto/` at build time, and the conversions of the
//! vocabulary that every service shares. Services keep these types in their `grpc` modules; domain code uses `meshward-model`.

mod convert;

pub use convert::{ConvertError, canary, duration, from_duration, from_timestamp, timestamp};

/// The descriptors of every file, imports and `google.api.http` options included: for reflection and the HTTP/JSON mapping.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/meshward.binpb"));

/// Generated code has the paths that the proto packages give it; the public names below are shorter.
#[expect(missing_docs, clippy::all, clippy::allow_attributes, reason = "generated; the protos are the reference")]
mod meshward {
    pub mod r#type {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/meshward.r#type.v1.rs"));
        }
    }
    pub mod registry {
        pub mod v1 {
            tonic::include_proto!("meshward.registry.v1");
        }
    }
    pub mod validator {
        pub mod v1 {
            tonic::include_proto!("meshward.validator.v1");
        }
    }
    pub mod gateway {
        pub mod v1 {
            tonic::include_proto!("meshward.gateway.v1");
        }
    }
    pub mod metrics {
        pub mod v1 {
            tonic::include_proto!("meshward.metrics.v1");
        }
    }
    pub mod rollout {
        pub mod v1 {
            tonic::include_proto!("meshward.rollout.v1");
        }
    }
}

pub use prost_types::{Duration, Timestamp};

pub use meshward::{gateway, metrics, registry, rollout, r#type as types, validator};

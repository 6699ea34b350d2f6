//! placeholder
use axum::Router;
/// t
pub struct Transcoder;
impl Transcoder {
    /// n
    pub fn new(_: &[&'static str], _: usize) -> Result<Self, String> {
        Ok(Self)
    }
    /// r
    pub fn into_router(self, stack: Router) -> Router {
        stack
    }
}
/// p
pub fn pool() -> prost_reflect::DescriptorPool {
    prost_reflect::DescriptorPool::decode(meshward_proto::FILE_DESCRIPTOR_SET).unwrap()
}

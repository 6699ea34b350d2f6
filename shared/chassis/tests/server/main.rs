//! A whole server in this process, called over real sockets.

mod http_json;
mod lifecycle;
mod rpc;
mod support;

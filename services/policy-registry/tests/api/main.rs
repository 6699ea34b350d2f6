//! The registry over real sockets: real tokens, a SQLite file, and a validator whose answers the tests choose.

mod deletion;
mod http;
mod life;
mod refusals;
mod repeats;
mod support;
mod trail;

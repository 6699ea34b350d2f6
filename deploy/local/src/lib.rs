//! To be written.

pub mod load;
pub mod otlp;
pub mod upstream;
pub mod ports;
pub mod process;
pub mod stack;
pub mod tools;

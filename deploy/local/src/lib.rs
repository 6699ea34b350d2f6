//! Meshward on one machine, with nothing faked: the stack, the tools around it, and the demo that runs the main job.
//!
//! | module | what it holds |
//! |---|---|
//! | [`stack`] | etcd, kube-apiserver, istiod, Envoys and Prometheus as our own children |
//! | [`process`], [`ports`], [`tools`] | how a child is started and surely ended; free ports; where the programs are |
//! | [`recorded`] | Prometheus with a history that was written for it |
//! | [`upstream`], [`load`] | servers to route to, and the requests that are measured |
//! | [`otlp`] | receives the services' traces and prints them |
//! | [`demo`] | the main job, end to end, with a report that says whether all of it held |

pub mod demo;
pub mod linkerd;
pub mod load;
pub mod otlp;
pub mod ports;
pub mod process;
pub mod recorded;
pub mod stack;
pub mod tools;
pub mod upstream;

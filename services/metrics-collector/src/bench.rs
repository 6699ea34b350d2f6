//! judge-bench: the judge and its peers in simulated worlds, side by side; and the judge on anybody's numbers.
//!
//! [`world`] reads worlds from data files; [`simulation`] makes one of them happen, the same for every rule that looks
//! at it; [`rules`] are the judge and what other tools do ([`peers`]); [`rollout`] lets a rule hold, go on and roll back
//! as its tool would; [`table`] does that many times and prints what came out ([`summary`]); [`pace`] says how long the
//! judge takes for a tick. [`replies`] is apart: it reads counts as
//! JSON lines and answers each with a verdict.

pub mod chance;
pub mod pace;
pub mod peers;
pub mod replies;
pub mod rollout;
pub mod rules;
pub mod simulation;
pub mod summary;
pub mod table;
pub mod world;

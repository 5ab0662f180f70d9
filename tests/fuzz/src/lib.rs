//! What the fuzz targets share: choices drawn from the fuzzer's bytes, changes of valid bytes, valid objects to begin with.
//!
//! A target says what holds for whatever bytes come, not only that nothing panics: what is accepted is written again as it
//! came, and no signed object that differs from the signed one is believed. One file a target in `fuzz_targets`; `run`
//! builds and runs them.

#![allow(clippy::unwrap_used, reason = "a failure here is a finding, or a fixture that does not hold")]

pub mod draws;
pub mod edit;
pub mod fixtures;
pub mod messages;
pub mod shaped;

#[allow(dead_code, reason = "proto's own test scene; not all of it is needed here")]
#[path = "../../../proto/tests/scene/mod.rs"]
mod scene;

//! A seeded simulator of one broker and five nodes: the real cores, journals and files of the audit log, on disks that
//! crash, behind sessions that break, under clocks that jump. One thread, virtual time, one seed: the same seed does the
//! same, byte for byte.
//!
//! | module | what |
//! |---|---|
//! | [`dice`] | the randomness, all from one seed |
//! | [`region`] | five agencies, their policies, a directory that changes |
//! | [`machine`] | a disk and a clock, and how they fail |
//! | [`link`] | a session: two ordered streams that may be cut at any byte |
//! | [`world`] | all of it, and what may happen next (`world/chaos.rs`, `world/heal.rs`) |
//! | [`oracle`] | what must hold, asked of what is on the disks, at each step and at the end |
//!
//! What is real and what is not, and what it does not show, stands in docs/RELIABILITY.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a harness: whatever is not as it should be ends the run"
)]

pub mod dice;
pub mod link;
pub mod machine;
pub mod oracle;
pub mod region;
pub mod world;

use std::fmt;

/// Steps of chaos in one run, before everything heals.
pub const STEPS: u32 = 300;

/// Something that must hold does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Run {
    /// One line for each event.
    pub log: Vec<String>,
    /// How much happened.
    pub counts: world::Counts,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, steps: u32) -> Run {
    let mut world = world::World::new(seed);
    let violation = world.run(steps).err();
    Run { log: world.log, counts: world.counts, violation }
}

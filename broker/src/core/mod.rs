//! Decides: pure, synchronous, takes time and randomness as arguments.
//!
//! - [`admit`]: gates 1 to 6, from bytes to a verified submission; [`release`] is the sixth
//! - [`plan`]: gates 7 to 10, and what one group commit holds: packets, queue entries, audit events, receipts; [`quota`] is the tenth
//! - [`refuse`]: what a sender is told when a gate stays shut
//! - [`outcome`]: how a queue entry ends
//! - [`deliver`]: what a session hands over next
//! - [`ledger`]: the state that is folded over the journal, of [`queue`]s and more
//! - [`record`]: what the journal holds, byte by byte
//! - [`snapshot`]: the ledger as bytes, so that old segments can go; [`spent`] are the records that go with them

pub mod admit;
pub mod deliver;
pub mod ledger;
pub mod outcome;
pub mod plan;
pub mod queue;
pub mod quota;
pub mod record;
pub mod refuse;
pub mod release;
pub mod snapshot;
pub mod spent;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// What decides does not do: no disk, no network, no clock, no threads.
    #[test]
    fn the_core_is_pure() {
        let never = ["std::fs", "std::net", "std::thread", "tokio", "quinn", "sled", "SystemTime", "Instant"];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        for path in files.filter(|path| path.is_file() && !path.ends_with("mod.rs")) {
            let text = fs::read_to_string(&path).unwrap();
            let found: Vec<_> = never.iter().filter(|word| text.contains(**word)).collect();
            assert!(found.is_empty(), "{}: {found:?}", path.display());
            let shell = text.lines().any(|line| line.contains("use") && line.contains("shell::"));
            assert!(!shell, "{}: the core knows no shell", path.display());
        }
    }
}

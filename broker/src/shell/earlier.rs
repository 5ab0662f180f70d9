//! Directories that this broker took before. A packet that was sealed under one of them, and waited for its link,
//! is accepted while it may still be on its way, as long as every key that it uses is valid under the directory
//! in force: a change at one agency must not stop what others have already sealed.
//!
//! `directory.earlier` holds a line for each: its hash in hex, and when it was last in force in milliseconds. The
//! last line is the one in force.

use std::{collections::BTreeSet, fs, io};

use lintas_proto::{
    id::{Digest, hex, unhex},
    limits,
};

use super::folder::{Folder, FolderError, at, replace};

const EARLIER: &str = "directory.earlier";
/// Most directories remembered; older ones are forgotten.
const DIRECTORIES_MAX: usize = 4_096;

impl Folder {
    /// Remembers `present` as the directory in force; gives those before it that still count.
    pub(crate) fn earlier(&self, present: &Digest, now_ms: u64) -> Result<BTreeSet<Digest>, FolderError> {
        let path = self.path(EARLIER);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(at(&path)(error)),
        };
        let mut known: Vec<(Digest, u64)> = text.lines().filter_map(line).collect();
        // The one that was in force until this start.
        if let Some((_, last_ms)) = known.last_mut() {
            *last_ms = now_ms;
        }
        let window_ms = limits::DELIVER_WITHIN_MS_MAX + limits::CLOCK_SKEW_MS_MAX;
        known.retain(|(hash, last_ms)| hash != present && now_ms < last_ms.saturating_add(window_ms));
        known.drain(..known.len().saturating_sub(DIRECTORIES_MAX));
        let in_force = (*present, now_ms);
        let lines = known.iter().chain([&in_force]).map(|(hash, ms)| format!("{} {ms}\n", hex(hash)));
        replace(&path, lines.collect::<String>().as_bytes())?;
        Ok(known.into_iter().map(|(hash, _)| hash).collect())
    }
}

/// A line that cannot be read counts for nothing: packets under that directory are sealed again.
fn line(line: &str) -> Option<(Digest, u64)> {
    let (hash, last_ms) = line.split_once(' ')?;
    Some((unhex(hash).ok()?.try_into().ok()?, last_ms.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempFolder;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn earlier_directories_count_for_as_long_as_a_packet_may_be_on_its_way() {
        let root = TempFolder::new();
        let folder = Folder::at(root.path());
        let (first, second) = ([1; 32], [2; 32]);
        assert!(folder.earlier(&first, 10 * DAY).unwrap().is_empty());
        assert!(
            folder.earlier(&first, 200 * DAY).unwrap().is_empty(),
            "the one in force is not an earlier one"
        );
        // In force until the start with the second one, however long ago it was taken.
        assert_eq!(folder.earlier(&second, 201 * DAY).unwrap(), BTreeSet::from([first]));
        assert_eq!(folder.earlier(&second, 290 * DAY).unwrap(), BTreeSet::from([first]));
        assert!(folder.earlier(&second, 292 * DAY).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_counts_for_nothing() {
        assert_eq!(line("zz 1"), None);
        assert_eq!(line(&format!("{} 7", hex(&[3; 32]))), Some(([3; 32], 7)));
        assert_eq!(line(&hex(&[3; 32])), None);
    }
}

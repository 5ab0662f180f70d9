//! A mirror: fetches what is new of a root log and its sub-logs, and takes a new checkpoint only if the tree before it is
//! a prefix of its tree.
//!
//! Files are written first, the checkpoint that needs them last, so that whatever an interrupted mirror left is completed
//! by the next one. What only grows is appended; what is full is fetched once.

mod fetch;

use bytes::Bytes;
use lintas_config::{Directory, directory::LogOwner};
use lintas_proto::{
    audit::{
        files::LogFile,
        merkle::verify_consistency,
        note::{Checkpoint, SignedCheckpoint},
        opening::ERASED,
        tile::{self, Tile, WIDTH, new_tiles},
    },
    id::hex,
};
use serde::Serialize;

use super::folder::LogFolder;
use crate::{
    core::audit::{
        anchor::pair,
        finding::{Finding, Kind},
        listing::erased_by,
        source::{Tiles, width},
    },
    shell::{failure::Failure, files},
};

/// Where a mirror comes from.
pub(crate) trait Source {
    /// Length of the file, and its bytes from `offset` on as far as one answer goes; `None` if there is no such file.
    ///
    /// # Errors
    /// Whatever ends the mirroring.
    fn get(&mut self, origin: &str, file: LogFile, offset: u64) -> Result<Option<(u64, Bytes)>, Failure>;
}

/// What was done.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Mirrored {
    pub(crate) log: String,
    pub(crate) epochs_before: u64,
    pub(crate) epochs: u64,
    pub(crate) sub_logs: Vec<SubMirrored>,
    /// Agencies whose sub-logs have no entries yet.
    pub(crate) empty: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) findings: Vec<Finding>,
}

/// What was done for a sub-log.
#[derive(Debug, Serialize)]
pub(crate) struct SubMirrored {
    pub(crate) agency: String,
    pub(crate) entries_before: u64,
    pub(crate) entries: u64,
    /// Keys that were deleted here, because the agency ordered it.
    pub(crate) erased: u64,
}

/// Mirrors a root log and sub-logs of it.
pub(crate) struct Mirror<'a> {
    pub(crate) folder: LogFolder,
    /// Name of the log.
    pub(crate) origin: String,
    pub(crate) directory: &'a Directory,
    pub(crate) source: &'a mut dyn Source,
    /// Told the bytes so far.
    pub(crate) watch: &'a mut dyn FnMut(u64),
    pub(crate) done: Mirrored,
}

impl Mirror<'_> {
    /// Fetches everything that is new.
    pub(crate) fn run(mut self, agencies: &[String]) -> Result<Mirrored, Failure> {
        self.done.log.clone_from(&self.origin);
        files::private_folder(self.folder.root())
            .map_err(|error| Failure::file("make", self.folder.root(), &error))?;
        // Cosigned ones first, so that none is larger than the checkpoint for long.
        for number in 0.. {
            if !self.append(None, LogFile::Cosigned(number))? {
                break;
            }
        }
        self.rosters()?;
        let Some((before, after)) = self.tree(None)? else { return Ok(self.done) };
        for number in before / WIDTH..after.div_ceil(WIDTH) {
            self.append(None, LogFile::Slots(number))?;
        }
        (self.done.epochs_before, self.done.epochs) = (before, after);
        for agency in agencies {
            self.sub_log(agency)?;
        }
        // Last, so that no sub-log is ever behind the root log.
        self.accept(None)?;
        Ok(self.done)
    }

    fn rosters(&mut self) -> Result<(), Failure> {
        self.append(None, LogFile::Rosters)?;
        let rosters = self.local(None, LogFile::Rosters).unwrap_or_default();
        let versions: Vec<u64> = rosters.chunks(16).filter_map(pair).map(|(_, version)| version).collect();
        for version in versions {
            if self.length(None, LogFile::Roster(version)) == 0 {
                self.whole(None, LogFile::Roster(version))?;
            }
        }
        Ok(())
    }

    fn sub_log(&mut self, agency: &str) -> Result<(), Failure> {
        let owner = Some(agency);
        let Some((before, after)) = self.tree(owner)? else { return Ok(()) };
        for number in before / WIDTH..after.div_ceil(WIDTH) {
            self.append(owner, LogFile::Openings(number))?;
            self.append(owner, LogFile::Keys(number))?;
        }
        self.append(owner, LogFile::Sizes)?;
        self.append(owner, LogFile::SlotKeys)?;
        self.accept(owner)?;
        let erased = self.honour(agency, before, after)?;
        self.done.sub_logs.push(SubMirrored {
            agency: agency.to_owned(),
            entries_before: before,
            entries: after,
            erased,
        });
        Ok(())
    }

    /// Fetches the newest checkpoint, tiles and entries; sizes before and after. `None` if there is nothing to take.
    fn tree(&mut self, owner: Option<&str>) -> Result<Option<(u64, u64)>, Failure> {
        let origin = self.origin(owner);
        let Some((_, bytes)) = self.source.get(&origin, LogFile::Checkpoint, 0)? else {
            match owner {
                Some(agency) => self.done.empty.push(agency.to_owned()),
                None => {
                    let text = "the broker has no checkpoint of it yet";
                    let finding = Finding::new(Kind::Note, &origin, text).of(LogFile::Checkpoint);
                    self.done.findings.push(finding);
                }
            }
            return Ok(None);
        };
        let Some(next) = self.believed(owner, &bytes) else { return Ok(None) };
        let before = self.local(owner, LogFile::Checkpoint).and_then(|old| self.believed(owner, &old));
        let old = before.as_ref().map_or(0, |before| before.size);
        if let Some(before) = before.as_ref().filter(|before| before.size > next.size) {
            self.keep_both(owner, before, &next, &bytes)?;
            return Ok(None);
        }
        for index in old / WIDTH..next.size.div_ceil(WIDTH) {
            self.once(owner, LogFile::Entries(index, width(index, next.size)))?;
        }
        let tiles: Vec<Tile> = new_tiles(old, next.size).collect();
        for tile in tiles {
            self.once(owner, LogFile::Tile(tile))?;
        }
        if !self.continues(owner, before.as_ref(), &next, &bytes)? {
            return Ok(None);
        }
        self.write(owner, PENDING, &bytes)?;
        Ok(Some((old, next.size)))
    }

    /// Whether the tree before is a prefix of the new one, as the tiles say that were fetched.
    fn continues(
        &mut self,
        owner: Option<&str>,
        before: Option<&Checkpoint>,
        next: &Checkpoint,
        note: &Bytes,
    ) -> Result<bool, Failure> {
        let origin = self.origin(owner);
        let tiles = Tiles { files: &self.folder, log: &origin, owner, size: next.size };
        let Some(before) = before else { return Ok(true) };
        let (Ok(proof), Ok(derived)) =
            (tile::consistency(&tiles, before.size, next.size), tile::root(&tiles, next.size))
        else {
            let text = "tiles of the new tree are missing or damaged; the checkpoint before it stays";
            self.done.findings.push(Finding::new(Kind::Missing, &origin, text).of(LogFile::Checkpoint));
            return Ok(false);
        };
        let old = (before.size, &before.root);
        if derived == next.root && verify_consistency(old, (next.size, &next.root), &proof).is_ok() {
            return Ok(true);
        }
        self.keep_both(owner, before, next, note)?;
        Ok(false)
    }

    /// Takes the new checkpoint, now that everything that it needs is on the disk.
    fn accept(&mut self, owner: Option<&str>) -> Result<(), Failure> {
        let path = self.folder.path(owner, LogFile::Checkpoint);
        let pending = path.with_file_name(PENDING);
        let bytes =
            files::read(&pending, 4 << 10).map_err(|error| Failure::file("read", &pending, &error))?;
        let size = |bytes: &[u8]| SignedCheckpoint::parse(bytes).map_or(0, |signed| signed.claim().size);
        let before = self.local(owner, LogFile::Checkpoint).map(|before| size(&before));
        let after = size(&bytes);
        self.sync(&path)?;
        files::replace(&path, &bytes).map_err(|error| Failure::file("write", &path, &error))?;
        let _ = std::fs::remove_file(&pending);
        if let Some(before) = before.filter(|before| *before < after) {
            self.drop_partial(owner, before, after);
        }
        Ok(())
    }

    /// Two signed checkpoints that cannot both be of one log: the old one stays, the new one is kept beside it.
    fn keep_both(
        &mut self,
        owner: Option<&str>,
        before: &Checkpoint,
        next: &Checkpoint,
        note: &Bytes,
    ) -> Result<(), Failure> {
        let (kind, text) = if next.size < before.size {
            (
                Kind::Rollback,
                "the broker shows a smaller log than the one that it signed and that is mirrored here",
            )
        } else {
            (
                Kind::Fork,
                "the broker shows a tree that does not continue the one that it signed and that is mirrored here",
            )
        };
        let root: String = hex(&next.root).chars().take(16).collect();
        let name = format!("other-checkpoint-{}-{root}", next.size);
        self.write(owner, &name, note)?;
        let finding =
            Finding::new(kind, &self.origin(owner), format!("{text} ({} epochs or entries)", before.size));
        let mut finding = finding.of(LogFile::Checkpoint);
        finding.files.push(name);
        self.done.findings.push(finding);
        Ok(())
    }

    /// Deletes the keys of what the agency ordered to be forgotten, in the entries that are new.
    fn honour(&mut self, agency: &str, before: u64, after: u64) -> Result<u64, Failure> {
        let mut erased = 0u64;
        for (first, count) in erased_by(&self.folder, &self.origin(Some(agency)), agency, (before, after)) {
            let last = first.saturating_add(count).min(after);
            for number in first / WIDTH..last.div_ceil(WIDTH) {
                let path = self.folder.path(Some(agency), LogFile::Keys(number));
                let Ok(mut keys) = files::read(&path, 32 * WIDTH) else { continue };
                let mut changed = false;
                for (at, key) in keys.chunks_exact_mut(32).enumerate() {
                    let index = number.saturating_mul(WIDTH).saturating_add(at as u64);
                    if (first..last).contains(&index) && key != ERASED {
                        key.copy_from_slice(&ERASED);
                        changed = true;
                        erased = erased.saturating_add(1);
                    }
                }
                if changed {
                    files::replace_secret(&path, &keys)
                        .map_err(|error| Failure::file("write", &path, &error))?;
                }
            }
        }
        Ok(erased)
    }

    /// A checkpoint that the log has signed; a finding if it has not.
    fn believed(&mut self, owner: Option<&str>, bytes: &[u8]) -> Option<Checkpoint> {
        let origin = self.origin(owner);
        let key = self.directory.log_of(&origin).map(|log| (log.broker.log_key.clone(), log.owner));
        let matches = key.as_ref().is_some_and(|(_, of)| (*of == LogOwner::Root) == owner.is_none());
        let checked = SignedCheckpoint::parse(bytes).map_err(|error| error.to_string()).and_then(|signed| {
            let (key, _) = key.filter(|_| matches).ok_or("the directory knows no such log")?;
            signed.verify(&origin, &key).cloned().map_err(|error| error.to_string())
        });
        match checked {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                self.done.findings.push(Finding::new(Kind::Unsigned, &origin, error).of(LogFile::Checkpoint));
                None
            }
        }
    }

    fn origin(&self, owner: Option<&str>) -> String {
        owner.map_or_else(|| self.origin.clone(), |agency| format!("{}/{agency}", self.origin))
    }
}

/// The checkpoint that is not taken yet.
const PENDING: &str = "checkpoint.next";

//! All directories of a region, from the first to the newest, each checked against the one before it.

use bytes::Bytes;
use lintas_proto::id::hex;
use serde::Serialize;

use super::{
    office::Office,
    proposal::Proposal,
    review::{Change, KeyView, review},
};
use crate::{
    directory::{Bootstrap, Directory, DirectoryError, SuccessionError},
    words,
};

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Version of its roster.
    pub version: u64,
    /// SHA-256 of its roster, hex.
    pub roster: String,
    /// The same in words.
    pub roster_words: String,
    /// Validity, milliseconds since 1970.
    pub valid_from_ms: u64,
    /// Its end.
    pub valid_until_ms: u64,
    /// Who signed.
    pub signed_by: Vec<KeyView>,
    /// What changed with it.
    pub changes: Vec<Change>,
    /// Whether the bootstrap file names its authorities.
    pub vouched: bool,
}

/// A walk over the history of a region.
///
/// The first roster is believed on the word of the authorities that it names, every other one follows the one before.
/// As each names its predecessor's hash, one version whose authorities are those of a bootstrap file that was compared
/// by hand vouches for all before it, and for all after it: see [`Published::vouched`].
#[derive(Debug)]
pub struct Walk<'a> {
    bootstrap: &'a Bootstrap,
    offices: &'a [Office],
    last: Option<Directory>,
    vouched: bool,
}

impl<'a> Walk<'a> {
    /// A walk that begins. `offices` give names to keys.
    #[must_use]
    pub fn new(bootstrap: &'a Bootstrap, offices: &'a [Office]) -> Self {
        Self { bootstrap, offices, last: None, vouched: false }
    }

    /// Checks the next directory.
    ///
    /// # Errors
    /// [`SuccessionError`] when it is not the next; the walk is where it was.
    pub fn step(&mut self, bytes: &Bytes) -> Result<Published, SuccessionError> {
        let proposal = Proposal::parse(bytes)?;
        let named = proposal.bootstrap()?;
        let need = self.last.as_ref().map_or(0, |last| last.roster().version).saturating_add(1);
        let have = proposal.roster().version;
        if have != need {
            return Err(SuccessionError::StepMissing { have, need });
        }
        let next = match &self.last {
            Some(last) => last.succeed(bytes, &[])?,
            None => {
                Directory::open(bytes, &Bootstrap { region: self.bootstrap.region.clone(), ..named.clone() })?
            }
        };
        let reviewed = review(&proposal, self.last.as_ref(), self.offices)?;
        let vouched = named.words() == self.bootstrap.words();
        self.vouched |= vouched;
        let published = Published {
            version: have,
            roster: hex(next.roster_hash()),
            roster_words: words::words(next.roster_hash()),
            valid_from_ms: reviewed.valid_from_ms,
            valid_until_ms: reviewed.valid_until_ms,
            signed_by: reviewed.signatures.into_iter().filter(|by| by.signed).map(|by| by.office).collect(),
            changes: reviewed.changes,
            vouched,
        };
        self.last = Some(next);
        Ok(published)
    }

    /// The newest directory, when the walk is over.
    ///
    /// # Errors
    /// [`DirectoryError::Rule`] when no version has the authorities of the bootstrap file.
    pub fn finish(self) -> Result<Option<Directory>, DirectoryError> {
        if self.last.is_some() && !self.vouched {
            let what = "the bootstrap file names the authorities of none of its versions; it is not of this region, \
                        or the history is forged";
            return Err(DirectoryError::Rule { whose: "history".to_owned(), what });
        }
        Ok(self.last)
    }
}

//! An office of the region authority: its public key as a file, and what it signed last.

use lintas_proto::{
    id::{Digest, check_name, hex, sha256, unhex},
    sign::VerifyingKey,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::directory::{DirectoryError, is_title};

/// An office by its name and public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Office {
    /// Name, as `region.toml` writes it.
    pub name: String,
    /// Its authority key.
    pub key: VerifyingKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfficeFile {
    name: String,
    key: String,
}

impl Office {
    /// Reads the TOML text of an `authority.pub`.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn parse(text: &str) -> Result<Self, DirectoryError> {
        let whose = || "public key of an office".to_owned();
        let rule = |what| DirectoryError::Rule { whose: whose(), what };
        let file: OfficeFile =
            toml::from_str(text).map_err(|_| rule("must be TOML with exactly `name` and `key`"))?;
        if !is_title(&file.name) {
            return Err(rule("`name` must be a text of 1 to 256 bytes, without control characters"));
        }
        let bytes = unhex(&file.key).map_err(|_| rule("`key` must be 64 hex digits"))?;
        let key =
            VerifyingKey::parse(&bytes).map_err(|error| DirectoryError::Key { whose: whose(), error })?;
        Ok(Self { name: file.name, key })
    }

    /// TOML text of the file.
    ///
    /// # Errors
    /// [`DirectoryError::Rule`] if the name is none.
    pub fn to_text(&self) -> Result<String, DirectoryError> {
        let what = "a name is a text of 1 to 256 bytes, without control characters or spaces at its ends";
        let wrong = || DirectoryError::Rule { whose: "office".to_owned(), what };
        if !is_title(&self.name) {
            return Err(wrong());
        }
        let file = OfficeFile { name: self.name.clone(), key: hex(self.key.as_bytes()) };
        let text = toml::to_string(&file).map_err(|_| wrong())?;
        // No words stand here: who exchanges the file would leave those of the true one in it.
        Ok(format!(
            "# Public key of an office of the region authority. Compare the words that `lintas region inspect` makes of\n\
             # this file with the office by another way.\n{text}"
        ))
    }
}

/// What an office signed last: kept beside its key, so that it never signs two rosters of one version.
///
/// It is made with the key, saying that nothing was signed yet; so a mark that is not there was lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignedMark {
    /// Region, version and SHA-256 of the roster; none before the first signature.
    pub last: Option<(String, u64, Digest)>,
}

/// Why an office does not sign, or does not know what it signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MarkProblem {
    /// Not a mark.
    #[error("the mark of what this office signed last is damaged; restore it from the newest copy")]
    Damaged,
    /// An office serves one region.
    #[error("this office signed for region `{have}` before; it does not sign for `{need}`")]
    Region {
        /// Region signed for.
        have: String,
        /// Region of the proposal.
        need: String,
    },
    /// Older than what was signed.
    #[error("this office signed version {signed} already; it does not sign the older version {offered}")]
    Older {
        /// Version signed.
        signed: u64,
        /// Version offered.
        offered: u64,
    },
    /// Another roster of the version signed last.
    #[error(
        "this office signed another roster of version {version} already (it begins with {before}, this one with \
         {offered}). Two rosters of one version would split the region, so it signs only one. Finish the one \
         that was signed, or let the other offices sign this one without this office"
    )]
    Equivocation {
        /// The version.
        version: u64,
        /// First hex digits of the roster signed.
        before: String,
        /// And of the one offered.
        offered: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkFile {
    region: String,
    version: u64,
    roster: String,
    sum: String,
}

impl SignedMark {
    /// The mark after that roster is signed; the same mark if it was signed already.
    ///
    /// # Errors
    /// [`MarkProblem`] when it must not be signed.
    pub fn sign(&self, region: &str, version: u64, hash: &Digest) -> Result<Self, MarkProblem> {
        let next = Self { last: Some((region.to_owned(), version, *hash)) };
        let Some((have, signed, before)) = &self.last else { return Ok(next) };
        if have != region {
            return Err(MarkProblem::Region { have: have.clone(), need: region.to_owned() });
        }
        if version < *signed {
            return Err(MarkProblem::Older { signed: *signed, offered: version });
        }
        if version == *signed && before != hash {
            let begin = |hash: &Digest| hex(hash).chars().take(8).collect();
            return Err(MarkProblem::Equivocation { version, before: begin(before), offered: begin(hash) });
        }
        Ok(next)
    }

    /// Whether that very roster was signed here.
    #[must_use]
    pub fn is_of(&self, hash: &Digest) -> bool {
        self.last.as_ref().is_some_and(|(_, _, signed)| signed == hash)
    }

    /// TOML text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (region, version, roster) = match &self.last {
            Some((region, version, hash)) => (region.as_str(), *version, hex(hash)),
            None => ("", 0, String::new()),
        };
        let sum = sum(region, version, &roster);
        format!(
            "# What this office signed last. Never change, delete or copy it back from an old backup: with it the\n\
             # office knows that it must not sign another roster of the same version.\n\
             region = \"{region}\"\nversion = {version}\nroster = \"{roster}\"\nsum = \"{sum}\"\n"
        )
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`MarkProblem::Damaged`].
    pub fn parse(text: &str) -> Result<Self, MarkProblem> {
        let file: MarkFile = toml::from_str(text).map_err(|_| MarkProblem::Damaged)?;
        if file.sum != sum(&file.region, file.version, &file.roster) {
            return Err(MarkProblem::Damaged);
        }
        if (file.region.is_empty(), file.version, file.roster.is_empty()) == (true, 0, true) {
            return Ok(Self::default());
        }
        let hash = unhex(&file.roster).ok().and_then(|bytes| Digest::try_from(bytes).ok());
        let hash = hash.filter(|_| file.version > 0 && check_name(&file.region).is_ok());
        hash.map(|hash| Self { last: Some((file.region, file.version, hash)) }).ok_or(MarkProblem::Damaged)
    }
}

fn sum(region: &str, version: u64, roster: &str) -> String {
    hex(&sha256(&[
        b"lintas/v1/signed-mark\0",
        region.as_bytes(),
        b"\0",
        &version.to_be_bytes(),
        roster.as_bytes(),
    ]))
}

#[cfg(test)]
mod tests {
    use lintas_proto::sign::KeyRole;

    use super::*;
    use crate::testing::{key, public};

    #[test]
    fn a_public_key_file_reads_back_and_a_false_one_is_refused() {
        let key = VerifyingKey::parse(&public(&key(KeyRole::Authority))).unwrap();
        let office = Office { name: "Office \"of\" ទី១ \\".to_owned(), key };
        let text = office.to_text().unwrap();
        assert_eq!(Office::parse(&text).unwrap(), office);
        for (from, to) in [("key = \"", "key = \"0"), ("name = ", "nome = "), ("Office", "Office\u{1b}")] {
            assert!(Office::parse(&text.replace(from, to)).is_err(), "{to}");
        }
        assert!(Office { name: String::new(), ..office }.to_text().is_err());
    }

    #[test]
    fn one_roster_of_a_version_is_signed_and_none_older() {
        let none = SignedMark::default();
        let first = none.sign("mekong", 2, &[1; 32]).unwrap();
        assert_eq!(first.sign("mekong", 2, &[1; 32]).unwrap(), first);
        let problem = |region, version| first.sign(region, version, &[2; 32]).unwrap_err();
        assert!(matches!(problem("mekong", 2), MarkProblem::Equivocation { version: 2, .. }));
        assert!(matches!(problem("mekong", 1), MarkProblem::Older { signed: 2, offered: 1 }));
        assert!(matches!(problem("other", 3), MarkProblem::Region { .. }));
        assert!(first.sign("mekong", 3, &[2; 32]).unwrap().is_of(&[2; 32]));
        for mark in [none, first] {
            let text = mark.to_text();
            assert_eq!(SignedMark::parse(&text).unwrap(), mark);
            let at = text.find("version").unwrap();
            for damage in at..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[damage] ^= 1;
                let read = String::from_utf8(bytes).map(|text| SignedMark::parse(&text));
                let wrong = |read: Result<SignedMark, _>| read.is_ok_and(|read| read != mark);
                assert!(!read.is_ok_and(wrong), "byte {damage}");
            }
        }
    }
}

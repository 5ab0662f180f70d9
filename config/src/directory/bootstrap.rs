//! The bootstrap file: the one thing that a newcomer must be given by hand. Everything else is signed.

use lintas_proto::{
    id::{Digest, check_name, hex, sha256, unhex},
    schema::Roster,
    sign::VerifyingKey,
};
use serde::{Deserialize, Serialize};

use super::{DirectoryError, roster::Authorities};
use crate::words;

/// Which region this is, and who may sign its roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Region name.
    pub region: String,
    /// Keys of the region authorities.
    pub authority_keys: Vec<VerifyingKey>,
    /// How many of them must sign.
    pub threshold: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    region: String,
    threshold: usize,
    authority_keys: Vec<String>,
}

impl Bootstrap {
    /// Reads the TOML text of a bootstrap file.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn parse(text: &str) -> Result<Self, DirectoryError> {
        let rule = |what| DirectoryError::Rule { whose: "bootstrap file".to_owned(), what };
        let file: File = toml::from_str(text)
            .map_err(|_| rule("must be TOML with exactly `region`, `threshold` and `authority_keys`"))?;
        check_name(&file.region).map_err(|error| DirectoryError::Id {
            what: "region",
            text: file.region.clone(),
            error,
        })?;
        let mut authority_keys = Vec::with_capacity(file.authority_keys.len());
        for key in &file.authority_keys {
            let bytes = unhex(key).map_err(|_| rule("authority keys are 64 hex digits each"))?;
            let whose = "bootstrap file".to_owned();
            authority_keys
                .push(VerifyingKey::parse(&bytes).map_err(|error| DirectoryError::Key { whose, error })?);
        }
        let bootstrap = Self { region: file.region, authority_keys, threshold: file.threshold };
        bootstrap.authorities()?;
        Ok(bootstrap)
    }

    /// TOML text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let keys: Vec<String> =
            self.authority_keys.iter().map(|key| format!("    \"{}\",\n", hex(key.as_bytes()))).collect();
        format!(
            "# Compare the words that `lintas region inspect` makes of this file with the region authority by another way\n\
             # before you use it.\n\
             region = \"{}\"\nthreshold = {}\nauthority_keys = [\n{}]\n",
            self.region,
            self.threshold,
            keys.concat(),
        )
    }

    /// What two people compare by telephone: 12 words, the same for the same region, keys and threshold. 132 bits of
    /// the SHA-256 of the file's content.
    #[must_use]
    pub fn words(&self) -> String {
        words::words(&self.digest())
    }

    /// The same as 12 groups of 5 digits, readable aloud in every language: 192 bits of it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        words::digits(&self.digest())
    }

    fn digest(&self) -> Digest {
        let mut keys: Vec<&[u8; 32]> = self.authority_keys.iter().map(VerifyingKey::as_bytes).collect();
        keys.sort();
        let threshold = u64::try_from(self.threshold).unwrap_or(u64::MAX).to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![b"lintas/v1/bootstrap\0", self.region.as_bytes(), b"\0", &threshold];
        parts.extend(keys.iter().map(|key| key.as_slice()));
        sha256(&parts)
    }

    /// What a roster's own authorities would be given to newcomers as.
    ///
    /// # Errors
    /// [`DirectoryError`] when the roster breaks a rule.
    pub fn of(roster: &Roster) -> Result<Self, DirectoryError> {
        let Authorities { keys, threshold } = Authorities::of(roster)?;
        Ok(Self { region: roster.region.clone(), authority_keys: keys, threshold })
    }

    /// Whoever made this value, its rules hold before anything is believed on its word.
    pub(super) fn authorities(&self) -> Result<Authorities, DirectoryError> {
        let authorities = Authorities { keys: self.authority_keys.clone(), threshold: self.threshold };
        authorities.check("bootstrap file")?;
        Ok(authorities)
    }
}

//! The bootstrap file: the one thing that a newcomer must be given by hand. Everything else is signed.

use lintas_proto::{
    id::{check_name, hex, unhex},
    sign::VerifyingKey,
};
use serde::{Deserialize, Serialize};

use super::DirectoryError;

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
        bootstrap.check()?;
        Ok(bootstrap)
    }

    /// TOML text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let keys: Vec<String> =
            self.authority_keys.iter().map(|key| format!("    \"{}\",\n", hex(key.as_bytes()))).collect();
        format!(
            "# Compare these keys with the region authority by another way before you use them.\n\
             region = \"{}\"\nthreshold = {}\nauthority_keys = [\n{}]\n",
            self.region,
            self.threshold,
            keys.concat(),
        )
    }

    fn check(&self) -> Result<(), DirectoryError> {
        let once = self
            .authority_keys
            .iter()
            .enumerate()
            .all(|(i, key)| !self.authority_keys.iter().take(i).any(|k| k == key));
        let sound = once && (1..=self.authority_keys.len()).contains(&self.threshold);
        let what = "needs a threshold from 1 to the number of authority keys, each key once";
        if sound { Ok(()) } else { Err(DirectoryError::Rule { whose: "bootstrap file".to_owned(), what }) }
    }
}

//! A new directory takes the place of the one in force, while everything goes on.

use std::sync::{Arc, PoisonError};

use lintas_config::Directory;
use lintas_proto::id::unhex;

use super::{Desk, check_membership};
use crate::shell::{
    clock,
    failure::{Code, Failure},
    trust,
};

impl Desk {
    /// Who may be spoken to. Ask once for each piece of work, and keep to the answer.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up what `directory.bin` has become, if it may follow; else the one in force stays. With `again`, a
    /// file that was looked at before is looked at once more.
    pub(crate) fn renew(&self, again: bool) {
        // Held to the end: one change of the directory at a time.
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let look = trust::look(&self.folder);
        if *looked == look && !again {
            return;
        }
        *looked = look;
        match self.take_up() {
            Ok(false) => {}
            Ok(true) => {
                self.rotate_or_tell(clock::now_ms());
                self.reconnect();
            }
            Err(failure) => {
                let version = self.directory().roster().version;
                self.trouble(&format!("{failure}; roster version {version} stays in force"));
                let mut refused = self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner);
                *refused = Some(failure.message);
            }
        }
    }

    /// An officer's word, got by another way, that a held agency's new identity key is its own.
    pub(super) fn confirm(&self, agency: &str, key: &str) -> Result<(), Failure> {
        let digits: String = key.chars().filter(|c| !c.is_whitespace()).collect();
        let key =
            unhex(&digits).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
                Failure::new(Code::Usage, "the key must be 64 hex digits, as `lintas status` shows it")
            })?;
        let _one = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = self.directory().confirm(agency, &key);
        let confirmed = confirmed.map_err(|error| Failure::new(Code::NotSetUp, error))?;
        trust::keep_mark(&self.folder, &confirmed)?;
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(confirmed);
        tracing::info!(agency, "an officer confirmed the new identity key");
        self.reconnect();
        Ok(())
    }

    /// Opens the session anew, at once.
    pub(crate) fn reconnect(&self) {
        self.renewed.notify_one();
    }

    /// Waits until the session is to be opened anew: another directory is in force, or the operator asks for it.
    pub(crate) async fn renewed(&self) {
        self.renewed.notified().await;
    }

    fn take_up(&self) -> Result<bool, Failure> {
        let in_force = self.directory();
        let Some(next) = trust::next(&self.folder, &in_force)? else {
            *self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok(false);
        };
        let (roster, next) = (next.roster().version, Arc::new(next));
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        *self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!(roster, "a new directory is in force");
        for held in next.held() {
            tracing::warn!(agency = held.agency, "held: {held}");
        }
        if !next.at(clock::now_ms()).in_force() {
            self.trouble(
                "the new directory is not valid now; check this machine's clock, and ask for a newer",
            );
        }
        // Whoever left the region must know it; what was kept stays readable.
        if let Err(failure) = check_membership(&next, &self.keys()) {
            self.trouble(&failure.message);
        }
        Ok(true)
    }
}

//! node.keys: read, changed and sealed anew; the key pages in it.

use std::{
    fmt,
    sync::{MutexGuard, PoisonError, RwLockReadGuard},
};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{id::unhex, limits, schema::NodeSecrets};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Desk, answers::Batch, locked};
use crate::{
    core::{
        inbox::Verdict,
        keys::{Holds, Keys, KeysError, lock_file, open_again, with_secrets},
        pages::{self, Page, Pages},
        state::State,
        vault::Unlocker,
    },
    shell::{
        clock,
        failure::{Code, Failure},
        files,
        folder::Folder,
    },
};

const NODE_KEYS: &str = "node.keys";

/// Text on its way to the daemon that nobody else may read. Wiped when it is dropped.
pub(crate) struct Secret(pub(crate) Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret { .. }")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Secret {
    /// The bytes of hex digits.
    pub(super) fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        unhex(&self.0).ok().map(Zeroizing::new)
    }
}

/// What opens the keys, on its way to the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Opening {
    /// Words.
    Passphrase(Secret),
    /// The 64 hex digits of a key file.
    KeyFile(Secret),
}

impl Opening {
    /// What opens the keys.
    pub(crate) fn unlocker(self) -> Option<Unlocker> {
        match self {
            Self::Passphrase(words) => Some(Unlocker::Passphrase(words.0)),
            Self::KeyFile(digits) => {
                let bytes = digits.bytes()?;
                Some(Unlocker::KeyFile(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
            }
        }
    }

    /// As it goes over the socket.
    pub(crate) fn of(unlocker: &Unlocker) -> Self {
        match unlocker {
            Unlocker::Passphrase(words) => Self::Passphrase(Secret(words.clone())),
            Unlocker::KeyFile(key) => {
                Self::KeyFile(Secret(Zeroizing::new(lintas_proto::id::hex(key.as_slice()))))
            }
        }
    }
}

/// What of node.keys is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Pages only.
    Pages {
        /// Highest number under which something was sealed meanwhile; 0 for none.
        used: u64,
    },
    /// Anything.
    All,
}

/// Reads node.keys, after whatever an interrupted change of it left was overwritten.
pub(super) fn read(folder: &Folder) -> Result<Bytes, Failure> {
    let path = folder.path(NODE_KEYS);
    files::wipe_leftovers(&path).map_err(|error| Failure::file("tidy up beside", &path, &error))?;
    folder.read(NODE_KEYS, limits::KEYSET_BYTES_MAX as u64, "restore it from a copy")
}

impl Desk {
    /// Changes the secrets: `work` says none if there is nothing to change. What it says otherwise is durable in
    /// node.keys, sealed under a new key, and in use, when this returns; the old file is overwritten.
    pub(super) fn change_secrets<T>(
        &self,
        part: Part,
        work: impl FnOnce(&mut NodeSecrets) -> Result<Option<T>, KeysError>,
    ) -> Result<Option<T>, Failure> {
        let wrapping = self.key_file.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = open_again(Holds::Node, &read(&self.folder)?, &wrapping).map_err(locked)?;
        let checked = |secrets: &mut NodeSecrets| {
            self.pages().check(secrets)?;
            work(secrets)
        };
        let (made, plain) = with_secrets(&plain, checked).map_err(refused)?;
        if made.is_none() {
            return Ok(None);
        }
        // Read before it is written: what cannot be read again is not kept.
        let (keys, pages) = match part {
            Part::Pages { .. } => {
                let pages = |secrets: &mut NodeSecrets| Pages::parse(secrets);
                (None, with_secrets(&plain, pages).map_err(locked)?.0)
            }
            Part::All => {
                let (keys, pages) = Keys::parse(&plain).map_err(locked)?;
                (Some(keys), pages)
            }
        };
        let file = lock_file(Holds::Node, &plain, &wrapping, &mut os_entropy()).map_err(Failure::internal)?;
        let path = self.folder.path(NODE_KEYS);
        files::replace_secret(&path, &file).map_err(|error| Failure::file("write", &path, &error))?;
        if let Some(keys) = keys {
            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.into();
        }
        let used = if let Part::Pages { used } = part { used } else { 0 };
        self.pages().replace(pages, used);
        Ok(made)
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held from the moment a content key is sealed or opened until that is done with; meanwhile no page is destroyed.
    pub(super) fn sealing(&self) -> RwLockReadGuard<'_, ()> {
        self.sealing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page for one more content key. It is durable.
    pub(super) fn page(&self, now_ms: u64) -> Result<Page, Failure> {
        let taken = self.pages().take(now_ms);
        let page = match taken {
            Some(page) => page,
            None => {
                self.make_pages(1)?;
                self.pages().take(now_ms).ok_or_else(|| Failure::internal("a new key page is not there"))?
            }
        };
        if self.pages().is_short(now_ms) {
            self.page_wanted.notify_one();
        }
        Ok(page)
    }

    /// Pages for the packets of a batch. If there are none, because the disk is full, the packets are left with the
    /// broker; true then.
    pub(super) fn pages_for(&self, batch: &mut Batch) -> (Vec<Page>, bool) {
        let accepted = batch.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Accept(_)));
        let now_ms = clock::now_ms();
        match accepted.map(|_| self.page(now_ms)).collect() {
            Ok(pages) => (pages, false),
            Err(failure) => {
                self.trouble(&format!("deliveries wait at the broker: {failure}"));
                batch.verdicts.clear();
                batch.queued.clear();
                (Vec::new(), true)
            }
        }
    }

    /// Makes pages, durable when this returns. Their numbers.
    pub(super) fn make_pages(&self, count: usize) -> Result<Vec<u64>, Failure> {
        let seen = {
            let state = self.store.state();
            let destroyed = state.ledger().destroyed().last().copied().unwrap_or_default();
            state.ledger().newest().0.max(destroyed)
        };
        let made = self.change_secrets(Part::Pages { used: 0 }, |secrets| {
            pages::add(secrets, seen, count, &mut os_entropy()).map(Some)
        })?;
        Ok(made.unwrap_or_default())
    }

    /// What is to be said of key pages that kept packets need and node.keys has not.
    pub(super) fn warning_of_pages(&self, state: &State) -> Option<String> {
        let pages = self.pages();
        let missing = state.ledger().live_pages().filter(|page| pages.key(*page).is_none());
        let packets: usize = missing.map(|page| state.ledger().on_page(page).count()).sum();
        (packets > 0).then(|| {
            format!(
                "node.keys is an older copy: {packets} packets that are kept here do not open with it; stop the node and put \
                 the newest copy back"
            )
        })
    }

    /// Makes the next page if it will be needed soon.
    pub(crate) fn tend_pages(&self) -> Result<(), Failure> {
        if self.pages().is_short(clock::now_ms()) {
            self.make_pages(1)?;
        }
        Ok(())
    }

    /// Waits until a page is to be made ahead.
    pub(crate) async fn page_wanted(&self) {
        self.page_wanted.notified().await;
    }

    /// After a start: which page serves, and whatever a purge that was interrupted has left to be destroyed.
    pub(super) fn resume_pages(&self) -> Result<(), Failure> {
        let (number, keys, since_ms) = self.store.state().ledger().newest();
        self.pages().resume(number, keys, since_ms);
        self.destroy_pages(0, false)?;
        self.remove_purged_blobs()
    }

    /// Destroys the pages that purges have named; with `idle`, those that will never be used as well.
    pub(super) fn destroy_pages(&self, used: u64, idle: bool) -> Result<(), Failure> {
        let mut gone = self.store.state().ledger().destroyed().clone();
        if idle {
            let state = self.store.state();
            gone.extend(self.pages().idle(|page| state.ledger().on_page(page).next().is_some()));
        }
        self.change_secrets(Part::Pages { used }, |secrets| Ok(pages::remove(secrets, &gone).then_some(())))?;
        Ok(())
    }
}

fn refused(error: KeysError) -> Failure {
    if matches!(error, KeysError::TooManyPages) {
        return Failure::new(Code::Storage, error);
    }
    locked(error)
}

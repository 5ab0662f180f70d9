//! The desk: everything that can be asked of a node, whether a daemon asks itself or a command does it alone.
//!
//! - [`ask`]: what a command asks, and who answers it
//! - [`send`]: seals a packet and keeps it; [`outgoing`]: what the session is to do for it; [`answers`]: what is said
//!   about it; [`reseal`]: seals it again when keys have moved; [`review`]: waits for a person first
//! - [`exchange`]: what came on the session, judged and kept; [`doubts`]: evidence of it, judged again
//! - [`read`]: looks at what was kept, [`standing`]: in words; [`purge`]: destroys it; [`attachments`]: their files
//! - [`evidence`]: what can be proven of one packet; [`inclusion`]: what was promised, and found in the broker's audit log
//! - [`policy`]: the own release policy, published
//! - [`renew`]: a new directory; [`contacts`]: an officer's word for who is new
//! - [`keyring`]: the key file; [`rotate`]: the keys as time goes by; [`exposure`]: what a lost one exposes
//! - [`watch`]: the broker's log, watched; [`fresh`]: whether the directory is fresh
//! - [`doctor`]: whether all of it is well

mod agreed;
mod answers;
mod ask;
mod attachments;
mod audit;
mod contacts;
mod doctor;
mod doubts;
pub(crate) mod evidence;
mod exchange;
mod exposure;
mod fresh;
mod inclusion;
mod keyring;
mod outgoing;
pub(crate) mod policy;
mod purge;
mod read;
mod renew;
mod reseal;
mod review;
mod rotate;
mod send;
mod standing;
mod watch;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use lintas_config::{Directory, clock::Reading, settings::NodeSettings};
use lintas_proto::audit::files::LogFile;
use tokio::sync::Notify;

use super::{
    clock,
    failure::{Code, Failure},
    folder::{Folder, Lock},
    log_link::{LogError, LogLine, Piece},
    policies::Shelf,
    progress::Transfers,
    store::{Store, StoreError},
    trust::{self, Look},
    watch::Watch,
};
use crate::core::{
    freshness::Seen,
    keys::{Holds, Keys, KeysError, open_file},
    log::{attested::Attested, pulse::Pulse},
    outbox::Pipeline,
    pages::Pages,
    vault::{Unlocker, VaultError, Wrapping},
    view::LinkView,
};

#[cfg(feature = "sim")]
pub(crate) use answers::Batch;
pub(crate) use ask::{Reply, Request};
pub(crate) use audit::piece_bytes;
pub(crate) use exchange::{Broken, Heard, Settled, Step};
pub(crate) use fresh::begin as begin_attested;
pub(crate) use inclusion::Pending;
pub(crate) use keyring::{Opening, Secret};
pub(crate) use outgoing::{Upload, Work};
pub(crate) use review::Verdict;
pub(crate) use rotate::revocation_text;
pub(crate) use send::How;

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Desk {
    folder: Folder,
    settings: NodeSettings,
    /// Replaced by `renew` only.
    directory: Mutex<Arc<Directory>>,
    policies: Shelf,
    /// What `directory.bin` looked like when it was read last.
    looked: Mutex<Look>,
    /// Why `directory.bin` is not the directory in force, if it is not.
    refused_directory: Mutex<Option<String>>,
    /// Attachments that no kept packet names.
    unnamed_blobs: usize,
    /// Rung when the session is to be opened anew.
    renewed: Notify,
    /// Rung when a newer directory is to be fetched.
    wanted: Notify,
    /// Keysets of which the broker offered older ones: canonical bytes of `SignedKeyset`.
    ahead: Mutex<Vec<bytes::Bytes>>,
    /// Held while verdicts are looked at for the last time and kept: batches of a session that is over may still be under way
    /// beside those of the next.
    keeping: Mutex<()>,
    /// Deliveries stayed with the broker because of the directory.
    left_aside: AtomicBool,
    /// Some of them because no policy of this agency was in force.
    waits_for_policy: AtomicBool,
    /// How new a directory others have, by packets that are not kept. Those that are kept are in the journal.
    sighted: Mutex<Seen>,
    /// What evidence of later needs, and is on the disk.
    remembered: Mutex<evidence::Remembered>,
    /// Evidence that is not believed, judged again.
    doubts: Mutex<doubts::Doubts>,
    /// Refusals that wait for a newer directory.
    pending: Mutex<reseal::Pending>,
    /// Held while a review is decided: one decision counts.
    reviewing: Mutex<()>,
    /// Opens node.keys again; held while that file is changed.
    key_file: Mutex<Wrapping>,
    /// Replaced when node.keys is changed.
    keys: Mutex<Arc<Keys>>,
    pages: Mutex<Pages>,
    /// Read from the moment a content key is sealed until its record is kept; written while pages are destroyed.
    sealing: RwLock<()>,
    /// When a broker agreed with this clock.
    agreed: Mutex<Option<Reading>>,
    /// A broker did not, when it was last asked.
    disagreed: AtomicBool,
    /// Version of a keyset in the directory that this node did not sign, and when one was followed up.
    stranger: Mutex<Option<(u64, Option<u64>)>>,
    /// Rung when a key page is to be made ahead.
    page_wanted: Notify,
    /// Rung when the session needs another transport key.
    rekeyed: Notify,
    store: Store,
    pipeline: Mutex<Pipeline>,
    /// Written by the session, read by whoever asks.
    link: Mutex<LinkView>,
    /// To the session, for whoever reads the audit log.
    log_line: LogLine,
    /// What is known of the broker's log.
    watch: Watch,
    /// Which directories it attests.
    attested: Mutex<Attested>,
    /// Whether it goes on.
    pulse: Mutex<Pulse>,
    transfers: Transfers,
    /// Rung when the session has something to submit, or room to.
    bell: Notify,
    daemon: bool,
    /// Long work is to stop: the keys are to be dropped.
    leaving: AtomicBool,
    /// Released last.
    _lock: Arc<Lock>,
}

impl Desk {
    /// Opens the folder, whose lock the caller has: unlocks the keys, verifies the directory, folds the journal.
    pub(crate) fn open(
        folder: Folder,
        lock: impl Into<Arc<Lock>>,
        with: &Unlocker,
        daemon: bool,
    ) -> Result<Self, Failure> {
        folder.check()?;
        let settings = folder.settings()?;
        let looked = Mutex::new(trust::look(&folder));
        let (directory, refused_directory) = trust::open(&folder)?;
        let (wrapping, plain) = open_file(Holds::Node, &keyring::read(&folder)?, with).map_err(locked)?;
        let (keys, pages) = Keys::parse(&plain).map_err(locked)?;
        check_membership(&directory, &keys)?;
        let store = Store::open(&folder, settings.segment_mib).map_err(stored)?;
        let watch =
            Watch::open(&folder).map_err(|error| Failure::file("make", &folder.path("witness"), &error))?;
        let policies = Shelf::open(&folder, &keys.region, &keys.agency, clock::now_ms())?;
        let attested = Mutex::new(Attested::begin(directory.hash(), 0));
        let mut desk = Self {
            folder,
            settings,
            directory: Mutex::new(Arc::new(directory)),
            policies,
            looked,
            refused_directory: Mutex::new(refused_directory),
            unnamed_blobs: 0,
            renewed: Notify::new(),
            wanted: Notify::new(),
            ahead: Mutex::default(),
            keeping: Mutex::default(),
            left_aside: AtomicBool::new(false),
            waits_for_policy: AtomicBool::new(false),
            sighted: Mutex::default(),
            remembered: Mutex::default(),
            doubts: Mutex::default(),
            pending: Mutex::default(),
            reviewing: Mutex::default(),
            key_file: Mutex::new(wrapping),
            keys: Mutex::new(Arc::new(keys)),
            pages: Mutex::new(pages),
            sealing: RwLock::default(),
            agreed: Mutex::default(),
            disagreed: AtomicBool::new(false),
            stranger: Mutex::default(),
            page_wanted: Notify::new(),
            rekeyed: Notify::new(),
            store,
            pipeline: Mutex::default(),
            link: Mutex::default(),
            log_line: LogLine::default(),
            watch,
            attested,
            pulse: Mutex::default(),
            transfers: Transfers::default(),
            bell: Notify::new(),
            daemon,
            leaving: AtomicBool::new(false),
            _lock: lock.into(),
        };
        desk.resume_pages()?;
        if let Some(warning) = read::backwards(desk.store.state().latest_ms(), clock::now_ms()) {
            tracing::warn!("{warning}");
        }
        desk.begin_contacts()?;
        let compared_ms = desk.store.state().contacts().first_ms().unwrap_or_default();
        desk.attested = Mutex::new(fresh::open(&desk.folder, &desk.directory(), compared_ms)?);
        desk.compare_ended();
        desk.tell_broken_promises();
        desk.remember(&[], &[]);
        desk.tidy();
        desk.unnamed_blobs = desk.sweep()?;
        if let Some(warning) = desk.warning_of_blobs() {
            tracing::warn!("{warning}");
        }
        Ok(desk)
    }

    /// Marks a clean end; nothing more is kept.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        self.store.close().map_err(stored)
    }

    /// Stops what may take long: nobody is to hold the keys any more.
    pub(crate) fn stop_long_work(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether long work is to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Waits until nothing can be kept any more.
    pub(crate) async fn failed(&self) -> Failure {
        self.store.failed().await;
        Failure::new(
            Code::Storage,
            "the disk has failed and nothing more is kept; check it, then start again",
        )
    }

    /// What the operator set.
    pub(crate) fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// The secret keys. Ask once for each piece of work, and keep to the answer.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where everything lies.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Rung when there is something to submit.
    pub(crate) fn bell(&self) -> &Notify {
        &self.bell
    }

    /// What is known of the connection.
    pub(crate) fn link(&self) -> LinkView {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is known of the connection.
    pub(crate) fn note_link(&self, change: impl FnOnce(&mut LinkView)) {
        change(&mut self.link.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The session's way to those who read the audit log.
    pub(crate) fn log_line(&self) -> &LogLine {
        &self.log_line
    }

    /// A piece of a file of the broker's audit log, over the session that is open: at most `length` bytes from `offset`
    /// on, 0 for all. Nothing of it is verified.
    pub(crate) async fn fetch_log(
        &self,
        origin: &str,
        file: LogFile,
        offset: u64,
        length: u64,
    ) -> Result<Piece, LogError> {
        self.log_line.get(origin, file, offset, length).await
    }

    fn sighted(&self) -> MutexGuard<'_, Seen> {
        self.sighted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory must know this agency, its packet key and its TLS key; else nothing it does would be believed.
pub(crate) fn check_membership(directory: &Directory, keys: &Keys) -> Result<(), Failure> {
    let refuse = |what: &str| {
        let message = format!("{what}; get the newest directory.bin from the region authority");
        Err(Failure::new(Code::NotSetUp, message))
    };
    if directory.roster().region != keys.region {
        return refuse("directory.bin is for another region than these keys");
    }
    if let Some(held) = directory.held().iter().find(|held| held.agency == keys.agency) {
        return refuse(&held.to_string());
    }
    if directory.member(&keys.agency).is_none() {
        return refuse("the directory does not list this agency as an active member");
    }
    let transport = lintas_link::TransportKey::from_seed(&keys.transport_seed)
        .map_err(|error| Failure::new(Code::Locked, error))?;
    if directory.agency_of_transport(&transport.public()) != Some(keys.agency.as_str()) {
        return refuse(
            "the directory has other keys of this agency than this node: if they are new, bring keyset.bin to the broker \
             first (`lintas keys publish` at any node of the region); if another machine has taken this one's place, this \
             one is out",
        );
    }
    Ok(())
}

pub(crate) fn locked(error: KeysError) -> Failure {
    let code = match &error {
        KeysError::Vault(VaultError::WrongSecret | VaultError::WrongKind { .. }) => Code::Locked,
        KeysError::Vault(VaultError::Damaged | VaultError::Parameters)
        | KeysError::Decode(_)
        | KeysError::TooManyPages
        | KeysError::OlderFile
        | KeysError::Revoked
        | KeysError::OtherWord
        | KeysError::Issue(_)
        | KeysError::Signing(_)
        | KeysError::Encryption(_) => Code::NotSetUp,
    };
    Failure::new(code, error)
}

pub(crate) fn stored(error: StoreError) -> Failure {
    Failure::new(Code::Storage, error)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod trouble_tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod attachment_tests;

#[cfg(test)]
mod hostile_tests;

#[cfg(test)]
mod exposure_tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod doctor_tests;

#[cfg(test)]
mod freshness_tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod watch_tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod reseal_tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod review_tests;

#[cfg(test)]
mod release_tests;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod evidence_tests;

#[cfg(test)]
mod doubts_tests;

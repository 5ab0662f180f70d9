//! A node for the simulator: the cores of this crate and the real journal, on a simulated disk, without thread, clock,
//! socket or file. What stands here takes the place of the desk, the store and the session. Attachments, sealing again,
//! purges, the rotation of keys and the audit log are left out.

mod hear;
mod seen;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lintas_config::{Directory, clock::Reading, policy::Policies};
use lintas_journal::{Limits, SimDisk};
use lintas_proto::{
    canonical,
    envelope::seal::seal,
    id::{Digest, PacketId},
    schema::{Acknowledgement, NodeSecrets, StoredOutgoing, UnitRef},
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

pub use self::seen::{Became, Kept, Own, Said};
use self::store::{Opened, Store};
use crate::core::{
    archive::OUTGOING_PURPOSE,
    contacts::first,
    draft::{Draft, Sender, compose},
    keys::Keys,
    outbox::{Next, Pipeline},
    pages::{self, Page, Pages},
    preflight::{self, Clearance, Rules},
    records::Record,
    state::State,
};

/// The process must stop, and begin anew with what is on the disk.
#[derive(Debug)]
pub struct Stopped(pub String);

/// What the outside world gives to a piece of work.
pub struct Hands<'a> {
    /// Who is a member.
    pub directory: &'a Directory,
    /// The baseline and the own release policy.
    pub policies: &'a Policies,
    /// This machine's clock.
    pub now_ms: u64,
    /// How long this machine runs.
    pub boot_ms: u64,
    /// Randomness.
    pub entropy: &'a mut dyn CryptoRng,
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hands {{ now_ms: {}, .. }}", self.now_ms)
    }
}

/// A packet that was sealed and kept.
#[derive(Debug, Clone)]
pub struct Sent {
    /// SHA-256 of its header.
    pub digest: Digest,
    /// To whom.
    pub recipients: Vec<UnitRef>,
}

/// What is to be said, and what was left.
#[derive(Debug, Default)]
pub struct Heard {
    /// About what is durable.
    pub acknowledgements: Vec<Acknowledgement>,
    /// There was no room for some of it.
    pub full: bool,
    /// Deliveries that stay with the broker, because of the directory or the policy here.
    pub left: usize,
    /// The broker broke the protocol.
    pub broken: Option<String>,
    /// Nothing was looked at: no broker has agreed with this clock.
    pub doubts: bool,
}

/// A node's key file, open.
#[derive(Debug, Clone)]
pub struct KeyFile {
    secrets: NodeSecrets,
    keys: Arc<Keys>,
}

impl KeyFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn open(secrets: NodeSecrets) -> Result<Self, Stopped> {
        let plain = Zeroizing::new(canonical::encode(&secrets).to_vec());
        let (keys, _) = Keys::parse(&plain).map_err(stopped)?;
        Ok(Self { secrets, keys: Arc::new(keys) })
    }
}

/// A node.
#[derive(Debug)]
pub struct SimNode {
    file: KeyFile,
    pages: Pages,
    state: Mutex<State>,
    store: Store,
    pipeline: Pipeline,
    /// When a broker agreed with this clock.
    agreed: Option<Reading>,
}

impl Hands<'_> {
    fn reading(&self) -> Reading {
        Reading { wall_ms: self.now_ms, boot_ms: self.boot_ms }
    }
}

impl SimNode {
    /// Opens the journal on the disk and folds it. Whoever stands in `directory` is known if nobody was before.
    ///
    /// # Errors
    /// [`Stopped`]: the disk failed, or what is on it cannot be used.
    pub fn open(
        disk: SimDisk,
        limits: Limits,
        file: KeyFile,
        directory: &Directory,
        now_ms: u64,
    ) -> Result<Self, Stopped> {
        let mut pages = Pages::parse(&file.secrets).map_err(stopped)?;
        let Opened { mut store, mut state } = Store::open(disk, limits)?;
        let (number, sealed, since_ms) = state.ledger().newest();
        pages.resume(number, sealed, since_ms);
        if state.contacts().is_empty() {
            let records = first(directory, now_ms).into_iter().map(Record::Confirmation).collect();
            store.keep_together(records, &mut state)?;
        }
        Ok(Self { file, pages, state: Mutex::new(state), store, pipeline: Pipeline::default(), agreed: None })
    }

    /// The process is gone; its key file stays.
    #[must_use]
    pub fn into_file(self) -> KeyFile {
        self.file
    }

    /// Checks, seals and keeps a draft. When this returns, the packet survives a power cut. The sentence says why nothing
    /// was sealed.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn send(&mut self, draft: &str, hands: Hands<'_>) -> Result<Result<Sent, String>, Stopped> {
        let Hands { directory, policies, now_ms, entropy, .. } = hands;
        let draft = match Draft::parse(draft, &[], None) {
            Ok(draft) => draft,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let originator = draft.originator(directory, &self.file.keys.agency).map_err(stopped)?;
        let cleared = {
            let state = self.state();
            let (contacts, reviewed) = (state.contacts(), false);
            let (without_unconfirmed, without_denied) = (false, true);
            let rules = Rules {
                directory,
                contacts,
                policies,
                without_unconfirmed,
                without_denied,
                reviewed,
                now_ms,
            };
            preflight::check(&draft, &originator, rules)
        };
        let Clearance { recipients, .. } = match cleared {
            Ok(cleared) => cleared,
            Err(objections) => return Ok(Err(format!("{} objections", objections.len()))),
        };
        let units = recipients.iter().map(|cleared| cleared.unit.clone()).collect();
        let sender = Sender { originator, packet_id: PacketId::new(now_ms, entropy), reviewed: false };
        let packet_id = sender.packet_id;
        let draft = compose(draft, sender, recipients, Vec::new(), directory, &self.state());
        let created_ms = draft.core.created_ms;
        let sealed = seal(draft, &self.file.keys.packet, entropy).map_err(stopped)?;
        let (key_page, page) = self.page(now_ms, entropy)?;
        let content_key = sealed.content_key.as_slice();
        let sealed_key =
            page.seal(OUTGOING_PURPOSE, &sealed.digest, content_key, entropy).map_err(stopped)?;
        let record = Record::Outgoing(StoredOutgoing {
            header_digest: Bytes::copy_from_slice(&sealed.digest),
            packet_id: Bytes::copy_from_slice(packet_id.as_bytes()),
            submission: canonical::encode(&sealed.submission),
            sealed_key,
            created_ms,
            key_page,
            sign_key: Bytes::copy_from_slice(&self.file.keys.packet.public_key()),
            ..StoredOutgoing::default()
        });
        let Self { store, state, .. } = self;
        let kept =
            store.keep_together(vec![record], state.get_mut().unwrap_or_else(PoisonError::into_inner))?;
        Ok(if kept { Ok(Sent { digest: sealed.digest, recipients: units }) } else { Err("disk full".into()) })
    }

    /// The submission that goes out next, if one may now.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn next(&mut self, now_ms: u64) -> Result<Option<Bytes>, Stopped> {
        let sequence = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = state.waiting().map(|(_, packet)| (packet.digest, false));
            match self.pipeline.next(waiting, now_ms) {
                Next::Submit(digest) => state.own(&digest).map(|(sequence, _)| sequence),
                Next::Upload(_) | Next::Wait(_) => None,
            }
        };
        let Some(sequence) = sequence else { return Ok(None) };
        let Record::Outgoing(stored) = self.store.read(sequence)? else {
            return Err(Stopped(format!("record {sequence} is no packet")));
        };
        Ok(Some(stored.submission))
    }

    /// The broker has answered the hello: whether it agrees with this clock.
    pub fn answered(&mut self, agrees: bool, hands: &Hands<'_>) {
        self.agreed = agrees.then(|| hands.reading());
    }

    /// Whether a broker agrees with this clock, and nobody has set it since.
    #[must_use]
    pub fn is_agreed(&self, hands: &Hands<'_>) -> bool {
        self.agreed.is_some_and(|anchor| hands.reading().leapt_ms(anchor).is_none())
    }

    /// The connection is gone; everything unanswered goes out again.
    pub fn disconnected(&mut self) {
        self.pipeline.disconnected();
    }

    /// A turn of the journal's tender.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn tend(&mut self) -> Result<(), Stopped> {
        self.store.tend()
    }

    /// The page for one more content key, which the key file holds.
    fn page(&mut self, now_ms: u64, entropy: &mut dyn CryptoRng) -> Result<Page, Stopped> {
        if let Some(page) = self.pages.take(now_ms) {
            return Ok(page);
        }
        let seen = self.state().ledger().newest().0;
        pages::add(&mut self.file.secrets, seen, 1, entropy).map_err(stopped)?;
        self.pages.replace(Pages::parse(&self.file.secrets).map_err(stopped)?, 0);
        self.pages.take(now_ms).ok_or_else(|| Stopped("a new key page is not there".to_owned()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopped(error: impl std::fmt::Display) -> Stopped {
    Stopped(error.to_string())
}

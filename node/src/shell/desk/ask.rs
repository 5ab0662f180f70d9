//! What a command asks of the desk, and what it answers.

use std::path::PathBuf;

use lintas_config::os_entropy;
use serde::{Deserialize, Serialize};

use super::{
    Desk,
    keyring::{Opening, Secret},
    policy::NewPolicy,
    purge,
    review::Verdict,
    send::{Asked, How},
};
use crate::{
    core::{
        audit::own::{Found, LogPiece, Ordered, OwnPage},
        exposure::Exposure,
        health::Check,
        view::{
            AwaitingReview, ContactView, EvidenceView, Exported, Inbox, Kept, KeysView, Outbox, OutboxEntry,
            PacketView, PolicyView, Purged, Reviewed, Status,
        },
    },
    shell::{
        clock,
        failure::{Code, Failure},
        progress::Tell,
    },
};

/// What a command asks.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Seal and keep a packet.
    Send {
        /// The draft, as written.
        draft: String,
        /// Files to attach, absolute paths.
        attach: Vec<PathBuf>,
        /// More recipients.
        to: Vec<String>,
        /// The unit that sends.
        from: Option<String>,
        /// What the officer asks for beyond it.
        #[serde(default)]
        how: How,
    },
    /// What came.
    Inbox {
        /// At most so many.
        limit: usize,
    },
    /// What was sent.
    Outbox {
        /// At most so many.
        limit: usize,
    },
    /// One packet of the outbox.
    Standing {
        /// Packet id.
        id: String,
    },
    /// One packet, opened.
    Show {
        /// Packet id, or the first digits of the header digest.
        id: String,
    },
    /// What can be proven of one packet.
    Evidence {
        /// As in `Show`.
        id: String,
        /// A new file to write it into, an absolute path.
        out: Option<PathBuf>,
    },
    /// Writes attachments in clear.
    Export {
        /// As in `Show`.
        id: String,
        /// Folder, an absolute path.
        to: PathBuf,
        /// Also what its label restricts.
        #[serde(default)]
        confirmed: bool,
    },
    /// What waits for review.
    Reviews,
    /// A person's decision about a packet that waits for review.
    Review {
        /// As in `Show`.
        id: String,
        /// What they decided.
        verdict: Verdict,
    },
    /// What the directory says of an agency.
    Contact {
        /// Agency.
        agency: String,
    },
    /// An officer's word for an agency: if it is held, its new identity key is believed.
    Confirm {
        /// Agency.
        agency: String,
        /// 64 hex digits, white space between them or not.
        key: String,
        /// Groups through which it may be reached; none for all of its groups.
        #[serde(default)]
        groups: Vec<String>,
    },
    /// Which packets the loss of a key exposes.
    Exposure {
        /// A key, unit, epoch or the node, in words.
        lost: String,
        /// Packets before this are left out.
        since_ms: Option<u64>,
        /// With titles.
        titles: bool,
    },
    /// Whether the node is sound.
    Doctor,
    /// How the node is.
    Status,
    /// Destroys packets for good, or only lists them.
    Purge {
        /// Packet ids, or first digits of header digests.
        ids: Vec<String>,
        /// Those that came, or were sealed, before that time.
        before_ms: Option<u64>,
        /// Those whose sender's time is over.
        expired: bool,
        /// Whether to do it.
        confirmed: bool,
    },
    /// The keys of this agency.
    Keys,
    /// A new word of the identity key: canonical bytes of `NodeSecrets` with a delegation and its seed only, in hex.
    Renew {
        /// As above.
        word: Secret,
        /// Transport and packet keys as well.
        all: bool,
    },
    /// Takes this agency out of its region for ever.
    Revoke {
        /// A revocation that was signed in advance, an absolute path.
        revocation: Option<PathBuf>,
    },
    /// Brings a keyset, this agency's or another's, to the broker.
    Publish {
        /// An absolute path.
        file: PathBuf,
    },
    /// A piece of a file of the broker's audit log.
    LogPiece {
        /// Origin of the log.
        origin: String,
        /// The file.
        path: String,
        /// From where on.
        offset: u64,
    },
    /// What the broker has promised to this agency.
    AuditOwn {
        /// Behind that record.
        after: u64,
        /// About so many.
        limit: usize,
    },
    /// What this node has found in the broker's log.
    Findings,
    /// How the own release policy stands.
    Policy,
    /// Signs the next version of it.
    PublishPolicy(NewPolicy),
    /// Orders the broker to forget openings.
    Erase {
        /// Origin of this agency's sub-log.
        origin: String,
        /// Entries.
        indices: Vec<u64>,
        /// The legal ground.
        ground: String,
    },
    /// Drops the keys; only a daemon can.
    Lock,
    /// Takes the keys up again; only a daemon can.
    Unlock {
        /// What opens them.
        with: Opening,
    },
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request { .. }")
    }
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// To `Send`.
    Kept(Kept),
    /// To `Inbox`.
    Inbox(Inbox),
    /// To `Outbox`.
    Outbox(Outbox),
    /// To `Standing`.
    Standing(Box<OutboxEntry>),
    /// To `Show`.
    Packet(Box<PacketView>),
    /// To `Evidence`.
    Evidence(Box<EvidenceView>),
    /// To `Export`.
    Exported(Vec<Exported>),
    /// To `Reviews`.
    Reviews(Vec<AwaitingReview>),
    /// To `Review`.
    Reviewed(Box<Reviewed>),
    /// To `Doctor`.
    Doctor(Vec<Check>),
    /// To `Exposure`.
    Exposure(Box<Exposure>),
    /// To `Contact`.
    Contact(Box<ContactView>),
    /// To `Status` and `Confirm`.
    Status(Box<Status>),
    /// To `Purge`.
    Purged(Box<Purged>),
    /// To `Keys`, `Renew`, `Revoke` and `Publish`.
    Keys(Box<KeysView>),
    /// To `LogPiece`.
    LogPiece(LogPiece),
    /// To `AuditOwn`.
    AuditOwn(OwnPage),
    /// To `Findings`.
    Findings(Vec<Found>),
    /// To `Erase`.
    Ordered(Ordered),
    /// To `Policy` and `PublishPolicy`.
    Policy(Box<PolicyView>),
    /// To `Lock`, and to `Status` of a daemon that is locked.
    Locked {
        /// Since when, milliseconds since 1970.
        since_ms: u64,
    },
}

impl Desk {
    /// As [`answer_telling`](Self::answer_telling), telling nobody.
    #[cfg(test)]
    pub(crate) fn answer(&self, request: Request) -> Result<Reply, Failure> {
        self.answer_telling(request, &crate::shell::progress::nobody)
    }

    /// Does what a command asks; tells how far sealing and opening of attachments are.
    pub(crate) fn answer_telling(&self, request: Request, tell: Tell<'_>) -> Result<Reply, Failure> {
        match request {
            Request::Send { draft, attach, to, from, how } => {
                let order =
                    Asked { draft: &draft, attach: &attach, to: &to, from: from.as_deref(), how: &how };
                self.send_telling(&order, &mut os_entropy(), tell).map(Reply::Kept)
            }
            Request::Inbox { limit } => self.inbox(limit).map(Reply::Inbox),
            Request::Outbox { limit } => self.outbox(limit).map(Reply::Outbox),
            Request::Standing { id } => self.standing(&id).map(Box::new).map(Reply::Standing),
            Request::Show { id } => self.show(&id).map(Box::new).map(Reply::Packet),
            Request::Evidence { id, out } => {
                self.prove(&id, out.as_deref()).map(Box::new).map(Reply::Evidence)
            }
            Request::Export { id, to, confirmed } => {
                self.export_telling(&id, &to, confirmed, tell).map(Reply::Exported)
            }
            Request::Reviews => self.reviews().map(Reply::Reviews),
            Request::Review { id, verdict } => self.review(&id, verdict).map(Box::new).map(Reply::Reviewed),
            Request::Contact { agency } => self.contact(&agency).map(Box::new).map(Reply::Contact),
            Request::Confirm { agency, key, groups } => {
                self.confirm(&agency, &key, &groups)?;
                Ok(Reply::Status(Box::new(self.status())))
            }
            Request::Exposure { lost, since_ms, titles } => {
                self.exposure(&lost, since_ms, titles).map(Box::new).map(Reply::Exposure)
            }
            Request::Doctor => Ok(Reply::Doctor(self.doctor())),
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::Purge { ids, before_ms, expired, confirmed } => {
                let chosen = purge::Chosen { ids: &ids, before_ms, expired };
                self.purge(&chosen, confirmed, clock::now_ms()).map(Box::new).map(Reply::Purged)
            }
            Request::Keys => self.keys_view().map(Box::new).map(Reply::Keys),
            Request::Renew { word, all } => {
                self.renew_keys(&word, all, clock::now_ms())?;
                self.keys_view().map(Box::new).map(Reply::Keys)
            }
            Request::Revoke { revocation } => {
                self.revoke_keys(revocation.as_deref(), clock::now_ms())?;
                self.keys_view().map(Box::new).map(Reply::Keys)
            }
            Request::Publish { file } => {
                self.publish_keyset(&file)?;
                self.keys_view().map(Box::new).map(Reply::Keys)
            }
            Request::LogPiece { origin, path, offset } => {
                self.audit_piece(&origin, &path, offset).map(Reply::LogPiece)
            }
            Request::AuditOwn { after, limit } => self.audit_own(after, limit).map(Reply::AuditOwn),
            Request::Findings => self.audit_findings().map(Reply::Findings),
            Request::Policy => Ok(Reply::Policy(Box::new(self.policy_view(clock::now_ms())))),
            Request::PublishPolicy(new) => {
                self.publish_policy(new, clock::now_ms()).map(Box::new).map(Reply::Policy)
            }
            Request::Erase { origin, indices, ground } => {
                self.audit_erase(&origin, &indices, &ground).map(Reply::Ordered)
            }
            Request::Lock | Request::Unlock { .. } => Err(Failure::new(
                Code::Usage,
                "no daemon runs here, so nothing holds the keys; start `lintas run`",
            )),
        }
    }
}

//! What the auditor's commands ask of a node: pieces of the broker's log, what the broker promised to this agency, and
//! orders of erasure.

use bytes::Bytes;
use lintas_proto::{
    audit::files::LogFile,
    canonical,
    evidence::Evidence,
    id::{hex, sha256, unhex},
    limits,
    receipt::Receipt,
    schema::{
        ErasureOrder, ErasureStatus, Reason, SignedErasureOrder, SignedEvidence, SignedReceipt,
        StoredEvidence,
    },
    sign::Signed,
};

use super::Desk;
use crate::{
    core::{
        audit::own::{Found, LogPiece, Ordered, OwnEvent, OwnEvidence, OwnPage},
        records::Record,
        text::{one_line, reason},
    },
    shell::{
        clock,
        failure::{Code, Failure},
        log_link::LogError,
    },
};

impl Desk {
    /// A piece of a file of the broker's log, unverified.
    pub(super) fn audit_piece(&self, origin: &str, path: &str, offset: u64) -> Result<LogPiece, Failure> {
        let file = LogFile::parse(path).ok_or_else(|| Failure::new(Code::Usage, "a log has no such file"))?;
        let asked = wait(self.fetch_log(origin, file, offset, PIECE_BYTES))?;
        match asked {
            Ok(piece) => Ok(LogPiece { file_length: Some(piece.file_length), bytes: hex(&piece.bytes) }),
            Err(LogError::Missing(_)) => Ok(LogPiece { file_length: None, bytes: String::new() }),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The events that receipts of the journal promise, in the order of the records behind `after`.
    pub(super) fn audit_own(&self, after: u64, limit: usize) -> Result<OwnPage, Failure> {
        let mut records: Vec<u64> = {
            let state = self.store.state();
            let sent = state.outgoing().map(|(sequence, _)| sequence);
            sent.chain(state.incoming().map(|(sequence, _)| sequence)).collect()
        };
        records.sort_unstable();
        let last = records.last().copied();
        let (mut events, mut evidence, mut at) = (Vec::new(), Vec::new(), after);
        // Receipts stand in records of their own, behind the packets that they are for.
        while events.len().saturating_add(evidence.len()) < limit {
            let Some(next) = at.checked_add(1) else { break };
            let record = match self.store.read(next) {
                Ok(record) => record,
                Err(_) if last.is_none_or(|last| next > last) => {
                    return Ok(OwnPage { events, evidence, next: None });
                }
                // A record that nobody needs any more.
                Err(_) => {
                    at = next;
                    continue;
                }
            };
            at = next;
            match record {
                Record::Receipt(stored) => events.extend(promised(&stored.receipt)),
                Record::Incoming(stored) => events.extend(promised(&stored.receipt)),
                Record::Evidence(stored) => evidence.extend(told(&stored)),
                Record::Outgoing(_)
                | Record::Refusal(_)
                | Record::Rejection(_)
                | Record::Doubted(_)
                | Record::Purge(_)
                | Record::Confirmation(_)
                | Record::Inclusion(_)
                | Record::RootProof(_)
                | Record::Review(_)
                | Record::Finding(_) => {}
            }
        }
        Ok(OwnPage { events, evidence, next: Some(at) })
    }

    /// What this node has found in the broker's log, with exhibits.
    pub(super) fn audit_findings(&self) -> Result<Vec<Found>, Failure> {
        let found = self.findings().map_err(|error| Failure::new(Code::Storage, error))?;
        let view = |one: lintas_proto::schema::StoredFinding| Found {
            exhibits: one.exhibits.iter().map(|exhibit| hex(exhibit)).collect(),
            kind: one.kind,
            text: one.text,
            is_evidence: one.is_evidence,
            time_ms: one.time_ms,
        };
        Ok(found.into_iter().map(view).collect())
    }

    /// Orders the broker to forget openings of this agency's sub-log.
    pub(super) fn audit_erase(
        &self,
        origin: &str,
        indices: &[u64],
        ground: &str,
    ) -> Result<Ordered, Failure> {
        let directory = self.directory();
        let keys = self.keys();
        let agency = keys.agency.clone();
        let known = directory.brokers().iter().any(|broker| broker.sub_log_origin(&agency) == origin);
        if !known {
            let message = format!(
                "`{}` is not the present sub-log of {agency}; an agency orders erasure in its own only",
                one_line(origin)
            );
            return Err(Failure::new(Code::Usage, message));
        }
        let mut indices = indices.to_vec();
        indices.sort_unstable();
        indices.dedup();
        let order = canonical::encode(&ErasureOrder {
            region: directory.roster().region.clone(),
            origin: origin.to_owned(),
            indices,
            ground: ground.to_owned(),
            time_ms: clock::now_ms(),
        });
        let key = &keys.packet;
        let signed = canonical::encode(&SignedErasureOrder {
            signature: Bytes::copy_from_slice(&key.sign(Signed::ErasureOrder, &order)),
            key_id: Bytes::copy_from_slice(key.id()),
            order,
        });
        if signed.len() > limits::ERASURE_BYTES_MAX {
            return Err(Failure::new(Code::Usage, "too many entries for one order; give fewer"));
        }
        let status: ErasureStatus = wait(self.log_line().erase(signed))?.map_err(|error| failed(&error))?;
        let said = Reason::try_from(status.reason).unwrap_or_default();
        if said == Reason::Accepted {
            return Ok(Ordered { index: status.index });
        }
        // The broker says in words what is to be done; the words of a reason are about packets.
        let (why, text) = (reason(said).0, one_line(&status.text));
        let message = format!("the broker refused the order: {}", if text.is_empty() { why } else { &text });
        Err(Failure::new(Code::Refused, message))
    }
}

/// Bytes of a piece: what a line of the control socket carries with ease.
const PIECE_BYTES: u64 = 4 << 20;

/// Waits for the session. Commands are answered on threads that may wait; without a daemon there is no session.
fn wait<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
        Failure::new(
            Code::NoAnswer,
            "the broker's log is read through a running node: start `lintas run`, and try again once `lintas status` says \
             that it is connected",
        )
    })?;
    Ok(runtime.block_on(work))
}

fn failed(error: &LogError) -> Failure {
    let code = match error {
        LogError::Refused { .. } => Code::Refused,
        LogError::Missing(_) => Code::NotFound,
        LogError::NotConnected | LogError::Link(_) | LogError::TooLong(_) | LogError::Slow => Code::NoAnswer,
    };
    match error {
        // What the connection says of itself tells a reader nothing of the log.
        LogError::Link(_) | LogError::Slow => Failure::new(
            code,
            format_args!(
                "the connection to the broker broke while its log was read ({error}); nothing is lost: run the command again \
                 once `lintas status` says that the node is connected"
            ),
        ),
        LogError::Refused { .. } | LogError::Missing(_) | LogError::NotConnected | LogError::TooLong(_) => {
            Failure::new(code, error)
        }
    }
}

/// Evidence that was verified when it was kept.
fn told(stored: &StoredEvidence) -> Option<OwnEvidence> {
    let signed: SignedEvidence =
        canonical::decode(&stored.evidence, limits::EVIDENCE_BYTES_MAX + 4_096).ok()?;
    let said = Evidence::parse(&signed.evidence).ok()?;
    let to = said.recipient?;
    Some(OwnEvidence {
        packet: said.packet_id.to_string(),
        to: format!("{} / {}", to.agency, to.unit),
        digest: hex(&sha256(&[&stored.evidence])),
        received_ms: stored.received_ms,
    })
}

/// The events of a receipt that was verified when it was kept.
fn promised(signed: &Bytes) -> Vec<OwnEvent> {
    let signed: Option<SignedReceipt> = canonical::decode(signed, limits::RECEIPT_BYTES_MAX + 4_096).ok();
    let Some((receipt, _)) = signed.and_then(|signed| Receipt::parse(&signed.receipt).ok()) else {
        return Vec::new();
    };
    let event = |event: &lintas_proto::schema::LoggedEvent| OwnEvent {
        origin: receipt.origin.clone(),
        index: event.index,
        leaf: hex(&event.leaf),
        packet: receipt.packet_id.to_string(),
        deadline_ms: receipt.deadline_ms,
    };
    receipt.events.iter().map(event).collect()
}

/// Bytes of a piece, as they came over the control socket.
pub(crate) fn piece_bytes(piece: &LogPiece) -> Result<Bytes, Failure> {
    unhex(&piece.bytes).map(Bytes::from).map_err(Failure::internal)
}

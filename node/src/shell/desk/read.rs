//! Looking: inbox, outbox, one packet, its attachments, the node itself.

use std::{path::Path, sync::PoisonError};

use lintas_proto::{id::hex, limits};

use super::{Desk, standing::arrival, stored};
use crate::{
    core::{
        archive::{self, ArchiveError, Open, Sealed, open_incoming, open_outgoing, show, title},
        handling::is_restricted,
        records::Record,
        state::{Answer, Incoming, Outgoing, State, name},
        text,
        view::{
            Direction, Exported, Inbox, InboxEntry, Outbox, OutboxEntry, PacketView, RejectedEntry, Status,
        },
    },
    shell::{
        blobs::{self, Wanted},
        clock,
        failure::{Code, Failure},
        files,
        progress::Tell,
    },
};

/// Most entries of one list.
pub(super) const ENTRIES_MAX: usize = 1_000;
/// Fewest digits that name a packet by its header digest.
pub(super) const DIGITS_MIN: usize = 8;

/// Below this the operator is told, bytes.
const DISK_FREE_BYTES_MIN: u64 = 1 << 30;

const GAP: &str =
    "an earlier packet from this sender was not seen here: it may have expired, or been held back";

const RESTRICTED: &str = "the label of this packet says H3 or DISPLAY_ONLY, so its attachments are not written into files \
    without a yes: read its restrictions with `lintas show`, then give --yes if they allow it";

const SENT_AND_GONE: &str = "the sealed copies of this packet's attachments were removed when everything about it \
    was known; the files that were attached are where they were, and the packet names their SHA-256";

/// One packet, found.
pub(super) enum Found {
    Received(u64, Incoming),
    Sent(u64, Outgoing),
}

impl Desk {
    /// What came, newest first.
    pub(super) fn inbox(&self, limit: usize) -> Result<Inbox, Failure> {
        let limit = limit.min(ENTRIES_MAX);
        let (found, rejected, total) = {
            let state = self.store.state();
            let gap = |packet: &Incoming| state.misses_previous(packet);
            let found: Vec<(u64, Incoming, bool)> =
                state.incoming().take(limit).map(|(at, packet)| (at, packet.clone(), gap(packet))).collect();
            let rejected = state.rejections().take(limit).map(|rejection| RejectedEntry {
                digest: hex(&rejection.digest),
                unit: rejection.unit.clone(),
                reason: rejection.reason.as_str_name().to_owned(),
                text: rejection.text.clone(),
                received_ms: rejection.received_ms,
            });
            (found, rejected.collect(), state.incoming().count())
        };
        let entry = |(sequence, packet, gap): (u64, Incoming, bool)| {
            let purged_ms = self.purged_ms(sequence);
            let (title, mut warnings) = match self.open_received(sequence) {
                Ok(open) => (title(&open.body), open.warnings),
                Err(_) if purged_ms.is_some() => (String::new(), Vec::new()),
                Err(failure) => (String::new(), vec![failure.message]),
            };
            warnings.extend(gap.then(|| GAP.to_owned()));
            InboxEntry {
                purged_ms,
                packet_id: packet.packet_id.to_string(),
                from: name(&packet.originator),
                unit: packet.unit,
                kind: packet.kind.as_str_name().to_owned(),
                title,
                received_ms: packet.received_ms,
                proven: self.proven(sequence),
                attachments: packet.attachments.len(),
                warnings,
            }
        };
        let arriving = self.transfers.of(Direction::Download);
        Ok(Inbox { packets: found.into_iter().map(entry).collect(), rejected, arriving, total })
    }

    /// What was sent, newest first.
    pub(super) fn outbox(&self, limit: usize) -> Result<Outbox, Failure> {
        let (found, total) = {
            let state = self.store.state();
            let limit = limit.min(ENTRIES_MAX);
            let found: Vec<_> =
                state.outgoing().take(limit).map(|(at, packet)| (at, packet.clone())).collect();
            (found, state.outgoing().count())
        };
        let packets = found.into_iter().map(|(sequence, packet)| self.outbox_entry(sequence, &packet));
        Ok(Outbox { packets: packets.collect(), total })
    }

    /// Where one packet of ours stands.
    pub(super) fn standing(&self, id: &str) -> Result<OutboxEntry, Failure> {
        let state = self.store.state();
        let found = state.outgoing().find(|(_, packet)| packet.packet_id.to_string() == id);
        let found = found.map(|(sequence, packet)| (sequence, packet.clone()));
        drop(state);
        let (sequence, packet) = found.ok_or_else(|| no_such(id))?;
        Ok(self.outbox_entry(sequence, &packet))
    }

    /// One packet, opened again from disk.
    pub(super) fn show(&self, id: &str) -> Result<PacketView, Failure> {
        match self.look_up(id)? {
            Found::Received(sequence, packet) => {
                let mut open = self.open_received(sequence)?;
                open.warnings.extend(self.store.state().misses_previous(&packet).then(|| GAP.to_owned()));
                let unit = format!("{}/{}", self.keys().agency, packet.unit);
                let view = show(open).map_err(unopened)?;
                let (direction, received_ms) = ("received".to_owned(), Some(packet.received_ms));
                Ok(PacketView {
                    direction,
                    to: vec![unit],
                    received_ms,
                    proven: self.proven(sequence),
                    ..view
                })
            }
            Found::Sent(sequence, packet) => {
                let view = show(self.open_sent(sequence)?).map_err(unopened)?;
                let to = packet.recipients.iter().map(|(unit, _)| name(unit)).collect();
                let outbox = Some(self.outbox_entry(sequence, &packet));
                let proven = self.proven(sequence);
                Ok(PacketView { direction: "sent".to_owned(), to, outbox, proven, ..view })
            }
        }
    }

    /// As [`export_telling`](Self::export_telling), telling nobody.
    #[cfg(test)]
    pub(super) fn export(&self, id: &str, to: &Path) -> Result<Vec<Exported>, Failure> {
        self.export_telling(id, to, false, &crate::shell::progress::nobody)
    }

    /// Writes the attachments of a packet, in clear, under names of our own.
    pub(super) fn export_telling(
        &self,
        id: &str,
        to: &Path,
        confirmed: bool,
        tell: Tell<'_>,
    ) -> Result<Vec<Exported>, Failure> {
        let (open, incoming) = match self.look_up(id)? {
            Found::Received(sequence, _) => (self.open_received(sequence)?, true),
            Found::Sent(sequence, _) => (self.open_sent(sequence)?, false),
        };
        if !to.is_dir() {
            let message = format!("`{}` is not a folder; make it first", to.display());
            return Err(Failure::new(Code::NotFound, message));
        }
        let core = open.header.core();
        if is_restricted(&core.label) && !confirmed {
            return Err(Failure::new(Code::Usage, RESTRICTED));
        }
        if core.attachments.is_empty() {
            return Err(Failure::new(Code::NotFound, "this packet has no attachments"));
        }
        let mut exported = Vec::with_capacity(core.attachments.len());
        let total = open.body.attachments.iter().map(|key| key.length).fold(0, u64::saturating_add);
        let mut before: u64 = 0;
        let views = archive::attachments(&open.body);
        let pairs = core.attachments.iter().zip(&open.body.attachments).zip(views);
        for (index, ((reference, key), attachment)) in (0u32..).zip(pairs) {
            let blob = hex(&reference.blob_id);
            let sealed = if incoming { self.folder.blob_in(&blob) } else { self.folder.blob_out(&blob) };
            let target = to.join(format!("{}.bin", attachment.number));
            let wanted = Wanted { packet_id: core.packet_id, index, reference, key, sealed };
            if !incoming && !wanted.sealed.exists() {
                return Err(Failure::new(Code::NotFound, SENT_AND_GONE));
            }
            blobs::open(&wanted, &target, &|done, _| tell(before.saturating_add(done), total))?;
            before = before.saturating_add(key.length);
            exported.push(Exported { file: target.display().to_string(), attachment });
        }
        Ok(exported)
    }

    /// How the node is.
    pub(super) fn status(&self) -> Status {
        let (directory, now_ms) = (self.directory(), clock::now_ms());
        let disk_free_bytes = files::free_bytes(self.folder.root()).ok();
        let unconfirmed = self.awaiting().iter().map(ToString::to_string).collect();
        let stale = self.stale();
        let state = self.store.state();
        let (link, keys) = (self.link(), self.keys());
        let mut warnings = self.warnings(&state, disk_free_bytes, now_ms);
        warnings.extend(stale);
        warnings.extend(self.warnings_of_log(&state));
        Status {
            agency: keys.agency.clone(),
            region: keys.region.clone(),
            roster_version: directory.roster().version,
            roster_valid: directory.at(now_ms).in_force(),
            roster_until_ms: directory.roster().not_after_ms,
            held: directory.held().iter().map(ToString::to_string).collect(),
            unconfirmed,
            warnings,
            disk_free_bytes,
            daemon: self.daemon,
            locked: false,
            policy: Some(self.policy_now(now_ms)),
            link: self.daemon.then_some(link),
            transfers: self.transfers.all(),
            awaiting_review: state.awaiting_review(now_ms).count(),
            waiting: state.waiting().count(),
            sent: state.outgoing().count(),
            received: state.incoming().count(),
            rejected: state.rejections().count(),
            gaps: state.incoming().filter(|(_, packet)| state.misses_previous(packet)).count(),
        }
    }

    fn warnings(&self, state: &State, disk_free_bytes: Option<u64>, now_ms: u64) -> Vec<String> {
        let refused = self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner);
        let low = disk_free_bytes.filter(|free| *free < DISK_FREE_BYTES_MIN);
        let room = low.map(|free| {
            let mib = free >> 20;
            format!("only {mib} MiB of disk are left; make room before packets and attachments are refused")
        });
        let clock = backwards(state.latest_ms(), now_ms);
        [
            refused.clone(),
            clock,
            room,
            self.warning_of_blobs(),
            self.warning_of_keys(now_ms),
            self.warning_of_stranger(),
            self.warning_of_pages(state),
            self.warning_of_policy(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What is to be said of attachments that no kept packet names.
    pub(super) fn warning_of_blobs(&self) -> Option<String> {
        let count = self.unnamed_blobs;
        (count > 0).then(|| {
            format!(
                "{count} attachments in the folder `blobs` belong to no packet in the journal, and are left: a send \
                 was interrupted, or this is not the journal that belongs to them"
            )
        })
    }

    /// By packet id, or by the first digits of the header digest.
    pub(super) fn look_up(&self, id: &str) -> Result<Found, Failure> {
        let id = id.to_ascii_lowercase();
        let digits = id.len() >= DIGITS_MIN && !id.contains('-');
        let state = self.store.state();
        let fits =
            |packet_id: String, digest: &[u8]| packet_id == id || (digits && hex(digest).starts_with(&id));
        let received = state.incoming().find(|(_, p)| fits(p.packet_id.to_string(), &p.digest));
        if let Some((sequence, packet)) = received {
            return Ok(Found::Received(sequence, packet.clone()));
        }
        let sent = state.outgoing().find(|(_, p)| fits(p.packet_id.to_string(), &p.digest));
        sent.map(|(sequence, packet)| Found::Sent(sequence, packet.clone())).ok_or_else(|| no_such(&id))
    }

    pub(super) fn open_received(&self, sequence: u64) -> Result<Open, Failure> {
        let _sealing = self.not_purged(sequence)?;
        let Record::Incoming(stored) = self.store.read(sequence).map_err(stored)? else {
            return Err(wrong_record());
        };
        let sealed = Sealed::incoming(sequence, &stored, self.store.state().ledger());
        open_incoming(&stored, &sealed, &self.pages(), &self.directory(), clock::now_ms()).map_err(unopened)
    }

    pub(super) fn open_sent(&self, sequence: u64) -> Result<Open, Failure> {
        let _sealing = self.not_purged(sequence)?;
        let Record::Outgoing(stored) = self.store.read(sequence).map_err(stored)? else {
            return Err(wrong_record());
        };
        let sealed = Sealed::outgoing(sequence, &stored, self.store.state().ledger());
        open_outgoing(&stored, &sealed, &self.pages()).map_err(unopened)
    }

    pub(super) fn outbox_entry(&self, sequence: u64, packet: &Outgoing) -> OutboxEntry {
        let title = self.open_sent(sequence).map(|open| title(&open.body)).unwrap_or_default();
        let packet_id = packet.packet_id.to_string();
        let reviewed = packet.review.as_ref().filter(|review| review.released);
        let (own, released) = (&self.keys().agency, matches!(packet.answer, Answer::Accepted { .. }));
        let recipients = packet.recipients.iter().map(|(unit, fate)| arrival(own, unit, fate, released));
        OutboxEntry {
            purged_ms: self.purged_ms(sequence),
            kind: packet.kind.as_str_name().to_owned(),
            title,
            created_ms: packet.created_ms,
            standing: self.standing_of(packet),
            transfer: self.transfers.of(Direction::Upload).into_iter().find(|of| of.packet == packet_id),
            proven: self.proven(sequence),
            recipients: recipients.collect(),
            reviewed_by: reviewed.map(|review| review.reviewer.clone()),
            in_place_of: packet.in_place_of.as_ref().map(ToString::to_string),
            replaced_by: packet.replaced_by.as_ref().map(ToString::to_string),
            despite_stale: packet.despite_stale,
            packet_id,
        }
    }

    /// How well the receipt of the packet in that record is proven.
    fn proven(&self, sequence: u64) -> Option<String> {
        let grade = self.store.state().receipts().grade(sequence);
        grade.map(|grade| grade.as_str().to_owned())
    }
}

/// What is to be said of a clock that was further on before.
pub(super) fn backwards(latest_ms: u64, now_ms: u64) -> Option<String> {
    let behind = latest_ms.saturating_sub(now_ms);
    (behind > limits::CLOCK_SKEW_MS_MAX).then(|| {
        format!(
            "this machine's clock says {}, {} minutes before the newest record here; it is wrong now, or was \
             then: set it",
            clock::show(now_ms),
            behind / 60_000
        )
    })
}

/// The reason in our words, and theirs beside.
pub(super) fn why(reason: lintas_proto::schema::Reason, theirs: &str) -> String {
    let (ours, _) = text::reason(reason);
    if theirs.is_empty() { ours.to_owned() } else { format!("{ours} (`{}`)", text::one_line(theirs)) }
}

pub(super) fn no_such(id: &str) -> Failure {
    let message = format!(
        "there is no packet `{}`; `lintas inbox` and `lintas outbox` list the packets with their ids",
        text::one_line(id)
    );
    Failure::new(Code::NotFound, message)
}

pub(super) fn unopened(error: ArchiveError) -> Failure {
    Failure::new(Code::Storage, format_args!("the packet does not open any more: {error}"))
}

pub(super) fn wrong_record() -> Failure {
    Failure::internal("the index names a record of another kind")
}

//! Review before release (ADR 0034): a packet whose label or policy demands it is sealed and kept, and never submitted. A
//! person of this agency looks at it and decides. Released, it is sealed again with `reviewed` in its signed core and takes
//! the place of the first, by the same machinery as a packet whose keys had moved; refused, it ends here. The decision and
//! what was sealed are kept in one group, both or neither.

use std::sync::PoisonError;

use bytes::Bytes;
use lintas_config::policy::{Decision, Layers, Question, Way};
use lintas_proto::{
    envelope::core::Core,
    id::Digest,
    limits,
    schema::{Opening, StoredReview, UnitRef},
};
use serde::{Deserialize, Serialize};

use super::{
    Desk,
    read::{ENTRIES_MAX, Found, wrong_record},
    reseal::{Resealed, openings},
    stored,
};
use crate::{
    core::{
        handling::restrictions,
        records::{Record, RecordError},
        state::{Answer, Outgoing, Review, name},
        text::one_line,
        view::{AwaitingReview, Reviewed},
    },
    shell::{
        clock,
        failure::{Code, Failure},
    },
};

/// Longest name and office, or note, bytes.
const WORDS_BYTES_MAX: usize = limits::SENTENCE_BYTES_MAX;

/// What a person decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// It may go.
    pub(crate) released: bool,
    /// Name and office.
    pub(crate) by: String,
    /// Why; may be empty.
    pub(crate) note: String,
}

impl Desk {
    /// What waits for review and may still be released, oldest first.
    pub(super) fn reviews(&self) -> Result<Vec<AwaitingReview>, Failure> {
        let now_ms = clock::now_ms();
        let waiting: Vec<(u64, Outgoing)> = {
            let state = self.store.state();
            let waiting = state.awaiting_review(now_ms).take(ENTRIES_MAX);
            waiting.map(|(at, packet)| (at, packet.clone())).collect()
        };
        waiting.into_iter().map(|(sequence, packet)| self.awaiting_entry(sequence, &packet, now_ms)).collect()
    }

    fn awaiting_entry(
        &self,
        sequence: u64,
        packet: &Outgoing,
        now_ms: u64,
    ) -> Result<AwaitingReview, Failure> {
        let Record::Outgoing(kept) = self.store.read(sequence).map_err(stored)? else {
            return Err(wrong_record());
        };
        let openings = openings(&kept).map_err(unread)?;
        let (restricted, demanded_by) = match self.open_sent(sequence) {
            Ok(open) => {
                let core = open.header.core();
                (restrictions(&core.label, &open.body), self.demanded_by(core, &openings, now_ms))
            }
            Err(failure) => (vec![failure.message], Vec::new()),
        };
        let packet = self.outbox_entry(sequence, packet);
        Ok(AwaitingReview { packet, restrictions: restricted, demanded_by })
    }

    /// The policies that demand the review, as they are today.
    fn demanded_by(&self, core: &Core, openings: &[Opening], now_ms: u64) -> Vec<String> {
        let Ok(policies) = self.policies(&self.directory()) else { return Vec::new() };
        let mut ids = Vec::new();
        for opening in openings {
            let recipient = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
            let question = Question {
                originator: &core.originator,
                recipient: &recipient,
                named: opening.named,
                kind: core.kind,
                label: &core.label,
                onward: core.onward,
                reviewed: false,
                way: Way::Direct,
                now_ms,
            };
            match policies.decide(&question, Layers::Release).as_ref() {
                Decision::Review(allowed) => ids.extend(allowed.review_by.iter().cloned()),
                Decision::Release(_) | Decision::Deny(_) => {}
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A person's decision about a packet that waits for it. Durable when this returns.
    pub(super) fn review(&self, id: &str, verdict: Verdict) -> Result<Reviewed, Failure> {
        let Verdict { released, by, note } = verdict;
        let by = reviewer(&by)?;
        let note = words("--note", &note)?;
        // Held to the end: of two persons the first one decides.
        let _one = self.reviewing.lock().unwrap_or_else(PoisonError::into_inner);
        let (sequence, packet) = match self.look_up(id)? {
            Found::Sent(sequence, packet) => (sequence, packet),
            Found::Received(..) => {
                return Err(no("this packet was received: only what this agency sends is reviewed here"));
            }
        };
        let now_ms = clock::now_ms();
        waits(&packet, now_ms)?;
        let review = record(&packet.digest, released, by.clone(), note, now_ms);
        let replaced_by = if released {
            Some(self.release_reviewed(sequence, &packet, review, now_ms)?)
        } else {
            self.store.keep(vec![review]).map_err(stored)?;
            None
        };
        // The sealed attachments of what will never be submitted.
        self.tidy_these(&[packet.digest]);
        self.bell.notify_one();
        tracing::info!(id = %packet.packet_id, released, "reviewed");
        Ok(Reviewed {
            packet_id: packet.packet_id.to_string(),
            released,
            by,
            replaced_by,
            to: packet.recipients.iter().map(|(unit, _)| name(unit)).collect(),
            deliver_by_ms: packet.deliver_by_ms,
            daemon: self.daemon,
        })
    }

    /// Seals it again under the directory and the policies of now; the id of what takes its place.
    fn release_reviewed(
        &self,
        sequence: u64,
        packet: &Outgoing,
        review: Record,
        now_ms: u64,
    ) -> Result<String, Failure> {
        if let Some(stale) = self.stale().filter(|_| !packet.despite_stale) {
            self.want_directory();
            return Err(Failure::new(Code::Stale, stale));
        }
        let Record::Outgoing(kept) = self.store.read(sequence).map_err(stored)? else {
            return Err(wrong_record());
        };
        let openings = openings(&kept).map_err(unread)?;
        let open = self.open_sent(sequence)?;
        let resealed = self.reseal(open, &openings, packet, true, now_ms)?;
        let Some(Resealed { with, made, blobs, sealing }) = resealed else {
            return Err(Failure::internal("what was released in review is what waited for it"));
        };
        let kept = self.store.keep_together(vec![review, made.record]);
        drop(sealing);
        match kept {
            Ok(true) => Ok(with.to_string()),
            Ok(false) => {
                self.remove_blobs(&blobs);
                Err(Failure::new(Code::Storage, "the disk is full, and nothing was released: make room"))
            }
            Err(error) => Err(stored(error)),
        }
    }
}

/// That a packet waits for review, in time.
pub(super) fn waits(packet: &Outgoing, now_ms: u64) -> Result<(), Failure> {
    match (&packet.answer, &packet.review) {
        (Answer::AwaitsReview, _) if now_ms < packet.deliver_by_ms => Ok(()),
        (Answer::AwaitsReview, _) => Err(no(&format!(
            "its time to be delivered ended {}, before anybody had reviewed it: send it again if it still matters",
            clock::show(packet.deliver_by_ms)
        ))),
        (Answer::Reviewed, Some(Review { released, reviewer, time_ms, .. })) => Err(no(&format!(
            "{} has {} it already, {}",
            one_line(reviewer),
            if *released { "released" } else { "refused" },
            clock::show(*time_ms)
        ))),
        (Answer::Reviewed | Answer::Waiting | Answer::Accepted { .. } | Answer::Refused { .. }, _) => {
            Err(no("this packet does not wait for review; `lintas review` lists those that do"))
        }
    }
}

fn no(why: &str) -> Failure {
    Failure::new(Code::Draft, why)
}

fn unread(error: RecordError) -> Failure {
    Failure::new(Code::Storage, error)
}

/// The record of a decision.
pub(super) fn record(digest: &Digest, released: bool, reviewer: String, note: String, now_ms: u64) -> Record {
    let header_digest = Bytes::copy_from_slice(digest);
    Record::Review(StoredReview { header_digest, released, reviewer, note, time_ms: now_ms })
}

/// Name and office of a reviewer, as they said.
pub(super) fn reviewer(by: &str) -> Result<String, Failure> {
    let by = words("name and office", by)?;
    let both =
        by.split_once(',').is_some_and(|(name, office)| !name.trim().is_empty() && !office.trim().is_empty());
    if both {
        Ok(by)
    } else {
        let message = format!(
            "`{}` is not a name and an office; write who has reviewed it as \"NAME, OFFICE\"",
            one_line(&by)
        );
        Err(Failure::new(Code::Usage, message))
    }
}

fn words(what: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.len() > WORDS_BYTES_MAX || text.chars().any(char::is_control) {
        let message = format!("{what}: at most {WORDS_BYTES_MAX} bytes on one line are allowed");
        return Err(Failure::new(Code::Usage, message));
    }
    Ok(text.to_owned())
}

//! What the session asks of the desk: how to introduce itself, and what to answer to what it heard.

use std::{
    iter::Peekable,
    sync::{PoisonError, RwLockReadGuard},
    vec::IntoIter,
};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_link::decode;
use lintas_proto::{
    frame::FrameType,
    id::Digest,
    schema::{Acknowledgement, AttachmentRef, Delivery, DirectoryNotice, Hello, WitnessAnswer},
};

use super::{Desk, answers::Batch};
use crate::{
    core::{
        freshness::sighting,
        inbox::{Bench, Judgement, Stands, Verdict, judge, settle, stands},
        records::{Record, RecordError},
        text::one_line,
    },
    shell::{clock, failure::Failure, store::StoreError},
};

/// Most rejected deliveries that are kept and answered.
const REJECTIONS_MAX: usize = if cfg!(test) { 8 } else { 10_000 };

/// What came on the session stream.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Frame type.
    pub(crate) kind: FrameType,
    /// Its payload.
    pub(crate) payload: Bytes,
}

/// What is to be done about one frame, judged but not kept.
#[derive(Debug)]
pub(crate) enum Step {
    /// A receipt, refusal or evidence: decided when it is kept.
    Answer(Heard),
    /// A delivery to be answered as before.
    Again {
        /// Its place in the queue.
        queue_sequence: u64,
        /// The record that answered it.
        record: u64,
    },
    /// A delivery to be judged again once its blobs are here.
    Fetch {
        /// Its place in the queue.
        queue_sequence: u64,
        /// SHA-256 of its header.
        digest: Digest,
        /// Packet id.
        packet: String,
        /// Those that are missing.
        attachments: Vec<AttachmentRef>,
        /// The delivery as it came.
        payload: Bytes,
    },
    /// A delivery to be kept.
    Verdict {
        /// Its place in the queue.
        queue_sequence: u64,
        /// What to keep.
        verdict: Verdict,
    },
    /// A delivery that stays with the broker until there is another directory, or a policy.
    Leave {
        /// What the officer is told.
        why: String,
        /// Hash of the directory by which it was judged.
        directory: Digest,
        /// No policy of this agency was in force.
        no_policy: bool,
    },
    /// A checkpoint of the log to be cosigned.
    Witness {
        /// The request.
        request: Bytes,
        /// When it came, by an agreed clock. To be cosigned as of then: the clock may be set meanwhile.
        now_ms: u64,
    },
    /// Nothing is to be kept or said.
    Nothing,
    /// The broker broke the protocol; what came before is kept, what comes after is not looked at.
    Broken(String),
}

/// What is to be said to the broker.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// About what is durable.
    pub(crate) acknowledgements: Vec<Acknowledgement>,
    /// To requests to cosign.
    pub(crate) witness_answers: Vec<WitnessAnswer>,
    /// There was no room for packets: those are to be delivered again later.
    pub(crate) full: bool,
    /// The session cannot go on, once the rest is said.
    pub(crate) broken: Option<Broken>,
}

/// What the session cannot go on after.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The broker broke the protocol.
    Protocol(String),
    /// The store failed.
    Store(StoreError),
    /// Something that cannot happen.
    Internal(Failure),
}

impl Desk {
    /// How this node introduces itself.
    pub(crate) fn hello(&self) -> Hello {
        let (keys, directory) = (self.keys(), self.directory());
        let agency = &keys.agency;
        Hello {
            protocol: 1,
            region: keys.region.clone(),
            agency: agency.clone(),
            roster_version: directory.roster().version,
            keyset_version: directory.keyset_version(agency).unwrap_or_default(),
            directory_hash: Bytes::copy_from_slice(directory.hash()),
            slot_key: Bytes::copy_from_slice(keys.slot_key.as_slice()),
            root_checkpoint: self.attested_note(),
            time_ms: clock::now_ms(),
            software: concat!("lintas-node ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// The connection is gone; everything unanswered goes out again.
    pub(crate) fn disconnected(&self) {
        // First of all nothing is replaced any more: then it may be submitted again.
        self.pending().clear();
        self.pipeline().disconnected();
    }

    /// Judges frames in order, until one that breaks the protocol. Nothing is kept yet.
    pub(crate) fn judge(&self, heard: Vec<Heard>) -> Vec<Step> {
        let mut steps = Vec::with_capacity(heard.len());
        for heard in heard {
            let step = self.judge_one(heard);
            let broken = matches!(step, Step::Broken(_));
            steps.push(step);
            if broken {
                break;
            }
        }
        steps
    }

    fn judge_one(&self, heard: Heard) -> Step {
        match self.agreed_ms() {
            Ok(now_ms) => self.judge_at(heard, now_ms),
            Err(Broken::Protocol(why)) => Step::Broken(why),
            Err(Broken::Store(error)) => Step::Broken(error.to_string()),
            Err(Broken::Internal(failure)) => Step::Broken(failure.to_string()),
        }
    }

    /// The clock is read once: between two looks it may be set.
    pub(super) fn judge_at(&self, heard: Heard, now_ms: u64) -> Step {
        let Heard { kind, payload } = &heard;
        match kind {
            FrameType::Receipt | FrameType::Refusal | FrameType::Evidence => Step::Answer(heard),
            FrameType::Delivery => self.judge_delivery(heard, now_ms),
            FrameType::DirectoryNotice => self.notice(*kind, payload),
            FrameType::WitnessRequest => Step::Witness { request: heard.payload, now_ms },
            FrameType::Hello
            | FrameType::HelloAck
            | FrameType::Submission
            | FrameType::Acknowledgement
            | FrameType::BlobPut
            | FrameType::BlobGet
            | FrameType::BlobStatus
            | FrameType::DirectoryGet
            | FrameType::DirectoryHead
            | FrameType::KeysetPut
            | FrameType::KeysetStatus
            | FrameType::WitnessAnswer
            | FrameType::LogGet
            | FrameType::LogHead
            | FrameType::ErasurePut
            | FrameType::ErasureStatus
            | FrameType::PolicyPut
            | FrameType::PolicyStatus
            | FrameType::PolicyGet
            | FrameType::PolicyHead => {
                Step::Broken(format!("the broker sent a {kind:?} frame in the session"))
            }
        }
    }

    fn judge_delivery(&self, heard: Heard, now_ms: u64) -> Step {
        let delivery: Delivery = match decode(heard.kind, &heard.payload) {
            Ok(delivery) => delivery,
            Err(error) => return Step::Broken(error.to_string()),
        };
        let directory = self.directory();
        let judgement = {
            let (keys, policies) = (self.keys(), self.policies_at(&directory, now_ms).ok());
            let (state, policies) = (|| self.store.state(), policies.as_deref());
            judge(&delivery, Bench { state: &state, directory: &directory, policies, keys: &keys, now_ms })
        };
        let queue_sequence = delivery.queue_sequence;
        let leave = |why: String, no_policy| Step::Leave { why, directory: *directory.hash(), no_policy };
        self.sight(&judgement, &delivery, now_ms);
        match judgement {
            Judgement::Again(record) => Step::Again { queue_sequence, record },
            Judgement::Accept(accepted) => {
                self.hear_checkpoint(&accepted.originator, &accepted.root_checkpoint);
                let (digest, attachments) = (accepted.digest, self.missing(&accepted.attachments));
                if attachments.is_empty() {
                    Step::Verdict { queue_sequence, verdict: Verdict::Accept(accepted) }
                } else {
                    let packet = accepted.packet_id().to_string();
                    Step::Fetch { queue_sequence, digest, packet, attachments, payload: heard.payload }
                }
            }
            Judgement::Reject(rejected) => {
                tracing::warn!(unit = rejected.unit, why = one_line(&rejected.text), "delivery rejected");
                Step::Verdict { queue_sequence, verdict: Verdict::Reject(rejected) }
            }
            Judgement::TooNew(why) => {
                let why = format!(
                    "a packet waits at the broker because this node's directory is older than its sender's or the \
                     broker's ({}); the node fetches the newest",
                    one_line(&why)
                );
                leave(why, false)
            }
            Judgement::UnknownUnit(unit) => {
                let why = format!(
                    "a packet waits at the broker: the directory here does not know unit {} yet; the node \
                     fetches the newest",
                    one_line(&unit)
                );
                leave(why, false)
            }
            Judgement::NoPolicy => {
                self.wait_for_policy();
                leave(
                    "a packet waits at the broker: no release policy of this agency is in force here, so it can neither be \
                     taken nor refused; the node fetches the policy by itself, if the agency has published one; if not, \
                     write one with `lintas policy new` and publish it"
                        .to_owned(),
                    true,
                )
            }
            Judgement::Unanswerable(why) => Step::Broken(format!("the broker sent {why}")),
        }
    }

    fn notice(&self, kind: FrameType, payload: &Bytes) -> Step {
        match decode::<DirectoryNotice>(kind, payload) {
            Ok(notice) => {
                self.hear_of_directory(notice.roster_version, &notice.directory_hash);
                Step::Nothing
            }
            Err(error) => Step::Broken(error.to_string()),
        }
    }

    /// Notes which directory the sender of a packet has that stays with the broker, if its signature holds.
    fn sight(&self, judgement: &Judgement, delivery: &Delivery, now_ms: u64) {
        if matches!(judgement, Judgement::TooNew(_) | Judgement::UnknownUnit(_)) {
            let directory = self.directory();
            let core = sighting(&delivery.header, &delivery.signature, &directory.at(now_ms));
            core.iter().for_each(|core| self.sighted().note(core));
        }
    }

    /// Keeps what was judged, then says what to acknowledge. Nothing is said about what is not durable.
    pub(crate) fn settle(&self, steps: Vec<Step>) -> Result<Settled, Broken> {
        let (mut steps, mut all) = (steps.into_iter().peekable(), Settled::default());
        while all.broken.is_none() && steps.peek().is_some() {
            let settled = self.settle_group(&mut steps)?;
            all.acknowledgements.extend(settled.acknowledgements);
            all.witness_answers.extend(settled.witness_answers);
            all.full |= settled.full;
            all.broken = settled.broken;
        }
        Ok(all)
    }

    /// Keeps together what may be kept together. Of two packets under one id the second has to wait until the first is
    /// kept, which refuses it.
    fn settle_group(&self, steps: &mut Peekable<IntoIter<Step>>) -> Result<Settled, Broken> {
        // Until the records are kept: meanwhile no page is destroyed, and no attachment of a packet that is purged.
        let sealing = self.sealing();
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        let (mut broken, mut gone) = (None, false);
        let mut witness_answers = Vec::new();
        let fits = |step: &Step, batch: &Batch| !matches!(step, Step::Verdict { verdict, .. } if batch.clashes(verdict));
        while let Some(step) = steps.next_if(|step| broken.is_none() && fits(step, &batch)) {
            match step {
                Step::Answer(heard) => broken = self.answered(&heard, &mut batch).err(),
                Step::Again { queue_sequence, record } => self.again(queue_sequence, record, &mut batch)?,
                Step::Verdict { verdict: Verdict::Accept(accepted), .. }
                    if !self.missing(&accepted.attachments).is_empty() =>
                {
                    self.trouble(
                        "a packet waits at the broker: its attachments went meanwhile with another packet that was \
                         purged; they are fetched again",
                    );
                    gone = true;
                }
                Step::Verdict { queue_sequence, verdict } => {
                    let stands = stands(verdict, &self.store.state());
                    match stands {
                        Stands::Again(record) => self.again(queue_sequence, record, &mut batch)?,
                        Stands::Verdict(verdict) => self.place(queue_sequence, verdict, &mut batch),
                    }
                }
                Step::Witness { request, now_ms } => match self.cosign(&request, now_ms) {
                    Ok(answer) => witness_answers.push(answer),
                    Err(why) => broken = Some(Broken::Protocol(why)),
                },
                // Whoever fetches takes these out before.
                Step::Nothing | Step::Fetch { .. } => {}
                Step::Leave { why, directory, no_policy } => {
                    self.trouble(&why);
                    if no_policy {
                        self.wait_for_policy();
                    }
                    self.left_aside();
                    // Another one has come since it was judged, and does not ask for it any more.
                    if *self.directory().hash() != directory {
                        self.reconnect();
                    }
                }
                Step::Broken(why) => broken = Some(Broken::Protocol(why)),
            }
        }
        let (leaks, doubted_under) = (std::mem::take(&mut batch.leaks), batch.doubted_under);
        let settled = self.finish(batch, &sealing)?;
        doubted_under.iter().for_each(|under| self.note_doubted(under));
        self.tell_leaks(leaks);
        self.tell_broken_promises();
        Ok(Settled { broken, full: settled.full || gone, witness_answers, ..settled })
    }

    /// Answers a delivery as before.
    fn again(&self, queue_sequence: u64, record: u64, batch: &mut Batch) -> Result<(), Broken> {
        let evidence = self.evidence_of(record).map_err(Broken::Store)?;
        batch.acknowledgements.push(Acknowledgement { queue_sequence, evidence });
        Ok(())
    }

    fn place(&self, queue_sequence: u64, verdict: Verdict, batch: &mut Batch) {
        let rejected = self.store.state().rejections().count();
        match batch.place(verdict, REJECTIONS_MAX.saturating_sub(rejected)) {
            Some(at) => batch.queued.push((queue_sequence, at)),
            None => self.trouble(
                "too many deliveries were rejected; those that are rejected now stay at the broker: ask its operator \
                 what it sends",
            ),
        }
    }

    fn finish(&self, mut batch: Batch, _sealing: &RwLockReadGuard<'_, ()>) -> Result<Settled, Broken> {
        let (pages, no_pages) = self.pages_for(&mut batch);
        let verdicts = std::mem::take(&mut batch.verdicts);
        let taken: Vec<_> = verdicts.iter().map(Verdict::taken).collect();
        let settled = settle(verdicts, &self.keys(), pages, &mut os_entropy())
            .map_err(|error| Broken::Internal(Failure::internal(error)))?;
        let (answers, evidence): (Vec<Record>, Vec<Bytes>) = settled.into_iter().unzip();
        let mut records = std::mem::take(&mut batch.records);
        let first_answer = records.len();
        records.extend(answers);
        self.remember(&[], &records);
        let durable = self.store.keep_what_fits(records).map_err(Broken::Store)?;
        let full = durable.iter().any(|kept| !kept);
        if full {
            self.trouble("the disk is full: deliveries wait at the broker; make room, nothing is lost");
        }
        let final_answers = batch.conclude(&durable);
        for (digest, refusal) in std::mem::take(&mut batch.to_seal_again) {
            self.seal_again_later(digest, refusal);
        }
        let Batch { queued, mut acknowledgements, .. } = batch;
        for (queue_sequence, at) in queued {
            let kept = durable.get(first_answer + at).is_some_and(|kept| *kept);
            if let Some(evidence) = evidence.get(at).filter(|_| kept) {
                if let Some(Some(packet)) = taken.get(at) {
                    tracing::debug!(%packet, "delivery kept");
                }
                acknowledgements.push(Acknowledgement { queue_sequence, evidence: evidence.clone() });
            }
        }
        acknowledgements.sort_by_key(|acknowledgement| acknowledgement.queue_sequence);
        if !final_answers.is_empty() {
            // A refusal and then a receipt: what the broker has taken is not replaced.
            let mut pending = self.pending();
            final_answers.iter().for_each(|digest| drop(pending.remove(digest)));
            drop(pending);
            let mut pipeline = self.pipeline();
            final_answers.iter().for_each(|digest| pipeline.answered(digest));
            drop(pipeline);
            self.bell.notify_one();
        }
        if self.behind().is_some() {
            self.want_directory();
        }
        Ok(Settled { acknowledgements, witness_answers: Vec::new(), full: full || no_pages, broken: None })
    }

    /// The evidence that was sent when this record was kept.
    fn evidence_of(&self, sequence: u64) -> Result<Bytes, StoreError> {
        match self.store.read(sequence)? {
            Record::Incoming(stored) => Ok(stored.evidence),
            Record::Rejection(stored) => Ok(stored.evidence),
            Record::Outgoing(_)
            | Record::Receipt(_)
            | Record::Refusal(_)
            | Record::Evidence(_)
            | Record::Doubted(_)
            | Record::Inclusion(_)
            | Record::RootProof(_)
            | Record::Confirmation(_)
            | Record::Review(_)
            | Record::Finding(_)
            | Record::Purge(_) => Err(RecordError::Missing("the answer to a delivery").into()),
        }
    }

    /// Tells the log and `lintas status`.
    pub(crate) fn trouble(&self, why: &str) {
        let why = one_line(why);
        tracing::warn!(why, "trouble with the broker");
        self.note_link(|link| link.trouble = why);
    }
}

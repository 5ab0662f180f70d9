//! What the broker and recipients say about our packets, and what of it is kept.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::Directory;
use lintas_link::decode;
use lintas_proto::{
    evidence::Evidence,
    frame::FrameType,
    id::{Digest, sha256},
    schema::{Acknowledgement, EvidenceDelivery, Outcome, StoredEvidence, StoredRefusal, UnitRef},
};

use super::{
    Desk,
    exchange::{Broken, Heard},
};
use crate::core::{
    answer::{self, Refused, Told},
    inbox::Verdict,
    log::findings::{Finding, Kind},
    records::Record,
    state::{Fate, State, name},
    tally::Tally,
};

impl Desk {
    pub(super) fn answered(&self, heard: &Heard, batch: &mut Batch) -> Result<(), Broken> {
        let (state, now_ms) = (self.store.state(), self.agreed_ms()?);
        match heard.kind {
            FrameType::Receipt => {
                let agency = &self.keys().agency;
                match answer::accept_receipt(&heard.payload, &state, &self.directory(), agency, now_ms) {
                    Ok((digest, record)) => {
                        let at = record.map(|record| batch.record(Record::Receipt(record)));
                        batch.final_answers.push((digest, at));
                    }
                    Err(error) => self.trouble(&format!("a receipt of the broker is not believed: {error}")),
                }
                Ok(())
            }
            FrameType::Refusal => {
                match answer::take_refusal(&heard.payload, &state, &self.directory(), now_ms) {
                    Ok(Refused::Final { digest, record: Some(record) })
                        if self.may_seal_again(&state, &digest, &record, now_ms) =>
                    {
                        batch.to_seal_again.push((digest, record));
                    }
                    Ok(Refused::Final { digest, record }) => {
                        let at = record.map(|record| batch.record(Record::Refusal(record)));
                        batch.final_answers.push((digest, at));
                    }
                    Ok(Refused::Later { digest, reason, text, doubt }) => {
                        if let Some(error) = doubt {
                            self.trouble(&format!(
                                "a refusal of the broker is not believed, the packet is tried again: {error}"
                            ));
                        }
                        self.put_off(digest, reason, text);
                    }
                    Err(error) => self.trouble(&format!("a refusal of the broker is not believed: {error}")),
                }
                Ok(())
            }
            FrameType::Evidence => self.evidence(heard, &state, now_ms, batch),
            FrameType::Hello
            | FrameType::HelloAck
            | FrameType::Submission
            | FrameType::Delivery
            | FrameType::Acknowledgement
            | FrameType::BlobPut
            | FrameType::BlobGet
            | FrameType::BlobStatus
            | FrameType::DirectoryGet
            | FrameType::DirectoryHead
            | FrameType::KeysetPut
            | FrameType::KeysetStatus
            | FrameType::DirectoryNotice
            | FrameType::WitnessRequest
            | FrameType::WitnessAnswer
            | FrameType::LogGet
            | FrameType::LogHead
            | FrameType::ErasurePut
            | FrameType::ErasureStatus
            | FrameType::PolicyPut
            | FrameType::PolicyStatus
            | FrameType::PolicyGet
            | FrameType::PolicyHead => Ok(()),
        }
    }

    /// Raises the alarm about those who have what was not released to them.
    pub(super) fn tell_leaks(&self, leaks: Vec<(u64, String, Bytes)>) {
        for (record, why, evidence) in leaks {
            let receipt = match self.store.read(record) {
                Ok(Record::Receipt(stored)) => Some(stored.receipt),
                Ok(_) | Err(_) => None,
            };
            let exhibits = receipt.into_iter().chain([evidence]).collect();
            self.note_finding(Finding::accusation(Kind::DeliveredThoughDenied, why, exhibits));
        }
    }

    fn evidence(&self, heard: &Heard, state: &State, now_ms: u64, batch: &mut Batch) -> Result<(), Broken> {
        let delivery =
            decode(heard.kind, &heard.payload).map_err(|error| Broken::Protocol(error.to_string()))?;
        let why = batch.hear(delivery, state, &self.directory(), now_ms);
        why.iter().for_each(|why| self.trouble(why));
        Ok(())
    }
}

/// That a recipient has a packet that was not released to it, as the receipt in that record says.
fn leak(state: &State, said: &Evidence) -> Option<(u64, String)> {
    let (sequence, packet) = state.own(&said.header_digest)?;
    let is_it = |(unit, _): &&(UnitRef, Fate)| Some(unit) == said.recipient.as_ref() && *unit == said.actor;
    let (unit, fate) = packet.recipients.iter().find(is_it)?;
    let Fate::Denied(denied) = fate else { return None };
    let record = state.receipts().of(sequence)?.record;
    let why = format!(
        "the broker's receipt says that packet {} was not released to {} ({}), and that unit has signed that it has it",
        packet.packet_id,
        name(unit),
        denied.policy_ids.join(", ")
    );
    (said.outcome == Outcome::Acceptance).then_some((record, why))
}

/// Frames that are kept together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) verdicts: Vec<Verdict>,
    /// The same delivery twice in one batch is kept once.
    pub(super) places: BTreeMap<(Digest, String), usize>,
    /// Queue entry and the verdict that answers it.
    pub(crate) queued: Vec<(u64, usize)>,
    pub(crate) acknowledgements: Vec<Acknowledgement>,
    /// Queue entries of evidence, and the record that must be durable before it is acknowledged.
    taken: Vec<(u64, Option<usize>)>,
    /// Refused packets for which another one is to be sealed.
    pub(super) to_seal_again: Vec<(Digest, StoredRefusal)>,
    /// Packets with a final answer, once that record, if any, is durable.
    pub(crate) final_answers: Vec<(Digest, Option<usize>)>,
    /// The record of evidence in this batch.
    evidence: BTreeMap<Digest, usize>,
    /// Evidence in this batch.
    pub(super) tally: Tally,
    /// Hash of the directory under which evidence in this batch is not believed.
    pub(super) doubted_under: Option<Digest>,
    /// Of those who have what was not released to them: the record of the receipt, in words, their evidence.
    pub(super) leaks: Vec<(u64, String, Bytes)>,
}

impl Batch {
    /// Takes evidence about a packet of ours; says what is wrong with it. It is acknowledged also when it is not believed, or
    /// it would hold up what stands behind it.
    pub(crate) fn hear(
        &mut self,
        EvidenceDelivery { queue_sequence, evidence }: EvidenceDelivery,
        state: &State,
        directory: &Directory,
        now_ms: u64,
    ) -> Option<String> {
        let (digest, mut trouble) = (sha256(&[&evidence]), None);
        let known = state.tally().has(&digest) || self.tally.has(&digest);
        let told = match (!known).then(|| answer::hear_evidence(&evidence, state, directory, now_ms)) {
            None => None,
            Some(Ok(told)) => Some(told),
            Some(Err(error)) => return Some(format!("evidence is not believed: {error}")),
        };
        let stored = StoredEvidence { evidence, received_ms: now_ms };
        match told {
            None => {}
            Some(Told::Believed(said)) => self.believe(digest, &said, stored, state),
            Some(Told::Doubted { packet, why }) => {
                trouble = Some(format!("evidence is not believed, and changes nothing: {why}"));
                let room = |packet: &Digest| state.tally().room_to_doubt(&self.tally, &digest, packet);
                if let Some(packet) = packet.filter(room) {
                    self.tally.doubt(digest, &packet, None);
                    self.doubted_under = Some(*directory.hash());
                    let at = self.record(Record::Doubted(stored));
                    self.evidence.insert(digest, at);
                }
            }
        }
        let at = self.evidence.get(&digest).copied();
        self.taken.push((queue_sequence, at));
        trouble
    }

    /// Judges evidence again that is kept and was not believed.
    pub(crate) fn hear_again(
        &mut self,
        StoredEvidence { evidence, .. }: StoredEvidence,
        state: &State,
        directory: &Directory,
        now_ms: u64,
    ) {
        let digest = sha256(&[&evidence]);
        // It has come once more meanwhile.
        if state.tally().has(&digest) {
            return;
        }
        if let Ok(Told::Believed(said)) = answer::hear_evidence(&evidence, state, directory, now_ms) {
            self.believe(digest, &said, StoredEvidence { evidence, received_ms: now_ms }, state);
        }
    }

    /// Keeps verified evidence, if there is room for more of it.
    fn believe(&mut self, digest: Digest, said: &Evidence, stored: StoredEvidence, state: &State) {
        let (packet, recipient) = (&said.header_digest, said.recipient.as_ref());
        self.leaks.extend(leak(state, said).map(|(record, why)| (record, why, stored.evidence.clone())));
        if state.tally().room_to_believe(&self.tally, packet, recipient, said.outcome) {
            self.tally.believe(digest, packet, recipient);
            let at = self.record(Record::Evidence(stored));
            self.evidence.insert(digest, at);
        }
    }

    /// Adds a record; gives its place.
    pub(crate) fn record(&mut self, record: Record) -> usize {
        self.records.push(record);
        self.records.len() - 1
    }

    /// Acknowledges the evidence, and gives the final answers, that are durable.
    pub(crate) fn conclude(&mut self, durable: &[bool]) -> Vec<Digest> {
        let holds = |at: Option<usize>| at.is_none_or(|at| durable.get(at).is_some_and(|kept| *kept));
        let taken = std::mem::take(&mut self.taken).into_iter().filter(|(_, at)| holds(*at));
        let answer = |(queue_sequence, _)| Acknowledgement { queue_sequence, evidence: Bytes::new() };
        self.acknowledgements.extend(taken.map(answer));
        self.final_answers.iter().filter(|(_, at)| holds(*at)).map(|(digest, _)| *digest).collect()
    }

    /// Whether another packet under the same id is in this batch.
    pub(crate) fn clashes(&self, verdict: &Verdict) -> bool {
        let Some(packet) = verdict.taken() else { return false };
        let is_other =
            |before: &&Verdict| before.taken() == Some(packet) && before.delivery().0 != verdict.delivery().0;
        self.verdicts.iter().any(|before| is_other(&before))
    }

    /// Where a verdict stands in this batch. Of the same delivery twice, an acceptance counts; a rejection finds
    /// a place only while fewer than `rejections_max` are here.
    pub(crate) fn place(&mut self, verdict: Verdict, rejections_max: usize) -> Option<usize> {
        let is_rejection = |verdict: &Verdict| matches!(verdict, Verdict::Reject(_));
        let (digest, unit) = verdict.delivery();
        let key = (*digest, unit.to_owned());
        if let Some(at) = self.places.get(&key) {
            if let Some(before) = self.verdicts.get_mut(*at).filter(|before| is_rejection(before)) {
                *before = verdict;
            }
            return Some(*at);
        }
        let rejections = self.verdicts.iter().filter(|verdict| is_rejection(verdict)).count();
        if is_rejection(&verdict) && rejections >= rejections_max {
            return None;
        }
        self.places.insert(key, self.verdicts.len());
        self.verdicts.push(verdict);
        Some(self.verdicts.len() - 1)
    }
}

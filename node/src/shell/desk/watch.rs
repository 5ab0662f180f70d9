//! The node watches the broker's log: it cosigns what it has checked, compares what it is shown with what others are
//! shown, and keeps what should not be.

use std::sync::Arc;

use bytes::Bytes;
use lintas_config::{Directory, directory::Broker};
use lintas_link::decode;
use lintas_proto::{
    audit::{note::SignedCheckpoint, proof::TlogProof, tile::Hashes},
    frame::FrameType,
    id::Digest,
    schema::{Reason, StoredFinding, WitnessAnswer, WitnessRequest},
    sign::VerifyingKey,
};

use super::Desk;
use crate::{
    core::{
        log::{
            findings::{Finding, Kind, Noted, Wanted},
            gossip::{self, Heard, Origin},
            promises::Broken,
            standing::{Compared, Pair, Verdict},
            witness::{self, Decision, Refused},
        },
        records::Record,
    },
    shell::{clock, store::StoreError, watch::LearnError},
};

/// Most findings that are told one by one.
const TOLD_MAX: usize = 5;

/// A checkpoint that waits, and what it is compared with.
#[derive(Debug)]
pub(crate) struct Open {
    heard: Heard,
    /// The tiles of the larger tree decide.
    pub(crate) pair: Pair,
}

impl Desk {
    /// The largest checkpoint of the broker's root log that this node has verified.
    pub(crate) fn known_checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        let directory = self.directory();
        let broker = self.home(&directory)?;
        self.watch.known(&broker.root_origin(), &broker.log_key)
    }

    /// The note of [`known_checkpoint`](Self::known_checkpoint), as bodies carry it; empty without one.
    pub(super) fn known_note(&self) -> Bytes {
        self.known_checkpoint().map(|known| known.to_bytes()).unwrap_or_default()
    }

    /// The same for a hello. A witness cosigns it once more, as what it knows now: should the broker have lost its state,
    /// the hellos together show where its log can end. A clock in doubt is not attested: then it bears the time of the newest
    /// cosignature there, or none, which nobody takes for fresh.
    pub(super) fn attested_note(&self) -> Bytes {
        let Some(known) = self.known_checkpoint() else { return Bytes::new() };
        let (directory, keys, mut note) = (self.directory(), self.keys(), SignedCheckpoint::clone(&known));
        let witness = directory.witness(&keys.agency);
        if let Some(witness) = witness.filter(|witness| *witness.key.as_bytes() == keys.witness.public_key())
        {
            let shown_s = || note.cosignatures(&directory.witnesses()).last().copied().unwrap_or_default();
            let time_s = self.agreed_ms().map_or_else(|_| shown_s(), |now_ms| now_ms / 1_000);
            let cosigned = note
                .cosign(&keys.witness, time_s)
                .and_then(|cosignature| note.add_cosignature(&witness, &cosignature));
            if let Err(error) = cosigned {
                tracing::warn!(%error, "what this node knows of the audit log is shown without its cosignature");
            }
        }
        note.to_bytes()
    }

    /// Takes a larger checkpoint, signed by the log, that continues the one that is known: `proof` leads from there
    /// (RFC 9162 section 2.1.4). Durable when this returns. What contradicts it is noted as a finding.
    pub(crate) fn learn_checkpoint(
        &self,
        signed: SignedCheckpoint,
        proof: &[Digest],
    ) -> Result<(), LearnError> {
        self.learn(&Arc::new(signed), |pair| pair.judge_proof(proof))
    }

    fn learn(
        &self,
        signed: &Arc<SignedCheckpoint>,
        judge: impl FnOnce(&Pair) -> Verdict,
    ) -> Result<(), LearnError> {
        let directory = self.directory();
        let (_, key) = witness::log_of(&directory, signed)
            .ok_or_else(|| LearnError::NotSigned("the directory names no such log".to_owned()))?;
        let learned = self.watch.learn(signed, key, judge);
        match &learned {
            Err(LearnError::Fork(finding)) => self.note_finding(finding.as_ref().clone()),
            // Tiles will show what a proof could not.
            Err(LearnError::Unproven { .. }) => {
                self.wait_for_tiles(&self.broker_of(signed), Arc::clone(signed))
            }
            Err(LearnError::NotSigned(_) | LearnError::Damaged(_) | LearnError::Disk(_)) | Ok(()) => {}
        }
        learned
    }

    /// The broker of the session, or the first.
    fn home<'a>(&self, directory: &'a Directory) -> Option<&'a Broker> {
        let name = self.link().broker;
        let brokers = directory.brokers();
        brokers.iter().find(|broker| broker.name == name).or(brokers.first())
    }

    /// Answers a request to cosign. What it cosigns is durable before.
    pub(super) fn cosign(&self, payload: &Bytes, now_ms: u64) -> Result<WitnessAnswer, String> {
        let request: WitnessRequest =
            decode(FrameType::WitnessRequest, payload).map_err(|error| error.to_string())?;
        let refused = match self.witness(&request, now_ms) {
            Ok(answer) => return Ok(answer),
            Err(refused) => *refused,
        };
        let Refused { reason, size, why, finding, open } = refused;
        tracing::warn!(?reason, size, why, "a checkpoint of the audit log was not cosigned");
        if matches!(reason, Reason::StaleDirectory) {
            self.want_directory();
        }
        finding.into_iter().for_each(|finding| self.note_finding(finding));
        if let Some(open) = open {
            self.wait_for_tiles(&self.broker_of(&open), open);
        }
        Ok(WitnessAnswer { reason: reason as i32, size, cosignature: Bytes::new() })
    }

    fn witness(&self, request: &WitnessRequest, now_ms: u64) -> Result<WitnessAnswer, Box<Refused>> {
        let (directory, keys) = (self.directory(), self.keys());
        let is_ours = |key: &VerifyingKey| *key.as_bytes() == keys.witness.public_key();
        if !directory.witness(&keys.agency).is_some_and(|witness| is_ours(&witness.key)) {
            let why = "the directory here does not name this node as a witness";
            return Err(Box::new(Refused::new(Reason::StaleDirectory, 0, why)));
        }
        let signed = witness::signed(request, &directory)?;
        let (_, key) = witness::log_of(&directory, &signed)
            .ok_or_else(|| Box::new(Refused::new(Reason::StaleDirectory, 0, "no such log")))?;
        let decision = self.watch.witness(request, signed, key).map_err(|error| {
            self.trouble(&format!("a checkpoint of the audit log was not cosigned: {error}"));
            Box::new(Refused::new(Reason::DiskFull, 0, error.to_string()))
        })?;
        let signed = match decision {
            Decision::Keep(signed) | Decision::Again(signed) => signed,
            Decision::Refuse(refused) => return Err(Box::new(refused)),
        };
        let cosignature = signed
            .cosign(&keys.witness, self.watch.cosigning_at(now_ms / 1_000))
            .map_err(|error| Box::new(Refused::new(Reason::Policy, 0, error.to_string())))?;
        Ok(WitnessAnswer {
            reason: Reason::Accepted as i32,
            size: signed.claim().size,
            cosignature: Bytes::copy_from_slice(&cosignature),
        })
    }

    /// Compares the checkpoint that came inside a packet of `from` with what this node and others were shown.
    pub(crate) fn hear_checkpoint(&self, from: &str, note: &[u8]) {
        if note.is_empty() {
            return;
        }
        let directory = self.directory();
        match gossip::read(note, &directory) {
            Origin::Stranger => {
                tracing::info!(
                    from,
                    "a packet came with a checkpoint that no broker of the directory has signed"
                );
                self.watch.count_stranger();
            }
            Origin::Ended(signed, ended) => {
                let witnessed = signed.witnessed_at(&directory.witnesses()).is_some();
                gossip::of_ended(&signed, &ended, witnessed)
                    .into_iter()
                    .for_each(|one| self.note_finding(one));
            }
            Origin::Present(signed) => {
                let Some((_, key)) = witness::log_of(&directory, &signed) else { return };
                match self.watch.compared(&signed, key) {
                    Some(Compared::Same) => {}
                    Some(Compared::Fork(finding)) => self.note_finding(finding),
                    // Without one of ours it waits for the first.
                    Some(Compared::Apart(_)) | None => self.wait_for_tiles(from, signed),
                }
            }
        }
    }

    fn wait_for_tiles(&self, from: &str, signed: Arc<SignedCheckpoint>) {
        let fork = self.watch.waiting().add(from, signed, clock::now_ms());
        fork.into_iter().for_each(|finding| self.note_finding(finding));
        self.watch.compare.notify_one();
    }

    /// Name of the broker that keeps the log of a checkpoint.
    fn broker_of(&self, signed: &SignedCheckpoint) -> String {
        let directory = self.directory();
        directory.log_of(&signed.claim().origin).map(|log| log.broker.name.clone()).unwrap_or_default()
    }

    /// Waits until there is something to compare.
    pub(crate) async fn something_to_compare(&self) {
        self.watch.compare.notified().await;
    }

    /// What can only be decided with tiles of the broker; what is clear without is decided here.
    pub(crate) fn to_compare(&self) -> Vec<Open> {
        let directory = self.directory();
        let is_present = |origin: &str| directory.brokers().iter().any(|b| b.root_origin() == origin);
        self.watch.waiting().keep_only(is_present);
        let mut open = Vec::new();
        // A list of its own: what is decided here is taken off the other.
        let waiting = self.watch.waiting().all();
        for heard in waiting {
            let Some((_, key)) = witness::log_of(&directory, &heard.signed) else { continue };
            match self.watch.compared(&heard.signed, key) {
                None => {}
                Some(Compared::Same) => self.watch.waiting().done(&heard),
                Some(Compared::Fork(finding)) => {
                    self.note_finding(finding);
                    self.watch.waiting().done(&heard);
                }
                Some(Compared::Apart(pair)) => open.push(Open { heard, pair }),
            }
        }
        open
    }

    /// Decides with tiles that the broker gave, or `why` it gave none. True if it was decided.
    pub(crate) fn compare_with<H: Hashes>(&self, open: &Open, tiles: Result<H, String>) -> bool {
        let Open { heard, pair } = open;
        let verdict = match &tiles {
            Ok(tiles) => pair.judge(tiles).unwrap_or(Verdict::Unproven),
            Err(_) => Verdict::Unproven,
        };
        match verdict {
            Verdict::Consistent => {
                // The larger one is the broker's word as good as ours.
                if heard.signed.claim() == pair.large()
                    && let Err(error) = self.learn(&heard.signed, |now| match &tiles {
                        Ok(tiles) => now.judge(tiles).unwrap_or(Verdict::Unproven),
                        Err(_) => Verdict::Unproven,
                    })
                {
                    // Ours has grown meanwhile.
                    tracing::debug!(%error, "a checkpoint of others was not taken over");
                }
            }
            Verdict::Fork(finding) => self.note_finding(finding),
            Verdict::Unproven => {
                let why = tiles.err().unwrap_or_else(|| "what it gave is of another tree".to_owned());
                let late = self.watch.waiting().unanswered(heard, pair, &why, clock::now_ms());
                late.into_iter().for_each(|finding| self.note_finding(finding));
                return false;
            }
        }
        self.watch.waiting().done(heard);
        true
    }

    /// What this node kept of logs that have ended since, against what the region authority says of their ends.
    pub(super) fn compare_ended(&self) {
        let directory = self.directory();
        let witnesses = directory.witnesses();
        for broker in directory.brokers() {
            for (number, ended) in broker.ended_logs.iter().enumerate() {
                use lintas_proto::audit::note::{log_name, root_origin};
                let origin = root_origin(&log_name(&broker.name, number));
                // What is known bears the cosignatures only if they were there when it was kept; a proof that is kept
                // for a packet bears them for ever.
                let known = self.watch.known(&origin, &broker.log_key);
                let proven =
                    self.largest_proven(&origin).filter(|one| one.verify(&origin, &broker.log_key).is_ok());
                for one in known.into_iter().chain(proven.map(Arc::new)) {
                    let witnessed = one.witnessed_at(&witnesses).is_some();
                    gossip::of_ended(&one, ended, witnessed)
                        .into_iter()
                        .for_each(|one| self.note_finding(one));
                }
            }
        }
    }

    /// The checkpoint under which a packet of the newest epoch was witnessed.
    fn largest_proven(&self, origin: &str) -> Option<SignedCheckpoint> {
        let record = self.store.state().receipts().newest_witnessed(origin)?;
        let Ok(Record::RootProof(stored)) = self.store.read(record) else { return None };
        Some(TlogProof::parse(&stored.proof?.proof).ok()?.checkpoint)
    }

    /// Tells of promises that contradict each other, if there are any.
    pub(crate) fn tell_broken_promises(&self) {
        let broken = self.store.state().promises().take_broken();
        for Broken { origin, index, records } in broken {
            let receipt = |sequence| match self.store.read(sequence) {
                Ok(Record::Receipt(stored)) => Some(stored.receipt),
                Ok(Record::Incoming(stored)) => Some(stored.receipt),
                Ok(_) | Err(_) => None,
            };
            let exhibits: Vec<Bytes> = records.into_iter().filter_map(receipt).collect();
            let text = format!(
                "the broker has promised entry {index} of the log `{origin}` to two different events, in two signed \
                 receipts"
            );
            let finding = if exhibits.len() == records.len() {
                Finding::evidence(Kind::OtherLeaf, text, exhibits)
            } else {
                Finding::accusation(Kind::OtherLeaf, text, exhibits)
            };
            self.note_finding(finding);
        }
    }

    /// Keeps what the broker's log should not show, and raises the alarm. The same is kept once. It is evidence only if
    /// a stranger who checks it is convinced.
    pub(crate) fn note_finding(&self, finding: Finding) {
        let mut stored = finding.into_stored(clock::now_ms());
        let mut wanted = self.store.state().findings().wants(&stored);
        if stored.is_evidence
            && wanted != Wanted::Known
            && let Err(why) = self.convinces(&stored.kind, &stored.exhibits)
        {
            tracing::warn!(why, "a finding does not convince others");
            stored.is_evidence = false;
            wanted = self.store.state().findings().wants(&stored);
        }
        let (text, kind, evidence) = (stored.text.clone(), stored.kind.clone(), stored.is_evidence);
        let kept = match wanted {
            Wanted::Known => return,
            Wanted::NoRoom => false,
            Wanted::Yes => match self.store.keep(vec![Record::Finding(stored)]) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "a finding about the audit log was not kept");
                    false
                }
            },
        };
        if !kept {
            self.watch.count_unkept();
        }
        tracing::error!(kind, evidence, kept, text, "ALARM: the audit log is not what it should be");
    }

    /// All findings that were kept, oldest first, with their exhibits.
    pub(crate) fn findings(&self) -> Result<Vec<StoredFinding>, StoreError> {
        let sequences: Vec<u64> = self.store.state().findings().all().map(|(at, _)| at).collect();
        let read = |at: u64| match self.store.read(at) {
            Ok(Record::Finding(stored)) => Ok(Some(stored)),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        sequences.into_iter().filter_map(|at| read(at).transpose()).collect()
    }

    /// The newest findings as sentences, and how many more there are.
    pub(super) fn warnings_of_log(&self, state: &crate::core::state::State) -> Vec<String> {
        let findings = state.findings();
        let mut told: Vec<String> = findings
            .all()
            .rev()
            .take(TOLD_MAX)
            .map(|(_, one)| format!("{}: {one}", clock::show(one.time_ms)))
            .collect();
        let more = findings.all().count().saturating_sub(told.len());
        if more > 0 {
            told.push(format!("{more} more findings about the audit log; `lintas audit findings` lists all"));
        }
        let unkept = self.watch.unkept();
        if unkept > 0 {
            told.push(format!("{unkept} findings about the audit log were not kept, for want of room"));
        }
        told.extend(self.watch.damaged(&self.directory()));
        told
    }

    /// Findings that were kept, without their exhibits.
    pub(super) fn noted(&self) -> Vec<Noted> {
        self.store.state().findings().all().map(|(_, noted)| noted.clone()).collect()
    }
}

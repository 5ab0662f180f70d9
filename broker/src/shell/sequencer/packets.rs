//! What the sequencer makes of packets: ends, submissions, refusals.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lintas_journal::Class;
use lintas_proto::{
    canonical,
    frame::FrameType,
    id::{Digest, sha256},
    schema::{Reason, Refusal},
};
use tokio::runtime::Handle;

use super::{BATCH_BYTES, Fatal, Group, Refusing, Sequencer, Submitted};
use crate::{
    core::{
        admit::{self, Again},
        events, hand_over,
        outcome::{self, How},
        pace::Pace,
        plan::{Plan, Sealed, Verdict},
        record::Fact,
        refuse::Refused,
        rules::Rules,
        scribe::Scribe,
    },
    shell::{
        answer::AnswerTo,
        intake::{Denying, End},
        sequencer::room::SQUEEZE_EVERY_MS,
        shared::Shared,
    },
};

/// What the sender of a packet is told when the journal has no room.
const DISK_FULL: &str = "The broker's disk is full; nothing was stored. The packet is tried again by itself; tell the region's operator.";
/// How many refusals of one agency's packets stand in the log at once, and how often one more, milliseconds.
const REFUSALS: (u64, u64) = (60, 1_000);

/// Of how many refusals the log is told: each is an entry for ever, and costs its sender nothing.
#[derive(Debug)]
pub(in crate::shell) struct Refusals(Pace);

impl Default for Refusals {
    fn default() -> Self {
        Self(Pace::new(REFUSALS.0, REFUSALS.1))
    }
}

impl Refusals {
    /// The refusal as it stands in the log, or a later one in its place.
    pub(in crate::shell) fn count(&mut self, refused: Refused, now_ms: u64) -> Refused {
        let Some(concerned) = refused.concerns.as_ref().filter(|_| refused.is_logged()) else {
            return refused;
        };
        let agency = concerned.originator.agency.as_str();
        let wait_ms = self.0.wait_ms(agency, now_ms);
        if wait_ms == 0 {
            self.0.count(agency, now_ms);
            return refused;
        }
        let text = format!(
            "The broker has refused too many packets of {agency}; it looks at this one again in {} s. Find out why they \
             are refused.",
            wait_ms.div_ceil(1_000)
        );
        refused.instead(Reason::Quota, &text)
    }
}

/// Answers that wait for the disk: sent by the committer, or taken back when there is no room.
struct Waiting<T>(Arc<Mutex<Vec<T>>>);

impl<T> Waiting<T> {
    fn of(all: Vec<T>) -> (Self, Self) {
        let all = Arc::new(Mutex::new(all));
        (Self(Arc::clone(&all)), Self(all))
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sequencer {
    /// Ends one queue entry. A group each; the committer joins what is pending into one write.
    pub(super) fn end(&mut self, end: &End, rules: &Rules, now_ms: u64) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let (entry, mut entropy) = ((end.agency.as_str(), end.queue_sequence), lintas_config::os_entropy());
        let speaker = shared.speaker_under(rules);
        let ending = outcome::end(entry, &end.how, &shared.ledger(), &speaker, now_ms, &mut entropy);
        let fact = match ending {
            Ok(Some(fact)) => fact,
            // It has ended already: the acknowledgement came twice.
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(agency = end.agency, %error, "acknowledgement refused");
                return Ok(());
            }
        };
        if self.commit_if_room(vec![fact], Class::Essential, now_ms, |_| {})? {
            shared.metrics.ended(&end.how);
            return Ok(());
        }
        tracing::error!("the disk is full, its reserve too; the entry stays in the queue");
        if matches!(end.how, How::Withheld { .. }) {
            self.leavers.seek_again(now_ms.saturating_add(SQUEEZE_EVERY_MS));
        }
        Ok(())
    }

    /// Ends what sessions did not hand over, unless it may be handed over by now: then they look again by themselves.
    pub(super) fn deny(&mut self, denials: Vec<Denying>, rules: &Rules, now_ms: u64) -> Result<(), Fatal> {
        for Denying { agency, queue_sequence, asked } in denials {
            let how =
                hand_over::end_of((&agency, queue_sequence), &asked, &self.shared.ledger(), rules, now_ms);
            if let Some(how) = how {
                self.end(&End { agency, queue_sequence, how }, rules, now_ms)?;
            }
        }
        Ok(())
    }

    /// Plans groups of submissions and hands them to the journal; then the refusals.
    pub(super) fn submit(
        &mut self,
        submissions: Vec<Submitted>,
        refusals: Vec<Refusing>,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let speaker = shared.speaker_under(rules);
        let (mut shares, mut refusals) = (Vec::new(), refusals);
        let mut submissions = submissions.into_iter().peekable();
        while submissions.peek().is_some() {
            let mut waiting = Vec::new();
            let planned = {
                let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
                let mut plan = Plan::new(&ledger, &speaker, rules, now_ms, &mut self.quota);
                while let Some(Submitted { verified, answer, share }) =
                    if plan.is_full() { None } else { submissions.next() }
                {
                    let agency = verified.header().core().originator.agency.clone();
                    let full = verified.refuse(Reason::DiskFull, DISK_FULL);
                    let verdict = plan.submit(verified, |blob| shared.blobs.has(&agency, blob), &mut entropy);
                    if matches!(verdict, Verdict::Twin(_) | Verdict::Known(_)) {
                        shared.metrics.duplicates.add(1);
                    }
                    match verdict {
                        Verdict::Admitted(index) | Verdict::Twin(index) => {
                            waiting.push((index, full, answer))
                        }
                        Verdict::Known(admission) => answer_again(&self.runtime, &shared, admission, answer),
                        Verdict::Refused(refused) => refusals.push(Refusing { refused, claim: None, answer }),
                    }
                    shares.push(share);
                }
                plan.finish()
            };
            if !planned.is_empty() {
                self.admit(planned.seal(&shared.receipt_key)?, waiting, now_ms)?;
            }
        }
        // Behind what was admitted: the indices of their events follow.
        self.refuse(refusals, rules, now_ms)
    }

    fn admit(
        &mut self,
        Sealed { facts, promised, receipts }: Sealed,
        waiting: Vec<(usize, Refused, AnswerTo)>,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        let (waiting, answers) = Waiting::of(waiting);
        let (admitted, shared) = (receipts.len(), Arc::clone(&self.shared));
        let answer_all = move |_| {
            shared.metrics.accepted.add(admitted as u64);
            for (index, _, answer) in answers.take() {
                let receipt: Bytes = receipts.get(index).cloned().unwrap_or_default();
                answer.send(FrameType::Receipt, receipt);
            }
        };
        let group = Group { facts, promised };
        if !self.commit_if_room(group, Class::Ordinary, now_ms, answer_all)? {
            tracing::error!("the disk is full; packets are refused, deliveries go on");
            for (_, full, answer) in waiting.take() {
                self.shared.refuse(answer, &full, now_ms);
            }
        }
        Ok(())
    }

    /// Answers refusals; those that are final when they are durable in the log.
    fn refuse(&mut self, refusals: Vec<Refusing>, rules: &Rules, now_ms: u64) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let speaker = shared.speaker_under(rules);
        let time_ms = shared.ledger().time_at(now_ms);
        let mut logged = Vec::new();
        for (refused, answer) in self.unless_accepted(refusals) {
            log_refusal(&refused);
            let refused = self.refusals.count(refused, now_ms);
            if refused.is_logged() {
                let refusal = refused.answer(&speaker, time_ms);
                logged.push((refused, refusal, answer));
            } else {
                shared.refuse(answer, &refused, now_ms);
            }
        }
        let mut logged = logged.into_iter().peekable();
        while logged.peek().is_some() {
            let (mut facts, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
            {
                let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
                let mut scribe = Scribe::new(&ledger, rules.generation(), now_ms);
                // One packet may have many recipients, and each that is denied is an event.
                while let Some(one) = if bytes < BATCH_BYTES { logged.next() } else { None } {
                    let fact = events::refusal(&one.0, &digest(&one.1), &mut scribe, &mut entropy);
                    bytes += fact.iter().map(|fact| fact.to_record().payload.len()).sum::<usize>();
                    facts.extend(fact);
                    group.push(one);
                }
            }
            self.answer_refused(facts, group, now_ms)?;
        }
        Ok(())
    }

    /// Answers refusals when they are durable in the log.
    fn answer_refused(
        &mut self,
        facts: Vec<Fact>,
        group: Vec<(Refused, Refusal, AnswerTo)>,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let (waiting, answers) = Waiting::of(group);
        let counted = Arc::clone(&shared);
        let answer_all = move |_| {
            for (refused, refusal, answer) in answers.take() {
                counted.metrics.refused(refused.reason);
                counted.metrics.refusals_logged.add(1);
                answer.send(FrameType::Refusal, canonical::encode(&refusal));
            }
        };
        if !self.commit_if_room(facts, Class::Ordinary, now_ms, answer_all)? {
            for (refused, _, answer) in waiting.take() {
                shared.refuse(answer, &refused.instead(Reason::DiskFull, DISK_FULL), now_ms);
            }
        }
        Ok(())
    }

    /// Refuses all for now: the journal has no room for what must stand before them.
    pub(super) fn refuse_for_room(&self, submissions: Vec<Submitted>, refusals: Vec<Refusing>, now_ms: u64) {
        for Submitted { verified, answer, .. } in submissions {
            self.shared.refuse(answer, &verified.refuse(Reason::DiskFull, DISK_FULL), now_ms);
        }
        for (refused, answer) in self.unless_accepted(refusals) {
            let full = refused.is_logged().then(|| refused.instead(Reason::DiskFull, DISK_FULL));
            self.shared.refuse(answer, &full.unwrap_or(refused), now_ms);
        }
    }

    /// Those that stand: a packet that was accepted, be it in this round, keeps its receipt.
    fn unless_accepted(&self, refusals: Vec<Refusing>) -> Vec<(Refused, AnswerTo)> {
        let mut stand = Vec::with_capacity(refusals.len());
        for Refusing { refused, claim, answer } in refusals {
            let again = admit::again(refused, claim.as_ref(), &self.shared.ledger());
            match again {
                Again::Refused(refused) => stand.push((refused, answer)),
                Again::Known(admission) => {
                    self.shared.metrics.duplicates.add(1);
                    answer_again(&self.runtime, &self.shared, admission, answer);
                }
            }
        }
        stand
    }
}

/// Of the signed evidence in a refusal.
fn digest(refusal: &Refusal) -> Digest {
    sha256(&[&refusal.evidence.as_ref().map(canonical::encode).unwrap_or_default()])
}

/// The same packet again: the same receipt, byte for byte, as soon as its record is durable.
fn answer_again(runtime: &Handle, shared: &Arc<Shared>, admission: u64, answer: AnswerTo) {
    let shared = Arc::clone(shared);
    runtime.spawn(async move {
        let mut durable = shared.durable.subscribe();
        if durable.wait_for(|durable| *durable >= admission).await.is_err() {
            return;
        }
        match tokio::task::block_in_place(|| shared.admission(admission, |stored| stored.receipt.clone())) {
            Ok(receipt) => answer.send(FrameType::Receipt, receipt),
            // Erased or forgotten meanwhile. The node asks again, and hears so.
            Err(_) if shared.ledger().spent().contains(admission, u64::MAX) => drop(answer),
            Err(error) => shared.fail(&error),
        }
    });
}

/// Text of a refusal is the broker's own; what it quotes was checked.
fn log_refusal(refused: &Refused) {
    let id = refused.packet.map(|id| id.to_string()).unwrap_or_default();
    if refused.reason == Reason::Replay {
        tracing::warn!(packet = id, "a packet id came again with other content, or after its erasure");
    } else {
        tracing::debug!(packet = id, reason = refused.reason.as_str_name(), "packet refused");
    }
}

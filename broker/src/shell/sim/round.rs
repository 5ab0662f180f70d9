//! One round of the sequencer, in its order; and making room.

use lintas_journal::{Class, CommitError, Compaction, NewRecord};
use lintas_proto::{
    canonical,
    frame::FrameType,
    id::sha256,
    schema::{Reason, Refusal, StoredEvent},
};

use super::{Answer, Frame, Hands, SimBroker, Stopped, Waiting, stopped};
use crate::core::{
    admit::{self, Again, Claim, Verified},
    events,
    hand_over::{self, Asked},
    outcome::{self, How},
    plan::{Plan, Sealed, Verdict},
    record::Fact,
    refuse::Refused,
    scribe::Scribe,
    snapshot,
};

/// Rounds that may be under way to the disk.
const ROUNDS_MAX: usize = 2;
/// Most expired entries ended in one round.
const EXPIRED_MAX: usize = 256;
/// Most submissions of one plan: here a group is short.
const PLANNED_MAX: usize = 3;
const DISK_FULL: &str = "The broker's disk is full; nothing was stored.";

/// What sessions hand over.
#[derive(Debug)]
pub(super) enum Intake {
    Submit { session: u64, verified: Box<Verified> },
    Refuse { session: u64, refused: Box<Refused>, claim: Option<Claim> },
    End(End),
    Deny { agency: String, queue_sequence: u64, asked: Box<Asked> },
}

/// A session's submission that the first gates refused, and which packet it claims to be.
type Refusing = (u64, Refused, Option<Claim>);

/// The end of one queue entry.
#[derive(Debug)]
pub(super) struct End {
    pub(super) agency: String,
    pub(super) queue_sequence: u64,
    pub(super) how: How,
}

impl SimBroker {
    /// Whether a round may be planned: not while two are under way.
    #[must_use]
    pub fn may_plan(&self) -> bool {
        self.rounds.len() < ROUNDS_MAX
    }

    /// One round: the log is told of the rules; entries end; then submissions, refusals, and the end of the epoch.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn round(&mut self, hands: &mut Hands<'_>) -> Result<(), Stopped> {
        if self.is_agreed(hands) {
            self.round_agreed(hands)?
        } else {
            self.round_in_doubt(hands)?
        }
        if self.rounds.back().is_none_or(|last| *last < self.last_sequence)
            && self.durable < self.last_sequence
        {
            self.rounds.push_back(self.last_sequence);
        }
        Ok(())
    }

    /// Entries that were acknowledged end, by the log's last time. The sessions of everything else are over.
    fn round_in_doubt(&mut self, hands: &mut Hands<'_>) -> Result<(), Stopped> {
        let Hands { rules, earlier, boot_ms, .. } = *hands;
        let now_ms = self.ledger.time_at(0);
        let mut hands = Hands { rules, earlier, now_ms, boot_ms, entropy: &mut *hands.entropy };
        for intake in std::mem::take(&mut self.intake) {
            match intake {
                Intake::End(end) => self.end(&end, &mut hands)?,
                Intake::Submit { .. } | Intake::Refuse { .. } | Intake::Deny { .. } => {}
            }
        }
        Ok(())
    }

    fn round_agreed(&mut self, hands: &mut Hands<'_>) -> Result<(), Stopped> {
        let (mut submissions, mut refusals) = (Vec::new(), Vec::new());
        let (mut ends, mut denials) = (Vec::new(), Vec::new());
        for intake in std::mem::take(&mut self.intake) {
            match intake {
                Intake::Submit { session, verified } => submissions.push((session, *verified)),
                Intake::Refuse { session, refused, claim } => refusals.push((session, *refused, claim)),
                Intake::End(end) => ends.push(end),
                Intake::Deny { agency, queue_sequence, asked } => {
                    denials.push((agency, queue_sequence, asked))
                }
            }
        }
        let over = self.ledger.expired(hands.now_ms, EXPIRED_MAX).into_iter();
        ends.extend(over.map(|(agency, queue_sequence)| End { agency, queue_sequence, how: How::Expired }));
        let told = self.tell_rules(hands)?;
        let left = self.leavers.next(&self.ledger, hands.rules.directory(), hands.now_ms).into_iter();
        ends.extend(left.map(|end| End {
            agency: end.agency,
            queue_sequence: end.queue_sequence,
            how: end.how,
        }));
        for end in ends {
            self.end(&end, hands)?;
        }
        if told {
            for (agency, number, asked) in denials {
                let entry = (agency.as_str(), number);
                let how = hand_over::end_of(entry, &asked, &self.ledger, hands.rules, hands.now_ms);
                if let Some(how) = how {
                    self.end(&End { agency, queue_sequence: number, how }, hands)?;
                }
            }
            self.submit(submissions, refusals, hands)?;
            self.end_epoch(hands)?;
        } else {
            self.refuse_for_room(submissions, refusals, hands);
        }
        Ok(())
    }

    /// Hands one group to the journal and folds it in; false when there is no room.
    fn commit(
        &mut self,
        facts: Vec<Fact>,
        promised: Vec<Vec<StoredEvent>>,
        class: Class,
    ) -> Result<bool, Stopped> {
        let records: Vec<NewRecord> = facts.iter().map(Fact::to_record).collect();
        let first = match self.journal.commit(records.clone(), class) {
            Err(CommitError::DiskFull) => {
                self.short = true;
                return Ok(false);
            }
            other => other.map_err(stopped)?,
        };
        self.fresh.put(first, &facts, promised);
        for (sequence, fact) in (first..).zip(&facts) {
            self.ledger.apply(sequence, fact).map_err(stopped)?;
            self.last_sequence = sequence;
        }
        self.handed.extend((first..).zip(records));
        Ok(true)
    }

    fn tell_rules(&mut self, hands: &mut Hands<'_>) -> Result<bool, Stopped> {
        let generation = hands.rules.generation();
        if self.told == Some(generation) {
            return Ok(true);
        }
        let Hands { rules, now_ms, .. } = *hands;
        let members = events::members(&self.ledger, rules, now_ms, hands.entropy);
        if let Some(fact) = members
            && !self.commit(vec![fact], Vec::new(), Class::Essential)?
        {
            return Ok(false);
        }
        let policies = events::policies(&self.ledger, rules, now_ms, hands.entropy);
        if let Some(fact) = policies
            && !self.commit(vec![fact], Vec::new(), Class::Essential)?
        {
            return Ok(false);
        }
        let told = match events::keysets(&self.ledger, rules, now_ms, hands.entropy) {
            Some(fact) => self.commit(vec![fact], Vec::new(), Class::Essential)?,
            None => true,
        };
        self.told = told.then_some(generation);
        Ok(true)
    }

    fn end(&mut self, end: &End, hands: &mut Hands<'_>) -> Result<(), Stopped> {
        let speaker = self.voice.speaker(hands.rules.generation());
        let entry = (end.agency.as_str(), end.queue_sequence);
        let ending = outcome::end(entry, &end.how, &self.ledger, &speaker, hands.now_ms, hands.entropy);
        // What is refused stays in its queue.
        let Ok(Some(fact)) = ending else { return Ok(()) };
        if !self.commit(vec![fact], Vec::new(), Class::Essential)? && matches!(end.how, How::Withheld { .. })
        {
            self.leavers.seek_again(hands.now_ms.saturating_add(10_000));
        }
        Ok(())
    }

    fn submit(
        &mut self,
        submissions: Vec<(u64, Verified)>,
        mut refusals: Vec<Refusing>,
        hands: &mut Hands<'_>,
    ) -> Result<(), Stopped> {
        let mut submissions = submissions.into_iter().peekable();
        while submissions.peek().is_some() {
            let mut waiting = Vec::new();
            let speaker = self.voice.speaker(hands.rules.generation());
            let mut plan = Plan::new(&self.ledger, &speaker, hands.rules, hands.now_ms, &mut self.quota);
            for (session, verified) in submissions.by_ref().take(PLANNED_MAX) {
                let full = verified.refuse(Reason::DiskFull, DISK_FULL);
                match plan.submit(verified, |_| true, hands.entropy) {
                    Verdict::Admitted(index) | Verdict::Twin(index) => waiting.push((index, full, session)),
                    Verdict::Known(record) => {
                        self.waiting.push_back(Waiting { record, session, what: Answer::Again(record) });
                    }
                    Verdict::Refused(refused) => refusals.push((session, refused, None)),
                }
            }
            let planned = plan.finish();
            if !planned.is_empty() {
                let sealed = planned.seal(&self.voice.key).map_err(stopped)?;
                self.admit(sealed, waiting, hands)?;
            }
        }
        let refusals = self.unless_accepted(refusals);
        self.answer_known()?;
        self.refuse(refusals, hands)
    }

    /// Those that stand: a packet that was accepted, be it in this round, keeps its receipt.
    fn unless_accepted(&mut self, refusals: Vec<Refusing>) -> Vec<(u64, Refused)> {
        let mut stand = Vec::new();
        for (session, refused, claim) in refusals {
            match admit::again(refused, claim.as_ref(), &self.ledger) {
                Again::Refused(refused) => stand.push((session, refused)),
                Again::Known(record) => {
                    self.waiting.push_back(Waiting { record, session, what: Answer::Again(record) });
                }
            }
        }
        stand
    }

    /// What is durable already need not wait for the next write.
    fn answer_known(&mut self) -> Result<(), Stopped> {
        self.is_durable(self.durable)
    }

    fn admit(
        &mut self,
        Sealed { facts, promised, receipts }: Sealed,
        waiting: Vec<(usize, Refused, u64)>,
        hands: &Hands<'_>,
    ) -> Result<(), Stopped> {
        if self.commit(facts, promised, Class::Ordinary)? {
            let record = self.last_sequence;
            for (index, _, session) in waiting {
                let receipt = receipts.get(index).cloned().unwrap_or_default();
                let what = Answer::Frame((FrameType::Receipt, receipt));
                self.waiting.push_back(Waiting { record, session, what });
            }
            return Ok(());
        }
        for (_, full, session) in waiting {
            self.refuse_now(session, &full, hands);
        }
        Ok(())
    }

    /// Refusals: those that are final are answered when the log has them.
    fn refuse(&mut self, refusals: Vec<(u64, Refused)>, hands: &mut Hands<'_>) -> Result<(), Stopped> {
        let time_ms = self.ledger.time_at(hands.now_ms);
        for (session, refused) in refusals {
            let refused = self.refusals.count(refused, hands.now_ms);
            if !refused.is_logged() {
                self.refuse_now(session, &refused, hands);
                continue;
            }
            let refusal = refused.answer(&self.voice.speaker(hands.rules.generation()), time_ms);
            let fact = {
                let mut scribe = Scribe::new(&self.ledger, hands.rules.generation(), hands.now_ms);
                events::refusal(&refused, &digest(&refusal), &mut scribe, hands.entropy)
            };
            if self.commit(fact.into_iter().collect(), Vec::new(), Class::Ordinary)? {
                let what = Answer::Frame((FrameType::Refusal, canonical::encode(&refusal)));
                self.waiting.push_back(Waiting { record: self.last_sequence, session, what });
            } else {
                self.refuse_now(session, &refused.instead(Reason::DiskFull, DISK_FULL), hands);
            }
        }
        Ok(())
    }

    fn refuse_for_room(
        &mut self,
        submissions: Vec<(u64, Verified)>,
        refusals: Vec<Refusing>,
        hands: &Hands<'_>,
    ) {
        for (session, verified) in submissions {
            self.refuse_now(session, &verified.refuse(Reason::DiskFull, DISK_FULL), hands);
        }
        for (session, refused) in self.unless_accepted(refusals) {
            let full = refused.is_logged().then(|| refused.instead(Reason::DiskFull, DISK_FULL));
            self.refuse_now(session, &full.unwrap_or(refused), hands);
        }
    }

    pub(super) fn refuse_now(&mut self, session: u64, refused: &Refused, hands: &Hands<'_>) {
        let speaker = self.voice.speaker(hands.rules.generation());
        let frame: Frame = (FrameType::Refusal, canonical::encode(&refused.answer(&speaker, hands.now_ms)));
        self.say(session, Some(frame));
    }

    fn end_epoch(&mut self, hands: &Hands<'_>) -> Result<(), Stopped> {
        let every_ms = hands.rules.directory().roster().epoch_ms.into();
        if self.logbook.is_over(every_ms, hands.now_ms) {
            let fact = events::epoch(&self.ledger, hands.rules, hands.now_ms);
            self.commit(vec![fact], Vec::new(), Class::Essential)?;
        }
        Ok(())
    }

    /// Lets old segments go; how many went. What the published log or anybody else still needs stays.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn compact(&mut self) -> Result<u64, Stopped> {
        let published = self.published().map_or(0, |state| state.sequence);
        let (snapshot, spent) = (snapshot::encode(&self.ledger), self.ledger.spent().clone());
        let live = Box::new(move |sequence| !spent.contains(sequence, published));
        let request = Compaction { covers: self.last_sequence, snapshot, live, must_go: 0 };
        while self.write()? {}
        self.short = false;
        match self.journal.compact(request) {
            Ok(report) => Ok(report.segments_freed),
            Err(error @ (CommitError::Poisoned | CommitError::Closed)) => Err(stopped(error)),
            Err(_) => Ok(0),
        }
    }
}

/// Of the signed evidence in a refusal.
fn digest(refusal: &Refusal) -> lintas_proto::id::Digest {
    sha256(&[&refusal.evidence.as_ref().map(canonical::encode).unwrap_or_default()])
}

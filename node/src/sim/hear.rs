//! What comes from the broker: judged, kept, and then answered.

use std::{iter::Peekable, sync::PoisonError, vec::IntoIter};

use bytes::Bytes;
use lintas_link::decode;
use lintas_proto::{
    frame::FrameType,
    schema::{Acknowledgement, Delivery},
};

use super::{Hands, Heard, SimNode, Stopped, stopped};
use crate::{
    core::{
        answer::{self, Refused},
        inbox::{Bench, Judgement, Stands, Verdict, judge, settle, stands},
        pages::Page,
        records::Record,
    },
    shell::desk::Batch,
};

/// Most rejected deliveries that are kept and answered.
const REJECTIONS_MAX: usize = 10_000;

/// A frame, judged.
enum Step {
    Answer(FrameType, Bytes),
    Again { queue_sequence: u64, record: u64 },
    Verdict { queue_sequence: u64, verdict: Verdict },
    Leave,
    Broken(String),
}

impl SimNode {
    /// Takes frames that came together: judges all, then keeps, then says what to acknowledge.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn hear(&mut self, frames: Vec<(FrameType, Bytes)>, hands: &mut Hands<'_>) -> Result<Heard, Stopped> {
        if !self.is_agreed(hands) {
            return Ok(Heard { doubts: true, ..Heard::default() });
        }
        let mut steps = Vec::with_capacity(frames.len());
        for (kind, payload) in frames {
            steps.push(self.judge(kind, payload, hands));
            if matches!(steps.last(), Some(Step::Broken(_))) {
                break;
            }
        }
        let (mut steps, mut all) = (steps.into_iter().peekable(), Heard::default());
        while all.broken.is_none() && steps.peek().is_some() {
            self.settle_group(&mut steps, hands, &mut all)?;
        }
        Ok(all)
    }

    fn judge(&self, kind: FrameType, payload: Bytes, hands: &Hands<'_>) -> Step {
        if matches!(kind, FrameType::Receipt | FrameType::Refusal | FrameType::Evidence) {
            return Step::Answer(kind, payload);
        }
        let delivery: Delivery = match decode(FrameType::Delivery, &payload) {
            Ok(delivery) if kind == FrameType::Delivery => delivery,
            Ok(_) => return Step::Broken(format!("a {kind:?} frame")),
            Err(error) => return Step::Broken(error.to_string()),
        };
        let &Hands { directory, policies, now_ms, .. } = hands;
        let (state, keys) = (|| self.state(), &self.file.keys);
        let bench = Bench { state: &state, directory, policies: Some(policies), keys, now_ms };
        let queue_sequence = delivery.queue_sequence;
        match judge(&delivery, bench) {
            Judgement::Again(record) => Step::Again { queue_sequence, record },
            Judgement::Accept(accepted) => {
                Step::Verdict { queue_sequence, verdict: Verdict::Accept(accepted) }
            }
            Judgement::Reject(rejected) => {
                Step::Verdict { queue_sequence, verdict: Verdict::Reject(rejected) }
            }
            Judgement::TooNew(_) | Judgement::UnknownUnit(_) | Judgement::NoPolicy => Step::Leave,
            Judgement::Unanswerable(why) => Step::Broken(why.to_owned()),
        }
    }

    /// As the desk does: together what may be kept together.
    fn settle_group(
        &mut self,
        steps: &mut Peekable<IntoIter<Step>>,
        hands: &mut Hands<'_>,
        all: &mut Heard,
    ) -> Result<(), Stopped> {
        let mut batch = Batch::default();
        let fits = |step: &Step, batch: &Batch| !matches!(step, Step::Verdict { verdict, .. } if batch.clashes(verdict));
        while let Some(step) = steps.next_if(|step| all.broken.is_none() && fits(step, &batch)) {
            match step {
                Step::Answer(kind, payload) => all.broken = self.answer(kind, &payload, hands, &mut batch),
                Step::Again { queue_sequence, record } => self.again(queue_sequence, record, &mut batch)?,
                Step::Verdict { queue_sequence, verdict } => {
                    let stands = stands(verdict, &self.state());
                    match stands {
                        Stands::Again(record) => self.again(queue_sequence, record, &mut batch)?,
                        Stands::Verdict(verdict) => {
                            let rejected = self.state().rejections().count();
                            let placed = batch.place(verdict, REJECTIONS_MAX.saturating_sub(rejected));
                            batch.queued.extend(placed.map(|at| (queue_sequence, at)));
                        }
                    }
                }
                Step::Leave => all.left += 1,
                Step::Broken(why) => all.broken = Some(why),
            }
        }
        self.finish(batch, hands, all)
    }

    fn again(&self, queue_sequence: u64, record: u64, batch: &mut Batch) -> Result<(), Stopped> {
        let kept = self.store.read(record)?;
        let evidence = if let Record::Incoming(stored) = kept {
            stored.evidence
        } else if let Record::Rejection(stored) = kept {
            stored.evidence
        } else {
            return Err(Stopped(format!("record {record} answers no delivery: {kept:?}")));
        };
        batch.acknowledgements.push(Acknowledgement { queue_sequence, evidence });
        Ok(())
    }

    /// An answer of the broker; what is not believed changes nothing.
    fn answer(
        &mut self,
        kind: FrameType,
        payload: &Bytes,
        hands: &Hands<'_>,
        batch: &mut Batch,
    ) -> Option<String> {
        let (state, now_ms) = (self.state.lock().unwrap_or_else(PoisonError::into_inner), hands.now_ms);
        if kind == FrameType::Receipt {
            let agency = &self.file.keys.agency;
            if let Ok((digest, record)) =
                answer::accept_receipt(payload, &state, hands.directory, agency, now_ms)
            {
                let at = record.map(|record| batch.record(Record::Receipt(record)));
                batch.final_answers.push((digest, at));
            }
        } else if kind == FrameType::Refusal {
            match answer::take_refusal(payload, &state, hands.directory, now_ms) {
                Ok(Refused::Final { digest, record }) => {
                    let at = record.map(|record| batch.record(Record::Refusal(record)));
                    batch.final_answers.push((digest, at));
                }
                Ok(Refused::Later { digest, reason, text, doubt: _ }) => {
                    self.pipeline.put_off(digest, reason, text, now_ms);
                }
                Err(_) => {}
            }
        } else {
            match decode(kind, payload) {
                Ok(delivery) => drop(batch.hear(delivery, &state, hands.directory, now_ms)),
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }

    /// Judges again what is kept and was not believed, as the desk does when it has another directory or an agreed clock.
    /// How much of it is believed now.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn judge_doubted(&mut self, hands: &Hands<'_>) -> Result<usize, Stopped> {
        let (mut batch, records) = (Batch::default(), self.state().tally().doubted(0, usize::MAX));
        for record in records {
            let Record::Doubted(stored) = self.store.read(record)? else {
                return Err(Stopped(format!("record {record} is no doubted evidence")));
            };
            batch.hear_again(stored, &self.state(), hands.directory, hands.now_ms);
        }
        let Self { store, state, .. } = self;
        let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let kept = store.keep_what_fits(batch.records, state)?;
        Ok(kept.into_iter().filter(|kept| *kept).count())
    }

    fn finish(&mut self, mut batch: Batch, hands: &mut Hands<'_>, all: &mut Heard) -> Result<(), Stopped> {
        let verdicts = std::mem::take(&mut batch.verdicts);
        let accepted = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Accept(_))).count();
        let pages = (0..accepted).map(|_| self.page(hands.now_ms, hands.entropy));
        let pages = pages.collect::<Result<Vec<Page>, Stopped>>()?;
        let settled = settle(verdicts, &self.file.keys, pages, hands.entropy).map_err(stopped)?;
        let (answers, evidence): (Vec<Record>, Vec<Bytes>) = settled.into_iter().unzip();
        let mut records = std::mem::take(&mut batch.records);
        let first_answer = records.len();
        records.extend(answers);
        let Self { store, state, .. } = self;
        let durable =
            store.keep_what_fits(records, state.get_mut().unwrap_or_else(PoisonError::into_inner))?;
        all.full |= durable.iter().any(|kept| !kept);
        batch.conclude(&durable).iter().for_each(|digest| self.pipeline.answered(digest));
        for (queue_sequence, at) in std::mem::take(&mut batch.queued) {
            let kept = durable.get(first_answer + at).is_some_and(|kept| *kept);
            if let Some(evidence) = evidence.get(at).filter(|_| kept) {
                batch.acknowledgements.push(Acknowledgement { queue_sequence, evidence: evidence.clone() });
            }
        }
        batch.acknowledgements.sort_by_key(|acknowledgement| acknowledgement.queue_sequence);
        all.acknowledgements.append(&mut batch.acknowledgements);
        Ok(())
    }
}

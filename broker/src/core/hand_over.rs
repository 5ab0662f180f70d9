//! Hand-over: what was released when it was admitted is judged again before its recipient gets it. Policies may have been
//! tightened meanwhile, or a moment that one of them names has passed. What is denied now is not handed over; it ends as
//! withheld, told to the originator, and no later loosening brings it back.
//!
//! A session asks first ([`may_have`]), because it is there. What it may not hand over it gives to the sequencer, which asks
//! again in its turn ([`end_of`]): the event that ends an entry stands under the rules and at the time that it names.

use lintas_proto::{
    canonical,
    envelope::core::{Core, CoreError},
    limits,
    schema::{Header, Submission, UnitRef},
};
use thiserror::Error;

use super::{
    judge::{judge, question},
    leave::Left,
    ledger::Ledger,
    outcome::How,
    queue::Held,
    rules::Rules,
};

/// A stored packet of which it cannot be said what the policies are to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnreadableError {
    /// Its header.
    #[error("header: {0}")]
    Header(#[from] canonical::DecodeError),
    /// Its core.
    #[error("core: {0}")]
    Core(#[from] CoreError),
    /// It has no such recipient.
    #[error("it has no recipient {0}")]
    Recipient(u32),
}

/// What the policies are asked about one recipient of a stored packet.
#[derive(Debug, Clone)]
pub struct Asked {
    core: Core,
    recipient: UnitRef,
    named: bool,
}

impl Asked {
    /// By the bytes that its originator signed, and that were verified when it was admitted.
    ///
    /// # Errors
    /// [`UnreadableError`]: then nobody may have it.
    pub fn read(packet: &Submission, recipient_index: u32) -> Result<Self, UnreadableError> {
        let header: Header = canonical::decode(&packet.header, limits::HEADER_BYTES_MAX)?;
        let at = usize::try_from(recipient_index).ok();
        let opening = at.and_then(|at| packet.openings.get(at));
        let opening = opening.ok_or(UnreadableError::Recipient(recipient_index))?;
        let recipient = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
        let core = Core::parse(&header.core)?;
        // Nothing is asked about them, and many of these may wait for the sequencer.
        let core = Core { recipient_commit: Vec::new(), attachments: Vec::new(), ..core };
        Ok(Self { core, recipient, named: opening.named })
    }
}

/// Whether the rules let the recipient have it at `now_ms`.
#[must_use]
pub fn may_have(asked: &Asked, rules: &Rules, now_ms: u64) -> bool {
    judge(rules, &question(&asked.core, &asked.recipient, asked.named, now_ms)).is_ok()
}

/// How an entry that a session did not hand over ends; none when it has ended, or may be handed over by now.
#[must_use]
pub fn end_of(
    (agency, queue_sequence): (&str, u64),
    asked: &Asked,
    ledger: &Ledger,
    rules: &Rules,
    now_ms: u64,
) -> Option<How> {
    let Held::Packet { admission, recipient_index } = ledger.queue(agency)?.get(queue_sequence)?.held else {
        return None;
    };
    let packet = ledger.packet(admission)?;
    let is_it = packet.packet_id == asked.core.packet_id
        && packet.recipients.get(recipient_index) == Some(&asked.recipient);
    if !is_it {
        return None;
    }
    let directory = rules.directory();
    let unit_left = || (!directory.has_unit(&asked.recipient)).then_some(Left::Unit);
    if let Some(left) = Left::agency(directory, agency).or_else(unit_left) {
        return Some(How::Withheld { left, roster_version: directory.roster().version });
    }
    let time_ms = ledger.time_at(now_ms);
    judge(rules, &question(&asked.core, &asked.recipient, asked.named, time_ms)).err().map(How::Denied)
}

#[cfg(test)]
mod tests;

//! What the log is told of an admitted packet.

use lintas_config::policy::Allowed;
use lintas_proto::schema::{AuditEvent, EventType, Opening, PolicyFacts, Reason, UnitRef};

use crate::core::{
    admit::Verified,
    events::{about_packet, denied, ids},
    judge::{Denied, Judgement, facts},
};

/// The events of an admitted packet.
pub(super) struct PacketLog<'a> {
    verified: &'a Verified,
    /// Of the roster.
    version: u64,
    /// What all of them say of the packet.
    common: AuditEvent,
    facts: PolicyFacts,
}

impl<'a> PacketLog<'a> {
    pub(super) fn new(verified: &'a Verified, version: u64) -> Self {
        let (header, kind) = (verified.header(), EventType::Unspecified);
        let core = header.core();
        let common = about_packet(kind, "", (&core.packet_id, header.digest()), &core.originator);
        Self { verified, version, common, facts: facts(core) }
    }

    pub(super) fn recipients(&self) -> impl Iterator<Item = (UnitRef, bool, &Judgement)> {
        let unit = |opening: &Opening| UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
        let openings = self.verified.openings().iter();
        openings.zip(&self.verified.judged().all).map(move |(to, judged)| (unit(to), to.named, judged))
    }

    fn event(&self, kind: EventType, agency: &str) -> AuditEvent {
        AuditEvent { r#type: kind as i32, agency: agency.to_owned(), ..self.common.clone() }
    }

    pub(super) fn submitted(&self) -> AuditEvent {
        let event = self.event(EventType::Submitted, &self.verified.header().core().originator.agency);
        AuditEvent { facts: Some(self.facts.clone()), reason: Reason::Accepted as i32, ..event }
    }

    pub(super) fn released(&self, unit: UnitRef, named: bool, allowed: &Allowed) -> AuditEvent {
        let agency = &self.verified.header().core().originator.agency;
        AuditEvent {
            recipient: Some(unit),
            policy_ids: ids(&allowed.released_by),
            reason: Reason::Accepted as i32,
            version: self.version,
            named,
            ..self.event(EventType::Released, agency)
        }
    }

    pub(super) fn received(&self, unit: UnitRef, named: bool, allowed: &Allowed) -> AuditEvent {
        let event = self.event(EventType::Received, &unit.agency);
        AuditEvent {
            recipient: Some(unit),
            policy_ids: ids(&allowed.accepted_by),
            reason: Reason::Accepted as i32,
            version: self.version,
            facts: Some(self.facts.clone()),
            named,
            ..event
        }
    }

    /// What the originator is told of a denial.
    pub(super) fn told(&self, one: &Denied, text_max: usize) -> AuditEvent {
        let event = self.event(one.kind(), &self.verified.header().core().originator.agency);
        denied(event, one, &one.told, text_max, self.version)
    }

    /// What the recipient's own log says of its policy's denial.
    pub(super) fn own(&self, one: &Denied, text_max: usize) -> Option<AuditEvent> {
        let event = self.event(EventType::NotAccepted, &one.recipient.agency);
        let event = denied(event, one, one.own.as_ref()?, text_max, self.version);
        Some(AuditEvent { facts: Some(self.facts.clone()), ..event })
    }
}

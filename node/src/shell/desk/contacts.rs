//! To whom this agency may send: what an officer is shown of an agency, and what its word changes.

use lintas_config::words;
use lintas_proto::schema::{Member, StoredConfirmation};

use super::{Desk, stored};
use crate::{
    core::{
        contacts::{Awaiting, first},
        freshness::Behind,
        records::Record,
        text::one_line,
        view::{ContactView, Fingerprint},
    },
    shell::{
        clock,
        failure::{Code, Failure},
        store::StoreError,
    },
};

impl Desk {
    /// Records everybody in the first directory as known. From then on only officers add to it.
    pub(super) fn begin_contacts(&self) -> Result<(), Failure> {
        if !self.store.state().contacts().is_empty() {
            return Ok(());
        }
        let records = first(&self.directory(), clock::now_ms());
        // Together or not at all: whoever was left out would wait for an officer.
        let kept = self.store.keep_together(records.into_iter().map(Record::Confirmation).collect());
        if kept.map_err(stored)? { Ok(()) } else { Err(stored(StoreError::NoRoom)) }
    }

    /// What the directory says of an agency, for an officer who compares it with the agency's own word.
    pub(super) fn contact(&self, agency: &str) -> Result<ContactView, Failure> {
        let directory = self.directory();
        let member = listed(&directory.roster().members, agency)?;
        let key = <[u8; 32]>::try_from(member.identity_key.as_ref()).unwrap_or_default();
        let state = self.store.state();
        let contacts = state.contacts();
        Ok(ContactView {
            agency: member.agency.clone(),
            name: member.name.clone(),
            country: member.country.clone(),
            units: member.units.iter().map(|unit| format!("{} {}", unit.unit, unit.name)).collect(),
            identity_key: Fingerprint::of(&key),
            roster_version: directory.roster().version,
            held: directory.held().iter().any(|held| held.agency == agency),
            active: directory.member(agency).is_some(),
            confirmed: contacts.knows(member),
            open_groups: member.groups.iter().filter(|g| !contacts.knows_in(member, g)).cloned().collect(),
            groups: member.groups.clone(),
        })
    }

    /// An officer's word, got by another way, that this is the agency's identity key, and that it may be reached
    /// through these groups (all of its groups, if none is named). Durable when this returns.
    pub(super) fn confirm(&self, agency: &str, key: &str, groups: &[String]) -> Result<(), Failure> {
        if !words::is_key(key) {
            let message =
                "the key must be the 12 words, or the 12 groups of digits, that `lintas status` shows";
            return Err(Failure::new(Code::Usage, message));
        }
        let directory = self.directory();
        let member = listed(&directory.roster().members, agency)?.clone();
        let listed_key = <[u8; 32]>::try_from(member.identity_key.as_ref()).unwrap_or_default();
        if !words::names_key(key, &listed_key) {
            let message = format!(
                "the identity key confirmed for {agency} is not the one in the roster; do not use it, and ask \
                 {agency} by another way"
            );
            return Err(Failure::new(Code::NotSetUp, message));
        }
        if let Some(strange) = groups.iter().find(|group| !member.groups.contains(group)) {
            let message = format!(
                "{agency} is not in the group `{}`; its groups are: {}",
                one_line(strange),
                member.groups.join(", ")
            );
            return Err(Failure::new(Code::Usage, message));
        }
        if directory.held().iter().any(|held| held.agency == agency) {
            self.believe(agency, &listed_key)?;
        }
        let mut groups = if groups.is_empty() { member.groups } else { groups.to_vec() };
        groups.sort_unstable();
        groups.dedup();
        let record = StoredConfirmation {
            agency: member.agency,
            identity_key: member.identity_key,
            groups,
            time_ms: clock::now_ms(),
            first_directory: false,
        };
        self.store.keep(vec![Record::Confirmation(record)]).map_err(stored)?;
        self.sighted().forget(agency);
        tracing::info!(agency, "an officer confirmed the agency");
        Ok(())
    }

    /// Who waits for an officer.
    pub(super) fn awaiting(&self) -> Vec<Awaiting> {
        self.store.state().contacts().awaiting(&self.directory(), &self.keys().agency)
    }

    /// Whether the directory is known to be out of date, on the word of a verified packet.
    pub(super) fn behind(&self) -> Option<Behind> {
        let directory = self.directory();
        let state = self.store.state();
        let contacts = state.contacts();
        state.seen().behind(&directory, contacts).or_else(|| self.sighted().behind(&directory, contacts))
    }
}

fn listed<'a>(members: &'a [Member], agency: &str) -> Result<&'a Member, Failure> {
    members.iter().find(|member| member.agency == agency).ok_or_else(|| {
        let message = format!("the directory lists no agency `{}`", one_line(agency));
        Failure::new(Code::NotFound, message)
    })
}

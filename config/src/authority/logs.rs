//! What a change of the region says of the audit logs: who watches them, who reads them, which one has ended. And the
//! same in words, for whoever reviews it.

use bytes::Bytes;
use lintas_proto::{
    audit::note::{SignedCheckpoint, false_witnesses, log_name, quorum, root_origin},
    id::hex,
    schema::{BrokerKeys, EndedLog, JoinRequest, Member, MemberStatus},
};

use super::{
    change::{ChangeError, Changes, Next, shown},
    found::FoundError,
    review::{key_words, list},
};
use crate::directory::{Directory, check_keyset};

/// A log that ends: of a broker, at a checkpoint of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// Broker.
    pub broker: String,
    /// The largest checkpoint that is known.
    pub checkpoint: SignedCheckpoint,
}

impl Next<'_> {
    /// Who reads whose sub-logs.
    pub(super) fn audits(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        for (agency, audits) in &changes.audits {
            let mut audits = audits.clone();
            audits.sort();
            let known = |audited: &String| self.roster.members.iter().any(|member| member.agency == *audited);
            if let Some(stranger) = audits.iter().find(|audited| *audited != "*" && !known(audited)) {
                return Err(ChangeError::Stranger { agency: shown(stranger) });
            }
            self.member(agency)?.audits = audits;
        }
        Ok(())
    }

    /// Who watches the logs; last of all changes of members.
    pub(super) fn witnesses(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        for agency in &changes.no_witness {
            let member = self.member(agency)?;
            if member.witness_key.is_empty() {
                return Err(ChangeError::Already { agency: agency.clone(), is: "no witness" });
            }
            member.witness_key = Bytes::new();
        }
        let region = self.roster.region.clone();
        for (agency, request) in &changes.witness {
            let key = witness_key(&region, agency, self.member(agency)?, request)?;
            if self.member(agency)?.witness_key == key {
                return Err(ChangeError::Already { agency: agency.clone(), is: "a witness with that key" });
            }
            self.member(agency)?.witness_key = key;
        }
        for agency in &changes.update {
            let wants = self.described(agency, "an update")?.witness;
            if wants && self.member(agency)?.witness_key.is_empty() {
                return Err(ChangeError::WitnessKey { agency: agency.clone() });
            }
        }
        Ok(())
    }

    /// Logs that end. `directory` is the one in force: its keys signed them.
    pub(super) fn ends(&mut self, directory: &Directory, changes: &Changes) -> Result<(), ChangeError> {
        for LogEnd { broker: name, checkpoint } in &changes.end_logs {
            let broker = directory.brokers().iter().find(|broker| broker.name == *name);
            let broker = broker.ok_or_else(|| ChangeError::Broker(shown(name)))?;
            let origin = broker.root_origin();
            let end = checkpoint.verify(&origin, &broker.log_key).map_err(|error| {
                ChangeError::Checkpoint { broker: name.clone(), origin: origin.clone(), error }
            })?;
            let witnesses = directory.witnesses();
            if !changes.without_quorum && checkpoint.witnessed_at(&witnesses).is_none() {
                let have = checkpoint.cosignatures(&witnesses).len();
                let need = quorum(witnesses.len());
                return Err(ChangeError::Quorum { broker: name.clone(), have, need, of: witnesses.len() });
            }
            let known = self.roster.brokers.iter_mut().find(|known| known.name == *name);
            let known = known.ok_or_else(|| ChangeError::Broker(shown(name)))?;
            if known.ended_logs.len() > broker.ended_logs.len() {
                return Err(ChangeError::Twice { agency: name.clone() });
            }
            let root = Bytes::copy_from_slice(&end.root);
            known.ended_logs.push(EndedLog { size: end.size, root });
        }
        Ok(())
    }
}

/// The witness key of a request by that member as the roster names it: under the same identity key.
fn witness_key(
    region: &str,
    agency: &str,
    member: &Member,
    request: &JoinRequest,
) -> Result<Bytes, ChangeError> {
    let (Some(asks), Some(keyset)) = (&request.member, &request.keyset) else {
        return Err(FoundError::Empty.into());
    };
    if asks.agency != agency || asks.identity_key != member.identity_key {
        return Err(ChangeError::OtherRequest { agency: agency.to_owned() });
    }
    check_keyset(region, member, keyset)?;
    if asks.witness_key.is_empty() {
        return Err(ChangeError::WitnessKey { agency: agency.to_owned() });
    }
    Ok(asks.witness_key.clone())
}

/// Whether it is an active member with a witness key.
pub(super) fn is_witness(member: &Member) -> bool {
    member.status == MemberStatus::Active as i32 && !member.witness_key.is_empty()
}

/// What that many witnesses are good for.
#[must_use]
pub fn quorum_words(witnesses: usize) -> String {
    let tolerates = match false_witnesses(witnesses) {
        0 => "tolerates no false witness".to_owned(),
        1 => "tolerates 1 false witness".to_owned(),
        more => format!("tolerates {more} false witnesses"),
    };
    match witnesses {
        0 => "no witness watches the log: nobody but its readers would notice a second one".to_owned(),
        1 => format!("1 witness watches the log and must cosign it; {tolerates}"),
        n => format!("{n} witnesses watch the log, {} of them must cosign it; {tolerates}", quorum(n)),
    }
}

/// What changes in a member's part in the logs: a word for programs, and for people.
pub(super) fn changed(old: &Member, new: &Member) -> impl Iterator<Item = (&'static str, String)> {
    let witness = (old.witness_key != new.witness_key).then(|| {
        let text = match (old.witness_key.is_empty(), new.witness_key.is_empty()) {
            (_, true) => "is a witness of the log no longer".to_owned(),
            (true, false) => {
                format!("is a witness of the log, and cosigns it with {}", key_words(&new.witness_key))
            }
            (false, false) => {
                let (after, before) = (key_words(&new.witness_key), key_words(&old.witness_key));
                format!("new witness key: {after} (before: {before})")
            }
        };
        ("witness", text)
    });
    let audits = (old.audits != new.audits).then(|| ("audits", audits_words(&new.audits)));
    witness.into_iter().chain(audits)
}

/// Whose logs an auditor may read.
fn audits_words(audits: &[String]) -> String {
    match audits {
        [] => "may read no other agency's part of the log".to_owned(),
        [all] if all == "*" => "may read every agency's part of the log".to_owned(),
        some => format!("may read the parts of the log of: {}", list(some)),
    }
}

/// What is said of logs that end, or that are said to go on after they had ended.
pub(super) fn ends(before: Option<&BrokerKeys>, broker: &BrokerKeys) -> Vec<String> {
    let old = before.map(|before| before.ended_logs.as_slice()).unwrap_or_default();
    if !broker.ended_logs.starts_with(old) {
        return vec!["takes back what was said of a log that has ended, which no node accepts".to_owned()];
    }
    let origin = |ended| root_origin(&log_name(&broker.name, ended));
    let text = |(number, log): (usize, &EndedLog)| {
        format!(
            "the log {} ends at size {}, root {}; {} begins, empty, and every node submits again what it has no \
             answer for. Entries after that size are lost from the log: make sure that no witness knows a larger one",
            origin(number),
            log.size,
            hex(&log.root),
            origin(number.saturating_add(1)),
        )
    };
    broker.ended_logs.iter().enumerate().skip(old.len()).map(text).collect()
}

//! Who keeps audit logs, who may read them, who watches them.

use lintas_proto::{
    audit::note::{WitnessKey, log_name, root_origin, witness_name},
    id::check_code,
    limits,
    receipt::sub_log_origin,
    schema::{EndedLog, Member, Role, Roster},
    sign::VerifyingKey,
};

use super::{Broker, Directory, DirectoryError, is_active, roster::rule};

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOwner<'a> {
    /// The root log.
    Root,
    /// The sub-log of an agency.
    Agency(&'a str),
}

/// A log of a broker of this region.
#[derive(Debug, Clone, Copy)]
pub struct LogRef<'a> {
    /// The broker that keeps it.
    pub broker: &'a Broker,
    /// How many of its logs had ended when this one began.
    pub number: usize,
    /// Root log or sub-log.
    pub owner: LogOwner<'a>,
}

impl LogRef<'_> {
    /// What the region authority says of its end; `None` for the present log.
    #[must_use]
    pub fn ended(&self) -> Option<&EndedLog> {
        self.broker.ended_logs.get(self.number)
    }
}

impl Broker {
    /// Name of its present log: the first part of its origins.
    #[must_use]
    pub fn log_name(&self) -> String {
        log_name(&self.name, self.ended_logs.len())
    }

    /// Origin of its present root log.
    #[must_use]
    pub fn root_origin(&self) -> String {
        root_origin(&self.log_name())
    }

    /// Origin of an agency's present sub-log.
    #[must_use]
    pub fn sub_log_origin(&self, agency: &str) -> String {
        sub_log_origin(&self.log_name(), agency)
    }
}

impl Directory {
    /// The log of that origin, present or ended; `None` if it is of no broker of this region.
    #[must_use]
    pub fn log_of<'a>(&'a self, origin: &'a str) -> Option<LogRef<'a>> {
        let (name, owner) = match origin.split_once("/audit/") {
            Some((name, agency)) if check_code(agency).is_ok() => (name, LogOwner::Agency(agency)),
            Some(_) => return None,
            None => (origin.strip_suffix("/audit")?, LogOwner::Root),
        };
        self.brokers.iter().find_map(|broker| {
            let number =
                (0..=broker.ended_logs.len()).find(|number| log_name(&broker.name, *number) == name)?;
            Some(LogRef { broker, number, owner })
        })
    }

    /// The witnesses: active members with a witness key, in the roster's order.
    #[must_use]
    pub fn witnesses(&self) -> Vec<WitnessKey> {
        let active = self.roster.members.iter().filter(|member| is_active(member));
        active.filter_map(|member| self.as_witness(member)).collect()
    }

    /// An active member as a witness; `None` if it is none.
    #[must_use]
    pub fn witness(&self, agency: &str) -> Option<WitnessKey> {
        self.member(agency).and_then(|member| self.as_witness(member))
    }

    fn as_witness(&self, member: &Member) -> Option<WitnessKey> {
        let key = VerifyingKey::parse(&member.witness_key).ok()?;
        Some(WitnessKey { name: witness_name(&self.roster.region, &member.agency), key })
    }

    /// 0-based place of a member, active or not, in the roster: the index of its slot.
    #[must_use]
    pub fn roster_index(&self, agency: &str) -> Option<u32> {
        let at = self.roster.members.binary_search_by(|member| member.agency.as_str().cmp(agency)).ok()?;
        u32::try_from(at).ok()
    }

    /// Whether an active member may read the sub-log of `owner`: its own always, others as an auditor within its scope.
    #[must_use]
    pub fn may_read(&self, reader: &str, owner: &str) -> bool {
        let Some(member) = self.member(reader) else { return false };
        let audits = || {
            member.roles.contains(&(Role::Auditor as i32))
                && member.audits.iter().any(|agency| agency == "*" || agency == owner)
        };
        reader == owner || audits()
    }
}

/// Rules of a roster about logs.
pub(super) fn check(roster: &Roster) -> Result<(), DirectoryError> {
    let witnesses = roster.members.iter().filter(|member| !member.witness_key.is_empty()).count();
    if witnesses > limits::WITNESSES_MAX {
        return Err(rule("roster", "a region has at most 16 witnesses"));
    }
    for broker in &roster.brokers {
        let sound = |ended: &EndedLog| ended.size > 0 && ended.root.len() == 32;
        if broker.ended_logs.len() > ENDED_LOGS_MAX || !broker.ended_logs.iter().all(sound) {
            return Err(rule(&broker.name, "at most 64 ended logs, each with a size and a root of 32 bytes"));
        }
        let names = (0..=broker.ended_logs.len()).map(|ended| log_name(&broker.name, ended));
        let others = || roster.brokers.iter().filter(|other| other.name != broker.name);
        if names
            .into_iter()
            .any(|name| name.len() > limits::NAME_BYTES_MAX || others().any(|o| o.name == name))
        {
            return Err(rule(
                &broker.name,
                "the names of its logs are at most 64 bytes and no other broker's name",
            ));
        }
    }
    Ok(())
}

/// Most logs of one broker that may have ended.
const ENDED_LOGS_MAX: usize = 64;

//! What a directory says, for people.

use std::collections::BTreeMap;

use lintas_proto::{
    audit::note::{false_witnesses, log_name, log_vkey, quorum, root_origin, witness_vkey},
    id::hex,
    schema::{Keyset, Member},
    sign::{KeyRole, key_id},
};
use serde::Serialize;

use super::{
    names::{function_list, purpose_list, read_keyset, role_names, status},
    office::Office,
    proposal::Proposal,
    review::{KeyView, SignatureView},
    rules::{EquivalentView, PolicyView, SchemeView, equivalents, policies, scheme_views},
};
use crate::{
    directory::{Broker, Directory, DirectoryError, epoch_ends_ms},
    words,
};

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Region.
    pub region: String,
    /// Version of its roster.
    pub version: u64,
    /// SHA-256 of its roster, hex.
    pub roster: String,
    /// The same in words.
    pub roster_words: String,
    /// Words of the bootstrap file that fits it.
    pub bootstrap_words: String,
    /// Validity, milliseconds since 1970.
    pub valid_from_ms: u64,
    /// Its end.
    pub valid_until_ms: u64,
    /// How many authorities must sign.
    pub threshold: u32,
    /// Authorities, and which of them signed.
    pub authorities: Vec<SignatureView>,
    /// Brokers.
    pub brokers: Vec<BrokerView>,
    /// After how many days an agency is told that an auditor read its part of the log.
    pub reads_told_after_days: u32,
    /// How many witnesses must cosign a checkpoint; 0 without witnesses.
    pub quorum: usize,
    /// How many of them may be false without two logs being believed.
    pub tolerates_false_witnesses: usize,
    /// The regional baseline policy, and what was taken out of it and still forbids.
    pub baseline: Vec<PolicyView>,
    /// Schemes of classification.
    pub schemes: Vec<SchemeView>,
    /// Their markings by rank, the highest first.
    pub equivalents: Vec<EquivalentView>,
    /// Members.
    pub members: Vec<MemberView>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerView {
    /// Name.
    pub name: String,
    /// Connects with.
    pub transport_key: KeyView,
    /// Signs receipts with.
    pub receipt_key: KeyView,
    /// Signs checkpoints of its log with.
    pub log_key: KeyView,
    /// Its present log.
    pub log: LogView,
    /// The sub-logs of it: one for each member.
    pub sub_logs: Vec<LogView>,
    /// Its logs that have ended, in order.
    pub ended_logs: Vec<LogView>,
}

/// A root log, or a sub-log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogView {
    /// Its origin.
    pub origin: String,
    /// The key that signs it, as other verifiers are told (C2SP signed-note); not told of a log that has ended, whose
    /// key may have been another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vkey: Option<String>,
    /// Where it ended: its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at_size: Option<u64>,
    /// And its root, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Code.
    pub agency: String,
    /// Name.
    pub name: String,
    /// In its own languages.
    pub native_names: Vec<String>,
    /// Country; empty for an international body.
    pub country: String,
    /// `active`, `suspended` or `revoked`.
    pub status: &'static str,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Its offline key.
    pub identity_key: KeyView,
    /// Cosigns the log with; none if it is no witness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness_key: Option<KeyView>,
    /// The same as other verifiers are told (C2SP tlog-cosignature), while it is an active member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness_vkey: Option<String>,
    /// Whose parts of the log it may read besides its own; `*` for all.
    pub audits: Vec<String>,
    /// Why nothing of it is believed here, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Units.
    pub units: Vec<UnitView>,
    /// Keys in use; none if it has published none.
    pub keyset: Option<KeysetView>,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitView {
    /// Code.
    pub unit: String,
    /// Name.
    pub name: String,
    /// Functions.
    pub functions: Vec<String>,
    /// What it may use for what it receives.
    pub purposes: Vec<String>,
    /// Clearance.
    pub clearance: u32,
    /// Until when somebody can seal to it with the keys published, milliseconds since 1970; none without a key.
    pub keys_until_ms: Option<u64>,
}

/// An agency's keys in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysetView {
    /// Version.
    pub version: u64,
    /// End of its validity, milliseconds since 1970.
    pub valid_until_ms: u64,
    /// Connects with.
    pub transport_keys: Vec<KeyView>,
    /// Signs packets with.
    pub packet_keys: Vec<KeyView>,
    /// Ids of the packet keys, hex, in the same order.
    pub packet_key_ids: Vec<String>,
    /// Keys of units.
    pub encryption_keys: Vec<EncryptionView>,
}

/// One unit's key for one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EncryptionView {
    /// Unit.
    pub unit: String,
    /// Id of the key, hex.
    pub id: String,
    /// Epoch.
    pub epoch: u32,
    /// When the epoch ends, milliseconds since 1970.
    pub epoch_until_ms: u64,
    /// When the key ends.
    pub valid_until_ms: u64,
}

/// Describes a directory. `offices` give names to keys.
///
/// # Errors
/// [`DirectoryError`].
pub fn inspect(directory: &Directory, offices: &[Office]) -> Result<Inspection, DirectoryError> {
    let proposal = Proposal::parse(directory.bytes())?;
    let (roster, bootstrap) = (directory.roster(), proposal.bootstrap()?);
    let signed = proposal.signers(&bootstrap.authority_keys)?;
    let authority = |key| SignatureView {
        office: KeyView::of(lintas_proto::sign::VerifyingKey::as_bytes(key), offices),
        before: true,
        after: true,
        signed: signed.contains(&key),
    };
    let keysets: BTreeMap<String, Keyset> = proposal
        .keysets()
        .iter()
        .filter_map(read_keyset)
        .map(|(keyset, _)| (keyset.agency.clone(), keyset))
        .collect();
    let witnesses = directory.witnesses().len();
    let member = |member: &Member| view(directory, member, keysets.get(&member.agency));
    Ok(Inspection {
        region: roster.region.clone(),
        version: roster.version,
        roster: hex(directory.roster_hash()),
        roster_words: words::words(directory.roster_hash()),
        bootstrap_words: bootstrap.words(),
        valid_from_ms: roster.not_before_ms,
        valid_until_ms: roster.not_after_ms,
        threshold: roster.threshold,
        authorities: bootstrap.authority_keys.iter().map(authority).collect(),
        brokers: directory.brokers().iter().map(|known| broker(known, &roster.members)).collect(),
        reads_told_after_days: roster.reads_told_after_days,
        quorum: quorum(witnesses),
        tolerates_false_witnesses: false_witnesses(witnesses),
        baseline: policies(roster),
        schemes: scheme_views(roster),
        equivalents: equivalents(roster),
        members: roster.members.iter().map(member).collect(),
    })
}

fn broker(broker: &Broker, members: &[Member]) -> BrokerView {
    let origin = |number| root_origin(&log_name(&broker.name, number));
    let ended = |(number, log): (usize, &lintas_proto::schema::EndedLog)| LogView {
        origin: origin(number),
        vkey: None,
        ended_at_size: Some(log.size),
        root: Some(hex(&log.root)),
    };
    let log = |origin: String| {
        let vkey = Some(log_vkey(&origin, &broker.log_key));
        LogView { origin, vkey, ended_at_size: None, root: None }
    };
    BrokerView {
        name: broker.name.clone(),
        transport_key: key(&broker.transport_key),
        receipt_key: key(broker.receipt_key.as_bytes()),
        log_key: key(broker.log_key.as_bytes()),
        log: log(broker.root_origin()),
        sub_logs: members.iter().map(|member| log(broker.sub_log_origin(&member.agency))).collect(),
        ended_logs: broker.ended_logs.iter().enumerate().map(ended).collect(),
    }
}

fn view(directory: &Directory, member: &Member, keyset: Option<&Keyset>) -> MemberView {
    let encryption = keyset.map(|keyset| keyset.encryption_keys.as_slice()).unwrap_or_default();
    let until = |unit: &str| {
        encryption.iter().filter(|key| key.unit == unit).map(|key| epoch_ends_ms(key.epoch)).max()
    };
    let unit = |unit: &lintas_proto::schema::RosterUnit| UnitView {
        unit: unit.unit.clone(),
        name: unit.name.clone(),
        functions: function_list(&unit.functions),
        purposes: purpose_list(&unit.purposes),
        clearance: unit.clearance,
        keys_until_ms: until(&unit.unit),
    };
    MemberView {
        agency: member.agency.clone(),
        name: member.name.clone(),
        native_names: member.native_names.clone(),
        country: member.country.clone(),
        status: status(member.status),
        roles: role_names(member),
        groups: member.groups.clone(),
        identity_key: key(&member.identity_key),
        witness_key: Some(&member.witness_key).filter(|key| !key.is_empty()).map(|bytes| key(bytes)),
        witness_vkey: directory.witness(&member.agency).map(|witness| witness_vkey(&witness)),
        audits: member.audits.clone(),
        held: directory.held().iter().find(|held| held.agency == member.agency).map(ToString::to_string),
        units: member.units.iter().map(unit).collect(),
        keyset: keyset.map(keys),
    }
}

fn keys(keyset: &Keyset) -> KeysetView {
    let encryption = |key: &lintas_proto::schema::EncryptionKey| EncryptionView {
        unit: key.unit.clone(),
        id: hex(&key_id(KeyRole::Encryption, &key.public_key)),
        epoch: key.epoch,
        epoch_until_ms: epoch_ends_ms(key.epoch),
        valid_until_ms: key.not_after_ms,
    };
    KeysetView {
        version: keyset.version,
        valid_until_ms: keyset.not_after_ms,
        transport_keys: keyset.transport_keys.iter().map(|bytes| key(bytes)).collect(),
        packet_keys: keyset.packet_keys.iter().map(|bytes| key(bytes)).collect(),
        packet_key_ids: keyset.packet_keys.iter().map(|key| hex(&key_id(KeyRole::Packet, key))).collect(),
        encryption_keys: keyset.encryption_keys.iter().map(encryption).collect(),
    }
}

/// Keys of a verified directory are 32 bytes.
fn key(bytes: &[u8]) -> KeyView {
    KeyView::of(&bytes.try_into().unwrap_or_default(), &[])
}

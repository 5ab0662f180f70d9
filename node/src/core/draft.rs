//! Drafts: what an officer writes, and how it becomes what is sealed.

use lintas_config::Directory;
use lintas_proto::{
    envelope::{body::FORMAT, core::Core, seal},
    id::PacketId,
    limits,
    schema::{AttachmentKey, AttachmentRef, Body, Kind, Label, Onward, UnitFunction, UnitRef},
};
use serde::Deserialize;
use thiserror::Error;

use super::state::State;

/// Longest draft, bytes.
pub(crate) const DRAFT_BYTES_MAX: usize = 2 * 1024 * 1024;
const HOUR_MS: u64 = 60 * 60 * 1_000;

/// A draft that is not one. The officer is at fault; nothing was sealed.
#[derive(Debug, Error)]
pub(crate) enum DraftError {
    /// Too long.
    #[error(
        "the draft has {have} bytes, at most {DRAFT_BYTES_MAX} are allowed; put long material in attachments"
    )]
    TooLarge {
        /// Its length.
        have: usize,
    },
    /// Not JSON of this shape.
    #[error("the draft is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A code that is none.
    #[error("`{text}` is no valid {what}; it must be one of {known}")]
    Code {
        /// Which key.
        what: &'static str,
        /// What it says.
        text: String,
        /// What it may say.
        known: &'static str,
    },
    /// A recipient that is not written as one.
    #[error(
        "`{0}` is no recipient; write AGENCY/UNIT, AGENCY for its single point of contact, or group:GROUP for those \
         of all members of a group"
    )]
    Recipient(String),
    /// A key that the node fills in itself.
    #[error("the draft's body has `{0}`; leave it out: {1}")]
    NotYours(&'static str, &'static str),
    /// It is not clear for which unit it speaks.
    #[error(
        "this agency has several units ({0}); say which one sends with --from UNIT or \"from\" in the draft"
    )]
    From(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: Vec<String>,
    label: Label,
    onward: String,
    #[serde(default = "three_days")]
    deliver_within_hours: u64,
    #[serde(default)]
    visible_audience: bool,
    body: Body,
}

fn three_days() -> u64 {
    72
}

/// A recipient as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// AGENCY/UNIT.
    Unit(UnitRef),
    /// AGENCY: its single point of contact.
    Agency(String),
    /// group:GROUP: those of all other active members of a group of the roster.
    Group(String),
    /// A recipient of a packet that is sealed again: chosen as it was before.
    Again {
        /// The unit.
        unit: UnitRef,
        /// The officer chose the unit itself.
        named: bool,
    },
}

/// A draft, read.
#[derive(Debug)]
pub(crate) struct Draft {
    /// What it is.
    pub(crate) kind: Kind,
    /// The unit that sends, if named.
    pub(crate) from: String,
    /// To whom, as written.
    pub(crate) to: Vec<Addressee>,
    /// The clear label, lists sorted.
    pub(crate) label: Label,
    /// Whether it may be passed on.
    pub(crate) onward: Onward,
    /// How long it may take.
    pub(crate) deliver_within_hours: u64,
    /// Whether recipients see each other.
    pub(crate) visible_audience: bool,
    /// The body.
    pub(crate) body: Body,
}

impl Draft {
    /// Reads a draft; `to` and `from` of the command line are added to what it says.
    pub(crate) fn parse(json: &str, to: &[String], from: Option<&str>) -> Result<Self, DraftError> {
        if json.len() > DRAFT_BYTES_MAX {
            return Err(DraftError::TooLarge { have: json.len() });
        }
        let file: File = serde_json::from_str(json)?;
        let kind =
            Kind::from_str_name(&prefixed("KIND_", &file.kind)).filter(|kind| *kind != Kind::Unspecified);
        let known = "ALERT, NOTICE, REQUEST, REPLY";
        let kind = kind.filter(|kind| *kind != Kind::Recall);
        let kind = kind.ok_or(DraftError::Code { what: "kind", text: file.kind, known })?;
        let onward = Onward::from_str_name(&prefixed("ONWARD_", &file.onward));
        let known = "NONE, WITH_CONSENT, REGION, ANY";
        let onward = onward.filter(|onward| *onward != Onward::Unspecified);
        let onward = onward.ok_or(DraftError::Code { what: "onward", text: file.onward, known })?;
        Ok(Self {
            kind,
            from: from.map_or(file.from, str::to_owned),
            to: file.to.iter().chain(to).map(|text| addressee(text)).collect::<Result<_, _>>()?,
            label: sorted(file.label),
            onward,
            deliver_within_hours: file.deliver_within_hours,
            visible_audience: file.visible_audience,
            body: own_body(file.body)?,
        })
    }

    /// The unit that sends: the one named, or the only one, or the only single point of contact.
    pub(crate) fn originator(&self, directory: &Directory, agency: &str) -> Result<UnitRef, DraftError> {
        let unit = |unit: &str| UnitRef { agency: agency.to_owned(), unit: unit.to_owned() };
        if !self.from.is_empty() {
            return Ok(unit(&self.from));
        }
        let units: Vec<&str> = directory
            .member(agency)
            .map(|member| member.units.iter().map(|unit| unit.unit.as_str()).collect())
            .unwrap_or_default();
        match (units.as_slice(), contact(directory, agency)) {
            ([only], _) => Ok(unit(only)),
            (_, Some(contact)) => Ok(contact),
            _ => Err(DraftError::From(units.join(", "))),
        }
    }
}

/// The single point of contact of an agency, if it has exactly one.
pub(crate) fn contact(directory: &Directory, agency: &str) -> Option<UnitRef> {
    let spoc = UnitFunction::Spoc as i32;
    let mut spocs = directory.member(agency)?.units.iter().filter(|unit| unit.functions.contains(&spoc));
    let (first, second) = (spocs.next()?, spocs.next());
    second.is_none().then(|| UnitRef { agency: agency.to_owned(), unit: first.unit.clone() })
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.starts_with(prefix) { text.to_owned() } else { format!("{prefix}{text}") }
}

fn addressee(text: &str) -> Result<Addressee, DraftError> {
    let code = |code: &str| lintas_proto::id::check_code(code).is_ok();
    if let Some(group) = text.strip_prefix("group:").filter(|group| code(group)) {
        return Ok(Addressee::Group(group.to_owned()));
    }
    match text.split_once('/') {
        Some((agency, unit)) if code(agency) && code(unit) => {
            Ok(Addressee::Unit(UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }))
        }
        None if code(text) => Ok(Addressee::Agency(text.to_owned())),
        Some(_) | None => Err(DraftError::Recipient(text.chars().take(80).collect())),
    }
}

/// The format wants lists sorted; an officer need not know.
fn sorted(mut label: Label) -> Label {
    for list in
        [&mut label.handling, &mut label.caveats, &mut label.purposes, &mut label.offences, &mut label.data]
    {
        list.sort_unstable();
        list.dedup();
    }
    label.rel_to.sort_unstable();
    label.rel_to.dedup();
    label
}

fn own_body(mut body: Body) -> Result<Body, DraftError> {
    let filled = [
        ("attachments", body.attachments.is_empty(), "give files with --attach"),
        ("audience", body.audience.is_empty(), "set \"visible_audience\" instead"),
        ("rootCheckpoint", body.root_checkpoint.is_empty(), "the node fills it in"),
        ("supersedes", body.supersedes.is_empty(), "the node fills it in"),
    ];
    if let Some((key, _, advice)) = filled.iter().find(|(_, absent, _)| !absent) {
        return Err(DraftError::NotYours(key, advice));
    }
    body.format = FORMAT;
    Ok(body)
}

/// Attachments of a packet, already sealed: what the core and what the body must name.
pub(crate) type Attachments = Vec<(AttachmentRef, AttachmentKey)>;

/// Who sends a packet, and when.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// The unit.
    pub(crate) originator: UnitRef,
    /// The new packet's id; its time is when the packet was made.
    pub(crate) packet_id: PacketId,
    /// A person of this agency has reviewed the release.
    pub(crate) reviewed: bool,
}

/// Joins everything into what is sealed. `recipients` come from the preflight.
pub(crate) fn compose(
    draft: Draft,
    sender: Sender,
    recipients: Vec<super::preflight::Cleared>,
    attachments: Attachments,
    directory: &Directory,
    state: &State,
) -> seal::Draft {
    let Draft { kind, label, onward, deliver_within_hours, visible_audience, mut body, .. } = draft;
    let created_ms = sender.packet_id.created_ms();
    let within_ms = deliver_within_hours.saturating_mul(HOUR_MS).min(limits::DELIVER_WITHIN_MS_MAX);
    // Beyond the end of a recipient's key nobody could open it.
    let keys_until_ms = recipients.iter().map(|cleared| cleared.key_until_ms).min().unwrap_or(u64::MAX);
    let (references, keys) = attachments.into_iter().unzip();
    body.attachments = keys;
    let recipient = |cleared: super::preflight::Cleared| seal::Recipient {
        previous: state.previous_to(&cleared.unit),
        unit: cleared.unit,
        key: cleared.key,
        named: cleared.named,
    };
    let core = Core {
        packet_id: sender.packet_id,
        sign_key_id: [0; 32],
        region: directory.roster().region.clone(),
        roster_version: directory.roster().version,
        keyset_version: directory.keyset_version(&sender.originator.agency).unwrap_or_default(),
        originator: sender.originator,
        directory_hash: *directory.hash(),
        kind,
        label,
        onward,
        created_ms,
        not_before_ms: created_ms,
        deliver_by_ms: created_ms.saturating_add(within_ms).min(keys_until_ms),
        recipient_commit: Vec::new(),
        refers_to: None,
        attachments: references,
        reviewed: sender.reviewed,
    };
    let recipients = recipients.into_iter().map(recipient).collect();
    seal::Draft { core, body, recipients, visible_audience }
}

//! Which packets the loss of a key exposes.
//!
//! | lost | contents that can be read | signatures that prove nothing any more |
//! |---|---|---|
//! | an encryption key, a unit, an epoch | of packets that were sealed to it | none |
//! | a packet key | none | of packets that were signed with it |
//! | a whole node | of all that it keeps | of all that it sent |

use std::fmt;

use lintas_proto::{
    envelope::core::Core,
    id::{Digest, hex},
    limits,
    schema::UnitRef,
    sign::{KeyRole, key_id},
};
use serde::{Deserialize, Serialize};

use super::{listed::ListedKeys, state::name};

/// Fewest digits of a key id that name a key.
const DIGITS_MIN: usize = 12;
/// Digits of a whole key id.
const DIGITS_MAX: usize = 64;

/// What is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// A key whose id begins with these digits.
    Key(String),
    /// Everything on this node.
    Node,
    /// The encryption keys of a unit; any agency's if none is named.
    Unit(UnitRef),
    /// The encryption keys of an epoch, of every unit.
    Epoch(u32),
}

impl Lost {
    /// Reads `node`, `unit:TH-MAR`, `unit:TH/TH-MAR`, `epoch:2930` or digits of a key id; else says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "node" {
            return Ok(Self::Node);
        }
        if let Some(unit) = text.strip_prefix("unit:") {
            let (agency, unit) = unit.split_once('/').unwrap_or(("", unit));
            if unit.is_empty() {
                return Err("which unit? for example unit:TH-MAR or unit:TH/TH-MAR".to_owned());
            }
            return Ok(Self::Unit(UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }));
        }
        if let Some(epoch) = text.strip_prefix("epoch:") {
            let wrong = |_| "an epoch is a number of weeks since 1970, for example epoch:2930".to_owned();
            return epoch.parse().map(Self::Epoch).map_err(wrong);
        }
        let digits = text.to_ascii_lowercase();
        let fits = (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if fits {
            return Ok(Self::Key(digits));
        }
        Err(format!(
            "a key is named by the {DIGITS_MAX} hex digits of its id, or by its first {DIGITS_MIN} or more; there are \
             also `node`, `unit:UNIT` and `epoch:NUMBER`"
        ))
    }
}

/// What matters of one kept packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// This node sent it.
    pub(crate) sent: bool,
    /// Its core.
    pub(crate) core: Core,
    /// To whom it is sealed, with the ids of the keys: of a received packet the unit of this agency only.
    pub(crate) sealed_to: Vec<(UnitRef, Digest)>,
}

/// What a packet loses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Whoever has the key, and the packet, reads it.
    pub(crate) contents: bool,
    /// Its signature proves nothing any more.
    pub(crate) signature: bool,
}

/// What `packet` loses with `lost`.
pub(crate) fn loss(lost: &Lost, packet: &Packet, listed: &[ListedKeys]) -> Loss {
    let mut sealed_to = packet.sealed_to.iter();
    match lost {
        Lost::Node => Loss { contents: true, signature: packet.sent },
        Lost::Key(digits) => Loss {
            contents: sealed_to.any(|(_, id)| hex(id).starts_with(digits)),
            signature: hex(&packet.core.sign_key_id).starts_with(digits),
        },
        Lost::Unit(lost) => {
            let fits = |unit: &UnitRef| {
                unit.unit == lost.unit && (lost.agency.is_empty() || unit.agency == lost.agency)
            };
            Loss { contents: sealed_to.any(|(unit, _)| fits(unit)), signature: false }
        }
        Lost::Epoch(epoch) => Loss {
            contents: sealed_to
                .any(|(unit, id)| epoch_of((unit, id), packet.core.created_ms, listed) == u64::from(*epoch)),
            signature: false,
        },
    }
}

/// Epoch of a unit's encryption key: as its agency lists it, or, for a key that is listed no longer, that of the packet.
/// A revoked agency may list the same key, under any epoch.
fn epoch_of((unit, id): (&UnitRef, &Digest), created_ms: u64, listed: &[ListedKeys]) -> u64 {
    let of_agency = listed.iter().filter(|keys| keys.agency == unit.agency);
    let key = of_agency.flat_map(|keys| &keys.encryption).find(|key| key.unit == unit.unit && key.id == *id);
    key.map_or(created_ms / limits::EPOCH_MS, |key| u64::from(key.epoch))
}

/// What the directory calls the keys that are lost.
pub(crate) fn known_as(lost: &Lost, listed: &[ListedKeys]) -> Vec<String> {
    let Lost::Key(digits) = lost else { return Vec::new() };
    let mut found = Vec::new();
    for keys in listed {
        let signing = [
            (KeyRole::Transport, "the transport key", &keys.transport),
            (KeyRole::Packet, "the key that signs packets", &keys.packet),
        ];
        for (role, what, public) in signing {
            let hit = public.iter().any(|key| hex(&key_id(role, key)).starts_with(digits));
            found.extend(hit.then(|| format!("{what} of {}", keys.agency)));
        }
        let encryption = keys.encryption.iter().filter(|key| hex(&key.id).starts_with(digits));
        found.extend(encryption.map(|key| {
            format!("the encryption key of {}/{} for epoch {}", keys.agency, key.unit, key.epoch)
        }));
    }
    found
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Exposure {
    /// What is lost, as it was asked.
    pub(crate) lost: String,
    /// What the directory calls it.
    pub(crate) known_as: Vec<String>,
    /// Packets before this time were not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_ms: Option<u64>,
    /// The packets, received ones first, each kind newest first.
    pub(crate) packets: Vec<Exposed>,
    /// How many can be read.
    pub(crate) contents: usize,
    /// How many have a signature that proves nothing any more.
    pub(crate) signatures: usize,
    /// Packets looked at.
    pub(crate) looked_at: usize,
    /// Packets that could not be looked at: count them as exposed.
    pub(crate) unread: usize,
    /// Exposed packets that are counted, but not listed.
    pub(crate) not_listed: usize,
    /// What to do.
    pub(crate) advice: Vec<String>,
}

/// One exposed packet.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Exposed {
    /// Its id.
    pub(crate) packet_id: String,
    /// `received` or `sent`.
    pub(crate) direction: String,
    /// When it came, or was sealed.
    pub(crate) time_ms: u64,
    /// Who sent it.
    pub(crate) from: String,
    /// For whom.
    pub(crate) to: Vec<String>,
    /// It can be read.
    pub(crate) contents: bool,
    /// Its signature proves nothing any more.
    pub(crate) signature: bool,
    /// Its title, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
}

impl fmt::Debug for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposed { .. }")
    }
}

impl Exposed {
    /// The entry of a packet.
    pub(crate) fn new(packet: &Packet, loss: Loss, time_ms: u64, title: Option<String>) -> Self {
        Self {
            packet_id: packet.core.packet_id.to_string(),
            direction: if packet.sent { "sent" } else { "received" }.to_owned(),
            time_ms,
            from: name(&packet.core.originator),
            to: packet.sealed_to.iter().map(|(unit, _)| name(unit)).collect(),
            contents: loss.contents,
            signature: loss.signature,
            title,
        }
    }
}

/// What to do about it.
pub(crate) fn advice(lost: &Lost, found: &Exposure) -> Vec<String> {
    let mut advice = Vec::new();
    let mut say = |holds: bool, text: &str| {
        if holds {
            advice.push(text.to_owned());
        }
    };
    say(
        found.contents > 0,
        "Whoever has the key and copies of these packets, recorded on their way or taken from a broker, reads them. Tell \
         the senders of the received ones and the recipients of the sent ones, by another way than this system; think \
         of the persons whom they name first.",
    );
    say(
        found.signatures > 0,
        "Whoever has the key can make packets that look as if they were signed with it. What was received before the loss \
         stays as true as it was, but from now on the signature alone proves nothing: the receipts show what was sent \
         when. Ask the sender to confirm what you rely on.",
    );
    say(
        true,
        "If the key is this agency's, take it out of the directory today: publish keys without it, or ask the region \
         authority to suspend the agency until then. If it is another agency's, tell that agency and the region \
         authority.",
    );
    say(
        found.known_as.iter().any(|what| what.starts_with("the transport key")),
        "A transport key opens no packet and signs none; whoever has it can connect to the broker as that agency, and \
         takes delivery of ciphertext that waits there.",
    );
    say(
        matches!(lost, Lost::Key(_))
            && found.known_as.is_empty()
            && found.contents + found.signatures + found.unread == 0,
        "Neither the directory nor a kept packet knows a key with this id: compare the digits.",
    );
    say(
        found.unread > 0,
        "Some packets could not be looked at: count them as exposed, and look at the disk.",
    );
    advice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::listed::ListedUnitKey;

    #[test]
    fn what_is_lost_is_named_in_four_ways() {
        let unit = |agency: &str, unit: &str| {
            Lost::Unit(UnitRef { agency: agency.to_owned(), unit: unit.to_owned() })
        };
        assert_eq!(Lost::parse("node"), Ok(Lost::Node));
        assert_eq!(Lost::parse("unit:TH-MAR"), Ok(unit("", "TH-MAR")));
        assert_eq!(Lost::parse("unit:TH/TH-MAR"), Ok(unit("TH", "TH-MAR")));
        assert_eq!(Lost::parse("epoch:2930"), Ok(Lost::Epoch(2930)));
        assert_eq!(Lost::parse("00ABcdef0123"), Ok(Lost::Key("00abcdef0123".to_owned())));
        for wrong in
            ["", "unit:", "epoch:", "epoch:-1", "00abcdef012", "00abcdef012g", &"0".repeat(65), "nodes"]
        {
            assert!(Lost::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_revoked_agency_that_lists_the_key_of_another_hides_nothing() {
        let lists = |agency: &str, unit: &str, epoch| ListedKeys {
            agency: agency.to_owned(),
            not_after_ms: 0,
            delegated_until_ms: 0,
            transport: Vec::new(),
            packet: Vec::new(),
            encryption: vec![ListedUnitKey { unit: unit.to_owned(), epoch, not_after_ms: 0, id: [1; 32] }],
        };
        let listed = [lists("KH", "TH-MAR", 7), lists("TH", "TH-MAR", 2_930)];
        let unit = UnitRef { agency: "TH".to_owned(), unit: "TH-MAR".to_owned() };
        assert_eq!(epoch_of((&unit, &[1; 32]), 0, &listed), 2_930);
        assert_eq!(epoch_of((&unit, &[2; 32]), 3 * limits::EPOCH_MS, &listed), 3, "listed no longer");
    }
}

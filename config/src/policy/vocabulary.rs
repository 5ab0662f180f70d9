//! The words of the label as policies know them, and the Cedar schema. One name each: that of the protobuf value without
//! its prefix.

use std::sync::OnceLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use lintas_proto::{
    id::{Digest, sha256},
    schema::{Caveat, DataCategory, HandlingCode, Kind, Offence, Onward, Purpose, Tlp, UnitFunction},
};

/// The schema that every policy is checked against, in Cedar's syntax.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// SHA-256 of [`SCHEMA`]: a bundle names the one it was written for.
#[must_use]
pub fn schema_hash() -> Digest {
    sha256(&[SCHEMA.as_bytes()])
}

/// The schema, read once.
#[allow(clippy::expect_used, reason = "compiled in; a test reads it")]
pub(crate) fn schema() -> &'static Schema {
    static READ: OnceLock<Schema> = OnceLock::new();
    READ.get_or_init(|| Schema::from_cedarschema_str(SCHEMA).expect("the schema is sound").0)
}

/// A vocabulary of the label: its Cedar type, and its words.
pub(crate) trait Word: TryFrom<i32> {
    /// Type in the namespace `Lintas`.
    const TYPE: &'static str;
    /// The word of a value.
    fn word(&self) -> &'static str;
}

macro_rules! words {
    ($($vocabulary:ty, $name:literal, $prefix:literal, $called:literal;)+) => {
        $(impl Word for $vocabulary {
            const TYPE: &'static str = $name;
            fn word(&self) -> &'static str {
                let name = self.as_str_name();
                name.strip_prefix($prefix).unwrap_or(name)
            }
        })+

        /// Every vocabulary: its Cedar type, what people call one of its words, and all of them.
        pub(crate) fn vocabularies() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
            vec![$(($name, $called, all::<$vocabulary>().iter().map(Word::word).collect())),+]
        }
    };
}

words! {
    Kind, "Kind", "KIND_", "kind of packet";
    Tlp, "Tlp", "TLP_", "TLP colour";
    HandlingCode, "Handling", "HANDLING_CODE_", "handling code";
    Caveat, "Caveat", "CAVEAT_", "caveat";
    Onward, "Onward", "ONWARD_", "rule of passing on";
    Purpose, "Purpose", "PURPOSE_", "purpose";
    Offence, "Offence", "OFFENCE_", "offence";
    DataCategory, "Data", "DATA_CATEGORY_", "category of data";
    UnitFunction, "Function", "UNIT_FUNCTION_", "function of a unit";
}

/// The words of a vocabulary; 0 is none.
pub(crate) fn all<W: Word>() -> Vec<W> {
    (1..64).filter_map(|value| W::try_from(value).ok()).collect()
}

/// Types whose entities have names of their own.
pub(crate) const NAMED: [&str; 6] = ["Region", "Group", "Agency", "Unit", "Packet", "Action"];
/// Actions that a policy may speak of.
pub(crate) const ACTIONS: [&str; 5] = ["Release", "Relay", "Accept", "Review", "transfer"];

/// An entity of the namespace `Lintas`.
#[allow(clippy::expect_used, reason = "types are literals of this crate")]
pub(crate) fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = format!("Lintas::{kind}").parse().expect("a type of the schema");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

/// A value of a vocabulary as an entity.
pub(crate) fn word_uid<W: Word>(word: &W) -> EntityUid {
    uid(W::TYPE, word.word())
}

/// Name of a unit as an entity.
pub(crate) fn unit_name(agency: &str, unit: &str) -> String {
    format!("{agency}/{unit}")
}

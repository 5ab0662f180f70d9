//! Compiles the schema (with protox: no `protoc` is needed) and writes, beside prost's structs, a table of
//! the shape of every message. The canonical gate (src/canonical.rs) walks that table, so a schema that the
//! gate cannot hold fails here, at build time.

#![allow(clippy::disallowed_methods, reason = "a build script's output need not survive a power cut")]
#![allow(clippy::wildcard_enum_match_arm, reason = "every field type not named is refused")]

use std::{error::Error, fmt::Write as _, path::PathBuf};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const FILES: [&str; 12] = [
    "label",
    "envelope",
    "evidence",
    "entities",
    "body",
    "directory",
    "policy",
    "audit",
    "keys",
    "ledger",
    "store",
    "wire",
];

/// Messages that hold secrets or an officer's words (all of body.proto and entities.proto): never printed, not
/// even by `{:?}`. The same list stands in src/schema.rs.
const SECRET: [&str; 34] = [
    "Account",
    "Alert",
    "AttachmentKey",
    "Body",
    "BrokerSecrets",
    "Document",
    "EncryptionSeed",
    "Event",
    "Grading",
    "Hello",
    "KeyLock",
    "KeyPage",
    "Location",
    "LockedKeys",
    "NodeSecrets",
    "Notice",
    "Organisation",
    "PartialDate",
    "Person",
    "PersonName",
    "Phone",
    "Position",
    "Recall",
    "Relation",
    "Reply",
    "Request",
    "Route",
    "RouteLeg",
    "SnapshotSlotKey",
    "StoredSlotKey",
    "Text",
    "Thread",
    "Vehicle",
    "Vessel",
];

/// Messages that officers write and read as JSON (the protobuf JSON mapping): prefixes of their names.
const JSON: [&str; 57] = [
    "UnitRef",
    "Tlp",
    "HandlingCode",
    "Caveat",
    "Onward",
    "Purpose",
    "Offence",
    "DataCategory",
    "Classification",
    "Label",
    "Text",
    "PartialDate",
    "PersonRole",
    "Gender",
    "AgeGroup",
    "NameType",
    "PersonName",
    "FormOfExploitation",
    "MeansOfControl",
    "ForcedLabourIndicator",
    "Person",
    "Vessel",
    "Vehicle",
    "DocumentType",
    "Document",
    "Phone",
    "AccountType",
    "Account",
    "Position",
    "Location",
    "RouteLeg",
    "Route",
    "Organisation",
    "EventKind",
    "Event",
    "RelationKind",
    "Relation",
    "Urgency",
    "Pap",
    "Origin",
    "GradingScheme",
    "Grading",
    "Thread",
    "AttachmentKey",
    "NoticeColour",
    "Alert",
    "Notice",
    "Availability",
    "Request",
    "ReplyType",
    "Reply",
    "RecallReason",
    "Recall",
    "Body",
    "Opening",
    "Kind",
    "PolicyFacts",
];

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = FILES.iter().map(|name| format!("lintas/v1/{name}.proto")).collect();
    println!("cargo::rerun-if-changed=schema");
    let set = protox::compile(&files, ["schema"])?;
    prost_build::Config::new()
        .bytes(["."])
        .skip_debug(SECRET.map(|name| format!(".lintas.v1.{name}")))
        .compile_fds(set.clone())?;
    pbjson_build::Builder::new()
        .register_descriptors(&prost::Message::encode_to_vec(&set))?
        .build(&JSON.map(|name| format!(".lintas.v1.{name}")))?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("shapes.rs");
    std::fs::write(out, shapes(&set)?)?;
    Ok(())
}

/// One `static` per message and one `impl Shaped` that points to it.
fn shapes(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in set.file.iter().flat_map(|file| &file.message_type) {
        if !message.oneof_decl.is_empty() || !message.nested_type.is_empty() {
            return Err(
                format!("{}: no oneofs, maps or nested messages in signed formats", message.name()).into()
            );
        }
        shape(&mut code, set, message)?;
    }
    code.push_str(&prefixes(set)?);
    Ok(code)
}

/// What every value of an enum begins with, longest first.
fn prefixes(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let enums = set.file.iter().flat_map(|file| &file.enum_type);
    let zeros = enums.filter_map(|found| found.value.iter().find(|value| value.number() == 0));
    let mut prefixes: Vec<&str> = zeros.filter_map(|zero| zero.name().strip_suffix("UNSPECIFIED")).collect();
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
    let mut code = String::new();
    writeln!(code, "/// What the codes of each enum begin with, e.g. `TLP_`; longest first.")?;
    writeln!(code, "pub static CODE_PREFIXES: &[&str] = &{prefixes:?};")?;
    Ok(code)
}

fn shape(
    code: &mut String,
    set: &FileDescriptorSet,
    message: &DescriptorProto,
) -> Result<(), Box<dyn Error>> {
    let name = message.name();
    let upper = screaming(name);
    writeln!(code, "static {upper}: MessageShape = MessageShape {{ name: \"{name}\", fields: &[")?;
    let mut last_tag = 0;
    for field in &message.field {
        if field.number() <= last_tag || field.number() > 2_047 {
            return Err(format!("{name}.{}: tags ascend and stay below 2,048", field.name()).into());
        }
        last_tag = field.number();
        let repeated = field.label() == Label::Repeated;
        let kind = kind(set, message, field)?;
        writeln!(
            code,
            "    FieldShape {{ tag: {last_tag}, name: \"{}\", repeated: {repeated}, kind: FieldKind::{kind} }},",
            field.name(),
        )?;
    }
    writeln!(
        code,
        "] }};\nimpl Shaped for {name} {{ fn shape() -> &'static MessageShape {{ &{upper} }} }}\n"
    )?;
    Ok(())
}

fn kind(
    set: &FileDescriptorSet,
    message: &DescriptorProto,
    field: &FieldDescriptorProto,
) -> Result<String, Box<dyn Error>> {
    let named = field.type_name().trim_start_matches(".lintas.v1.");
    Ok(match field.r#type() {
        Type::Bool => "Bool".to_owned(),
        Type::Uint32 => "Uint32".to_owned(),
        Type::Uint64 => "Uint64".to_owned(),
        Type::Sint32 => "Sint32".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Message => format!("Message(&{})", screaming(named)),
        Type::Enum => {
            let values = set.file.iter().flat_map(|file| &file.enum_type).find(|found| found.name() == named);
            let values = values.ok_or("enum not found")?;
            // Value 0 is UNSPECIFIED and never valid.
            let valid: Vec<i32> = values.value.iter().map(|v| v.number()).filter(|n| *n != 0).collect();
            format!("Enum(&{valid:?})")
        }
        other => return Err(format!("{}.{}: {other:?} is not allowed", message.name(), field.name()).into()),
    })
}

fn screaming(camel: &str) -> String {
    let mut out = String::from("SHAPE");
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

//! One message, one encoding: each rule of the canonical gate, with the bytes that break it alone. And what holds
//! the schema and this workspace to those rules.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]
#![allow(clippy::disallowed_methods, reason = "the tests read the sources")]

mod scene;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_proto::{
    canonical::{DecodeError, Problem, decode, encode, fixed},
    envelope::core::{Core, CoreError},
    limits,
    schema::{self, AuditEvent, Body, GroupProof, Keyset, Label, Position, Refusal, Text, UnitRef},
};

const MAX: usize = 1 << 20;

fn problem<M: lintas_proto::canonical::Shaped>(bytes: &[u8]) -> Problem {
    refused::<M>(bytes).problem
}

fn refused<M: lintas_proto::canonical::Shaped>(bytes: &[u8]) -> DecodeError {
    decode::<M>(&Bytes::copy_from_slice(bytes), MAX).err().unwrap()
}

fn accepted<M: lintas_proto::canonical::Shaped>(bytes: &[u8]) -> M {
    decode(&Bytes::copy_from_slice(bytes), MAX).unwrap()
}

/// `UnitRef { agency: "TH", unit: "A" }`: the bytes that most tests below break.
const UNIT: [u8; 7] = [0x0a, 2, b'T', b'H', 0x12, 1, b'A'];

#[test]
fn the_bytes_that_are_broken_below_are_accepted_whole() {
    let unit: UnitRef = accepted(&UNIT);
    assert_eq!((unit.agency.as_str(), unit.unit.as_str()), ("TH", "A"));
    assert_eq!(encode(&unit), UNIT.as_slice());
}

#[test]
fn a_singular_field_twice_is_refused() {
    // prost alone takes the last one.
    let twice = [0x0a, 1, b'A', 0x0a, 1, b'B'];
    assert_eq!(<UnitRef as prost::Message>::decode(twice.as_slice()).unwrap().agency, "B");
    assert_eq!(problem::<UnitRef>(&twice), Problem::Order);
    // The same for a number, and for a submessage (which prost would merge).
    assert_eq!(problem::<Position>(&[0x08, 2, 0x08, 2]), Problem::Order);
    let relayer = [0x2a, 3, 0x0a, 1, b'A', 0x2a, 3, 0x12, 1, b'B'];
    assert_eq!(problem::<schema::GrantCore>(&relayer), Problem::Order);
}

#[test]
fn an_unknown_field_is_refused() {
    // prost alone drops it.
    let unknown = [UNIT.as_slice(), &[0x1a, 1, b'x']].concat();
    assert!(<UnitRef as prost::Message>::decode(unknown.as_slice()).is_ok());
    let error = refused::<UnitRef>(&unknown);
    assert_eq!(error.problem, Problem::UnknownField { tag: 3 });
    assert_eq!((error.message, error.offset), ("UnitRef", 7));
    assert_eq!(problem::<UnitRef>(&[0x02, 1, b'x']), Problem::UnknownField { tag: 0 });
    // A tag that a decoder of 32 bits would read as 1.
    let beyond = [0x8a, 0x80, 0x80, 0x80, 0x80, 0x01, 1, b'A'];
    assert_eq!(problem::<UnitRef>(&beyond), Problem::UnknownField { tag: (1 << 32) + 1 });
}

#[test]
fn fields_out_of_order_are_refused() {
    assert_eq!(problem::<UnitRef>(&[0x12, 1, b'A', 0x0a, 2, b'T', b'H']), Problem::Order);
    // A list interrupted by another field comes back out of order.
    let bytes = [0x1a, 1, 1, 0x22, 1, 1, 0x1a, 1, 2];
    assert_eq!(problem::<GroupProof>(&bytes), Problem::Order);
}

#[test]
fn a_varint_that_is_not_the_shortest_is_refused() {
    assert_eq!(problem::<GroupProof>(&[0x08, 0x81, 0x00]), Problem::Varint, "value");
    assert_eq!(problem::<UnitRef>(&[0x8a, 0x00, 1, b'A']), Problem::Varint, "tag");
    assert_eq!(problem::<UnitRef>(&[0x0a, 0x81, 0x00, b'A']), Problem::Varint, "length");
    assert_eq!(problem::<Label>(&[0x12, 2, 0x81, 0x00]), Problem::Varint, "in a packed list");
    let eleven = [&[0x08][..], &[0xff; 10], &[1]].concat();
    assert_eq!(problem::<AuditEvent>(&eleven), Problem::Varint, "beyond 64 bits");
    let overflow = [&[0x18][..], &[0xff; 9], &[2]].concat();
    assert_eq!(problem::<AuditEvent>(&overflow), Problem::Varint, "65 bits");
    let most = [&[0x18][..], &[0xff; 9], &[1]].concat();
    assert_eq!(accepted::<AuditEvent>(&most).time_ms, u64::MAX);
}

#[test]
fn a_number_beyond_its_type_is_refused() {
    assert_eq!(accepted::<GroupProof>(&[0x08, 0xff, 0xff, 0xff, 0xff, 0x0f]).index, u32::MAX);
    assert_eq!(problem::<GroupProof>(&[0x08, 0x80, 0x80, 0x80, 0x80, 0x10]), Problem::Range, "uint32");
    assert_eq!(problem::<Position>(&[0x08, 0x80, 0x80, 0x80, 0x80, 0x10]), Problem::Range, "sint32");
    assert_eq!(accepted::<Text>(&[0x18, 1]), Text { machine_translated: true, ..Text::default() });
    assert_eq!(problem::<Text>(&[0x18, 2]), Problem::Range, "bool");
    assert_eq!(problem::<Keyset>(&[0x52, 5, 0x80, 0x80, 0x80, 0x80, 0x10]), Problem::Range, "packed uint32");
}

#[test]
fn a_default_that_is_present_is_refused() {
    assert_eq!(problem::<GroupProof>(&[0x08, 0]), Problem::Default, "number");
    assert_eq!(problem::<Text>(&[0x18, 0]), Problem::Default, "bool");
    assert_eq!(problem::<UnitRef>(&[0x0a, 0]), Problem::Default, "string");
    assert_eq!(problem::<schema::Grant>(&[0x0a, 0]), Problem::Default, "bytes");
    assert_eq!(problem::<Label>(&[0x12, 0]), Problem::Default, "packed list");
}

#[test]
fn a_submessage_that_is_present_but_empty_is_refused() {
    // It would survive an encode-again check: prost tells it from an absent one.
    let empty = [0x1a, 0];
    let read = <schema::Core as prost::Message>::decode(empty.as_slice()).unwrap();
    assert_eq!(prost::Message::encode_to_vec(&read), empty);
    assert_eq!(problem::<schema::Core>(&empty), Problem::Default, "singular");
    assert_eq!(problem::<Body>(&[0x12, 0]), Problem::Default, "in a list");
}

#[test]
fn an_empty_element_of_a_list_is_refused() {
    assert_eq!(problem::<Label>(&[0x22, 2, b'T', b'H', 0x22, 0]), Problem::Default, "strings");
    assert_eq!(problem::<schema::Header>(&[0x12, 0]), Problem::Default, "bytes");
}

#[test]
fn enum_value_0_is_refused() {
    assert_eq!(problem::<Label>(&[0x08, 0]), Problem::Default, "singular");
    assert_eq!(problem::<Label>(&[0x12, 2, 1, 0]), Problem::UnknownValue { value: 0 }, "in a list");
}

#[test]
fn an_unknown_enum_value_is_refused() {
    assert_eq!(accepted::<Label>(&[0x08, 5]).tlp, 5);
    assert_eq!(problem::<Label>(&[0x08, 6]), Problem::UnknownValue { value: 6 }, "singular");
    assert_eq!(problem::<Label>(&[0x12, 3, 1, 2, 5]), Problem::UnknownValue { value: 5 }, "in a list");
    // -1 as protobuf writes it, and 1 + 2^32, which a decoder of 32 bits takes for 1.
    let minus_one = [&[0x08][..], &[0xff; 9], &[1]].concat();
    assert_eq!(problem::<Label>(&minus_one), Problem::UnknownValue { value: u64::MAX });
    let wrapped = [0x08, 0x81, 0x80, 0x80, 0x80, 0x10];
    assert_eq!(<Label as prost::Message>::decode(wrapped.as_slice()).unwrap().tlp, 1);
    assert_eq!(problem::<Label>(&wrapped), Problem::UnknownValue { value: (1 << 32) + 1 });
}

#[test]
fn a_list_of_enums_that_is_not_packed_is_refused() {
    let unpacked = [0x10, 1, 0x10, 2];
    assert_eq!(<Label as prost::Message>::decode(unpacked.as_slice()).unwrap().handling, [1, 2]);
    assert_eq!(problem::<Label>(&unpacked), Problem::WireType { found: 0 });
}

#[test]
fn a_packed_list_in_two_pieces_is_refused() {
    let split = [0x12, 1, 1, 0x12, 1, 2];
    assert_eq!(<Label as prost::Message>::decode(split.as_slice()).unwrap().handling, [1, 2]);
    assert_eq!(problem::<Label>(&split), Problem::Order);
}

#[test]
fn a_packed_list_that_ends_inside_a_number_is_refused() {
    // The number goes on into the next field.
    assert!(matches!(
        problem::<Label>(&[0x12, 1, 0x81, 0x01]),
        Problem::Truncated { .. } | Problem::UnknownValue { .. }
    ));
    assert_eq!(problem::<Keyset>(&[0x52, 1, 0x81, 0x01]), Problem::Truncated { need: 1, have: 0 });
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    for bad in [&[0xff, 0xff][..], &[0xc0, 0x80], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80]] {
        let bytes = [&[0x0a, u8::try_from(bad.len()).unwrap()], bad].concat();
        assert_eq!(problem::<UnitRef>(&bytes), Problem::Utf8, "{bad:x?}");
    }
}

#[test]
fn another_wire_type_than_the_schema_says_is_refused() {
    for wire in [0u8, 1, 3, 4, 5, 6, 7] {
        let bytes = [0x08 | wire, 2, b'T', b'H', 0, 0, 0, 0, 0, 0];
        assert_eq!(problem::<UnitRef>(&bytes), Problem::WireType { found: wire.into() }, "string as {wire}");
    }
    for wire in [1u8, 2, 3, 4, 5, 6, 7] {
        let bytes = [0x08 | wire, 1, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            problem::<GroupProof>(&bytes),
            Problem::WireType { found: wire.into() },
            "number as {wire}"
        );
    }
    // A group around nothing, which prost skips as an unknown field or refuses.
    assert_eq!(problem::<UnitRef>(&[0x1b, 0x1c]), Problem::UnknownField { tag: 3 });
}

#[test]
fn every_shorter_piece_of_a_message_is_refused_or_another_message() {
    for length in 0..UNIT.len() {
        let cut = decode::<UnitRef>(&Bytes::copy_from_slice(&UNIT[..length]), MAX);
        match length {
            0 => assert_eq!(cut.unwrap(), UnitRef::default()),
            4 => assert_eq!(cut.unwrap().unit, ""),
            _ => assert!(matches!(cut.unwrap_err().problem, Problem::Truncated { .. }), "{length}"),
        }
    }
    assert_eq!(problem::<UnitRef>(&[0x0a, 3, b'T', b'H']), Problem::Truncated { need: 3, have: 2 });
    // A length near 2^64 must not overflow.
    let huge = [&[0x0a][..], &[0xff; 9], &[1]].concat();
    assert_eq!(problem::<UnitRef>(&huge), Problem::Truncated { need: u64::MAX, have: 0 });
}

#[test]
fn a_field_that_leaves_its_submessage_is_refused() {
    // GrantCore.relayer of 3 bytes, whose string claims 4.
    let bytes = [0x2a, 3, 0x0a, 4, b'A', b'B', b'C', b'D'];
    assert_eq!(problem::<schema::GrantCore>(&bytes), Problem::Truncated { need: 4, have: 1 });
    // A varint that starts inside and ends outside.
    let bytes = [0x12, 2, 0x08, 0x81, 0x01];
    assert!(matches!(problem::<schema::SignedEvidence>(&bytes), Problem::Truncated { .. }));
}

#[test]
fn trailing_bytes_are_refused() {
    let longer = [UNIT.as_slice(), &[0]].concat();
    assert_eq!(problem::<UnitRef>(&longer), Problem::UnknownField { tag: 0 });
    let again = [UNIT, UNIT].concat();
    assert_eq!(problem::<UnitRef>(&again), Problem::Order);
}

#[test]
fn more_bytes_than_allowed_are_refused_before_anything_is_read() {
    // Not even a protobuf key: the size is looked at first.
    let bytes = Bytes::from(vec![0xff; 9]);
    let error = decode::<UnitRef>(&bytes, 8).unwrap_err();
    assert_eq!(error.problem, Problem::TooLarge { have: 9, max: 8 });
    assert!(decode::<UnitRef>(&Bytes::copy_from_slice(&UNIT), 7).is_ok());
    assert!(decode::<UnitRef>(&Bytes::copy_from_slice(&UNIT), 6).is_err());
}

#[test]
fn a_core_or_header_of_more_than_64_kib_is_refused_by_size() {
    let bytes = Bytes::from(vec![0xff; 64 * 1024 + 1]);
    let Err(CoreError::Decode(error)) = Core::parse(&bytes) else { unreachable!("it is too large") };
    assert_eq!(error.problem, Problem::TooLarge { have: 65_537, max: 65_536 });
    let signature = Bytes::from_static(&[0; 64]);
    let error = lintas_proto::envelope::verify::verify_header(&bytes, &signature, &scene::Directory::usual());
    assert!(error.unwrap_err().to_string().contains("65537 bytes, at most 65536"));
}

#[test]
fn more_than_8_192_items_of_a_list_are_refused() {
    let names = |count: usize| [0x22, 1, b'A'].repeat(count);
    assert_eq!(accepted::<Label>(&names(limits::LIST_ITEMS_MAX)).rel_to.len(), 8_192);
    let too_many = Problem::TooMany { what: "items", max: 8_192 };
    assert_eq!(problem::<Label>(&names(limits::LIST_ITEMS_MAX + 1)), too_many);
    let packed = |count: usize| {
        let length = u16::try_from(count).unwrap();
        let [low, high] = [length & 0x7f | 0x80, length >> 7].map(|part| u8::try_from(part).unwrap());
        [&[0x12, low, high][..], &vec![1; count]].concat()
    };
    assert_eq!(accepted::<Label>(&packed(limits::LIST_ITEMS_MAX)).handling.len(), 8_192);
    assert_eq!(problem::<Label>(&packed(limits::LIST_ITEMS_MAX + 1)), too_many);
}

/// Levels of submessages below a message of the schema.
fn depth(shape: &'static lintas_proto::canonical::MessageShape) -> usize {
    let inner = shape.fields.iter().filter_map(|field| match field.kind {
        lintas_proto::canonical::FieldKind::Message(inner) => Some(1 + depth(inner)),
        lintas_proto::canonical::FieldKind::Bool
        | lintas_proto::canonical::FieldKind::Uint32
        | lintas_proto::canonical::FieldKind::Uint64
        | lintas_proto::canonical::FieldKind::Sint32
        | lintas_proto::canonical::FieldKind::Enum(_)
        | lintas_proto::canonical::FieldKind::String
        | lintas_proto::canonical::FieldKind::Bytes => None,
    });
    inner.max().unwrap_or(0)
}

static DEEP: lintas_proto::canonical::MessageShape = lintas_proto::canonical::MessageShape {
    name: "Deep",
    fields: &[lintas_proto::canonical::FieldShape {
        tag: 1,
        name: "deep",
        repeated: false,
        kind: lintas_proto::canonical::FieldKind::Message(&DEEP),
    }],
};

/// A message that holds itself; the schema has none.
#[derive(Clone, PartialEq, prost::Message)]
struct Deep {
    #[prost(message, optional, boxed, tag = "1")]
    deep: Option<Box<Deep>>,
}

impl lintas_proto::canonical::Shaped for Deep {
    fn shape() -> &'static lintas_proto::canonical::MessageShape {
        &DEEP
    }
}

#[test]
fn nesting_beyond_6_levels_is_refused() {
    // The innermost is empty, so a chain that is not too deep fails for that reason.
    let chain = |levels: u8| -> Vec<u8> { (0..levels).rev().flat_map(|inner| [0x0a, 2 * inner]).collect() };
    assert_eq!(problem::<Deep>(&chain(6)), Problem::Default);
    assert_eq!(problem::<Deep>(&chain(7)), Problem::TooMany { what: "levels", max: limits::NESTING_MAX });
    assert!(depth(<Body as lintas_proto::canonical::Shaped>::shape()) < limits::NESTING_MAX);
    assert!(depth(<Refusal as lintas_proto::canonical::Shaped>::shape()) < limits::NESTING_MAX);
}

#[test]
fn an_error_says_message_field_and_offset() {
    let core = [0x1a, 7, 0x0a, 2, b'T', b'H', 0x12, 1, 0xff];
    let error = refused::<schema::Core>(&core);
    assert_eq!((error.message, error.field, error.offset), ("UnitRef", "unit", 6));
    assert_eq!(error.to_string(), "UnitRef.unit at byte 6: text is not UTF-8");
}

#[test]
fn a_fixed_field_of_another_size_is_refused() {
    assert_eq!(fixed::<2>("pair", &[1, 2]), Ok([1, 2]));
    for bytes in [&[1][..], &[1, 2, 3], &[]] {
        let error = fixed::<2>("pair", bytes).unwrap_err();
        assert_eq!((error.field, error.need, error.have), ("pair", 2, bytes.len()));
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, extension: &str, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// The text without `//` comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The lines of all schema files, without comments: type, name.
fn schema_lines() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schema"), "proto", &mut found);
    assert!(found.len() >= 7, "the schema files must be there");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let lines = |(path, text): &(PathBuf, String)| -> Vec<(String, Vec<String>)> {
        code(text).lines().map(|line| (path.display().to_string(), words(line))).collect()
    };
    found.iter().flat_map(lines).collect()
}

#[test]
fn the_schema_has_only_types_that_have_one_encoding() {
    const FORBIDDEN: [&str; 14] = [
        "optional", "required", "oneof", "group", "float", "double", "fixed32", "fixed64", "sfixed32",
        "sfixed64", "int32", "int64", "sint64", "extend",
    ];
    let mut fields = 0;
    for (file, words) in schema_lines() {
        for word in &words {
            assert!(!FORBIDDEN.contains(&word.as_str()), "{file}: `{word}` in {words:?}");
            assert!(!word.starts_with("map<"), "{file}: a map in {words:?}");
        }
        fields += usize::from(words.len() >= 4 && words[words.len() - 2] == "=");
    }
    assert!(fields > 300, "the lint must have seen the fields: {fields}");
}

#[test]
fn every_enum_of_the_schema_has_an_unspecified_0() {
    let (lines, mut enums) = (schema_lines(), 0);
    for (at, (file, words)) in lines.iter().enumerate() {
        if words.first().is_some_and(|word| word == "enum") {
            let first = lines[at + 1..].iter().find(|(_, words)| !words.is_empty()).unwrap();
            assert!(first.1[0].ends_with("_UNSPECIFIED") && first.1[2] == "0;", "{file}: {words:?}");
            enums += 1;
        }
    }
    assert!(enums > 25, "{enums}");
}

/// Names of all fields whose type is an enum, as prost writes them: (singular, in lists).
fn enum_fields() -> (BTreeSet<String>, BTreeSet<String>) {
    let lines = schema_lines();
    let named = |words: &Vec<String>| (words.first()? == "enum").then(|| words[1].clone());
    let enums: BTreeSet<String> = lines.iter().filter_map(|(_, words)| named(words)).collect();
    let (mut singular, mut lists) = (BTreeSet::new(), BTreeSet::new());
    for (_, words) in &lines {
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["repeated", kind, name, "=", _] if enums.contains(*kind) => lists.insert((*name).to_owned()),
            [kind, name, "=", _] if enums.contains(*kind) => singular.insert((*name).to_owned()),
            _ => false,
        };
    }
    (singular, lists)
}

#[test]
fn nobody_uses_the_accessors_that_turn_an_unknown_value_into_the_default() {
    // prost gives `tlp()`, `set_tlp(..)`, and for lists an iterator `handling()` and `push_handling(..)`. What reads
    // an unknown value as UNSPECIFIED, or passes over it in a list, has no place here.
    let (singular, lists) = enum_fields();
    assert!(singular.contains("tlp") && lists.contains("handling"), "{singular:?} {lists:?}");
    let mut calls: Vec<String> = singular.iter().chain(&lists).map(|name| format!(".{name}()")).collect();
    calls.extend(singular.iter().map(|name| format!(".set_{name}(")));
    calls.extend(lists.iter().map(|name| format!(".push_{name}(")));
    // In prost a field `type` has the accessor `r#type()`.
    calls.extend([".r#type()".to_owned(), ".set_type(".to_owned()]);
    // Not accessors of the schema, named with their receiver: the kind of an I/O error, the status of a child process
    // and that of a node, and which policies Cedar names as its reason.
    const OTHERS: [&str; 6] = [
        "error.kind()",
        "err.kind()",
        "e.kind()",
        "self.status()",
        ".args([\"-TERM\",&id]).status()",
        "diagnostics.reason()",
    ];

    let mut sources = Vec::new();
    for entry in std::fs::read_dir(workspace()).unwrap() {
        files(&entry.unwrap().path().join("src"), "rs", &mut sources);
    }
    assert!(sources.len() > 20, "the sources must be there: {}", sources.len());
    // Shipped code; what is compiled for tests only may call its own things as it likes.
    let shipped = |path: &Path| {
        let name = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        !path.iter().map(name).any(|part| part == "tests" || part.ends_with("tests.rs") || part == "testing")
    };
    for (path, text) in sources.iter().filter(|(path, _)| shipped(path)) {
        let mut text = code(text);
        text.retain(|c| !c.is_whitespace());
        OTHERS.iter().for_each(|other| text = text.replace(other, ""));
        for call in &calls {
            assert!(!text.contains(call.as_str()), "{}: `{call}`", path.display());
        }
    }
}

#[test]
fn what_may_not_be_printed_is_not() {
    let words = Text { language: "en".to_owned(), text: "a name".to_owned(), machine_translated: false };
    assert_eq!(format!("{words:?}"), "Text { .. }");
    let body = Body { title: vec![words], ..Body::default() };
    assert_eq!(format!("{body:?}"), "Body { .. }");
    // Every message of these two files, by the list in src/schema.rs.
    let schema =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/schema.rs")).unwrap();
    let (_, list) = schema.rsplit_once("unprintable!(").unwrap();
    let listed: BTreeSet<&str> = list.split([',', ')']).map(str::trim).collect();
    let mut seen = 0;
    for (file, words) in schema_lines() {
        let ours = file.ends_with("body.proto") || file.ends_with("entities.proto");
        if ours && words.first().is_some_and(|word| word == "message") {
            assert!(listed.contains(words[1].as_str()), "{file}: {}", words[1]);
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

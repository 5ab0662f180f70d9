//! The canonical gate: one message, one encoding.
//!
//! protobuf lets the same value be written in many ways, and prost takes the last of duplicate fields and
//! drops unknown ones without a word. What is signed must not have two readings, so [`decode`] first walks
//! the raw bytes against the shape of the message (written by `build.rs` from the schema) and accepts only:
//!
//! - fields in ascending order of tag, a singular field once, no field that the schema does not know;
//! - shortest varints; `bool` 1, numbers within their type; nothing that equals the default is present
//!   (so no empty string, bytes or submessage, in lists neither);
//! - enum values that the schema names, never 0; lists of them packed, in one piece;
//! - valid UTF-8; at most [`limits::LIST_ITEMS_MAX`] items a list and [`limits::NESTING_MAX`] levels.
//!
//! Then prost decodes, and the result must encode to the very same bytes again: two independent checks.
//! Errors say which message, which field, at which offset.

use std::fmt;

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use crate::limits;

/// Bytes that are not the one canonical encoding of a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}.{field} at byte {offset}: {problem}")]
pub struct DecodeError {
    /// Message that was being read.
    pub message: &'static str,
    /// Field within it; `-` between fields.
    pub field: &'static str,
    /// Offset in the outermost message, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with an encoding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// More bytes than the caller allows.
    #[error("{have} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes given.
        have: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes end inside a value.
    #[error("needs {need} more bytes, has {have}")]
    Truncated {
        /// Bytes that the value needs.
        need: u64,
        /// Bytes left.
        have: usize,
    },
    /// A varint longer than it need be, or beyond 64 bits.
    #[error("number is not in its shortest form")]
    Varint,
    /// A number outside its type.
    #[error("number is out of range")]
    Range,
    /// A field that the schema does not know.
    #[error("unknown field {tag}")]
    UnknownField {
        /// Tag read.
        tag: u64,
    },
    /// A field written as another wire type.
    #[error("wrong wire type {found}")]
    WireType {
        /// Wire type read.
        found: u64,
    },
    /// Tags out of order, or a singular field twice.
    #[error("field stands out of order or twice")]
    Order,
    /// The value equals the default: it must be left out.
    #[error("empty or zero value is present")]
    Default,
    /// An enum value that the schema does not name.
    #[error("unknown value {value}")]
    UnknownValue {
        /// Value read.
        value: u64,
    },
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A list or a nesting beyond its limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Items or levels.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The walk passed but prost reads or writes it otherwise. Cannot happen; refused all the same.
    #[error("does not encode to the same bytes again")]
    Reencode,
}

/// Shape of one message, from the schema.
pub struct MessageShape {
    /// Name in the schema.
    pub name: &'static str,
    /// Fields in ascending order of tag.
    pub fields: &'static [FieldShape],
}

impl fmt::Debug for MessageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Shape of one field.
#[derive(Debug)]
pub struct FieldShape {
    /// Tag number.
    pub tag: u32,
    /// Name in the schema.
    pub name: &'static str,
    /// Whether it is a list.
    pub repeated: bool,
    /// Type.
    pub kind: FieldKind,
}

/// Type of a field; no other types exist in this schema.
#[derive(Debug, Clone, Copy)]
pub enum FieldKind {
    /// `bool`.
    Bool,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `sint32`.
    Sint32,
    /// An enum with its valid values.
    Enum(&'static [i32]),
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// A submessage.
    Message(&'static MessageShape),
}

/// Implemented by every message of the schema.
pub trait Shaped: prost::Message + Default {
    /// Shape to hold its encodings against.
    fn shape() -> &'static MessageShape;
}

/// Decodes `bytes` (at most `max`) as the one canonical encoding of `M`.
///
/// Byte fields of the result share `bytes`; nothing is copied.
///
/// # Errors
/// [`DecodeError`] with message, field, offset and problem.
pub fn decode<M: Shaped>(bytes: &Bytes, max: usize) -> Result<M, DecodeError> {
    let shape = M::shape();
    let whole = |problem| DecodeError { message: shape.name, field: "-", offset: 0, problem };
    if bytes.len() > max {
        return Err(whole(Problem::TooLarge { have: bytes.len(), max }));
    }
    walk(shape, &mut Cursor { bytes, offset: 0 }, bytes.len(), 0)?;
    let message = M::decode(bytes.clone()).map_err(|_| whole(Problem::Reencode))?;
    if !encodes_to(&message, bytes) {
        return Err(whole(Problem::Reencode));
    }
    Ok(message)
}

/// Canonical bytes of a message. prost writes fields in ascending order and leaves defaults out.
#[must_use]
pub fn encode<M: Shaped>(message: &M) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

fn encodes_to<M: Shaped>(message: &M, bytes: &Bytes) -> bool {
    let mut again = Vec::with_capacity(bytes.len());
    message.encode(&mut again).is_ok() && again == *bytes
}

struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Reads a varint in its shortest form (protobuf encoding guide, "Base 128 Varints").
    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes.get(self.offset).copied();
            let byte = byte.ok_or(Problem::Truncated { need: 1, have: 0 })?;
            self.offset += 1;
            let bits = u64::from(byte & 0x7f);
            if (shift > 0 && byte == 0) || (shift == 63 && byte > 1) {
                return Err(Problem::Varint);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Problem::Varint)
    }

    /// End offset of a length-delimited value that must lie before `end`.
    fn span(&mut self, end: usize) -> Result<usize, Problem> {
        let need = self.varint()?;
        let have = end.saturating_sub(self.offset);
        match usize::try_from(need) {
            Ok(0) => Err(Problem::Default),
            Ok(length) if length <= have => Ok(self.offset + length),
            _ => Err(Problem::Truncated { need, have }),
        }
    }

    fn take(&mut self, end: usize) -> &'a [u8] {
        let taken = self.bytes.get(self.offset..end).unwrap_or_default();
        self.offset = end;
        taken
    }
}

fn walk(
    shape: &'static MessageShape,
    cursor: &mut Cursor<'_>,
    end: usize,
    depth: usize,
) -> Result<(), DecodeError> {
    let mut last: Option<&FieldShape> = None;
    let mut items = 0;
    while cursor.offset < end {
        let offset = cursor.offset;
        let fail = |field, problem| DecodeError { message: shape.name, field, offset, problem };
        let key = cursor.varint().map_err(|problem| fail("-", problem))?;
        let found = shape.fields.iter().find(|field| u64::from(field.tag) == key >> 3);
        let field = found.ok_or_else(|| fail("-", Problem::UnknownField { tag: key >> 3 }))?;
        let again = last.is_some_and(|last| last.tag == field.tag);
        let before = last.is_some_and(|last| last.tag > field.tag);
        // A packed list stands in one piece, so only length-delimited lists may repeat their tag.
        if before || (again && !(field.repeated && delimited(field.kind))) {
            return Err(fail(field.name, Problem::Order));
        }
        items = if again { items + 1 } else { 1 };
        if items > limits::LIST_ITEMS_MAX {
            return Err(fail(field.name, Problem::TooMany { what: "items", max: limits::LIST_ITEMS_MAX }));
        }
        last = Some(field);
        let wire = if delimited(field.kind) || field.repeated { 2 } else { 0 };
        if key & 7 != wire {
            return Err(fail(field.name, Problem::WireType { found: key & 7 }));
        }
        if let FieldKind::Message(inner) = field.kind {
            let span = cursor.span(end).map_err(|problem| fail(field.name, problem))?;
            if depth + 1 >= limits::NESTING_MAX {
                return Err(fail(field.name, Problem::TooMany { what: "levels", max: limits::NESTING_MAX }));
            }
            walk(inner, cursor, span, depth + 1)?;
        } else {
            value(field, cursor, end).map_err(|problem| fail(field.name, problem))?;
        }
    }
    if cursor.offset == end {
        return Ok(());
    }
    let have = 0;
    let field = last.map_or("-", |field| field.name);
    let problem = Problem::Truncated { need: (cursor.offset - end) as u64, have };
    Err(DecodeError { message: shape.name, field, offset: cursor.offset, problem })
}

fn delimited(kind: FieldKind) -> bool {
    match kind {
        FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) => true,
        FieldKind::Bool | FieldKind::Uint32 | FieldKind::Uint64 | FieldKind::Sint32 | FieldKind::Enum(_) => {
            false
        }
    }
}

/// Reads one value, or one packed list of values, that is not a submessage.
fn value(field: &FieldShape, cursor: &mut Cursor<'_>, end: usize) -> Result<(), Problem> {
    if delimited(field.kind) {
        let span = cursor.span(end)?;
        let taken = cursor.take(span);
        let text = matches!(field.kind, FieldKind::String);
        return if text && std::str::from_utf8(taken).is_err() { Err(Problem::Utf8) } else { Ok(()) };
    }
    if !field.repeated {
        let number = cursor.varint()?;
        return if number == 0 { Err(Problem::Default) } else { check(field.kind, number) };
    }
    let span = cursor.span(end)?;
    let mut items = 0;
    while cursor.offset < span {
        let number = cursor.varint()?;
        check(field.kind, number)?;
        items += 1;
        if items > limits::LIST_ITEMS_MAX {
            return Err(Problem::TooMany { what: "items", max: limits::LIST_ITEMS_MAX });
        }
    }
    if cursor.offset == span { Ok(()) } else { Err(Problem::Truncated { need: 1, have: 0 }) }
}

fn check(kind: FieldKind, number: u64) -> Result<(), Problem> {
    let in_range = match kind {
        FieldKind::Bool => number <= 1,
        FieldKind::Uint32 | FieldKind::Sint32 => number <= u64::from(u32::MAX),
        FieldKind::Enum(valid) => {
            let known = i32::try_from(number).is_ok_and(|number| valid.contains(&number));
            return if known { Ok(()) } else { Err(Problem::UnknownValue { value: number }) };
        }
        FieldKind::Uint64 | FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) => true,
    };
    if in_range { Ok(()) } else { Err(Problem::Range) }
}

/// Bytes of a fixed-size field.
///
/// # Errors
/// [`WrongSize`] with the field's name, what it needs and what it has.
pub fn fixed<const N: usize>(field: &'static str, mut bytes: &[u8]) -> Result<[u8; N], WrongSize> {
    let mut out = [0; N];
    if bytes.len() != N {
        return Err(WrongSize { field, need: N, have: bytes.len() });
    }
    bytes.copy_to_slice(&mut out);
    Ok(out)
}

/// A fixed-size field of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field} must be {need} bytes, has {have}")]
pub struct WrongSize {
    /// Name of the field.
    pub field: &'static str,
    /// Bytes it needs.
    pub need: usize,
    /// Bytes it has.
    pub have: usize,
}

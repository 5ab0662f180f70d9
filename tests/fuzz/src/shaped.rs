//! Canonical bytes of any message, built or changed by its shape: what random bytes never are.

use lintas_proto::canonical::{FieldKind, FieldShape, MessageShape, Shaped};

use crate::{draws::Draws, edit::edited};

/// One value of a field: where the field stands in the shape, and the value without tag and length.
type Value = (usize, Vec<u8>);

/// A canonical message of type `M`.
#[must_use]
pub fn built<M: Shaped>(draws: &mut Draws<'_>) -> Vec<u8> {
    build(M::shape(), draws)
}

/// The canonical `bytes` of an `M` with up to four of its fields removed, replaced, doubled or changed, at any depth; as
/// they were when nothing is left to draw. Still one encoding of an `M`.
#[must_use]
pub fn changed<M: Shaped>(bytes: &[u8], draws: &mut Draws<'_>) -> Vec<u8> {
    (0..draws.below(5)).fold(bytes.to_vec(), |bytes, _| change(M::shape(), &bytes, draws))
}

fn build(shape: &'static MessageShape, draws: &mut Draws<'_>) -> Vec<u8> {
    let mut values = Vec::new();
    for (at, field) in shape.fields.iter().enumerate() {
        let present = draws.byte();
        let count = match (present & 3, field.repeated) {
            (0, _) => 0,
            (_, true) if is_delimited(field.kind) => usize::from(present >> 6),
            _ => 1,
        };
        values.extend((0..count).map(|_| (at, value(field, draws))));
    }
    write(shape, &values)
}

fn change(shape: &'static MessageShape, bytes: &[u8], draws: &mut Draws<'_>) -> Vec<u8> {
    let Some(mut values) = read(shape, bytes) else { return bytes.to_vec() };
    let how = draws.byte();
    let any = draws.below(shape.fields.len());
    // Mostly a field that is there.
    let at =
        values.get(draws.below(values.len())).map_or(any, |(at, _)| if how & 0x80 == 0 { *at } else { any });
    let Some(field) = shape.fields.get(at) else { return bytes.to_vec() };
    let there: Vec<usize> = (0..values.len()).filter(|value| values[*value].0 == at).collect();
    let chosen = there.get(draws.below(there.len())).copied();
    match (how % 8, chosen) {
        (0, Some(chosen)) => drop(values.remove(chosen)),
        (1, Some(chosen)) if field.repeated && is_delimited(field.kind) => {
            values.push(values[chosen].clone())
        }
        (2, Some(chosen)) if field.repeated && is_delimited(field.kind) => {
            let other = there[draws.below(there.len())];
            values.swap(chosen, other);
        }
        (3..=7, Some(chosen)) => {
            let old = std::mem::take(&mut values[chosen].1);
            values[chosen].1 = tweaked(field, &old, draws);
        }
        (_, chosen) => {
            if let Some(chosen) = chosen.filter(|_| !field.repeated || !is_delimited(field.kind)) {
                values.remove(chosen);
            }
            values.push((at, value(field, draws)));
        }
    }
    values.sort_by_key(|(at, _)| *at);
    write(shape, &values)
}

/// Another value in place of `old`.
fn tweaked(field: &FieldShape, old: &[u8], draws: &mut Draws<'_>) -> Vec<u8> {
    match field.kind {
        FieldKind::Message(inner) => change(inner, old, draws),
        FieldKind::String => String::from_utf8_lossy(&edited(old, draws)).into_owned().into_bytes(),
        FieldKind::Bytes => edited(old, draws),
        FieldKind::Bool | FieldKind::Uint32 | FieldKind::Uint64 | FieldKind::Sint32 | FieldKind::Enum(_) => {
            value(field, draws)
        }
    }
}

/// A value; an empty one is left out when the message is written.
fn value(field: &FieldShape, draws: &mut Draws<'_>) -> Vec<u8> {
    match field.kind {
        FieldKind::Message(inner) => build(inner, draws),
        FieldKind::String => String::from_utf8_lossy(draws.some(70)).into_owned().into_bytes(),
        FieldKind::Bytes if draws.flag() => draws.some(255).to_vec(),
        // Digests and ids.
        FieldKind::Bytes => vec![draws.byte(); [32, 16, 64, 58][draws.below(4)]],
        FieldKind::Bool | FieldKind::Uint32 | FieldKind::Uint64 | FieldKind::Sint32 | FieldKind::Enum(_) => {
            let count = if field.repeated { draws.below(6) } else { 1 };
            let mut numbers: Vec<u64> = (0..count).map(|_| number(field.kind, draws)).collect();
            if draws.flag() {
                numbers.sort_unstable();
                numbers.dedup();
            }
            let mut out = Vec::new();
            numbers.into_iter().for_each(|number| varint(number, &mut out));
            out
        }
    }
}

/// A number of this kind, not 0.
fn number(kind: FieldKind, draws: &mut Draws<'_>) -> u64 {
    match kind {
        FieldKind::Bool => 1,
        FieldKind::Uint32 | FieldKind::Sint32 => (draws.number() & 0xffff_ffff).max(1),
        FieldKind::Enum(valid) => u64::try_from(valid[draws.below(valid.len())]).unwrap(),
        FieldKind::Uint64 | FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) => {
            draws.number().max(1)
        }
    }
}

fn is_delimited(kind: FieldKind) -> bool {
    matches!(kind, FieldKind::String | FieldKind::Bytes | FieldKind::Message(_))
}

fn write(shape: &MessageShape, values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
        let field = &shape.fields[*at];
        let whole = is_delimited(field.kind) || field.repeated;
        varint(u64::from(field.tag << 3 | if whole { 2 } else { 0 }), &mut out);
        if whole {
            varint(value.len() as u64, &mut out);
        }
        out.extend_from_slice(value);
    }
    out
}

fn read(shape: &MessageShape, mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let at = shape.fields.iter().position(|field| u64::from(field.tag) == key >> 3)?;
        let value = if key & 7 == 2 {
            let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            value.to_vec()
        } else {
            let mut number = Vec::new();
            varint(take_varint(&mut bytes)?, &mut number);
            number
        };
        values.push((at, value));
    }
    Some(values)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

fn varint(value: u64, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, out);
}

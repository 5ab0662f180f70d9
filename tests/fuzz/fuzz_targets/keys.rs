//! Keys, signatures, key wraps and names: one encoding each, and nothing changed is believed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{Fixtures, fixtures},
};
use lintas_proto::{
    envelope::{
        seal::wrap_info,
        wrap::{EncryptionKey, unwrap},
    },
    id::{PacketId, check_code, check_name, hex, unhex},
    sign::{KeyRole, Signed, VerifyingKey, key_id},
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    match draws.byte() % 8 {
        0 => public_key(&all, draws.rest()),
        1 => public_key(&all, &edited(all.kh_public.as_bytes(), &mut draws)),
        2 => signature(&all, &mut draws),
        3 => encryption_key(draws.rest()),
        4 => encryption_key(&edited(&all.kh.public().to_bytes(), &mut draws)),
        5 => key_wrap(&all, &mut draws),
        6 => ids(draws.rest()),
        _ => names(&String::from_utf8_lossy(draws.rest())),
    }
});

fn public_key(all: &Fixtures, bytes: &[u8]) {
    let Ok(key) = VerifyingKey::parse(bytes) else { return };
    assert_eq!(key.as_bytes().as_slice(), bytes, "two encodings of a key");
    // A signature is one key's: no other key takes it.
    let signature = all.kh_signer.sign(Signed::Header, b"header");
    assert_eq!(key.verify(Signed::Header, b"header", &signature).is_ok(), key == all.kh_public);
    assert!(key.verify(Signed::Header, bytes, &[0; 64]).is_err(), "R of small order");
}

fn signature(all: &Fixtures, draws: &mut Draws<'_>) {
    let kinds = [Signed::Header, Signed::Grant, Signed::ReceiptGroup, Signed::Keyset, Signed::Roster];
    let (made, asked) = (kinds[draws.below(kinds.len())], kinds[draws.below(kinds.len())]);
    let body = draws.some(60);
    let signature = all.kh_signer.sign(made, body);
    let (other_body, other) = (edited(body, draws), edited(&signature, draws));
    let same = made == asked && other_body == body && other == signature;
    assert_eq!(all.kh_public.verify(asked, &other_body, &other).is_ok(), same);
}

fn encryption_key(bytes: &[u8]) {
    let Ok(key) = EncryptionKey::parse(bytes) else { return };
    assert_eq!(key.to_bytes(), bytes, "two encodings of a key");
    assert_eq!(key.id(), &key_id(KeyRole::Encryption, bytes));
}

fn key_wrap(all: &Fixtures, draws: &mut Draws<'_>) {
    let packet = &all.packet;
    let info = wrap_info(packet.verified.context(), all.kh.public().id());
    let wrap = &packet.submission.wraps[0];
    let (changed, under) = (edited(wrap, draws), edited(&info, draws));
    let opened = unwrap(&all.kh, &under, &changed).ok().map(|wrapped| wrapped.content_key);
    let same = changed == *wrap && under == info;
    assert_eq!(opened, same.then(|| packet.content_key.clone()), "a changed wrap was opened");
}

fn ids(bytes: &[u8]) {
    if let Ok(id) = PacketId::from_bytes(bytes) {
        assert_eq!(id.as_bytes(), bytes);
        assert_eq!((id.to_string().parse(), id.to_string().len()), (Ok(id), 36));
    }
    assert_eq!(unhex(&hex(bytes)).as_deref(), Ok(bytes));
    let text = String::from_utf8_lossy(bytes);
    if let Ok(found) = unhex(&text) {
        assert_eq!(hex(&found), text.to_ascii_lowercase());
    }
    if let Ok(id) = text.parse::<PacketId>() {
        assert_eq!(PacketId::from_bytes(id.as_bytes()), Ok(id));
        assert_eq!(hex(id.as_bytes()), text.replace('-', "").to_ascii_lowercase());
    }
}

/// The table "Codes, names, identifiers" of the format, read a second time.
fn names(text: &str) {
    let fits = |max: usize, first: fn(char) -> bool, all: fn(char) -> bool| {
        (1..=max).contains(&text.len()) && text.starts_with(first) && text.chars().all(all)
    };
    let code = fits(32, |c| c.is_ascii_uppercase(), |c| matches!(c, 'A'..='Z' | '0'..='9' | '-'));
    let name = fits(64, |c| c.is_ascii_lowercase(), |c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'));
    assert_eq!((check_code(text).is_ok(), check_name(text).is_ok()), (code, name), "{text:?}");
}

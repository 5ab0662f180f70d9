//! Connection ids that only their maker recognises: 8 random bytes and 8 bytes of their HMAC.
//!
//! No id repeats, so no reset token does (RFC 9000 section 10.3.2); to anybody else they are random (section
//! 5.1); and an id that was not made here is answered with nothing.

use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

const RANDOM_BYTES: usize = 8;
const ID_BYTES: usize = 16;

/// Makes and recognises ids.
#[derive(Debug)]
pub(crate) struct RecognisedIds {
    key: hmac::Key,
    made: u64,
}

impl RecognisedIds {
    pub(crate) fn new(key: hmac::Key) -> Self {
        Self { key, made: 0 }
    }

    fn id(&self, random: [u8; RANDOM_BYTES]) -> [u8; ID_BYTES] {
        let tag = hmac::sign(&self.key, &random);
        let mut bytes = random.iter().chain(tag.as_ref()).copied();
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }
}

impl ConnectionIdGenerator for RecognisedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made = self.made.wrapping_add(1);
        let mut random = [0; RANDOM_BYTES];
        if rand::fill(&mut random).is_err() {
            // quinn asks until it gets an id that is free: a system without randomness must not make it ask for ever.
            random = self.made.to_be_bytes();
        }
        ConnectionId::new(&self.id(random))
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let random = id.first_chunk::<RANDOM_BYTES>().ok_or(InvalidCid)?;
        if self.id(*random) == **id { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(key: u8) -> RecognisedIds {
        RecognisedIds::new(hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]))
    }

    #[test]
    fn only_its_maker_recognises_an_id_and_no_two_are_equal() {
        let id = ids(1).generate_cid();
        assert_eq!(id.len(), ID_BYTES);
        assert!(ids(1).validate(&id).is_ok(), "also after a restart");
        assert!(ids(2).validate(&id).is_err());
        assert!(ids(1).validate(&ConnectionId::new(&[7; ID_BYTES])).is_err());
        assert!(ids(1).validate(&ConnectionId::new(&[7; 3])).is_err());
        assert_ne!(&*ids(1).generate_cid(), &*id);
    }
}

//! Which packet is submitted next: in the order in which they were sealed, a bounded number unanswered.

use std::collections::{BTreeMap, BTreeSet};

use lintas_proto::{id::Digest, schema::Reason};

/// Most submissions without an answer.
pub(crate) const UNANSWERED_MAX: usize = 64;
/// Most packets whose attachments are uploaded at the same time.
pub(crate) const UPLOADS_MAX: usize = 2;
/// First pause before a packet that the broker put off is submitted again, milliseconds.
const RETRY_MS_MIN: u64 = 2_000;
/// Longest such pause, milliseconds: 10 minutes.
const RETRY_MS_MAX: u64 = 10 * 60 * 1_000;
/// First pause before connecting again, milliseconds.
const RECONNECT_MS_MIN: u64 = 200;
/// Longest such pause, milliseconds.
const RECONNECT_MS_MAX: u64 = 30_000;

/// First pause before connecting again to a broker that refused this node, milliseconds.
const REFUSED_MS_MIN: u64 = 15_000;
/// Longest such pause, milliseconds: 10 minutes.
const REFUSED_MS_MAX: u64 = 10 * 60 * 1_000;

/// A packet that the broker asked to see again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutOff {
    /// How often.
    pub(crate) times: u32,
    /// Not before.
    pub(crate) until_ms: u64,
    /// Why.
    pub(crate) reason: Reason,
    /// In words.
    pub(crate) text: String,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Submit this one.
    Submit(Digest),
    /// Upload its attachments; then it is submitted.
    Upload(Digest),
    /// Nothing until an answer or a new packet comes; at the latest at this time.
    Wait(Option<u64>),
}

/// The submissions on their way. Not durable: what is unanswered is submitted again after a restart, and the
/// broker gives the same answer.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    unanswered: BTreeSet<Digest>,
    put_off: BTreeMap<Digest, PutOff>,
    uploading: BTreeSet<Digest>,
    /// All attachments were with the broker when it was asked in this session.
    uploaded: BTreeSet<Digest>,
    /// Refused, and another packet is to take their place: not to be submitted again in this session.
    aside: BTreeSet<Digest>,
}

impl Pipeline {
    /// Chooses among `waiting`, oldest first, each with whether it has attachments. A packet that was put off, or
    /// whose attachments are on their way, lets younger ones pass.
    pub(crate) fn next(&mut self, waiting: impl Iterator<Item = (Digest, bool)>, now_ms: u64) -> Next {
        let mut earliest = None;
        if self.unanswered.len() >= UNANSWERED_MAX {
            return Next::Wait(None);
        }
        for (digest, attachments) in waiting {
            let busy = self.unanswered.contains(&digest) || self.uploading.contains(&digest);
            if busy || self.aside.contains(&digest) {
                continue;
            }
            match self.put_off.get(&digest).map(|put_off| put_off.until_ms) {
                // Later than any pause is long: the clock was set back since.
                Some(until_ms) if until_ms > now_ms && until_ms - now_ms <= RETRY_MS_MAX => {
                    earliest = Some(earliest.map_or(until_ms, |other: u64| other.min(until_ms)));
                }
                Some(_) | None if attachments && !self.uploaded.contains(&digest) => {
                    if self.uploading.len() < UPLOADS_MAX {
                        self.uploading.insert(digest);
                        return Next::Upload(digest);
                    }
                }
                Some(_) | None => {
                    self.unanswered.insert(digest);
                    return Next::Submit(digest);
                }
            }
        }
        Next::Wait(earliest)
    }

    /// The broker has all attachments of the packet.
    pub(crate) fn uploaded(&mut self, digest: Digest) {
        self.uploading.remove(&digest);
        self.uploaded.insert(digest);
    }

    /// A final answer is durable.
    pub(crate) fn answered(&mut self, digest: &Digest) {
        self.uploaded.remove(digest);
        self.unanswered.remove(digest);
        self.put_off.remove(digest);
        self.aside.remove(digest);
    }

    /// The broker refused the packet, and another one is to take its place.
    pub(crate) fn set_aside(&mut self, digest: Digest) {
        self.unanswered.remove(&digest);
        self.put_off.remove(&digest);
        self.aside.insert(digest);
    }

    /// The broker, or this node, puts the packet off.
    pub(crate) fn put_off(&mut self, digest: Digest, reason: Reason, text: String, now_ms: u64) {
        self.unanswered.remove(&digest);
        self.aside.remove(&digest);
        self.uploading.remove(&digest);
        // The broker does not keep for ever what no packet names.
        self.uploaded.remove(&digest);
        let times = self.put_off.get(&digest).map_or(0, |before| before.times).saturating_add(1);
        let until_ms = now_ms.saturating_add(retry_after_ms(times));
        self.put_off.insert(digest, PutOff { times, until_ms, reason, text });
    }

    /// Why a packet was put off.
    pub(crate) fn why_put_off(&self, digest: &Digest) -> Option<&PutOff> {
        self.put_off.get(digest)
    }

    /// How much is remembered.
    #[cfg(feature = "sim")]
    pub(crate) fn load(&self) -> usize {
        let Self { unanswered, put_off, uploading, uploaded, aside } = self;
        unanswered.len() + put_off.len() + uploading.len() + uploaded.len() + aside.len()
    }

    /// The connection is gone: everything unanswered is submitted again.
    pub(crate) fn disconnected(&mut self) {
        self.unanswered.clear();
        self.uploading.clear();
        self.uploaded.clear();
        self.aside.clear();
    }
}

/// Pause after the `times`th failure in a row, the first being 1.
pub(crate) fn retry_after_ms(times: u32) -> u64 {
    doubled(RETRY_MS_MIN, times.saturating_sub(1), RETRY_MS_MAX)
}

/// Pause before connecting again after `failures` failures in a row: doubled each time, then spread evenly over
/// its upper half by `chance`, so that a region's nodes do not come back all at once.
pub(crate) fn reconnect_after_ms(failures: u32, chance: u32) -> u64 {
    spread(doubled(RECONNECT_MS_MIN, failures, RECONNECT_MS_MAX), chance)
}

/// As [`reconnect_after_ms`], for a broker that refused this node: somebody has to do something first.
pub(crate) fn refused_after_ms(failures: u32, chance: u32) -> u64 {
    spread(doubled(REFUSED_MS_MIN, failures, REFUSED_MS_MAX), chance)
}

/// As [`refused_after_ms`], for a broker that refused this node for the clock: a time service may set one right at any moment,
/// and a broker in doubt waits for its members' hellos.
pub(crate) fn clock_after_ms(failures: u32, chance: u32) -> u64 {
    spread(doubled(REFUSED_MS_MIN, failures, RECONNECT_MS_MAX), chance)
}

fn spread(pause_ms: u64, chance: u32) -> u64 {
    let half = pause_ms / 2;
    half.saturating_add(u64::from(chance).saturating_mul(half) / u64::from(u32::MAX))
}

fn doubled(first: u64, times: u32, max: u64) -> u64 {
    first.saturating_mul(1u64.checked_shl(times.min(32)).unwrap_or(u64::MAX)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        [number; 32]
    }

    fn plain(digests: &[Digest]) -> impl Iterator<Item = (Digest, bool)> {
        digests.iter().map(|digest| (*digest, false))
    }

    #[test]
    fn attachments_go_first_and_hold_up_nobody_else() {
        let mut pipeline = Pipeline::default();
        let waiting =
            || [(1, true), (2, true), (3, true), (4, false)].map(|(n, a)| (digest(n), a)).into_iter();
        assert_eq!(pipeline.next(waiting(), 0), Next::Upload(digest(1)));
        assert_eq!(pipeline.next(waiting(), 0), Next::Upload(digest(2)));
        assert_eq!(pipeline.next(waiting(), 0), Next::Submit(digest(4)), "the third waits for a place");
        assert_eq!(pipeline.next(waiting(), 0), Next::Wait(None));
        pipeline.uploaded(digest(2));
        assert_eq!(pipeline.next(waiting(), 0), Next::Submit(digest(2)));
        assert_eq!(pipeline.next(waiting(), 0), Next::Upload(digest(3)));
        // The broker no longer has them when it sees the packet.
        pipeline.put_off(digest(2), Reason::MissingAttachment, String::new(), 0);
        pipeline.put_off(digest(1), Reason::Quota, String::new(), 0);
        assert_eq!(pipeline.next(waiting(), RETRY_MS_MIN), Next::Upload(digest(1)));
        pipeline.uploaded(digest(3));
        assert_eq!(pipeline.next(waiting(), RETRY_MS_MIN), Next::Upload(digest(2)));
        pipeline.disconnected();
        assert_eq!(
            pipeline.next(waiting(), RETRY_MS_MIN),
            Next::Upload(digest(1)),
            "the broker is asked again"
        );
    }

    #[test]
    fn packets_go_in_order_and_a_bounded_number_stays_unanswered() {
        let mut pipeline = Pipeline::default();
        let waiting: Vec<Digest> = (0..100).map(digest).collect();
        for number in 0..64 {
            assert_eq!(pipeline.next(plain(&waiting), 0), Next::Submit(digest(number)));
        }
        assert_eq!(pipeline.next(plain(&waiting), 0), Next::Wait(None));
        pipeline.answered(&digest(7));
        let left = plain(&waiting).filter(|(d, _)| *d != digest(7));
        assert_eq!(pipeline.next(left, 0), Next::Submit(digest(64)));
        pipeline.disconnected();
        assert_eq!(pipeline.next(plain(&waiting), 0), Next::Submit(digest(0)));
    }

    #[test]
    fn a_packet_put_off_comes_back_and_lets_others_pass() {
        let mut pipeline = Pipeline::default();
        let waiting = [digest(1), digest(2)];
        assert_eq!(pipeline.next(plain(&waiting), 0), Next::Submit(digest(1)));
        pipeline.put_off(digest(1), Reason::Quota, "too many".to_owned(), 0);
        assert_eq!(pipeline.next(plain(&waiting), 0), Next::Submit(digest(2)));
        assert_eq!(pipeline.next(plain(&waiting), 0), Next::Wait(Some(RETRY_MS_MIN)));
        assert_eq!(pipeline.next(plain(&waiting), RETRY_MS_MIN), Next::Submit(digest(1)));
        pipeline.put_off(digest(1), Reason::Quota, "too many".to_owned(), 0);
        let put_off = pipeline.why_put_off(&digest(1)).unwrap();
        assert_eq!((put_off.times, put_off.until_ms), (2, 2 * RETRY_MS_MIN));
        pipeline.answered(&digest(1));
        assert_eq!(pipeline.why_put_off(&digest(1)), None);
        // One that is set aside does not go again before the next session.
        pipeline.set_aside(digest(2));
        assert_eq!(pipeline.next([(digest(2), false)].into_iter(), u64::MAX), Next::Wait(None));
        pipeline.disconnected();
        assert_eq!(pipeline.next([(digest(2), false)].into_iter(), 0), Next::Submit(digest(2)));
    }

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        for failures in 0..100 {
            for chance in [0, u32::MAX / 2, u32::MAX] {
                let pause = reconnect_after_ms(failures, chance);
                assert!((100..=RECONNECT_MS_MAX).contains(&pause), "{failures} {chance} {pause}");
            }
        }
        assert_eq!((refused_after_ms(0, 0), refused_after_ms(99, u32::MAX)), (7_500, 600_000));
        assert_eq!(reconnect_after_ms(0, u32::MAX), 200);
        assert_eq!(reconnect_after_ms(40, u32::MAX), 30_000);
    }
}

//! Whether this machine's clock is to be acted upon: a broker has agreed with it, and nobody has set it since. Until then
//! nothing is judged, ended, made or destroyed by time; reading, sealing and keeping what is to be sent go on.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use lintas_config::clock::Reading;
use lintas_proto::limits;
use tokio::time::sleep;

use super::{Broken, Desk};

/// Why a session ends at which the clock is not agreed.
const NOT_AGREED: &str = "this machine's clock was set, or differs from the broker's: nothing is judged before a broker has agreed with it";
/// How often a session looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

impl Desk {
    /// A broker that let this node in has said what time it is: whether this clock, which says `now_ms`, is right by it.
    pub(crate) fn compare_clocks(&self, now_ms: u64, theirs_ms: u64) {
        let agreed = now_ms.abs_diff(theirs_ms) <= limits::CLOCK_SKEW_MS_MAX;
        *self.agreement() = agreed.then(|| Reading { wall_ms: now_ms, ..Reading::take() });
        if agreed {
            // What was due has waited.
            self.page_wanted.notify_one();
        }
    }

    /// A broker does not agree with this clock.
    pub(crate) fn doubt_clock(&self) {
        *self.agreement() = None;
    }

    /// Whether `now_ms` is the time, by what a broker agreed on.
    pub(super) fn is_agreed(&self, now_ms: u64) -> bool {
        let now = Reading { wall_ms: now_ms, ..Reading::take() };
        self.agreement().is_some_and(|anchor| now.leapt_ms(anchor).is_none())
    }

    /// The time, if it is to be acted upon.
    pub(super) fn agreed_ms(&self) -> Result<u64, Broken> {
        let now = Reading::take();
        let is_agreed = self.agreement().is_some_and(|anchor| now.leapt_ms(anchor).is_none());
        if is_agreed { Ok(now.wall_ms) } else { Err(Broken::Protocol(NOT_AGREED.to_owned())) }
    }

    /// Waits until the clock is not agreed any more.
    pub(crate) async fn clock_set(&self) -> Broken {
        loop {
            if let Err(why) = self.agreed_ms() {
                return why;
            }
            sleep(LOOK).await;
        }
    }

    /// By how many minutes the clock was set since a broker agreed with it.
    pub(super) fn clock_set_by(&self) -> Option<u64> {
        let anchor = *self.agreement();
        anchor.and_then(|anchor| Reading::take().leapt_ms(anchor)).map(|ms| ms / 60_000)
    }

    fn agreement(&self) -> MutexGuard<'_, Option<Reading>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lintas_config::os_entropy;
    use lintas_proto::{canonical, frame::FrameType, schema::Submission};

    use crate::{
        shell::{
            clock,
            desk::{Heard, How},
        },
        testing::{AMBER, Region, draft},
    };

    #[test]
    fn nothing_is_judged_and_no_key_changes_before_a_broker_agrees() {
        let region = Region::new();
        let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
        let draft = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
        thailand.send(&draft, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
        let bytes = thailand.next_submission().unwrap().unwrap().bytes;
        let packet: Submission = canonical::decode(&bytes, lintas_proto::limits::FRAME_BYTES_MAX).unwrap();
        let payload = canonical::encode(&region.delivery(&packet, 0, 1));
        let deliver = || {
            let heard = Heard { kind: FrameType::Delivery, payload: payload.clone() };
            cambodia.settle(cambodia.judge(vec![heard])).unwrap()
        };
        let now_ms = clock::now_ms();
        let keys = || cambodia.keys().epochs().map(|(_, epoch)| epoch).collect::<Vec<_>>();
        let before = keys();
        for agree in [false, true] {
            if agree {
                cambodia.compare_clocks(now_ms, now_ms);
            } else {
                cambodia.doubt_clock();
            }
            cambodia.rotate_or_tell(now_ms + if agree { 0 } else { 8 * 86_400_000 });
            let settled = deliver();
            assert_eq!(
                (settled.broken.is_none(), settled.acknowledgements.len()),
                (agree, usize::from(agree))
            );
            assert_eq!(cambodia.inbox(9).unwrap().packets.len(), usize::from(agree));
            if !agree {
                assert_eq!(keys(), before);
            }
        }
        // Another time than the broker's, though it let this node in; and a clock that was set since.
        cambodia.compare_clocks(now_ms, now_ms + 6 * 60_000);
        assert!(deliver().broken.is_some());
        cambodia.compare_clocks(now_ms - 86_400_000, now_ms - 86_400_000);
        assert!(deliver().broken.is_some() && cambodia.clock_set_by().is_some());
    }
}

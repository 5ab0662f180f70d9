//! Whether the broker's log goes on, and shows what it has to, while this node is connected to it. Time without a
//! connection does not count, and a new session does not begin the count anew.

use std::time::Duration;

/// For how long what the broker does not show, or shows wrongly, may be an accident.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// So many epochs more, before a log that does not go on is one that stands still.
const EPOCHS: u32 = 10;

/// What was seen of the present log.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    origin: String,
    size: u64,
    still: Duration,
    told_still: bool,
    wrong: Option<Duration>,
    told_wrong: bool,
}

impl Pulse {
    /// So much time has passed, connected.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.still = self.still.saturating_add(time);
        self.wrong = self.wrong.map(|wrong| wrong.saturating_add(time));
    }

    /// A signed checkpoint of so many entries was shown.
    pub(crate) fn shown(&mut self, origin: &str, size: u64) {
        if self.origin != origin || size > self.size {
            origin.clone_into(&mut self.origin);
            (self.size, self.still, self.told_still) = (size, Duration::ZERO, false);
        }
    }

    /// All that was asked for was shown, and holds.
    pub(crate) fn well(&mut self) {
        (self.wrong, self.told_wrong) = (None, false);
    }

    /// Something was not shown, or does not hold. True once, when that has gone on for too long.
    pub(crate) fn wrong(&mut self) -> bool {
        let wrong = *self.wrong.get_or_insert(Duration::ZERO);
        let late = wrong >= PATIENCE && !self.told_wrong;
        self.told_wrong |= late;
        late
    }

    /// For how long nothing newer was shown, once, when that is too long.
    pub(crate) fn stands_still(&mut self, epoch: Duration) -> Option<Duration> {
        let late = self.still >= PATIENCE.saturating_add(epoch.saturating_mul(EPOCHS)) && !self.told_still;
        self.told_still |= late;
        late.then_some(self.still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Duration = Duration::from_secs(10);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_log_that_stands_still_is_told_once_and_again_after_it_went_on() {
        let mut pulse = Pulse::default();
        pulse.shown("hub/audit", 7);
        for minute in 1..60 {
            pulse.pass(MINUTE);
            // The same, an older one, and another session change nothing.
            pulse.shown("hub/audit", if minute % 2 == 0 { 7 } else { 5 });
            let told = pulse.stands_still(EPOCH);
            assert_eq!(told, (minute == 12).then_some(MINUTE * 12), "{minute}");
        }
        pulse.shown("hub/audit", 8);
        pulse.pass(MINUTE * 11);
        assert_eq!(pulse.stands_still(EPOCH), None);
        pulse.pass(MINUTE);
        assert!(pulse.stands_still(EPOCH).is_some());
        pulse.shown("hub.log2/audit", 1);
        assert_eq!(pulse.stands_still(EPOCH), None);
    }

    #[test]
    fn what_goes_wrong_for_long_is_told_once_and_what_ends_well_begins_anew() {
        let mut pulse = Pulse::default();
        for step in 0..30u32 {
            assert_eq!(pulse.wrong(), step == 10, "{step}");
            pulse.pass(MINUTE);
        }
        pulse.well();
        pulse.pass(MINUTE * 60);
        assert!(!pulse.wrong(), "it begins now");
    }
}

//! One step: whatever the dice say happens next.

use super::World;
use crate::{
    Violation,
    region::{AGENCIES, Terms},
};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: i64 = 86_400_000;

impl World {
    /// Something happens, of everything that may.
    pub(super) fn chaos(&mut self) -> Result<(), Violation> {
        self.true_ms += self.dice.below(2_000);
        self.come_back()?;
        let agency = self.dice.index(AGENCIES.len());
        match self.dice.below(100) {
            0..=12 => self.send(agency),
            13..=21 => self.push(agency, 3).map(|_| ()),
            22..=32 => {
                let bytes = self.some_bytes();
                self.up(agency, bytes)
            }
            33..=42 => self.round(),
            43..=50 => self.write().map(|_| ()),
            51..=58 => self.out(agency),
            59..=68 => {
                let bytes = self.some_bytes();
                self.down(agency, bytes)
            }
            69..=79 => self.pump(agency),
            80..=81 => {
                self.cut(agency);
                Ok(())
            }
            82..=86 => self.fail(agency),
            87..=93 => self.change(agency),
            94 => {
                self.true_ms += MINUTE_MS * (1 + self.dice.below(5));
                Ok(())
            }
            95..=96 => self.publish(),
            97 => self.compact(),
            98 => self.tend_broker(),
            _ => self.tend_node(agency),
        }
    }

    /// What is down may come up, and what is apart may meet.
    fn come_back(&mut self) -> Result<(), Violation> {
        if self.broker.is_none() && self.dice.chance(25) {
            self.open_broker(true)?;
        }
        for agency in 0..AGENCIES.len() {
            if self.nodes[agency].node.is_none() && self.dice.chance(12) {
                self.open_node(agency, true)?;
            }
            if self.links[agency].is_some() && self.dice.chance(30) && !self.agrees(agency)? {
                self.cut(agency);
            }
            if self.links[agency].is_none() && self.dice.chance(10) {
                self.connect(agency)?;
                if self.dice.chance(80) {
                    self.renew(agency)?;
                }
            }
        }
        Ok(())
    }

    fn some_bytes(&mut self) -> usize {
        if self.dice.chance(30) { self.dice.index(3_000) } else { usize::MAX }
    }

    /// A good moment: everything of one agency goes through, with or without the disk.
    fn pump(&mut self, agency: usize) -> Result<(), Violation> {
        self.push(agency, 4)?;
        self.up(agency, usize::MAX)?;
        self.round()?;
        if self.dice.chance(60) {
            self.write()?;
        }
        for other in 0..AGENCIES.len() {
            self.out(other)?;
            self.down(other, usize::MAX)?;
            self.up(other, usize::MAX)?;
        }
        Ok(())
    }

    /// Something breaks, at once or soon.
    fn fail(&mut self, agency: usize) -> Result<(), Violation> {
        match self.dice.below(6) {
            0 if self.broker.is_some() => self.crash_broker("crashes"),
            1 if self.nodes[agency].node.is_some() => self.crash_node(agency, "crashes"),
            2 if self.broker.is_some() => self.arm_broker(),
            3 if self.nodes[agency].node.is_some() => self.arm_node(agency),
            4 => {
                let full = !self.hub.full;
                self.hub.set_full(full);
                self.say("hub", if full { "its disk is full" } else { "its disk has room" });
            }
            5 => {
                let full = !self.nodes[agency].machine.full;
                self.nodes[agency].machine.set_full(full);
                self.say(AGENCIES[agency], if full { "its disk is full" } else { "its disk has room" });
            }
            _ => {}
        }
        Ok(())
    }

    /// The world changes: clocks, policies, members, what nodes know of it.
    fn change(&mut self, agency: usize) -> Result<(), Violation> {
        match self.dice.below(6) {
            0 => {
                let skew_ms = self.skew();
                self.jump_broker(skew_ms);
            }
            1 => {
                let skew_ms = self.skew();
                self.jump_node(agency, skew_ms);
            }
            2 | 3 => self.set_terms(agency),
            4 => self.set_member(agency)?,
            _ => self.renew(agency)?,
        }
        Ok(())
    }

    /// How far a clock is off: mostly right, or by minutes, hours, or up to 400 days.
    fn skew(&mut self) -> i64 {
        let sign = if self.dice.chance(50) { 1 } else { -1 };
        let most = match self.dice.below(10) {
            0..=4 => return 0,
            5..=6 => 4 * 60_000,
            7 => 12 * 3_600_000,
            8 => 5 * DAY_MS,
            _ => 400 * DAY_MS,
        };
        sign * i64::try_from(self.dice.below(most.unsigned_abs())).unwrap()
    }

    fn set_terms(&mut self, agency: usize) {
        let other = |dice: &mut crate::dice::Dice| {
            dice.chance(40).then(|| (agency + 1 + dice.index(AGENCIES.len() - 1)) % AGENCIES.len())
        };
        let terms = Terms {
            never_to: other(&mut self.dice),
            never_from: other(&mut self.dice),
            keeps_amber: self.dice.chance(25),
        };
        self.region.set_terms(agency, terms);
        self.excuse_all();
        self.counts.changes += 1;
        self.say(AGENCIES[agency], &format!("publishes {terms:?}"));
    }

    /// A member is suspended, or comes back once the broker has durably withheld what waited for it.
    pub(super) fn set_member(&mut self, agency: usize) -> Result<(), Violation> {
        let Some(broker) = &self.broker else { return Ok(()) };
        let (last, durable) = broker.reached();
        let active = !self.region.is_active(agency);
        let waits = broker.ledger().queue(AGENCIES[agency]).is_some_and(|queue| queue.has_packets());
        let others = (0..AGENCIES.len()).filter(|other| self.region.is_active(*other)).count();
        if (active && (waits || last != durable)) || (!active && others < 4) {
            return Ok(());
        }
        self.region.set_active(agency, active);
        self.directory_taken();
        self.excuse_all();
        self.counts.changes += 1;
        self.say(AGENCIES[agency], if active { "is a member again" } else { "is suspended" });
        if !active {
            self.oracle.suspended(agency, last);
            self.cut(agency);
        }
        Ok(())
    }
}

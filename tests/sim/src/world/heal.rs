//! Everything heals: all run, nothing is lost, clocks are right, disks have room. Then all that is under way must come to
//! its end.

use lintas_proto::limits;

use super::World;
use crate::{
    Violation,
    oracle::must,
    region::{AGENCIES, DAY_MS},
};

/// Most rounds of healing; between two of them nodes connect anew, and waits end.
const ROUNDS_MAX: u32 = 200;
/// Between two rounds: longer than any pause before something is tried again.
const PAUSE_MS: u64 = 11 * 60 * 1_000;

impl World {
    /// See the module.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.say("all", "heals");
        self.repair()?;
        let mut rounds = 0;
        while !(self.has_settled() && self.all_are_members()) {
            rounds += 1;
            must(rounds <= ROUNDS_MAX, || {
                let (unanswered, doubted) = (self.oracle.unanswered(), self.oracle.doubted());
                format!(
                    "after {ROUNDS_MAX} rounds something is still under way: {unanswered:?}, {doubted} doubted"
                )
            })?;
            self.heal_once()?;
        }
        self.end()
    }

    /// Every machine is right again, and every process runs.
    fn repair(&mut self) -> Result<(), Violation> {
        self.hub.set_full(false);
        self.jump_broker(0);
        self.crash_broker("is repaired");
        self.open_broker(false)?;
        for agency in 0..AGENCIES.len() {
            self.nodes[agency].machine.set_full(false);
            self.jump_node(agency, 0);
            self.crash_node(agency, "is repaired");
            self.open_node(agency, false)?;
        }
        Ok(())
    }

    fn has_settled(&self) -> bool {
        self.oracle.is_drained() && self.oracle.unanswered().is_empty() && self.oracle.doubted() == 0
    }

    fn all_are_members(&self) -> bool {
        (0..AGENCIES.len()).all(|agency| self.region.is_active(agency))
    }

    fn heal_once(&mut self) -> Result<(), Violation> {
        // What was sealed by a clock that was ahead waits until then.
        let (now_ms, skew_ms) = (self.true_ms, limits::CLOCK_SKEW_MS_MAX);
        let ahead = self.oracle.unanswered().into_iter().map(|(_, created_ms)| created_ms);
        let soonest = ahead.min().unwrap_or(0);
        self.true_ms = if self.oracle.is_drained() && soonest > now_ms + skew_ms { soonest } else { now_ms };
        self.true_ms += PAUSE_MS;
        for agency in 0..AGENCIES.len() {
            if !self.region.is_active(agency) {
                self.set_member(agency)?;
            }
        }
        for agency in 0..AGENCIES.len() {
            self.cut(agency);
            self.connect(agency)?;
            self.renew(agency)?;
        }
        for _ in 0..8 {
            for agency in 0..AGENCIES.len() {
                self.push(agency, 64)?;
                self.up(agency, usize::MAX)?;
            }
            self.round()?;
            while self.write()? {}
            for agency in 0..AGENCIES.len() {
                self.out(agency)?;
                self.down(agency, usize::MAX)?;
            }
        }
        self.publish()?;
        self.tend_broker()
    }

    /// All is at its end: what must hold then, and after everything was forgotten, and after one more power cut.
    fn end(&mut self) -> Result<(), Violation> {
        self.at_rest()?;
        // Longer than any packet id is remembered.
        self.true_ms += limits::DELIVER_WITHIN_MS_MAX + 10 * DAY_MS;
        for _ in 0..3 {
            self.true_ms += 120_000;
            self.round()?;
            while self.write()? {}
            self.publish()?;
            self.compact()?;
            self.tend_broker()?;
        }
        if let Some(broker) = &self.broker {
            self.oracle.at_rest(broker)?;
            self.oracle.is_forgotten(broker)?;
        }
        self.repair()?;
        self.at_rest()
    }

    fn at_rest(&mut self) -> Result<(), Violation> {
        if let Some(broker) = &self.broker {
            self.oracle.at_rest(broker)?;
            self.oracle.same_records(broker)?;
        }
        self.counts.delivered = 0;
        for (agency, slot) in self.nodes.iter().enumerate() {
            let Some(node) = &slot.node else { continue };
            self.oracle.node_acted(agency, node)?;
            self.oracle.node_at_rest(agency, node)?;
            self.counts.delivered += node.inbox().len();
            let opens = node.opens_all(&slot.directory, slot.machine.now_ms(self.true_ms));
            opens.map_err(|stopped| Violation(format!("{}: {}", AGENCIES[agency], stopped.0)))?;
        }
        Ok(())
    }
}

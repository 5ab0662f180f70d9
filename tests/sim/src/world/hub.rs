//! What the broker does.

use lintas_broker::sim::{Hands, SimBroker, Stopped};
use lintas_journal::Depth;

use super::World;
use crate::{
    Violation,
    link::Frame,
    oracle::must,
    region::{AGENCIES, BEGIN_MS},
};

impl World {
    /// The broker starts from its disks, in which it may be interrupted.
    pub(super) fn open_broker(&mut self, may_fail: bool) -> Result<(), Violation> {
        if may_fail && self.dice.chance(15) {
            let how = self.hub.arm(&mut self.dice);
            self.say("hub", &format!("starts, {how}"));
        }
        let depth = if self.dice.chance(30) { Depth::Whole } else { Depth::Indexes };
        match SimBroker::open(
            self.hub.disk.clone(),
            &self.audit,
            &self.settings,
            depth,
            self.hub.reading(self.true_ms),
            self.region.rules.directory(),
        ) {
            Ok(broker) => {
                let (last, _) = broker.reached();
                let epochs = broker.published().map_or(0, |state| state.epochs);
                self.say("hub", &format!("runs from record {last}, epoch {epochs}, {depth:?}"));
                self.oracle.broker_recovered(&broker)?;
                self.broker = Some(broker);
                Ok(())
            }
            Err(Stopped(why)) => {
                if self.hub.keeps_out(&why) {
                    self.say("hub", "does not start: its disk is full");
                    return Ok(());
                }
                must(self.hub.armed, || format!("the broker does not start: {why}"))?;
                self.crash_broker("does not start");
                Ok(())
            }
        }
    }

    /// The process is gone, maybe with the power; every session breaks.
    pub(super) fn crash_broker(&mut self, why: &str) {
        self.broker = None;
        for agency in 0..AGENCIES.len() {
            self.cut(agency);
        }
        let (power_cut, said) = self.hub.crash(&mut self.dice);
        self.audit = self.audit.crash(power_cut);
        self.counts.crashes += 1;
        self.say("hub", &format!("{why}: {said}"));
    }

    /// Power goes, or a sync fails, at some operation to come: of the journal, or of the audit log.
    pub(super) fn arm_broker(&mut self) {
        let how = if self.dice.chance(30) {
            let count = 1 + self.dice.below(12);
            self.audit.power_off_in(count);
            self.hub.armed = true;
            format!("power goes at audit operation {count}")
        } else {
            self.hub.arm(&mut self.dice)
        };
        self.say("hub", &how);
    }

    /// Lets the broker work, and the oracle look at what it did. None if it is down, or went down.
    pub(super) fn work<T>(
        &mut self,
        work: impl FnOnce(&mut SimBroker, &mut Hands<'_>) -> Result<T, Stopped>,
    ) -> Result<Option<T>, Violation> {
        let Some(broker) = &mut self.broker else { return Ok(None) };
        self.oracle.time(self.true_ms);
        let mut hands = Hands {
            rules: &self.region.rules,
            earlier: &self.earlier,
            now_ms: self.hub.now_ms(self.true_ms),
            boot_ms: self.true_ms,
            entropy: self.entropy.entropy(),
        };
        let done = work(broker, &mut hands);
        self.oracle.handed(broker.take_handed(), &self.region)?;
        let over = self.links.iter().enumerate();
        let over = over.filter(|(_, link)| link.as_ref().is_some_and(|link| !broker.serves(link.session)));
        let over: Vec<usize> = over.map(|(agency, _)| agency).collect();
        match done {
            Ok(done) => {
                self.oracle.reached(broker)?;
                over.into_iter().for_each(|agency| self.cut(agency));
                Ok(Some(done))
            }
            Err(Stopped(why)) => {
                must(self.hub.armed, || format!("the broker stops: {why}"))?;
                self.crash_broker("stops");
                Ok(None)
            }
        }
    }

    /// One round of the sequencer, unless two are under way.
    pub(super) fn round(&mut self) -> Result<(), Violation> {
        let before = self.broker.as_ref().map(SimBroker::reached);
        let done = self.work(|broker, hands| if broker.may_plan() { broker.round(hands) } else { Ok(()) })?;
        if let (Some(()), Some((before, _)), Some(broker)) = (done, before, &self.broker) {
            let (last, _) = broker.reached();
            if last > before {
                self.say("hub", &format!("plans records {} to {last}", before + 1));
            }
        }
        Ok(())
    }

    /// One write of the committer.
    pub(super) fn write(&mut self) -> Result<bool, Violation> {
        let wrote = self.work(|broker, _| broker.write())?.unwrap_or(false);
        if wrote && let Some(broker) = &self.broker {
            let (_, durable) = broker.reached();
            self.say("hub", &format!("is durable up to record {durable}"));
        }
        Ok(wrote)
    }

    /// The publisher follows.
    pub(super) fn publish(&mut self) -> Result<(), Violation> {
        self.work(|broker, hands| broker.publish(hands.entropy))?;
        let Some(broker) = &self.broker else { return Ok(()) };
        self.oracle.published(broker)?;
        let epochs = broker.published().map_or(0, |state| state.epochs);
        self.counts.epochs = self.counts.epochs.max(epochs);
        self.say("hub", &format!("has published {epochs} epochs"));
        Ok(())
    }

    /// Old segments go.
    pub(super) fn compact(&mut self) -> Result<(), Violation> {
        if let Some(freed) = self.work(|broker, _| broker.compact())? {
            self.counts.freed += freed;
            self.say("hub", &format!("compacts, {freed} segments go"));
            if let Some(broker) = &self.broker {
                self.oracle.same_records(broker)?;
            }
        }
        Ok(())
    }

    /// A turn of the tender.
    pub(super) fn tend_broker(&mut self) -> Result<(), Violation> {
        self.work(|broker, _| broker.tend()).map(|_| ())
    }

    /// So many bytes from a node arrive.
    pub(super) fn up(&mut self, agency: usize, bytes: usize) -> Result<(), Violation> {
        let Some(link) = &mut self.links[agency] else { return Ok(()) };
        let (session, frames) = (link.session, link.up.arrive(bytes));
        for (kind, payload) in &frames {
            let heard = self.work(|broker, hands| Ok(broker.hear(session, *kind, payload, hands)))?;
            if let Some(Err(why)) = heard {
                return Err(Violation(format!("{} breaks the protocol: {why}", AGENCIES[agency])));
            }
        }
        if !frames.is_empty() {
            let kinds: Vec<String> = frames.iter().map(|(kind, _)| format!("{kind:?}")).collect();
            self.say("hub", &format!("hears {} from {}", kinds.join(", "), AGENCIES[agency]));
        }
        Ok(())
    }

    /// What is due for a node goes out.
    pub(super) fn out(&mut self, agency: usize) -> Result<(), Violation> {
        let Some(session) = self.links[agency].as_ref().map(|link| link.session) else { return Ok(()) };
        let frames: Option<Vec<Frame>> = self.work(|broker, hands| broker.out(session, hands))?;
        let frames = frames.unwrap_or_default();
        self.oracle.handed_over(agency, &frames, &self.region)?;
        if let Some(link) = self.links[agency].as_mut().filter(|_| !frames.is_empty()) {
            frames.iter().for_each(|frame| link.down.send(frame));
            let kinds: Vec<String> = frames.iter().map(|(kind, _)| format!("{kind:?}")).collect();
            self.say("hub", &format!("says {} to {}", kinds.join(", "), AGENCIES[agency]));
        }
        Ok(())
    }

    /// Last record handed to the journal.
    pub(super) fn last_record(&self) -> u64 {
        self.broker.as_ref().map_or(u64::MAX, |broker| broker.reached().0)
    }

    /// The broker's clock jumps.
    pub(super) fn jump_broker(&mut self, skew_ms: i64) {
        self.hub.skew_ms = skew_ms;
        self.counts.jumps += 1;
        let days = skew_ms / 86_400_000;
        self.say("hub", &format!("its clock is off by {skew_ms} ms ({days} days)"));
        self.excuse_all();
        debug_assert!(self.true_ms >= BEGIN_MS, "time goes on");
    }

    /// Entries may be put off and come back later than what stands behind them.
    pub(super) fn excuse_all(&mut self) {
        let last = self.last_record();
        (0..AGENCIES.len()).for_each(|agency| self.oracle.excuse(agency, last));
    }
}

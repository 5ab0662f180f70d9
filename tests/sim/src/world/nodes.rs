//! What the nodes do.

use lintas_node::sim::{Hands, SimNode, Stopped};
use lintas_proto::{canonical, frame::FrameType, schema::Tlp};

use super::World;
use crate::{
    Violation,
    machine::limits,
    oracle::must,
    region::{AGENCIES, unit},
};

impl World {
    /// A node starts from its disk, in which it may be interrupted.
    pub(super) fn open_node(&mut self, agency: usize, may_fail: bool) -> Result<(), Violation> {
        let slot = &mut self.nodes[agency];
        let Some(file) = slot.file.clone() else { return Ok(()) };
        if may_fail && self.dice.chance(15) {
            slot.machine.arm(&mut self.dice);
        }
        let (now_ms, armed) = (slot.machine.now_ms(self.true_ms), slot.machine.armed);
        match SimNode::open(slot.machine.disk.clone(), limits(), file, &slot.directory, now_ms) {
            Ok(node) => {
                self.oracle.node_recovered(agency, &node)?;
                (slot.node, slot.file) = (Some(node), None);
                self.say(AGENCIES[agency], "runs");
                Ok(())
            }
            Err(Stopped(why)) => {
                must(armed, || format!("{} does not start: {why}", AGENCIES[agency]))?;
                let (_, said) = slot.machine.crash(&mut self.dice);
                self.say(AGENCIES[agency], &format!("does not start: {said}"));
                Ok(())
            }
        }
    }

    /// The process is gone, maybe with the power.
    pub(super) fn crash_node(&mut self, agency: usize, why: &str) {
        self.cut(agency);
        let slot = &mut self.nodes[agency];
        if let Some(node) = slot.node.take() {
            slot.file = Some(node.into_file());
        }
        let (_, said) = slot.machine.crash(&mut self.dice);
        self.counts.crashes += 1;
        self.say(AGENCIES[agency], &format!("{why}: {said}"));
    }

    /// Power goes, or a sync fails, at some operation to come.
    pub(super) fn arm_node(&mut self, agency: usize) {
        let how = self.nodes[agency].machine.arm(&mut self.dice);
        self.say(AGENCIES[agency], &how);
    }

    /// Lets a node work, and the oracle look at what it has then. None if it is down, or went down.
    pub(super) fn with_node<T>(
        &mut self,
        agency: usize,
        work: impl FnOnce(&mut SimNode, &mut Hands<'_>) -> Result<T, Stopped>,
    ) -> Result<Option<T>, Violation> {
        let slot = &mut self.nodes[agency];
        let Some(node) = &mut slot.node else { return Ok(None) };
        let mut hands = Hands {
            directory: &slot.directory,
            policies: &slot.policies,
            now_ms: slot.machine.now_ms(self.true_ms),
            boot_ms: self.true_ms,
            entropy: self.entropy.entropy(),
        };
        match work(node, &mut hands) {
            Ok(done) => {
                self.oracle.node_acted(agency, node)?;
                Ok(Some(done))
            }
            Err(Stopped(why)) => {
                must(slot.machine.armed, || format!("{} stops: {why}", AGENCIES[agency]))?;
                self.crash_node(agency, "stops");
                Ok(None)
            }
        }
    }

    /// An officer sends something to one, two or three units of others.
    pub(super) fn send(&mut self, agency: usize) -> Result<(), Violation> {
        let mut to: Vec<String> = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let other = (agency + 1 + self.dice.index(AGENCIES.len() - 1)) % AGENCIES.len();
            let unit = unit(other, self.dice.chance(30));
            let text = format!("\"{}/{}\"", unit.agency, unit.unit);
            if !to.contains(&text) {
                to.push(text);
            }
        }
        let tlp = if self.dice.chance(50) { Tlp::Green } else { Tlp::Amber };
        let hours = [1, 24, 72, 2_000][self.dice.index(4)];
        let draft = draft(&to, unit(agency, false).unit.as_str(), tlp, hours);
        self.oracle.sealing(agency, tlp);
        let sent = self.with_node(agency, |node, hands| {
            let Hands { directory, policies, now_ms, boot_ms, entropy } = hands;
            let (now_ms, boot_ms) = (*now_ms, *boot_ms);
            node.send(&draft, Hands { directory, policies, now_ms, boot_ms, entropy: *entropy })
        })?;
        let said = match sent {
            Some(Ok(sent)) => {
                let number = self.oracle.sealed(agency, &sent, tlp);
                let units: Vec<_> = sent.recipients.iter().map(|to| to.unit.as_str()).collect();
                format!("seals p{number} for {}, {}, {hours} h", units.join(", "), tlp.as_str_name())
            }
            Some(Err(why)) => format!("seals nothing: {why}"),
            None => return Ok(()),
        };
        self.say(AGENCIES[agency], &said);
        Ok(())
    }

    /// Submissions go out, at most so many.
    pub(super) fn push(&mut self, agency: usize, most: usize) -> Result<bool, Violation> {
        for sent in 0..most {
            if self.links[agency].is_none() {
                return Ok(sent > 0);
            }
            let Some(Some(bytes)) = self.with_node(agency, |node, hands| node.next(hands.now_ms))? else {
                return Ok(sent > 0);
            };
            if let Some(link) = &mut self.links[agency] {
                link.up.send(&(FrameType::Submission, bytes));
                self.say(AGENCIES[agency], "submits a packet");
            }
        }
        Ok(most > 0)
    }

    /// Whether a node's clock is still what a broker agreed with.
    pub(super) fn agrees(&mut self, agency: usize) -> Result<bool, Violation> {
        Ok(self.with_node(agency, |node, hands| Ok(node.is_agreed(hands)))?.unwrap_or(true))
    }

    /// So many bytes from the broker arrive; what is whole is judged together.
    pub(super) fn down(&mut self, agency: usize, bytes: usize) -> Result<(), Violation> {
        let Some(link) = &mut self.links[agency] else { return Ok(()) };
        let frames = link.down.arrive(bytes);
        if frames.is_empty() {
            return Ok(());
        }
        let kinds: Vec<String> = frames.iter().map(|(kind, _)| format!("{kind:?}")).collect();
        let heard = self.with_node(agency, |node, hands| node.hear(frames, hands))?;
        let Some(heard) = heard else { return Ok(()) };
        if heard.doubts {
            self.cut(agency);
            return Ok(());
        }
        if let Some(why) = heard.broken {
            return Err(Violation(format!("{}: the broker breaks the protocol: {why}", AGENCIES[agency])));
        }
        if heard.full || heard.left > 0 {
            let last = self.last_record();
            self.oracle.excuse(agency, last);
        }
        let (said, left) = (heard.acknowledgements.len(), heard.left);
        if let Some(link) = &mut self.links[agency] {
            for acknowledgement in &heard.acknowledgements {
                link.up.send(&(FrameType::Acknowledgement, canonical::encode(acknowledgement)));
            }
        }
        let full = if heard.full { ", its disk is full" } else { "" };
        let what = format!("hears {}; acknowledges {said}, leaves {left}{full}", kinds.join(", "));
        self.say(AGENCIES[agency], &what);
        Ok(())
    }

    /// What was not believed is judged again.
    pub(super) fn judge_doubted(&mut self, agency: usize) -> Result<(), Violation> {
        let believed = self.with_node(agency, |node, hands| node.judge_doubted(hands))?.unwrap_or(0);
        if believed > 0 {
            self.counts.believed_late += believed;
            self.say(AGENCIES[agency], &format!("believes {believed} pieces of evidence that it doubted"));
        }
        Ok(())
    }

    /// A turn of the tender.
    pub(super) fn tend_node(&mut self, agency: usize) -> Result<(), Violation> {
        self.with_node(agency, |node, _| node.tend()).map(|_| ())
    }

    /// A node's clock jumps.
    pub(super) fn jump_node(&mut self, agency: usize, skew_ms: i64) {
        self.nodes[agency].machine.skew_ms = skew_ms;
        self.counts.jumps += 1;
        let days = skew_ms / 86_400_000;
        self.say(AGENCIES[agency], &format!("its clock is off by {skew_ms} ms ({days} days)"));
    }
}

fn draft(to: &[String], from: &str, tlp: Tlp, hours: u64) -> String {
    format!(
        r#"{{ "kind": "ALERT", "from": "{from}", "to": [{}], "onward": "ONWARD_NONE", "deliver_within_hours": {hours},
            "label": {{ "tlp": "{}", "handling": ["HANDLING_CODE_H0"], "purposes": ["PURPOSE_INVESTIGATION"] }},
            "body": {{ "title": [{{ "language": "en", "text": "simulated" }}],
                       "urgency": "URGENCY_URGENT", "pap": "PAP_AMBER", "origin": "ORIGIN_HUMAN", "alert": {{
                       "suspected": ["OFFENCE_TRAFFICKING_IN_PERSONS"] }} }} }}"#,
        to.join(", "),
        tlp.as_str_name()
    )
}

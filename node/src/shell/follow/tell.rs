//! What the broker does not show, or not as it should, is told.

use std::{sync::Arc, time::Duration};

use lintas_proto::audit::{files::LogFile, note::SignedCheckpoint, tile};

use super::{
    Follower, LogSource, Logs, OVERDUE_MS, Reader, Stop, blocking, open_slot, reader::Grown, verdict,
};
use crate::{
    core::log::{
        findings::{Finding, Kind},
        inclusion::Proven,
    },
    shell::{desk::Pending, log_link::LogError},
};

impl Follower<'_> {
    /// What is not in the log although its deadline is over, by a witnessed entry of the log itself.
    pub(super) async fn absent<S: LogSource>(
        &mut self,
        logs: &Logs,
        reader: &mut Reader<'_, S>,
        signed: &SignedCheckpoint,
        (tip, now, absent): (&Proven, Option<Grown>, Vec<Pending>),
    ) -> Result<(), Stop> {
        let overdue = |packet: &Pending| packet.promise.deadline_ms < tip.entry.time_ms;
        let overdue: Vec<Pending> = absent.into_iter().filter(overdue).collect();
        if overdue.is_empty() {
            return Ok(());
        }
        if signed.witnessed_at(&logs.witnesses).is_none() {
            let late = |packet: &Pending| packet.promise.deadline_ms.saturating_add(OVERDUE_MS);
            for packet in overdue.iter().filter(|packet| late(packet) < tip.entry.time_ms) {
                self.tell(verdict::not_kept_unwitnessed(packet, tip)).await;
            }
            return Ok(());
        }
        let size = now.map_or(0, |now| now.size);
        let tiles = reader.tiles(&logs.sub, size, |wanted| tile::root(wanted, size).map(drop)).await?;
        let slot = open_slot(logs, reader, tip, (size, &tiles)).await?;
        for packet in overdue {
            self.disputed.insert(packet.packet);
            self.tell(verdict::not_kept(&packet, &slot, tip)).await;
        }
        Ok(())
    }

    pub(super) async fn tell(&self, finding: Finding) {
        let desk = Arc::clone(self.desk);
        blocking(move || desk.note_finding(finding)).await;
    }

    /// What the broker has not shown for long, or not as it should, is told: it is this node's word.
    pub(super) async fn suspect(&self, stop: &Stop) {
        let is_brokers = match stop {
            // Nothing is signed before a quorum of witnesses was there: a log may be without a checkpoint for long.
            Stop::Log(LogError::Missing(LogFile::Checkpoint)) if self.desk.known_checkpoint().is_none() => {
                false
            }
            Stop::Log(error) => !error.ends_connection(),
            Stop::Wrong(_) => true,
            Stop::Behind | Stop::Store(_) => false,
        };
        if is_brokers && self.desk.pulse().wrong() {
            let text = format!("this node cannot prove that its packets stand in the log: {stop}");
            self.tell(Finding::accusation(Kind::Withheld, text, Vec::new())).await;
        }
    }

    /// A log that does not go on although this node is connected is told of.
    pub(super) async fn look_at_pulse(&self, epoch: Duration) {
        let Some(still) = self.desk.pulse().stands_still(epoch) else { return };
        let known = self.desk.known_checkpoint();
        let entries = known.as_ref().map_or(0, |known| known.claim().size);
        let text = format!(
            "for {} minutes, while this node was connected, the broker has shown no newer audit log than the one with \
             {entries} epochs, and one should end every {} seconds: too few witnesses may be connected since the broker \
             started, it may have failed, or it keeps the rest from this node",
            still.as_secs() / 60,
            epoch.as_secs().max(1)
        );
        let exhibits = known.iter().map(|known| known.to_bytes()).collect();
        self.tell(Finding::accusation(Kind::Withheld, text, exhibits)).await;
    }
}

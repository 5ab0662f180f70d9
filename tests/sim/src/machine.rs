//! A machine: a disk that fails on demand, and a clock of its own.

use lintas_config::clock::Reading;
use lintas_journal::{Limits, Loss, SimDisk};

use crate::dice::Dice;

/// Bytes of a sector.
const SECTOR_BYTES: usize = 512;

/// See the module. Whoever runs on it is somebody else's.
#[derive(Debug)]
pub struct Machine {
    /// What it is called in the log.
    pub name: String,
    /// Of the journal.
    pub disk: SimDisk,
    /// How far its clock is off, milliseconds.
    pub skew_ms: i64,
    /// A failure was ordered that may come at any operation.
    pub armed: bool,
    /// The disk takes no new file.
    pub full: bool,
}

/// Segments of 192 KiB: they fill often.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        segment_bytes: 192 << 10,
        record_bytes_max: 32 << 10,
        group_records_max: 64,
        group_bytes_max: 64 << 10,
        reserve_segments: 1,
        snapshot_bytes_max: 1 << 20,
        carry_bytes_max: 96 << 10,
        ..Limits::default()
    }
}

impl Machine {
    /// A new one.
    #[must_use]
    pub fn new(name: &str, seed: u64) -> Self {
        let disk = SimDisk::new(seed, SECTOR_BYTES);
        Self { name: name.to_owned(), disk, skew_ms: 0, armed: false, full: false }
    }

    /// What its clock says.
    #[must_use]
    pub fn now_ms(&self, true_ms: u64) -> u64 {
        true_ms.saturating_add_signed(self.skew_ms)
    }

    /// What its clocks say.
    #[must_use]
    pub fn reading(&self, true_ms: u64) -> Reading {
        Reading { wall_ms: self.now_ms(true_ms), boot_ms: true_ms }
    }

    /// Orders a failure; says which.
    pub fn arm(&mut self, dice: &mut Dice) -> String {
        self.armed = true;
        let count = 1 + dice.below(12);
        if dice.chance(75) {
            self.disk.power_off_in(count);
            format!("power goes at disk operation {count}")
        } else {
            self.disk.fail_sync_in(count);
            format!("sync {count} fails")
        }
    }

    /// The process is gone, and with the power maybe what was not synced; says what was lost.
    pub fn crash(&mut self, dice: &mut Dice) -> (Option<u64>, String) {
        let seed = dice.number();
        let (loss, said) = match dice.below(5) {
            0 | 1 => (Loss::Nothing, "killed"),
            2 => (Loss::Everything, "power cut, cache lost"),
            3 => (Loss::Random(seed), "power cut, cache lost in part"),
            _ => (Loss::TornLastWrite(dice.index(4096)), "power cut, last write torn"),
        };
        self.disk = self.disk.crash(loss);
        self.armed = false;
        ((loss != Loss::Nothing).then_some(seed), said.to_owned())
    }

    /// Whether a broker does not start because its disk is full: a compaction that was cut off has used the segment that is kept
    /// for a start, or the disk was full before one was kept. A node, which does not compact and makes its segments ready before it
    /// starts, always starts.
    #[must_use]
    pub fn keeps_out(&self, why: &str) -> bool {
        self.full && why.contains("no room for one more segment")
    }

    /// The disk is full, or has room again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
        self.disk.set_capacity(if full { self.disk.used_bytes() } else { u64::MAX });
    }
}

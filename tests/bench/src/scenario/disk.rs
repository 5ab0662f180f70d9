//! The disk that a packet takes.
//!
//! **Accepted.** The reference is what must stand somewhere: the packet as it came, and its audit events, each as the
//! canonical `LoggedEvent` (index, leaf, salt, event) that stands in the journal. A packet to one recipient has three:
//! SUBMITTED and RELEASED in the sender's sub-log, RECEIVED in the recipient's. Beside it:
//!
//! - `disk.journal`: bytes of the journal's live segments, headers, groups and records, for each packet; that is the
//!   packet, and the admission with both signed receipts, in which the events stand. Segments that are kept ready are
//!   not in it: their number is the same with any load;
//! - `disk.receipts`: what signs the events: origin, times, proof and signature of each receipt, as they are given; the journal
//!   holds in fewer bytes what is the same in both;
//! - `disk.audit`: the folder `audit/`, where the log is published for others: leaves, tiles, sealed openings, keys;
//! - `disk.index`: the folder `index/`, whose length does not depend on the number of packets.
//!
//! **Drained.** Every recipient has acknowledged, every sender has taken the evidence, and the broker has compacted. What
//! stays is a receipt for each packet until its time and five minutes are over, because until then it may come again and
//! must get the same receipt; then these go too.

use bytes::Bytes;
use lintas_broker::core::record::Fact;
use lintas_journal::{FileDisk, Fold, FoldError, Limits, Record, check};
use lintas_proto::{canonical, limits, receipt::Receipt, schema::SignedReceipt};

use super::stock;
use crate::{
    bench::Bench,
    report::{Outcome, Row, Target},
    world::World,
};

const SENDERS: usize = stock::SENDERS;
/// Packets for each second that the measurement may take; at least so many that there is something to compact, and at most
/// so many that their receipts fit into a segment.
const PER_SECOND: usize = 2_500;
const PACKETS: std::ops::RangeInclusive<usize> = 12_500..=24_000;
const RATIO_MAX: f64 = 1.15;
/// As the broker is founded if nobody says otherwise.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Kinds of a broker's records (docs/JOURNAL.md).
const PACKET: u16 = 1;
const ADMISSION: u16 = 2;

/// What stands in the journal.
#[derive(Debug, Default)]
struct Sum {
    packets: u64,
    packet_bytes: u64,
    event_bytes: u64,
    receipt_bytes: u64,
    snapshot_bytes: u64,
}

impl Fold for Sum {
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), FoldError> {
        self.snapshot_bytes = snapshot.len() as u64;
        Ok(())
    }

    fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
        if record.kind == PACKET {
            self.packets += 1;
            self.packet_bytes += record.payload.len() as u64;
        } else if record.kind == ADMISSION {
            let Fact::Admission(admission) = Fact::from_record(record).unwrap() else { unreachable!() };
            self.receipt(&admission.receipt);
            admission.recipients.iter().for_each(|recipient| self.receipt(&recipient.receipt));
        }
        Ok(())
    }
}

impl Sum {
    fn receipt(&mut self, bytes: &Bytes) {
        let signed: SignedReceipt = canonical::decode(bytes, limits::FRAME_BYTES_MAX).unwrap();
        let (receipt, _) = Receipt::parse(&signed.receipt).unwrap();
        let events = receipt.events.iter().map(|event| canonical::encode(event).len() as u64).sum::<u64>();
        self.event_bytes += events;
        self.receipt_bytes += bytes.len() as u64 - events;
    }
}

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("disk-");
    let mut world = World::found(bench, folder.path(), 2 * SENDERS, "");
    let count = (PER_SECOND * bench.seconds as usize).clamp(*PACKETS.start(), *PACKETS.end());
    world.start();
    stock::rest(bench, &world);
    let (journal, audit, index) = taken(&world);
    stock::fill(bench, &world, count, SENDERS);
    stock::rest(bench, &world);
    let (journal_full, audit_full, index_full) = taken(&world);
    world.stop();
    let (sum, _) = looked_into(&world);
    let each = |bytes: u64| bytes as f64 / count as f64;
    assert_eq!(sum.packets, count as u64, "some packets are gone");
    let must = each(sum.packet_bytes + sum.event_bytes);
    let note = format!("{:.0} of packet, {:.0} of events", each(sum.packet_bytes), each(sum.event_bytes));
    let beside = |row: Row| row.beside("packet and its audit events", must);
    let mut rows = vec![
        beside(Row::new("disk.journal", each(journal_full - journal), "bytes"))
            .must_be(Target::RatioAtMost(RATIO_MAX))
            .note(note),
        Row::new("disk.receipts", each(sum.receipt_bytes), "bytes")
            .note("beside the events, before they are squeezed"),
        beside(Row::new("disk.audit", each(audit_full - audit), "bytes")),
        Row::new("disk.index", index_full.saturating_sub(index) as f64, "bytes").note("altogether"),
    ];
    world.start();
    rows.extend(drained(bench, &mut world, count));
    rows.into()
}

/// After everything was delivered and all evidence taken.
fn drained(bench: &Bench, world: &mut World, count: usize) -> Vec<Row> {
    stock::drain(bench, world, SENDERS..2 * SENDERS, count);
    stock::drain(bench, world, 0..SENDERS, count);
    let compacted = stock::wait(|| world.broker().said().contains("journal compacted"));
    assert!(compacted, "the broker does not compact");
    stock::rest(bench, world);
    world.stop();
    let (sum, verified) = looked_into(world);
    let ready = stock::journal_bytes(world).1;
    let note = format!(
        "{} bytes of snapshot; {:.0} for each packet, whose receipt stays while the packet may come again",
        sum.snapshot_bytes,
        verified as f64 / count as f64
    );
    vec![
        Row::new("disk.drained.journal", verified as f64, "bytes")
            .beside("a segment and the snapshot", (SEGMENT_BYTES + sum.snapshot_bytes) as f64)
            .must_be(Target::RatioAtMost(1.0))
            .note(note),
        Row::new("disk.drained.ready", ready as f64, "bytes").note("zeros: segments that are kept ready"),
    ]
}

/// Bytes of the journal, of `audit/` and of `index/`.
fn taken(world: &World) -> (u64, u64, u64) {
    let folder = |name: &str| stock::folder_bytes(&world.folder().join(name));
    (stock::journal_bytes(world).0, folder("audit"), folder("index"))
}

/// What stands in the journal of a broker that has stopped, and bytes of its live segments.
fn looked_into(world: &World) -> (Sum, u64) {
    let mut sum = Sum::default();
    let limits = Limits { segments_max: u32::MAX, ..Limits::default() };
    let checked =
        check(&FileDisk::look_only(world.folder().join("journal")), &limits, None, &mut sum).unwrap();
    (sum, checked.verified_bytes)
}

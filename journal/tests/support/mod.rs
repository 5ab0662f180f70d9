//! Shared by the tests over the simulated disk: small limits, a fold that remembers, short ways to commit.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_journal::*;

pub const HEADER: usize = 4096;
pub const GROUP: usize = 88;

/// Segments of 16 KiB, groups of at most 2 KiB.
pub fn limits() -> Limits {
    Limits {
        segment_bytes: 16 << 10,
        record_bytes_max: 1500,
        group_records_max: 64,
        group_bytes_max: 2 << 10,
        mailbox_groups_max: 32,
        mailbox_bytes_max: 16 << 10,
        segments_max: 500,
        snapshot_bytes_max: 1 << 20,
        carry_bytes_max: 32 << 10,
        ..Limits::default()
    }
}

/// Remembers what it was given, and refuses what the contract forbids.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    pub snapshot: Option<Vec<u8>>,
    pub records: Vec<(u64, u16, Vec<u8>)>,
}

impl Fold for Seen {
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), FoldError> {
        if self.snapshot.is_some() || !self.records.is_empty() {
            return Err(FoldError::new("restore comes once and first"));
        }
        self.snapshot = Some(snapshot.to_vec());
        Ok(())
    }

    fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
        if self.records.last().is_some_and(|(last, ..)| last + 1 != record.sequence) {
            return Err(FoldError::new(format!("{} does not follow", record.sequence)));
        }
        self.records.push((record.sequence, record.kind, record.payload.to_vec()));
        Ok(())
    }

    fn replay_brief(&mut self, sequence: u64, kind: u16, brief: &[u8]) -> Result<(), FoldError> {
        self.replay(&Record { sequence, kind, payload: Bytes::copy_from_slice(brief) })
    }

    fn brief(&mut self, record: &Record) -> Option<Bytes> {
        brief(&record.payload)
    }
}

impl Seen {
    pub fn by_sequence(&self) -> BTreeMap<u64, Vec<u8>> {
        self.records.iter().map(|(sequence, _, payload)| (*sequence, payload.clone())).collect()
    }
}

pub fn open(disk: &SimDisk) -> Result<(Journal<SimDisk>, Seen, OpenReport), OpenError> {
    open_at(disk, None)
}

pub fn open_at(
    disk: &SimDisk,
    anchor: Option<u64>,
) -> Result<(Journal<SimDisk>, Seen, OpenReport), OpenError> {
    let mut seen = Seen::default();
    let anchor = anchor.map(|sequence| Anchor { sequence });
    let fork = disk.fork();
    let (journal, report) = Journal::open(disk.clone(), limits(), anchor, &mut seen)?;
    by_indexes(&fork, anchor, &seen, report);
    Ok((journal, seen, report))
}

/// What opens whole opens by the indexes of its segments as well, and holds the same.
fn by_indexes(disk: &SimDisk, anchor: Option<Anchor>, whole: &Seen, report: OpenReport) {
    let mut seen = Seen::default();
    let (journal, glanced) =
        match Journal::open_untended(disk.clone(), limits(), anchor, &mut seen, Depth::Indexes) {
            Err(OpenError::Io { .. }) => return, // A disk that fails on demand.
            opened => opened.unwrap(),
        };
    assert_eq!((glanced, &seen.snapshot), (report, &whole.snapshot));
    assert_eq!(seen.records.len(), whole.records.len());
    for ((sequence, kind, read), (same, of_kind, payload)) in seen.records.iter().zip(&whole.records) {
        assert_eq!((sequence, kind), (same, of_kind));
        assert!(read == payload || brief(payload).is_some_and(|brief| brief == read));
        match journal.reader().read(*sequence) {
            Err(ReadError::Io { .. }) => return,
            read => assert_eq!(&read.unwrap().payload, payload),
        }
    }
}

/// Every second record has one.
fn brief(payload: &[u8]) -> Option<Bytes> {
    payload.len().is_multiple_of(2).then(|| Bytes::copy_from_slice(&payload[..payload.len().min(4)]))
}

pub fn record(payload: impl AsRef<[u8]>) -> NewRecord {
    NewRecord { kind: 7, payload: Bytes::copy_from_slice(payload.as_ref()), brief: brief(payload.as_ref()) }
}

pub fn group(payloads: &[&str]) -> Vec<NewRecord> {
    payloads.iter().map(record).collect()
}

/// A group of one record of `bytes` bytes that says which it is.
pub fn sized(tag: u64, bytes: usize) -> Vec<NewRecord> {
    let mut payload = format!("record {tag} ").into_bytes();
    payload.resize(bytes, b'.');
    vec![record(payload)]
}

pub fn compaction(covers: u64, snapshot: &[u8], live: impl Fn(u64) -> bool + Send + 'static) -> Compaction {
    Compaction { covers, snapshot: snapshot.to_vec(), live: Box::new(live), must_go: 0 }
}

/// The file that holds this text, and where in it.
pub fn find(disk: &SimDisk, text: &[u8]) -> Option<(u64, usize)> {
    disk.list().unwrap().into_iter().find_map(|file| {
        let content = disk.content(file);
        content.windows(text.len()).position(|window| window == text).map(|at| (file, at))
    })
}

pub fn damage(error: OpenError) -> Damage {
    let text = error.to_string();
    if let OpenError::Damaged(damage) = error { *damage } else { panic!("expected damage, got: {text}") }
}

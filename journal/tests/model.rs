//! Random commits, compactions, failures and power cuts against a plain list.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use lintas_journal::*;
use proptest::prelude::*;
use support::*;

/// What the owner knows. A record is live until it is retired.
#[derive(Debug, Default)]
struct Model {
    /// Every acknowledged record, by sequence from 1.
    durable: Vec<Vec<u8>>,
    /// Groups handed in with the call that failed: each may have survived, from the front.
    in_doubt: Vec<Vec<Vec<u8>>>,
    live: BTreeSet<u64>,
    covers: u64,
    made: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Commit { groups: Vec<Vec<usize>> },
    Retire { one_in: u64 },
    Compact { behind: u64 },
    PowerOffIn(u64),
    FailSyncIn(u64),
    Reopen(Loss),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::vec(prop::collection::vec(0..700usize, 1..3), 1..5);
    let loss = prop_oneof![
        Just(Loss::Nothing),
        Just(Loss::Everything),
        any::<u64>().prop_map(Loss::Random),
        (0..3000usize).prop_map(Loss::TornLastWrite),
    ];
    prop_oneof![
        12 => groups.prop_map(|groups| Step::Commit { groups }),
        3 => (1..5u64).prop_map(|one_in| Step::Retire { one_in }),
        3 => (0..6u64).prop_map(|behind| Step::Compact { behind }),
        1 => (1..40u64).prop_map(Step::PowerOffIn),
        1 => (1..20u64).prop_map(Step::FailSyncIn),
        2 => loss.prop_map(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

impl Model {
    /// The owner's snapshot: what its fold over the first `covers` records would need.
    fn snapshot(&self, covers: u64) -> Vec<u8> {
        let mut hash = crc32c::crc32c(b"");
        for record in self.durable.iter().take(usize::try_from(covers).unwrap()) {
            hash = crc32c::crc32c_append(hash, record);
        }
        [
            &covers.to_le_bytes()[..],
            &hash.to_le_bytes()[..],
            &vec![7; usize::try_from(covers % 50).unwrap() * 100][..],
        ]
        .concat()
    }

    fn reopen(&mut self, disk: &SimDisk) -> Journal<SimDisk> {
        let (journal, seen, _) = open_at(disk, Some(self.durable.len() as u64)).unwrap();
        // Groups in doubt are there from the front, whole, or not at all.
        let last = journal.next_sequence() - 1;
        for group in std::mem::take(&mut self.in_doubt) {
            if (self.durable.len() as u64) < last {
                for record in group {
                    self.durable.push(record);
                    self.live.insert(self.durable.len() as u64);
                }
            }
        }
        assert_eq!(self.durable.len() as u64, last, "whole groups, and nothing that was never written");
        let covers =
            seen.snapshot.as_ref().map_or(0, |bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        assert!(covers >= self.covers, "an acknowledged snapshot does not vanish");
        self.covers = covers;
        if let Some(snapshot) = &seen.snapshot {
            assert_eq!(*snapshot, self.snapshot(covers));
        }
        let expected: BTreeMap<u64, Vec<u8>> =
            (1..).zip(self.durable.iter().cloned()).filter(|(sequence, _)| *sequence > covers).collect();
        assert_eq!(seen.by_sequence(), expected, "each once, in order");
        assert_eq!(seen.records.len(), expected.len());
        journal
    }

    fn check_reads(&self, journal: &Journal<SimDisk>) {
        let reader = journal.reader();
        for (sequence, record) in (1..).zip(&self.durable) {
            match reader.read(sequence) {
                Ok(read) => assert_eq!(read.payload, record[..]),
                Err(ReadError::NotFound { .. })
                    if !self.live.contains(&sequence) && sequence <= self.covers => {}
                Err(other) => panic!("record {sequence}: {other}"),
            }
        }
        assert!(matches!(reader.read(self.durable.len() as u64 + 1), Err(ReadError::NotFound { .. })));
    }

    /// `false` if the journal is poisoned now.
    fn commit(&mut self, journal: &mut Journal<SimDisk>, groups: &[Vec<usize>]) -> bool {
        let mut payloads = Vec::new();
        for group in groups {
            let records = group.iter().map(|bytes| {
                self.made += 1;
                let mut payload = format!("number {} ", self.made).into_bytes();
                payload.resize(payload.len() + bytes, b'x');
                payload
            });
            payloads.push(records.collect::<Vec<_>>());
        }
        let groups: Vec<Group> = payloads
            .iter()
            .map(|records| Group { records: records.iter().map(record).collect(), class: Class::Ordinary })
            .collect();
        let answers = journal.commit_many(&groups);
        if answers.contains(&Err(CommitError::Poisoned)) {
            assert!(answers.iter().all(Result::is_err));
            self.in_doubt = payloads;
            return false;
        }
        for (answer, records) in answers.into_iter().zip(payloads) {
            let committed = answer.unwrap();
            assert_eq!(committed.first_sequence, self.durable.len() as u64 + 1);
            self.durable.extend(records);
            assert_eq!(committed.last_sequence, self.durable.len() as u64);
            self.live.extend(committed.first_sequence..=committed.last_sequence);
        }
        true
    }

    fn compact(&mut self, journal: &mut Journal<SimDisk>, behind: u64) -> bool {
        let covers = (self.durable.len() as u64).saturating_sub(behind).max(self.covers);
        let live = self.live.clone();
        let outcome = journal
            .compact(compaction(covers, &self.snapshot(covers), move |sequence| live.contains(&sequence)));
        match outcome {
            Ok(_) => self.covers = covers,
            Err(CommitError::Poisoned) => return false,
            Err(other) => panic!("{other}"),
        }
        true
    }
}

fn run(seed: u64, steps: &[Step]) {
    let mut disk = SimDisk::new(seed, if seed.is_multiple_of(2) { 512 } else { 4096 });
    let mut model = Model::default();
    let mut journal = Some(model.reopen(&disk));
    for step in steps.iter().chain([&Step::Reopen(Loss::Everything)]) {
        let mut current = match journal.take() {
            Some(journal) => journal,
            None => {
                disk = disk.crash(Loss::Random(seed));
                model.reopen(&disk)
            }
        };
        let goes_on = match step {
            Step::Commit { groups } => model.commit(&mut current, groups),
            Step::Retire { one_in } => {
                model.live.retain(|sequence| !sequence.is_multiple_of(*one_in));
                true
            }
            Step::Compact { behind } => model.compact(&mut current, *behind),
            Step::PowerOffIn(count) => {
                disk.power_off_in(*count);
                true
            }
            Step::FailSyncIn(count) => {
                disk.fail_sync_in(*count);
                true
            }
            Step::Reopen(loss) => {
                drop(current);
                // Nothing is unsynced between calls, so that no kind of loss may take anything; a torn last
                // write could only be a sealed one.
                let loss = if matches!(loss, Loss::TornLastWrite(_)) { Loss::Everything } else { *loss };
                disk = disk.crash(loss);
                current = model.reopen(&disk);
                true
            }
            Step::Close => match current.close() {
                Ok(anchor) => {
                    assert_eq!(anchor.sequence, model.durable.len() as u64);
                    disk = disk.crash(Loss::Everything);
                    current = model.reopen(&disk);
                    true
                }
                Err(_) => continue,
            },
        };
        if goes_on {
            // The power may be off without anybody having noticed; then nothing can be read either.
            if disk.list().is_ok() {
                model.check_reads(&current);
            }
            journal = Some(current);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_behaves_like_a_list(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60)) {
        run(seed, &steps);
    }
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let once = || {
        let disk = SimDisk::new(9, 512);
        let (mut journal, ..) = open(&disk).unwrap();
        for tag in 1..=60 {
            journal.commit(&sized(tag, 900), Class::Ordinary).unwrap();
        }
        journal.compact(compaction(50, b"s", |sequence| sequence % 7 == 0)).unwrap();
        drop(journal);
        let disk = disk.crash(Loss::Random(4));
        disk.list().unwrap().into_iter().map(|file| (file, disk.content(file))).collect::<BTreeMap<_, _>>()
    };
    assert!(once() == once());
}

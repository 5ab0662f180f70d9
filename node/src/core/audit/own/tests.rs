//! What a node keeps, beside logs that keep a promise and logs that do not.

use lintas_config::Directory;
use lintas_proto::{id::hex, schema::EventType};

use super::*;
use crate::{
    core::audit::{
        anchor::{Anchor, Trust},
        listing,
        verify::{Asked, Scanned, Watch, verify},
    },
    testing::{
        BROKER,
        whole_log::{Files, LogBuilder, region, unit},
    },
};

const NOW: u64 = 1_900_000_000_000;

struct Nobody;

impl Watch for Nobody {
    fn progress(&mut self, _: u64, _: u64) {}

    fn is_due(&mut self) -> bool {
        false
    }

    fn keep(&mut self, _: &[u8]) {}
}

/// Two packets of TH, the first acknowledged, and two epochs.
fn log() -> (LogBuilder, Directory) {
    let (region, witnesses) = region();
    let mut log = LogBuilder::new(&region, witnesses, NOW);
    log.epoch();
    let first = log.submit("TH", &["KH"]);
    log.end(EventType::Acknowledged, first, "TH", "KH");
    log.epoch();
    let _ = log.submit("TH", &["KH"]);
    (0..300).for_each(|_| log.epoch());
    (log, region.directory())
}

fn scan(files: &Files, directory: &Directory) -> Scanned {
    let agencies = ["KH".to_owned(), "TH".to_owned()];
    let origin = format!("{BROKER}/audit");
    let asked = Asked {
        trust: Trust::Directory(directory),
        origin: &origin,
        agencies: &agencies,
        since_ms: 0,
        now_ms: u64::MAX / 2,
        threads: 1,
        extract: false,
    };
    verify(files, &asked, None, &mut Nobody).unwrap()
}

fn promise(log: &LogBuilder, index: u64, of: u64, deadline_ms: u64) -> Promised {
    let leaf = log.subs["TH"].entries.bytes[usize::try_from(of).unwrap()].to_vec();
    Promised { origin: format!("{BROKER}/audit/TH"), index, leaf, packet: "p".to_owned(), deadline_ms }
}

fn compared(scanned: &Scanned, files: &Files, promised: &[Promised]) -> (u64, Vec<(Kind, Option<u64>)>) {
    let mut found = Findings::default();
    let compared = compare(files, &scanned.anchor, &scanned.sizes, promised, &mut found);
    (compared, kinds(found))
}

fn kinds(found: Findings) -> Vec<(Kind, Option<u64>)> {
    found.into_shown().into_iter().map(|found| (found.kind, found.entries.map(|(first, _)| first))).collect()
}

#[test]
fn a_promise_is_kept_or_the_place_is_named() {
    let (log, directory) = log();
    let files = log.clone().finish();
    let scanned = scan(&files, &directory);
    assert_eq!(scanned.findings.counts().len(), 0);
    let kept = [promise(&log, 0, 0, NOW), promise(&log, 4, 4, NOW)];
    assert_eq!(compared(&scanned, &files, &kept), (2, vec![]));
    let other = [promise(&log, 3, 2, NOW)];
    assert_eq!(compared(&scanned, &files, &other), (1, vec![(Kind::OtherLeaf, Some(3))]));
    // Of two promises of one place one is broken, in whatever order they come.
    for both in [
        [promise(&log, 3, 2, NOW), promise(&log, 3, 3, NOW)],
        [promise(&log, 3, 3, NOW), promise(&log, 3, 2, NOW)],
    ] {
        assert_eq!(compared(&scanned, &files, &both), (2, vec![(Kind::OtherLeaf, Some(3))]));
    }
    // Beyond its end: broken once a slot after the deadline lacks it.
    let omitted = |deadline_ms| [promise(&log, 5, 0, deadline_ms)];
    assert_eq!(compared(&scanned, &files, &omitted(NOW)), (0, vec![(Kind::Omitted, Some(5))]));
    assert_eq!(compared(&scanned, &files, &omitted(u64::MAX)), (0, vec![]));
    // Another log's promises are none of this one.
    let strange = Promised { origin: "hub.other/audit/TH".to_owned(), ..promise(&log, 9, 0, NOW) };
    assert_eq!(compared(&scanned, &files, &[strange]), (0, vec![]));
}

#[test]
fn a_sub_log_that_was_mirrored_earlier_accuses_nobody() {
    let (mut log, directory) = log();
    let old = log.clone().finish();
    let _ = log.submit("TH", &["KH"]);
    (0..9).for_each(|_| log.epoch());
    let late = promise(&log, 5, 5, scan(&old, &directory).report.last_ms);
    let mut files = log.finish();
    // Of TH what was mirrored before.
    files.0.retain(|(owner, _), _| owner.as_deref() != Some("TH"));
    files.0.extend(old.0.into_iter().filter(|((owner, _), _)| owner.as_deref() == Some("TH")));
    let scanned = scan(&files, &directory);
    assert!(late.deadline_ms < scanned.report.last_ms);
    assert_eq!(compared(&scanned, &files, &[late]), (0, vec![]));
}

#[test]
fn evidence_is_named_by_the_log_or_the_log_is_named() {
    let (log, directory) = log();
    let files = log.finish();
    let scanned = scan(&files, &directory);
    let anchor: &Anchor = &scanned.anchor;
    let origin = format!("{BROKER}/audit/TH");
    let mut quiet = Findings::default();
    let rows = listing::read(&files, &origin, "TH", (0, 5), &|_, _| true, &mut quiet);
    let end = rows.iter().find(|row| row.kind == "acknowledged").unwrap();
    let to = format!("KH / {}", unit("KH").unit);
    let kept = |packet: &str, digest: &str, received_ms| OwnEvidence {
        packet: packet.to_owned(),
        to: to.clone(),
        digest: digest.to_owned(),
        received_ms,
    };
    let compared = |one: OwnEvidence| {
        let (mut found, reached) = (Findings::default(), scanned.sizes["TH"]);
        let n = compare_evidence(&files, anchor, ("TH", reached), &[one], &mut found);
        (n, kinds(found))
    };
    assert_eq!(compared(kept(&end.packet_id, &end.evidence_digest, NOW)), (1, vec![]));
    let other = kept(&end.packet_id, &hex(&[9; 32]), NOW);
    assert_eq!(compared(other), (1, vec![(Kind::OtherLeaf, Some(end.index))]));
    // Of the other packet the log knows no end.
    let open = rows.iter().rfind(|row| row.kind == "submitted").unwrap();
    assert_eq!(compared(kept(&open.packet_id, "", NOW)), (0, vec![(Kind::Omitted, None)]));
    assert_eq!(compared(kept(&open.packet_id, "", u64::MAX)), (0, vec![]), "it may still come");
    assert_eq!(compared(kept("of another log", "", NOW)), (0, vec![]));
}

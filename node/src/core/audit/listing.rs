//! Single events, read from the files: in order of time, filtered, page by page; and one event with its proofs.

use std::collections::VecDeque;

use lintas_proto::{
    audit::{
        epoch::RootEntry,
        files::LogFile,
        merkle::{leaf_hash, root_from_path},
        tile::{self, WIDTH},
    },
    id::{Digest, PacketId, hex},
    schema::{AuditEvent, PolicyFacts, Reason, UnitRef},
};
use serde::Serialize;

use super::{
    anchor::{Anchor, pair},
    finding::{Finding, Findings},
    opened::{Opened, open},
    packets::name,
    root::checkpoint,
    source::{LogFiles, Tiles, bundle},
};

/// One event as it is shown.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Whose sub-log, and the index in it.
    pub(crate) agency: String,
    pub(crate) index: u64,
    pub(crate) event_id: String,
    pub(crate) time_ms: u64,
    pub(crate) kind: String,
    /// `open`, `erased` (its key is not here) or `damaged`: nothing below is known of the latter two.
    pub(crate) opening: &'static str,
    pub(crate) packet_id: String,
    pub(crate) header_digest: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) outcome: String,
    /// Which policies allowed or forbade it.
    pub(crate) policies: Vec<String>,
    /// Where a policy forbade it: what the sender was told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// What the policies were asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) facts: Option<PolicyFacts>,
    /// Whether the sender chose the recipient itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) named: bool,
    /// SHA-256 of the signed evidence of how it ended, or of what changed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) evidence_digest: String,
    /// ERASED and reads: which entries; whose log, or who read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) other_agency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) since_ms: Option<u64>,
    pub(crate) until_ms: Option<u64>,
    pub(crate) kinds: Vec<String>,
    pub(crate) outcomes: Vec<String>,
    /// First digits of a packet id or header digest, in small letters.
    pub(crate) packet: Option<String>,
    /// An agency on the other side.
    pub(crate) with: Option<String>,
}

impl Filter {
    fn takes(&self, row: &Row) -> bool {
        let any = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == is);
        let packet = |digits: &String| {
            row.packet_id.starts_with(digits.as_str())
                || row.packet_id.replace('-', "").starts_with(digits.as_str())
                || row.header_digest.starts_with(digits.as_str())
        };
        let is = |unit: &str, agency: &str| unit.split(" / ").next() == Some(agency);
        let with = |agency: &String| {
            row.other_agency == *agency
                || (row.agency != *agency && (is(&row.from, agency) || is(&row.to, agency)))
        };
        any(&self.kinds, &row.kind)
            && any(&self.outcomes, &row.outcome)
            && self.packet.as_ref().is_none_or(packet)
            && self.with.as_ref().is_none_or(with)
    }

    fn in_time(&self, time_ms: u64) -> bool {
        self.since_ms.is_none_or(|since| since <= time_ms)
            && self.until_ms.is_none_or(|until| time_ms < until)
    }
}

/// The place of an event in the list of all: it stays the same when the log grows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    time_ms: u64,
    agency: String,
    index: u64,
}

impl Cursor {
    fn of(row: &Row) -> Self {
        Self { time_ms: row.time_ms, agency: row.agency.clone(), index: row.index }
    }

    /// Reads what [`fmt`](std::fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, rest) = text.split_once('.')?;
        let (agency, index) = rest.rsplit_once('.')?;
        Some(Self { time_ms: time.parse().ok()?, agency: agency.to_owned(), index: index.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.time_ms, self.agency, self.index)
    }
}

/// What goes through one sub-log, forwards or backwards, a bundle at a time.
struct Reader<'a> {
    files: &'a dyn LogFiles,
    log: String,
    agency: String,
    size: u64,
    /// The next bundle; none behind the last.
    bundle: Option<u64>,
    forwards: bool,
    rows: VecDeque<Row>,
}

impl Reader<'_> {
    fn peek(&mut self, filter: &Filter, from: Option<&Cursor>, found: &mut Findings) -> Option<&Row> {
        while self.rows.is_empty() {
            let index = self.bundle.filter(|index| index.saturating_mul(WIDTH) < self.size)?;
            self.bundle = if self.forwards { index.checked_add(1) } else { index.checked_sub(1) };
            let forwards = self.forwards;
            let wanted = |time_ms: u64, at: u64| {
                let here = Cursor { time_ms, agency: self.agency.clone(), index: at };
                let beyond = from.is_none_or(|from| if forwards { here > *from } else { here < *from });
                filter.in_time(time_ms) && beyond
            };
            let mut rows = read(self.files, &self.log, &self.agency, (index, self.size), &wanted, found);
            rows.retain(|row| filter.takes(row));
            if !forwards {
                rows.reverse();
            }
            self.rows = rows.into();
        }
        self.rows.front()
    }
}

/// The events of a bundle that are wanted by time and index.
pub(crate) fn read(
    files: &dyn LogFiles,
    log: &str,
    agency: &str,
    (index, size): (u64, u64),
    wanted: &dyn Fn(u64, u64) -> bool,
    found: &mut Findings,
) -> Vec<Row> {
    let opened = open(files, log, agency, (index, size), wanted, found);
    let row = |one: Opened| row_of(agency, one.index, &one.leaf, (one.event_type, one.time_ms), one.event);
    opened.into_iter().map(row).collect()
}

fn row_of(
    agency: &str,
    index: u64,
    leaf: &[u8],
    (event_type, time_ms): (u8, u64),
    opened: Result<AuditEvent, &'static str>,
) -> Row {
    let opening = *opened.as_ref().err().unwrap_or(&"open");
    let event = opened.unwrap_or_default();
    let unit = |unit: &Option<UnitRef>| {
        unit.as_ref().map(|unit| format!("{} / {}", unit.agency, unit.unit)).unwrap_or_default()
    };
    let reason = Reason::try_from(event.reason).unwrap_or_default().as_str_name();
    let outcome = reason.strip_prefix("REASON_").unwrap_or(reason).to_lowercase();
    Row {
        agency: agency.to_owned(),
        index,
        event_id: hex(leaf.get(10..26).unwrap_or_default()),
        time_ms,
        kind: name(i32::from(event_type)),
        opening,
        packet_id: PacketId::from_bytes(&event.packet_id)
            .map_or_else(|_| hex(&event.packet_id), |id| id.to_string()),
        header_digest: hex(&event.header_digest),
        from: unit(&event.originator),
        to: unit(&event.recipient),
        outcome: if event.reason == 0 { String::new() } else { outcome },
        evidence_digest: hex(&event.evidence_digest),
        policies: event.policy_ids,
        text: event.text,
        facts: event.facts,
        named: event.named,
        first_index: (event.count > 0).then_some(event.first_index),
        count: (event.count > 0).then_some(event.count),
        other_agency: event.other_agency,
        version: (event.version > 0).then_some(event.version),
    }
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    pub(crate) events: Vec<Row>,
    /// What to give as --page for the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// Files that could not be read.
    pub(crate) findings: Vec<Finding>,
}

/// Lists events of several sub-logs, in the order of their times.
pub(crate) fn list(
    files: &dyn LogFiles,
    anchor: &Anchor,
    agencies: &[String],
    filter: &Filter,
    (from, forwards, limit): (Option<&Cursor>, bool, usize),
) -> Page {
    let mut found = Findings::default();
    let mut readers = Vec::new();
    for agency in agencies {
        let Some((_, checkpoint)) = checkpoint(files, anchor, Some(agency), &mut found) else { continue };
        let bundle = if forwards { Some(0) } else { checkpoint.size.checked_sub(1).map(|last| last / WIDTH) };
        readers.push(Reader {
            files,
            log: checkpoint.origin,
            agency: agency.clone(),
            size: checkpoint.size,
            bundle,
            forwards,
            rows: VecDeque::new(),
        });
    }
    let (mut events, mut more) = (Vec::new(), false);
    loop {
        let mut best: Option<(Cursor, usize)> = None;
        for (at, reader) in readers.iter_mut().enumerate() {
            let Some(row) = reader.peek(filter, from, &mut found) else { continue };
            let here = Cursor::of(row);
            let first =
                best.as_ref().is_none_or(|(best, _)| if forwards { here < *best } else { here > *best });
            if first {
                best = Some((here, at));
            }
        }
        let Some((_, at)) = best else { break };
        if events.len() >= limit {
            more = true;
            break;
        }
        events.extend(readers.get_mut(at).and_then(|reader| reader.rows.pop_front()));
    }
    let next = if more { events.last().map(|row| Cursor::of(row).to_string()) } else { None };
    Page { events, next, findings: found.into_shown() }
}

/// One event, and where it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) event: Row,
    pub(crate) leaf: String,
    pub(crate) commitment: String,
    /// Origin and size of the sub-log; the inclusion path leads to its root.
    pub(crate) log: String,
    pub(crate) size: u64,
    pub(crate) root: String,
    pub(crate) path: Vec<String>,
    /// Whether it does.
    pub(crate) included: bool,
    /// In which epoch it was published, when that ended, and when a quorum cosigned the root log's checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch_ms: Option<u64>,
    /// Path of the epoch's entry in the root log, and whether it leads to the root of its checkpoint.
    pub(crate) root_path: Vec<String>,
    pub(crate) root_included: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witnessed_s: Option<u64>,
    pub(crate) findings: Vec<Finding>,
}

/// The inclusion path of an entry, and whether it leads to the root.
fn prove(tiles: &Tiles<'_>, index: u64, entry: &[u8], root: &Digest) -> (Vec<String>, bool) {
    let path = tile::inclusion(tiles, tiles.size, index).unwrap_or_default();
    let size = std::num::NonZeroU64::new(tiles.size);
    let holds = size.is_some_and(|size| root_from_path(leaf_hash(entry), index, size, &path) == Ok(*root));
    (path.iter().map(|hash| hex(hash)).collect(), holds)
}

/// Shows the event at an index of an agency's sub-log; `None` beyond its end.
pub(crate) fn show(files: &dyn LogFiles, anchor: &Anchor, agency: &str, index: u64) -> Option<Shown> {
    let mut found = Findings::default();
    let (_, sub) = checkpoint(files, anchor, Some(agency), &mut found)?;
    let number = index / WIDTH;
    let place = (number, sub.size);
    let rows = read(files, &sub.origin, agency, place, &|_, at| at == index, &mut found);
    let event = rows.into_iter().next()?;
    let (entries, _) = bundle(files, &sub.origin, Some(agency), number, sub.size).ok()?;
    let leaf = entries.get(usize::try_from(index % WIDTH).ok()?)?;
    let tiles = Tiles { files, log: &sub.origin, owner: Some(agency), size: sub.size };
    let (path, included) = prove(&tiles, index, leaf, &sub.root);
    let epoch = epoch_of(files, agency, index);
    let mut shown = Shown {
        event,
        leaf: hex(leaf),
        commitment: hex(leaf.get(26..).unwrap_or_default()),
        log: sub.origin,
        size: sub.size,
        root: hex(&sub.root),
        path,
        included,
        epoch,
        epoch_ms: None,
        root_path: Vec::new(),
        root_included: false,
        witnessed_s: None,
        findings: Vec::new(),
    };
    if let Some((epoch, (signed, root))) = epoch.zip(checkpoint(files, anchor, None, &mut found)) {
        let entries = bundle(files, &anchor.origin, None, epoch / WIDTH, root.size).ok();
        let at = usize::try_from(epoch % WIDTH).ok()?;
        if let Some(entry) = entries.as_ref().and_then(|(entries, _)| entries.get(at)) {
            let tiles = Tiles { files, log: &anchor.origin, owner: None, size: root.size };
            (shown.root_path, shown.root_included) = prove(&tiles, epoch, entry, &root.root);
            shown.epoch_ms = RootEntry::parse(entry).ok().map(|entry| entry.time_ms);
        }
        let roster = root.size.checked_sub(1).and_then(|last| anchor.roster_at(last));
        shown.witnessed_s = roster.and_then(|roster| signed.witnessed_at(&roster.witnesses));
    }
    shown.findings = found.into_shown();
    Some(shown)
}

/// The index of the event with that id.
pub(crate) fn find(files: &dyn LogFiles, anchor: &Anchor, agency: &str, event_id: &str) -> Option<u64> {
    let mut found = Findings::default();
    let (_, sub) = checkpoint(files, anchor, Some(agency), &mut found)?;
    let is = |entry: &bytes::Bytes| entry.get(10..26).is_some_and(|id| hex(id) == event_id);
    (0..sub.size.div_ceil(WIDTH)).rev().find_map(|index| {
        let (entries, _) = bundle(files, &sub.origin, Some(agency), index, sub.size).ok()?;
        let at = entries.iter().position(is)?;
        Some(index.saturating_mul(WIDTH).saturating_add(at as u64))
    })
}

/// The first epoch at whose end the sub-log has more entries than `index`.
fn epoch_of(files: &dyn LogFiles, agency: &str, index: u64) -> Option<u64> {
    let mut offset = 0u64;
    loop {
        let bytes = files.read(Some(agency), LogFile::Sizes, offset, 64 * 1024).ok().flatten()?;
        if bytes.is_empty() {
            return None;
        }
        let found = bytes.chunks(16).filter_map(pair).find(|(_, size)| *size > index);
        if let Some((epoch, _)) = found {
            return Some(epoch);
        }
        offset = offset.checked_add(bytes.len() as u64)?;
    }
}

/// What ERASED events in a range of entries name: first index and count.
pub(crate) fn erased_by(
    files: &dyn LogFiles,
    log: &str,
    agency: &str,
    (before, after): (u64, u64),
) -> Vec<(u64, u64)> {
    let mut found = Findings::default();
    let mut erased = Vec::new();
    for index in before / WIDTH..after.div_ceil(WIDTH) {
        let wanted = |_: u64, at: u64| (before..after).contains(&at);
        let rows = read(files, log, agency, (index, after), &wanted, &mut found);
        let named = rows.into_iter().filter(|row| row.kind == "erased");
        erased.extend(named.filter_map(|row| row.first_index.zip(row.count)));
    }
    erased
}

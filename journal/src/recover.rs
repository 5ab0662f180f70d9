//! From a directory to an open journal: find the end, find what is live, fold it, make it safe.

use bytes::Bytes;
use tracing::warn;

use crate::disk::{Disk, no_room};
use crate::error::{Cut, Evidence, Field, OpenError};
use crate::group::{Contents, RawRecord};
use crate::image::KIND_MOVED;
use crate::index::{CARRIED_BYTES, IMAGE_BYTES, own_bytes};
use crate::limits::Limits;
use crate::map::{Map, SegmentMap};
use crate::newest::{Image, chain, kept_segments, newest_image, snapshot};
use crate::replay::{replay_indexed, replay_last, replay_whole};
use crate::scan::{Fault, Walk, used_bytes};
use crate::sealed::Sealed;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, TAIL_BYTES};
use crate::space::{Stock, wipe};
use crate::survey::{Last, Survey, survey};
use crate::tail::{Tail, mark};
use crate::{Anchor, Fold, OpenReport};

/// All that an open journal starts from.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) map: Map,
    pub(crate) tail: Tail,
    pub(crate) stock: Stock,
    pub(crate) image: u64,
    pub(crate) covers: u64,
    pub(crate) next_sequence: u64,
    pub(crate) report: OpenReport,
    /// Sealed segments of which only the index was read.
    pub(crate) unverified: Vec<Sealed>,
}

/// How much is read before a journal is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every byte of every live segment.
    Whole,
    /// The last segment and the snapshot to the last byte; of the other segments the indexes.
    Indexes,
}

/// Recovers the journal. Nothing is written before everything was read and folded.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn recover<D: Disk>(
    disk: &D,
    limits: &Limits,
    anchor: Option<Anchor>,
    fold: &mut impl Fold,
    depth: Depth,
) -> Result<Recovered, OpenError> {
    let mut survey = survey(disk, limits)?;
    let examined = examine(disk, &survey, anchor, fold, depth)?;
    let Some(Examined { last, image, sealed, map, briefs, mut report }) = examined else {
        return begin(disk, limits, survey);
    };
    let (cut, next_sequence) = (report.cut, report.next_sequence);
    let covers = image.as_ref().map_or(0, |image| image.end.covers);
    let (tail, map) = relocate(disk, limits, &mut survey, (&last, &briefs), map)?;
    report.rewritten_bytes = u64::from(last.scan.end.saturating_sub(SEGMENT_HEADER_BYTES));
    report.segments = map.segments.len() as u64;
    let in_last = image.as_ref().is_some_and(|image| image.segment == last.found.header.number);
    let image = if in_last { tail.number } else { image.map_or(0, |image| image.segment) };
    if let Some(cut) = cut {
        warn!(%cut, "an unfinished write was cut off; none of it was acknowledged");
    }
    let stock = stock(survey, &map);
    report.overwritten_files = stock.condemned.len() as u64;
    let unverified = if depth == Depth::Whole { Vec::new() } else { sealed };
    Ok(Recovered { map, tail, stock, image, covers, next_sequence, report, unverified })
}

/// What was read of a journal that is there; nothing was written.
pub(crate) struct Examined {
    pub(crate) last: Last,
    image: Option<Image>,
    sealed: Vec<Sealed>,
    /// The sealed segments.
    pub(crate) map: Map,
    /// Of the records first written in the last segment.
    briefs: Vec<Option<Bytes>>,
    pub(crate) report: OpenReport,
}

/// Verifies what is live, as far as `depth` says, and folds it; `None` if nothing was ever written.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn examine<D: Disk>(
    disk: &D,
    survey: &Survey,
    anchor: Option<Anchor>,
    fold: &mut impl Fold,
    depth: Depth,
) -> Result<Option<Examined>, OpenError> {
    let Some(last) = survey.last(disk)? else {
        check_anchor(anchor, 0, None)?;
        return Ok(None);
    };
    let next_sequence = last.scan.next_sequence;
    let cut = last.scan.fault.map(|fault| cut(&last, fault));
    check_anchor(anchor, next_sequence.saturating_sub(1), cut)?;
    let image = newest_image(disk, survey, &last, depth)?;
    let floor = image.as_ref().map_or(0, |image| image.end.id);
    let mut sealed = chain(survey, &last.found.header, floor)?;
    let clean_close = last.scan.closed && cut.is_none();
    let mut report = OpenReport { next_sequence, cut, clean_close, ..OpenReport::default() };
    let mut covers = 0;
    if let Some(image) = &image {
        covers = image.end.covers;
        let (kept, snapshot) = snapshot(disk, &sealed, &last, image, depth)?;
        sealed.splice(0..0, kept_segments(survey, kept, image)?);
        fold.restore(&snapshot).map_err(|source| OpenError::Fold { sequence: None, source })?;
        report.snapshot_covers = Some(covers);
    }
    let map = match depth {
        Depth::Whole => replay_whole(disk, &sealed, &last, covers, fold, &mut report)?,
        Depth::Indexes => replay_indexed(disk, &sealed, &last, covers, fold, &mut report)?,
    };
    let briefs = replay_last(&last, covers, fold, &mut report)?;
    report.segments = (map.segments.len() as u64).saturating_add(1);
    Ok(Some(Examined { last, image, sealed, map, briefs, report }))
}

fn check_anchor(anchor: Option<Anchor>, last: u64, cut: Option<Cut>) -> Result<(), OpenError> {
    match anchor {
        Some(Anchor { sequence }) if sequence > last => {
            Err(OpenError::ShortOfAnchor { anchor: sequence, last, cut })
        }
        Some(_) | None => Ok(()),
    }
}

fn cut(last: &Last, fault: Fault) -> Cut {
    Cut {
        segment: last.found.header.number,
        offset: u64::from(fault.offset),
        bytes: used_bytes(&last.bytes, fault.offset),
        first_sequence: last.scan.next_sequence,
        records: fault.records,
        field: fault.field,
    }
}

/// Begins an empty journal.
fn begin<D: Disk>(disk: &D, limits: &Limits, mut survey: Survey) -> Result<Recovered, OpenError> {
    let header = SegmentHeader {
        number: survey.highest().saturating_add(1),
        previous: 0,
        previous_end: 0,
        previous_index: 0,
        previous_hash: [0; 32],
        replaces: 0,
        image: 0,
        first_sequence: 1,
    };
    let (file, length) = fresh_file(disk, limits, &mut survey, 0, u64::MAX)?;
    let tail = Tail::begin(disk, file, length, &header).map_err(rewriting)?;
    let mut map = Map::default();
    map.insert(tail.number, SegmentMap::new(file, 1, tail.end, tail.hash));
    let report = OpenReport { segments: 1, next_sequence: 1, ..OpenReport::default() };
    let stock = stock(survey, &map);
    let unverified = Vec::new();
    Ok(Recovered { map, tail, stock, image: 0, covers: 0, next_sequence: 1, report, unverified })
}

/// Writes the valid groups of the last segment again, to a fresh file under a new number, and makes them
/// durable there. Only then may the old file go. A power cut meanwhile leaves the old file as it was, and a
/// new one without the mark that its move is complete.
fn relocate<D: Disk>(
    disk: &D,
    limits: &Limits,
    survey: &mut Survey,
    end: (&Last, &[Option<Bytes>]),
    mut map: Map,
) -> Result<(Tail, Map), OpenError> {
    let (last, briefs) = end;
    let old = &last.found.header;
    let header =
        SegmentHeader { number: survey.highest().saturating_add(1), replaces: old.number, ..old.clone() };
    let bytes_of = |count: usize, each: u32| (count as u64).saturating_mul(u64::from(each));
    let index = briefs.iter().map(|brief| own_bytes(brief.as_deref())).fold(0, u64::saturating_add);
    let index = index.saturating_add(bytes_of(last.scan.map.carried.len(), CARRIED_BYTES));
    let index = index.saturating_add(bytes_of(last.scan.image_records, IMAGE_BYTES));
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    // An index that is there already is not written again, so it needs no room beside the new one.
    let used = if last.scan.map.index_at == 0 { last.scan.end } else { last.scan.map.index_at };
    let mut tail = match fresh_file(disk, limits, survey, used.saturating_add(index), old.number) {
        Ok((file, length)) => {
            let mut tail = Tail::begin(disk, file, length, &header).map_err(rewriting)?;
            restage(&mut tail, end, |tail| {
                let full = tail.staged().len() >= limits.group_bytes_max as usize;
                if full { tail.flush(disk).map_err(rewriting) } else { Ok(()) }
            })?;
            tail
        }
        Err(full @ OpenError::DiskFull { .. }) => repeat(disk, survey, end)?.ok_or(full)?,
        Err(other) => return Err(other),
    };
    let notes = tail.sync(disk).map_err(rewriting)?;
    map.insert(tail.number, SegmentMap::new(tail.file, old.first_sequence, tail.end, tail.hash));
    map.extend(tail.number, notes, tail.end, tail.hash);
    Ok((tail, map))
}

/// Where there is no room for one more segment: the move of an earlier start, which had no time to overwrite the segment that
/// it replaced, is made once more in the same place. Nothing stands behind that move, so these are the same bytes: a power cut
/// meanwhile changes none of them. None if this is no such move.
fn repeat<D: Disk>(
    disk: &D,
    survey: &Survey,
    end: (&Last, &[Option<Bytes>]),
) -> Result<Option<Tail>, OpenError> {
    let Last { found, scan, .. } = end.0;
    let header = &found.header;
    if !survey.segments.contains_key(&header.replaces) || scan.fault.is_some() {
        return Ok(None);
    }
    let mut tail = Tail::blank(found.file, found.length, header);
    restage(&mut tail, end, |_| Ok(()))?;
    if end.0.valid().get(SEGMENT_HEADER_BYTES as usize..) != Some(tail.staged()) {
        return Ok(None);
    }
    warn!(
        segment = header.number,
        "no room for one more segment; the move of an earlier start is made again"
    );
    tail.write_header(disk, header).map_err(rewriting)?;
    Ok(Some(tail))
}

/// Stages the valid groups of the last segment, and the mark that they were moved.
fn restage(
    tail: &mut Tail,
    (last, briefs): (&Last, &[Option<Bytes>]),
    mut flush: impl FnMut(&mut Tail) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let unencodable = |field: Field| rewriting(std::io::Error::other(field));
    let bytes = last.valid();
    let mut walk = Walk::again(&last.found.header, &bytes);
    let mut briefs = briefs.iter();
    while let Some(group) = walk.step().map_err(|fault| last.found.damage(fault, Evidence::Acknowledged))? {
        let contents = group.header.contents;
        if matches!(contents, Contents::Moved | Contents::Closed | Contents::Index) {
            continue; // An earlier move, close or end means nothing in the new segment.
        }
        let mut brief = || briefs.next().and_then(Option::as_deref);
        let records = group.records.iter();
        let records: Vec<RawRecord<'_>> = match contents == Contents::Owner {
            true => records.map(|(_, record)| RawRecord { brief: brief(), ..*record }).collect(),
            false => records.map(|(_, record)| *record).collect(),
        };
        tail.stage(contents, group.header.first_sequence, records.into_iter()).map_err(unencodable)?;
        flush(tail)?;
    }
    tail.stage(Contents::Moved, last.scan.next_sequence, mark(KIND_MOVED)).map_err(unencodable)
}

fn rewriting(source: std::io::Error) -> OpenError {
    OpenError::Io { doing: "write the end of the journal to a fresh segment", source }
}

/// A blank file, its name durable, with room for groups up to `end` and the closing marks; and its length. Where there is no
/// room, what an earlier start began behind the segment `last` and did not finish is overwritten and used again.
fn fresh_file<D: Disk>(
    disk: &D,
    limits: &Limits,
    survey: &mut Survey,
    end: u32,
    last: u64,
) -> Result<(u64, u32), OpenError> {
    let length = limits.segment_bytes.max(end.saturating_add(TAIL_BYTES));
    let spare = if length == limits.segment_bytes { survey.spares.pop() } else { None };
    let file = match spare {
        Some(file) => file,
        None => {
            let file = survey.next_file;
            match disk.create(file, u64::from(length)) {
                Ok(()) => {
                    survey.next_file = file.saturating_add(1);
                    survey.files = survey.files.saturating_add(1);
                    file
                }
                Err(cause) if no_room(&cause) => {
                    let unfinished = survey.take_unfinished(disk, last, length).map_err(rewriting)?;
                    let file = unfinished.ok_or(OpenError::DiskFull { bytes: length })?;
                    wipe(disk, file, u64::from(length)).map_err(rewriting)?;
                    file
                }
                Err(cause) => return Err(rewriting(cause)),
            }
        }
    };
    disk.sync_directory().map_err(rewriting)?;
    Ok((file, length))
}

/// Everything that is not live is to be overwritten.
fn stock(survey: Survey, map: &Map) -> Stock {
    let Survey { segments, spares, scraps, files, next_file } = survey;
    let dead = segments.into_iter().filter(|(number, _)| !map.segments.contains_key(number));
    let condemned = dead.map(|(_, found)| found.file).chain(scraps).collect();
    Stock { spares, condemned, files, next_file }
}

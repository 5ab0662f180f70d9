//! From a directory to an open journal: find the end, find what is live, fold it, make it safe.

use tracing::warn;

use crate::disk::{Disk, no_room};
use crate::error::{Cut, Damage, Evidence, Field, OpenError};
use crate::group::{Contents, hash_of};
use crate::image::{ImageEnd, KIND_MOVED, Kept, decode_part};
use crate::layout::Take;
use crate::limits::Limits;
use crate::map::{Map, SegmentMap};
use crate::replay::{Sealed, replay};
use crate::scan::{Fault, Walk, used_bytes};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, TAIL_BYTES};
use crate::space::Stock;
use crate::survey::{Last, Survey, read_whole, scan, survey};
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
}

/// The newest complete snapshot.
#[derive(Debug)]
struct Image {
    /// The segment that ends it.
    segment: u64,
    end: ImageEnd,
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
) -> Result<Recovered, OpenError> {
    let mut survey = survey(disk, limits)?;
    let Some(Examined { last, image, map, last_map: _, mut report }) = examine(disk, &survey, anchor, fold)?
    else {
        return begin(disk, limits, survey);
    };
    let (cut, next_sequence) = (report.cut, report.next_sequence);
    let covers = image.as_ref().map_or(0, |image| image.end.covers);
    let (tail, map) = relocate(disk, limits, &mut survey, &last, map)?;
    report.rewritten_bytes = u64::from(last.scan.end.saturating_sub(SEGMENT_HEADER_BYTES));
    report.segments = map.segments.len() as u64;
    let in_last = image.as_ref().is_some_and(|image| image.segment == last.found.header.number);
    let image = if in_last { tail.number } else { image.map_or(0, |image| image.segment) };
    if let Some(cut) = cut {
        warn!(%cut, "an unfinished write was cut off; none of it was acknowledged");
    }
    let stock = stock(survey, &map);
    report.overwritten_files = stock.condemned.len() as u64;
    Ok(Recovered { map, tail, stock, image, covers, next_sequence, report })
}

/// What was read of a journal that is there; nothing was written.
pub(crate) struct Examined {
    pub(crate) last: Last,
    image: Option<Image>,
    /// The sealed segments.
    pub(crate) map: Map,
    /// The last one, as far as it is valid.
    pub(crate) last_map: SegmentMap,
    pub(crate) report: OpenReport,
}

/// Verifies everything that is live and folds it; `None` if nothing was ever written.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn examine<D: Disk>(
    disk: &D,
    survey: &Survey,
    anchor: Option<Anchor>,
    fold: &mut impl Fold,
) -> Result<Option<Examined>, OpenError> {
    let Some(last) = survey.last(disk)? else {
        check_anchor(anchor, 0, None)?;
        return Ok(None);
    };
    let next_sequence = last.scan.next_sequence;
    let cut = last.scan.fault.map(|fault| cut(&last, fault));
    check_anchor(anchor, next_sequence.saturating_sub(1), cut)?;
    let image = newest_image(disk, survey, &last)?;
    let floor = image.as_ref().map_or(0, |image| image.end.id);
    let mut sealed = chain(survey, &last.found.header, floor)?;
    let clean_close = last.scan.closed && cut.is_none();
    let mut report = OpenReport { next_sequence, cut, clean_close, ..OpenReport::default() };
    let mut covers = 0;
    if let Some(image) = &image {
        covers = image.end.covers;
        let (kept, snapshot) = snapshot(disk, &sealed, &last, image)?;
        sealed.splice(0..0, kept_segments(survey, kept, image)?);
        fold.restore(&snapshot).map_err(|source| OpenError::Fold { sequence: None, source })?;
        report.snapshot_covers = Some(covers);
    }
    let (map, last_map) = replay(disk, &sealed, &last, covers, fold, &mut report)?;
    report.segments = (map.segments.len() as u64).saturating_add(1);
    Ok(Some(Examined { last, image, map, last_map, report }))
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

/// The newest complete snapshot: in the last segment, or where its header points.
fn newest_image<D: Disk>(disk: &D, survey: &Survey, last: &Last) -> Result<Option<Image>, OpenError> {
    let header = &last.found.header;
    if let Some(end) = &last.scan.image {
        return Ok(Some(Image { segment: header.number, end: end.clone() }));
    }
    if header.image == 0 {
        return Ok(None);
    }
    let evidence = Evidence::LaterSegment { number: header.number };
    let found = survey.get(header.image, evidence)?;
    let scan = scan(&found.header, &read_whole(disk, found, found.length)?);
    let no_end =
        Fault { offset: scan.end, field: Field::SnapshotEnd, sequence: scan.next_sequence, records: None };
    let end = scan.image.ok_or_else(|| found.damage(scan.fault.unwrap_or(no_end), evidence))?;
    Ok(Some(Image { segment: header.image, end }))
}

/// The sealed segments from `floor` on that lead to the last one, in order. Each is vouched for by the header
/// of the next.
fn chain(survey: &Survey, last: &SegmentHeader, floor: u64) -> Result<Vec<Sealed>, OpenError> {
    let mut sealed = Vec::new();
    let mut next = last;
    while next.previous != 0 && next.previous >= floor {
        let evidence = Evidence::LaterSegment { number: next.number };
        let found = survey.get(next.previous, evidence)?;
        sealed.push(Sealed {
            found: found.clone(),
            end: next.previous_end,
            hash: next.previous_hash,
            evidence,
        });
        next = &found.header;
    }
    sealed.reverse();
    Ok(sealed)
}

/// The segments that the snapshot says stay, in order.
fn kept_segments(survey: &Survey, mut kept: Vec<Kept>, image: &Image) -> Result<Vec<Sealed>, OpenError> {
    let evidence = Evidence::Snapshot { segment: image.segment };
    kept.sort_by_key(|kept| kept.number);
    let sealed = kept.into_iter().map(|Kept { number, end, hash }| {
        let found = survey.get(number, evidence)?.clone();
        Ok(Sealed { found, end, hash, evidence })
    });
    sealed.collect()
}

/// Joins the parts of the snapshot: the segments that stay, and the owner's bytes.
fn snapshot<D: Disk>(
    disk: &D,
    sealed: &[Sealed],
    last: &Last,
    image: &Image,
) -> Result<(Vec<Kept>, Vec<u8>), OpenError> {
    let mut joined = Vec::new();
    let mut next_part = 0u32;
    for segment in sealed.iter().filter(|segment| segment.found.header.number <= image.segment) {
        let bytes = read_whole(disk, &segment.found, segment.end)?;
        let fault = collect_parts(&segment.found.header, &bytes, image.end.id, &mut next_part, &mut joined);
        fault.map_err(|fault| segment.found.damage(fault, segment.evidence))?;
    }
    if last.found.header.number == image.segment {
        let bytes = last.bytes.get(..last.scan.end as usize).unwrap_or_default();
        let fault = collect_parts(&last.found.header, bytes, image.end.id, &mut next_part, &mut joined);
        fault.map_err(|fault| last.found.damage(fault, Evidence::Acknowledged))?;
    }
    let bad = || {
        let file = sealed.iter().map(|sealed| &sealed.found).chain([&last.found]);
        let file = file.filter(|found| found.header.number == image.segment).map(|found| found.file).next();
        let evidence = Evidence::Snapshot { segment: image.segment };
        let field = Field::SnapshotParts;
        OpenError::Damaged(Box::new(Damage {
            segment: image.segment,
            file,
            offset: 0,
            sequence: None,
            field,
            evidence,
        }))
    };
    if next_part != image.end.parts || hash_of(&joined) != image.end.hash {
        return Err(bad());
    }
    let mut take = Take(&joined);
    let kept: Option<Vec<Kept>> = (0..image.end.kept).map(|_| Kept::decode(&mut take)).collect();
    let kept = kept.filter(|_| take.0.len() as u64 == image.end.snapshot_bytes).ok_or_else(bad)?;
    let kept_bytes = joined.len().saturating_sub(take.0.len());
    joined.drain(..kept_bytes);
    Ok((kept, joined))
}

/// Appends the parts of snapshot `id` in this segment that come next.
fn collect_parts(
    header: &SegmentHeader,
    bytes: &[u8],
    id: u64,
    next_part: &mut u32,
    joined: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut walk = Walk::new(header, bytes);
    while let Some(group) = walk.step()? {
        if group.header.contents != Contents::Image {
            continue;
        }
        for (_, record) in &group.records {
            if let Some((of, index, content)) = decode_part(record)
                && of == id
                && index == *next_part
            {
                joined.extend_from_slice(content);
                *next_part = next_part.saturating_add(1);
            }
        }
    }
    Ok(())
}

/// Begins an empty journal.
fn begin<D: Disk>(disk: &D, limits: &Limits, mut survey: Survey) -> Result<Recovered, OpenError> {
    let header = SegmentHeader {
        number: survey.highest().saturating_add(1),
        previous: 0,
        previous_end: 0,
        previous_hash: [0; 32],
        replaces: 0,
        image: 0,
        first_sequence: 1,
    };
    let (file, length) = fresh_file(disk, limits, &mut survey, 0)?;
    let tail = Tail::begin(disk, file, length, &header).map_err(rewriting)?;
    let mut map = Map::default();
    map.insert(tail.number, SegmentMap::new(file, 1, tail.end, tail.hash));
    let report = OpenReport { segments: 1, next_sequence: 1, ..OpenReport::default() };
    let stock = stock(survey, &map);
    Ok(Recovered { map, tail, stock, image: 0, covers: 0, next_sequence: 1, report })
}

/// Writes the valid groups of the last segment again, to a fresh file under a new number, and makes them
/// durable there. Only then may the old file go. A power cut meanwhile leaves the old file as it was, and a
/// new one without the mark that its move is complete.
fn relocate<D: Disk>(
    disk: &D,
    limits: &Limits,
    survey: &mut Survey,
    last: &Last,
    mut map: Map,
) -> Result<(Tail, Map), OpenError> {
    let old = &last.found.header;
    let number = survey.highest().saturating_add(1);
    let header = SegmentHeader { number, replaces: old.number, ..old.clone() };
    let (file, length) = fresh_file(disk, limits, survey, last.scan.end)?;
    let mut tail = Tail::begin(disk, file, length, &header).map_err(rewriting)?;
    let unencodable = |field: Field| rewriting(std::io::Error::other(field));
    let bytes = last.bytes.get(..last.scan.end as usize).unwrap_or_default();
    let mut walk = Walk::new(old, bytes);
    while let Some(group) = walk.step().map_err(|fault| last.found.damage(fault, Evidence::Acknowledged))? {
        if matches!(group.header.contents, Contents::Moved | Contents::Closed) {
            continue; // An earlier move or close means nothing in the new segment.
        }
        let records = group.records.iter().map(|(_, record)| *record);
        tail.stage(group.header.contents, group.header.first_sequence, records).map_err(unencodable)?;
        if tail.staged_bytes() >= limits.group_bytes_max as usize {
            tail.flush(disk).map_err(rewriting)?;
        }
    }
    tail.stage(Contents::Moved, last.scan.next_sequence, mark(KIND_MOVED)).map_err(unencodable)?;
    let notes = tail.sync(disk).map_err(rewriting)?;
    map.insert(number, SegmentMap::new(file, header.first_sequence, tail.end, tail.hash));
    map.extend(number, notes, tail.end, tail.hash);
    Ok((tail, map))
}

fn rewriting(source: std::io::Error) -> OpenError {
    OpenError::Io { doing: "write the end of the journal to a fresh segment", source }
}

/// A blank file, its name durable, with room for groups up to `end` and the closing marks; and its length.
fn fresh_file<D: Disk>(
    disk: &D,
    limits: &Limits,
    survey: &mut Survey,
    end: u32,
) -> Result<(u64, u32), OpenError> {
    let length = limits.segment_bytes.max(end.saturating_add(TAIL_BYTES));
    let spare = if length == limits.segment_bytes { survey.spares.pop() } else { None };
    let file = match spare {
        Some(file) => file,
        None => {
            let file = survey.next_file;
            match disk.create(file, u64::from(length)) {
                Ok(()) => {}
                Err(cause) if no_room(&cause) => return Err(OpenError::DiskFull { bytes: length }),
                Err(cause) => return Err(rewriting(cause)),
            }
            survey.next_file = file.saturating_add(1);
            survey.files = survey.files.saturating_add(1);
            file
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

//! The newest snapshot: where it ends, which segments it says stay, and its bytes.

use crate::Record;
use crate::disk::Disk;
use crate::error::{Damage, Evidence, Field, OpenError};
use crate::group::{Contents, RawRecord, hash_of};
use crate::image::{ImageEnd, Kept, decode_part};
use crate::layout::Take;
use crate::recover::Depth;
use crate::scan::{Fault, Walk};
use crate::sealed::Sealed;
use crate::segment::SegmentHeader;
use crate::survey::{Last, Survey, read_whole, scan};

/// The newest complete snapshot.
#[derive(Debug)]
pub(crate) struct Image {
    /// The segment that ends it.
    pub(crate) segment: u64,
    pub(crate) end: ImageEnd,
}

/// The newest complete snapshot: in the last segment, or where its header points.
///
/// # Errors
/// `Io`, `Damaged`.
pub(crate) fn newest_image<D: Disk>(
    disk: &D,
    survey: &Survey,
    last: &Last,
    depth: Depth,
) -> Result<Option<Image>, OpenError> {
    let header = &last.found.header;
    if let Some(end) = &last.scan.image {
        return Ok(Some(Image { segment: header.number, end: end.clone() }));
    }
    if header.image == 0 {
        return Ok(None);
    }
    let evidence = Evidence::LaterSegment { number: header.number };
    let found = survey.get(header.image, evidence)?;
    if depth == Depth::Indexes {
        let sealed = chain(survey, header, header.image)?;
        let ends = sealed.first().filter(|first| first.found.header.number == header.image);
        let ends = ends.ok_or_else(|| {
            let nowhere = Fault { offset: 0, field: Field::SegmentNumber, sequence: 0, records: None };
            found.damage(nowhere, evidence)
        })?;
        let group = ends.read_index(disk)?;
        let last = ends.index(&group)?.0.images.last().copied();
        let (offset, _) = last.ok_or_else(|| ends.damage(ends.index_at, Field::SnapshotEnd, 0))?;
        let Record { kind, payload, .. } = ends.record(disk, offset, 0)?;
        let end = ImageEnd::decode(&RawRecord { kind, payload: &payload, ..RawRecord::default() });
        let end = end.ok_or_else(|| ends.damage(offset, Field::SnapshotEnd, 0))?;
        return Ok(Some(Image { segment: header.image, end }));
    }
    let scan = scan(found, &read_whole(disk, found, found.length)?);
    let no_end =
        Fault { offset: scan.end, field: Field::SnapshotEnd, sequence: scan.next_sequence, records: None };
    let end = scan.image.ok_or_else(|| found.damage(scan.fault.unwrap_or(no_end), evidence))?;
    Ok(Some(Image { segment: header.image, end }))
}

/// The sealed segments from `floor` on that lead to the last one, in order. Each is vouched for by the header
/// of the next.
pub(crate) fn chain(survey: &Survey, last: &SegmentHeader, floor: u64) -> Result<Vec<Sealed>, OpenError> {
    let mut sealed = Vec::new();
    let mut next = last;
    while next.previous != 0 && next.previous >= floor {
        let evidence = Evidence::LaterSegment { number: next.number };
        let found = survey.get(next.previous, evidence)?;
        sealed.push(Sealed {
            found: found.clone(),
            index_at: next.previous_index,
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
pub(crate) fn kept_segments(
    survey: &Survey,
    mut kept: Vec<Kept>,
    image: &Image,
) -> Result<Vec<Sealed>, OpenError> {
    let evidence = Evidence::Snapshot { segment: image.segment };
    kept.sort_by_key(|kept| kept.number);
    let sealed = kept.into_iter().map(|Kept { number, index_at, end, hash }| {
        let found = survey.get(number, evidence)?.clone();
        Ok(Sealed { found, index_at, end, hash, evidence })
    });
    sealed.collect()
}

/// Joins the parts of the snapshot: the segments that stay, and the owner's bytes.
///
/// # Errors
/// `Io`, `Damaged`.
pub(crate) fn snapshot<D: Disk>(
    disk: &D,
    sealed: &[Sealed],
    last: &Last,
    image: &Image,
    depth: Depth,
) -> Result<(Vec<Kept>, Vec<u8>), OpenError> {
    let mut parts = Parts { id: image.end.id, next: 0, joined: Vec::new() };
    for segment in sealed.iter().filter(|segment| segment.found.header.number <= image.segment) {
        match depth {
            Depth::Whole => {
                let bytes = read_whole(disk, &segment.found, segment.end)?;
                let collected = parts.collect(Walk::new(&segment.found.header, &bytes));
                collected.map_err(|fault| segment.found.damage(fault, segment.evidence))?;
            }
            Depth::Indexes => {
                let group = segment.read_index(disk)?;
                for (offset, _) in segment.index(&group)?.0.images {
                    let record = segment.record(disk, offset, 0)?;
                    parts.take(record.kind, &record.payload);
                }
            }
        }
    }
    if last.found.header.number == image.segment {
        let collected = parts.collect(Walk::again(&last.found.header, &last.valid()));
        collected.map_err(|fault| last.found.damage(fault, Evidence::Acknowledged))?;
    }
    let Parts { next: next_part, mut joined, .. } = parts;
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

/// The parts of one snapshot, as far as they were found.
struct Parts {
    id: u64,
    /// Index of the next one.
    next: u32,
    joined: Vec<u8>,
}

impl Parts {
    /// Takes over those among the groups of a segment.
    fn collect(&mut self, mut walk: Walk<'_>) -> Result<(), Fault> {
        while let Some(group) = walk.step()? {
            if group.header.contents == Contents::Image {
                group.records.iter().for_each(|(_, record)| self.take(record.kind, record.payload));
            }
        }
        Ok(())
    }

    /// Takes a record over if it is the part that comes next.
    fn take(&mut self, kind: u16, payload: &[u8]) {
        let record = RawRecord { kind, payload, ..RawRecord::default() };
        if let Some((of, index, content)) = decode_part(&record)
            && of == self.id
            && index == self.next
        {
            self.joined.extend_from_slice(content);
            self.next = self.next.saturating_add(1);
        }
    }
}

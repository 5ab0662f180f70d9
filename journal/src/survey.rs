//! What lies in the directory: which files are blank, which hold segments, and which segment was the last.

use std::collections::BTreeMap;

use bytes::Bytes;
use tracing::warn;

use crate::disk::Disk;
use crate::error::{Damage, Evidence, Field, OpenError};
use crate::group::Contents;
use crate::image::ImageEnd;
use crate::limits::{Limits, SEGMENT_BYTES_MAX};
use crate::map::SegmentMap;
use crate::scan::{Fault, Walk, later_group};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::space::blank_from;

/// A file with a valid segment header.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) file: u64,
    pub(crate) length: u32,
    pub(crate) header: SegmentHeader,
}

/// All files of the directory, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) segments: BTreeMap<u64, Found>,
    /// Files that are zero and of the length of a segment.
    pub(crate) spares: Vec<u64>,
    /// Files that hold no segment, but are not spares either: unfinished ones, or of another length.
    pub(crate) scraps: Vec<u64>,
    pub(crate) files: u64,
    pub(crate) next_file: u64,
}

/// The last segment, read as far as it is valid.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) found: Found,
    pub(crate) bytes: Bytes,
    pub(crate) scan: Scan,
}

/// One pass over the groups of a segment.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) end: u32,
    pub(crate) next_sequence: u64,
    /// The move that the header announces is complete.
    pub(crate) moved: bool,
    /// The last group is the mark of a clean close.
    pub(crate) closed: bool,
    /// The last closing record of a snapshot.
    pub(crate) image: Option<ImageEnd>,
    /// Records of snapshots.
    pub(crate) image_records: usize,
    /// Where the records are.
    pub(crate) map: SegmentMap,
    pub(crate) fault: Option<Fault>,
}

/// Reads the header of every file.
///
/// # Errors
/// `Io`, or `Damaged` where a header is wrong although bytes follow it: those are written only after the
/// header is durable.
pub(crate) fn survey<D: Disk>(disk: &D, limits: &Limits) -> Result<Survey, OpenError> {
    let mut survey = Survey { next_file: 1, ..Survey::default() };
    let mut files = disk.list().map_err(|source| OpenError::Io { doing: "list the segments", source })?;
    files.sort_unstable();
    for file in files {
        survey.files = survey.files.saturating_add(1);
        survey.next_file = survey.next_file.max(file.saturating_add(1));
        survey.take(disk, limits, file)?;
    }
    Ok(survey)
}

impl Survey {
    fn take<D: Disk>(&mut self, disk: &D, limits: &Limits, file: u64) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { doing: "read a segment header", source };
        let damage = |segment, field, evidence| {
            let damage = Damage { segment, file: Some(file), offset: 0, sequence: None, field, evidence };
            OpenError::Damaged(Box::new(damage))
        };
        let length = disk.length(file).map_err(io)?;
        let mut block =
            vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(SEGMENT_HEADER_BYTES as usize)];
        disk.read(file, 0, &mut block).map_err(io)?;
        let header = SegmentHeader::decode(&block);
        if let Ok(Some(header)) = header {
            let number = header.number;
            let short = u32::try_from(length).ok().filter(|length| *length <= SEGMENT_BYTES_MAX);
            let length = short.ok_or_else(|| damage(number, Field::SegmentLength, Evidence::BytesFollow))?;
            if self.segments.insert(number, Found { file, length, header }).is_some() {
                return Err(damage(number, Field::SegmentTwice, Evidence::BytesFollow));
            }
            return Ok(());
        }
        let blank = blank_from(disk, file, u64::from(SEGMENT_HEADER_BYTES), length).map_err(io)?;
        match header {
            Err(Field::SegmentVersion) => Err(damage(0, Field::SegmentVersion, Evidence::OtherVersion)),
            Err(field) if !blank || field == Field::SegmentLength => {
                Err(damage(0, field, Evidence::BytesFollow))
            }
            Ok(_) if !blank => Err(damage(0, Field::SegmentMagic, Evidence::BytesFollow)),
            Ok(_) if length == u64::from(limits.segment_bytes) => {
                self.spares.push(file);
                Ok(())
            }
            Ok(_) | Err(_) => {
                self.scraps.push(file);
                Ok(())
            }
        }
    }

    /// The highest number in use, valid or about to be overwritten.
    pub(crate) fn highest(&self) -> u64 {
        self.segments.keys().next_back().copied().unwrap_or(0)
    }

    /// A file of that length that an earlier start began and did not finish: its header is not whole, or it is a move behind the
    /// segment `last` that was dropped. Nothing is in it that is not elsewhere.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn take_unfinished<D: Disk>(
        &mut self,
        disk: &D,
        last: u64,
        length: u32,
    ) -> std::io::Result<Option<u64>> {
        for (at, file) in self.scraps.iter().enumerate() {
            if disk.length(*file)? == u64::from(length) {
                return Ok(Some(self.scraps.swap_remove(at)));
            }
        }
        let mut moves = self.segments.range(last.saturating_add(1)..);
        let found = moves.find(|(_, found)| found.length == length).map(|(number, _)| *number);
        Ok(found.and_then(|number| self.segments.remove(&number)).map(|found| found.file))
    }

    /// The segment with this number.
    ///
    /// # Errors
    /// `Damaged`: no file holds it, though the evidence says that one must.
    pub(crate) fn get(&self, number: u64, evidence: Evidence) -> Result<&Found, OpenError> {
        self.segments.get(&number).ok_or_else(|| {
            let field = Field::SegmentMissing;
            let damage = Damage { segment: number, file: None, offset: 0, sequence: None, field, evidence };
            OpenError::Damaged(Box::new(damage))
        })
    }

    /// The segment that was written last; `None` if there is none yet. A move that recovery began and did not
    /// finish does not count: the segment that it was to replace is still there.
    ///
    /// # Errors
    /// `Io`, or `Damaged`: the segment breaks off before something that was written later.
    pub(crate) fn last<D: Disk>(&self, disk: &D) -> Result<Option<Last>, OpenError> {
        for (number, found) in self.segments.iter().rev() {
            let bytes = read_whole(disk, found, found.length)?;
            let scan = scan(found, &bytes);
            if let Some(fault) = scan.fault
                && let Some(later) = later_group(&bytes, *number, fault.offset)
            {
                return Err(found.damage(fault, Evidence::LaterGroup { offset: u64::from(later) }));
            }
            if found.header.replaces == 0 || scan.moved {
                return Ok(Some(Last { found: found.clone(), bytes: bytes.into(), scan }));
            }
            if !self.segments.contains_key(&found.header.replaces) {
                let unmarked = Fault {
                    offset: scan.end,
                    field: Field::SegmentUnmarked,
                    sequence: scan.next_sequence,
                    records: None,
                };
                let evidence = Evidence::Replaced { segment: found.header.replaces };
                return Err(found.damage(scan.fault.unwrap_or(unmarked), evidence));
            }
            warn!(segment = number, replaces = found.header.replaces, "an unfinished move is dropped");
        }
        Ok(None)
    }
}

impl Last {
    /// The segment as far as it is valid.
    pub(crate) fn valid(&self) -> Bytes {
        self.bytes.slice(..self.bytes.len().min(self.scan.end as usize))
    }
}

impl Found {
    /// A map of the segment with nothing in it yet.
    pub(crate) fn empty_map(&self) -> SegmentMap {
        let SegmentHeader { first_sequence, previous_hash, .. } = self.header;
        SegmentMap::new(self.file, first_sequence, SEGMENT_HEADER_BYTES, previous_hash)
    }

    pub(crate) fn damage(&self, fault: Fault, evidence: Evidence) -> OpenError {
        OpenError::Damaged(Box::new(Damage {
            segment: self.header.number,
            file: Some(self.file),
            offset: u64::from(fault.offset),
            sequence: Some(fault.sequence),
            field: fault.field,
            evidence,
        }))
    }
}

/// The first `length` bytes of a segment, or as many as the file has.
///
/// # Errors
/// `Io`.
pub(crate) fn read_whole<D: Disk>(disk: &D, found: &Found, length: u32) -> Result<Vec<u8>, OpenError> {
    let mut bytes = vec![0; length.min(found.length) as usize];
    read_into(disk, found, &mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` from the first byte of a segment on.
///
/// # Errors
/// `Io`.
pub(crate) fn read_into<D: Disk>(disk: &D, found: &Found, bytes: &mut [u8]) -> Result<(), OpenError> {
    disk.read(found.file, 0, bytes).map_err(|source| OpenError::Io { doing: "read a segment", source })
}

/// Walks a segment as far as it is valid.
pub(crate) fn scan(found: &Found, bytes: &[u8]) -> Scan {
    let mut walk = Walk::new(&found.header, bytes);
    let mut map = found.empty_map();
    let (mut moved, mut closed, mut image, mut image_records) = (false, false, None, 0usize);
    let fault = loop {
        match walk.step() {
            Ok(None) => break None,
            Err(fault) => break Some(fault),
            Ok(Some(group)) => {
                map.add(&group);
                closed = group.header.contents == Contents::Closed;
                moved |= group.header.contents == Contents::Moved;
                if group.header.contents == Contents::Image {
                    image_records = image_records.saturating_add(group.records.len());
                    image = group.records.iter().find_map(|(_, record)| ImageEnd::decode(record)).or(image);
                }
            }
        }
    };
    Scan { end: walk.at, next_sequence: walk.next_sequence, moved, closed, image, image_records, map, fault }
}

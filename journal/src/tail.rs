//! The end of the segment that is being written.

use std::io;

use crate::disk::Disk;
use crate::error::Field;
use crate::group::{Contents, FRAME_BYTES, GROUP_HEADER_BYTES, Position, RawRecord, encode};
use crate::index::{EMPTY_BYTES, Growing, KIND_INDEX};
use crate::layout::Hash;
use crate::limits::CHUNK_BYTES;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, TAIL_BYTES};

/// Groups are staged in memory, written with one call, and durable after one sync.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) file: u64,
    /// Groups other than the two closing marks end here at the latest.
    pub(crate) usable_end: u32,
    /// Everything below is durable.
    synced: u32,
    /// Everything below was given to the disk.
    written: u32,
    /// Offset behind the last staged group.
    pub(crate) end: u32,
    groups: u32,
    /// SHA-256 of the last staged group.
    pub(crate) hash: Hash,
    staged: Vec<u8>,
    notes: Notes,
    index: Growing,
}

/// Where the staged records will be, for the map, once they are durable.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) offsets: Vec<u32>,
    pub(crate) carried: Vec<(u64, u32, u32)>,
}

impl Tail {
    /// Starts a segment in a blank file; its header is durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn begin<D: Disk>(
        disk: &D,
        file: u64,
        capacity: u32,
        header: &SegmentHeader,
    ) -> io::Result<Self> {
        let tail = Self::blank(file, capacity, header);
        tail.write_header(disk, header)?;
        disk.sync(file)?;
        Ok(tail)
    }

    /// A segment of which nothing was given to the disk yet.
    pub(crate) fn blank(file: u64, capacity: u32, header: &SegmentHeader) -> Self {
        Self {
            number: header.number,
            file,
            usable_end: capacity.saturating_sub(TAIL_BYTES),
            synced: SEGMENT_HEADER_BYTES,
            written: SEGMENT_HEADER_BYTES,
            end: SEGMENT_HEADER_BYTES,
            groups: 0,
            hash: header.previous_hash,
            staged: Vec::new(),
            notes: Notes::default(),
            index: Growing::default(),
        }
    }

    /// Gives the header to the disk. It is not durable yet.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn write_header<D: Disk>(&self, disk: &D, header: &SegmentHeader) -> io::Result<()> {
        disk.write(self.file, 0, &header.encode())
    }

    /// Room for groups and what they take in the index.
    pub(crate) fn free(&self) -> u64 {
        u64::from(self.usable_end.saturating_sub(self.end)).saturating_sub(self.index.bytes())
    }

    /// What is in memory only.
    pub(crate) fn staged(&self) -> &[u8] {
        &self.staged
    }

    /// Appends a group in memory.
    ///
    /// # Errors
    /// A length that its field cannot hold; nothing is staged then.
    pub(crate) fn stage<'a, R>(
        &mut self,
        contents: Contents,
        first_sequence: u64,
        records: R,
    ) -> Result<(), Field>
    where
        R: Iterator<Item = RawRecord<'a>> + Clone,
    {
        let position = Position {
            segment: self.number,
            number: self.groups,
            offset: self.end,
            synced: self.synced,
            first_sequence,
            previous: self.hash,
        };
        self.hash = encode(&mut self.staged, &position, contents, records.clone())?;
        let mut at = self.end.saturating_add(GROUP_HEADER_BYTES);
        for record in records {
            let bytes = record.encoded_bytes();
            match contents {
                Contents::Owner => self.notes.offsets.push(at),
                Contents::Carried => self.notes.carried.push((record.sequence, at, bytes)),
                Contents::Image | Contents::Moved | Contents::Closed | Contents::Index => {}
            }
            self.index.add(contents, at, &record);
            at = at.saturating_add(bytes);
        }
        self.groups = self.groups.saturating_add(1);
        let staged = u32::try_from(self.staged.len()).map_err(|_| Field::GroupLength)?;
        self.end = self.written.checked_add(staged).ok_or(Field::GroupLength)?;
        Ok(())
    }

    /// Appends the index, the last group of a segment, and gives its offset.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub(crate) fn stage_index(&mut self, next_sequence: u64) -> Result<u32, Field> {
        let (at, payload) = (self.end, std::mem::take(&mut self.index).payload());
        let record = RawRecord { kind: KIND_INDEX, payload: &payload, ..RawRecord::default() };
        self.stage(Contents::Index, next_sequence, std::iter::once(record))?;
        Ok(at)
    }

    /// Gives what is staged to the disk with one write. It is not durable yet.
    ///
    /// # Errors
    /// The disk's; the tail must not be used again.
    pub(crate) fn flush<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        if !self.staged.is_empty() {
            disk.write(self.file, u64::from(self.written), &self.staged)?;
            self.staged.clear();
            // A long one, as an index is, comes seldom.
            self.staged.shrink_to(CHUNK_BYTES);
            self.written = self.end;
        }
        Ok(())
    }

    /// Makes everything staged durable: one write, one sync. Returns what may now be published.
    ///
    /// # Errors
    /// The disk's; the tail must not be used again.
    pub(crate) fn sync<D: Disk>(&mut self, disk: &D) -> io::Result<Notes> {
        self.flush(disk)?;
        if self.synced < self.written {
            disk.sync(self.file)?;
            self.synced = self.written;
        }
        Ok(std::mem::take(&mut self.notes))
    }
}

/// A journal's own record without content (moved, closed), as one group's records.
pub(crate) fn mark(kind: u16) -> impl Iterator<Item = RawRecord<'static>> + Clone {
    std::iter::once(RawRecord { kind, ..RawRecord::default() })
}

const _: () = assert!(TAIL_BYTES >= 2 * (GROUP_HEADER_BYTES + FRAME_BYTES + 8) + EMPTY_BYTES);

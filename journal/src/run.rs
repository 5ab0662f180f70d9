//! Reading records that lie behind each other: one call of the system for many of them, and no copy for each.

use bytes::Bytes;

use crate::Record;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::group::decode_record;
use crate::map::{Map, Place, Reader};

impl Map {
    /// Where the records from `first` to `last` were first written, as far as they lie in one segment and in `bytes_max`
    /// bytes; empty if not even the first one does.
    fn run(&self, first: u64, last: u64, bytes_max: u32) -> Vec<Place> {
        let mut run: Vec<Place> = Vec::new();
        for sequence in first..=last {
            let Some(place) = self.own_place(sequence) else { break };
            let begins = run.first().unwrap_or(&place);
            let bytes = place.offset.saturating_sub(begins.offset).saturating_add(place.span);
            if place.segment != begins.segment || bytes > bytes_max {
                break;
            }
            run.push(place);
        }
        run
    }
}

impl<D: Disk> Reader<D> {
    /// The record with sequence `first` and those behind it up to `last`: as many as one read of at most `bytes_max` bytes
    /// gives, and at least that one. Each is verified as by [`read`](Self::read). What is given shares its memory.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) for `first`.
    pub fn read_run(&self, first: u64, last: u64, bytes_max: u32) -> Result<Vec<Record>, ReadError> {
        let places = {
            let map = self.map.read();
            if map.closed {
                return Err(ReadError::Closed);
            }
            map.run(first, last, bytes_max)
        };
        let records = self.read_places(first, &places);
        // What moves meanwhile, lies elsewhere, is long or damaged is looked up by itself.
        if records.is_empty() { self.read(first).map(|record| vec![record]) } else { Ok(records) }
    }

    /// The records at these places, up to the first that is not there.
    fn read_places(&self, first: u64, places: &[Place]) -> Vec<Record> {
        let (Some(begin), Some(end)) = (places.first(), places.last()) else { return Vec::new() };
        let bytes = end.offset.saturating_sub(begin.offset).saturating_add(end.span);
        let mut buffer = vec![0; bytes as usize];
        if self.disk.read(begin.file, u64::from(begin.offset), &mut buffer).is_err() {
            return Vec::new();
        }
        let buffer = Bytes::from(buffer);
        let one = |(sequence, place): (u64, &Place)| {
            let at = place.offset.checked_sub(begin.offset)? as usize;
            let record = decode_record(buffer.get(at..)?, place.segment).ok()?;
            let payload = buffer.slice_ref(record.payload);
            (record.sequence == sequence).then_some(Record { sequence, kind: record.kind, payload })
        };
        (first..).zip(places).map_while(one).collect()
    }
}

//! The events of one bundle of a sub-log, opened.

use bytes::Bytes;
use lintas_proto::{
    audit::{
        files::LogFile,
        opening::{self, ERASED},
        tile::{self, WIDTH},
    },
    schema::AuditEvent,
};

use super::{
    finding::Findings,
    source::{LogFiles, bundle, whole},
    sub_log::says,
};

/// One entry, and the event in it.
pub(crate) struct Opened {
    pub(crate) index: u64,
    pub(crate) leaf: Bytes,
    /// Type and time, as the leaf says.
    pub(crate) event_type: u8,
    pub(crate) time_ms: u64,
    /// `erased` (its key is not here) or `damaged` if there is none.
    pub(crate) event: Result<AuditEvent, &'static str>,
}

/// Opens bundle `index` of a sub-log of `size` entries: those that are wanted by time and index.
pub(crate) fn open(
    files: &dyn LogFiles,
    log: &str,
    agency: &str,
    (index, size): (u64, u64),
    wanted: &dyn Fn(u64, u64) -> bool,
    found: &mut Findings,
) -> Vec<Opened> {
    let entries = match bundle(files, log, Some(agency), index, size) {
        Ok((entries, _)) => entries,
        Err(finding) => {
            found.push(finding);
            return Vec::new();
        }
    };
    let begin = index.saturating_mul(WIDTH);
    let at = |at: usize| begin.saturating_add(at as u64);
    let times = entries.into_iter().enumerate().filter_map(|(i, entry)| {
        let (event_type, time_ms) = says(&entry)?;
        Some((i, entry, event_type, time_ms))
    });
    let hits: Vec<_> = times.filter(|(i, _, _, time_ms)| wanted(*time_ms, at(*i))).collect();
    if hits.is_empty() {
        return Vec::new();
    }
    let mut one = |file| match whole(files, log, Some(agency), file) {
        Ok(bytes) => bytes,
        Err(finding) => {
            found.push(finding);
            Bytes::new()
        }
    };
    let (keys, openings) = (one(LogFile::Keys(index)), one(LogFile::Openings(index)));
    let sealed: Vec<Option<&[u8]>> = tile::entries(&openings).collect();
    let opened = |(i, leaf, event_type, time_ms): (usize, Bytes, u8, u64)| {
        let from = i.saturating_mul(32);
        let key: Option<[u8; 32]> =
            keys.get(from..from.saturating_add(32)).and_then(|key| key.try_into().ok());
        let event = match (key, sealed.get(i).copied().flatten()) {
            (Some(ERASED), _) => Err("erased"),
            (Some(key), Some(sealed)) => opening::open_event(&leaf, &key, sealed).map_err(|_| "damaged"),
            (None, _) | (_, None) => Err("damaged"),
        };
        Opened { index: at(i), leaf, event_type, time_ms, event }
    };
    hits.into_iter().map(opened).collect()
}

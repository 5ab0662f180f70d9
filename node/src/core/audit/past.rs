//! The events of one sub-log from the first to the last, for who decides the past again.

use lintas_proto::{
    audit::tile::WIDTH,
    schema::{AuditEvent, EventType},
};

use super::{
    anchor::Anchor,
    finding::{Finding, Findings, Kind},
    opened,
    root::checkpoint,
    source::LogFiles,
};

/// What stands at one place.
pub(crate) enum Past<'a> {
    /// An event.
    Event(u64, &'a AuditEvent),
    /// Its opening was erased; when it happened.
    Erased(EventType, u64),
}

/// Walks a sub-log; `tell` hears how many entries of how many are done. Findings: what could not be read.
pub(crate) fn walk(
    files: &dyn LogFiles,
    anchor: &Anchor,
    agency: &str,
    take: &mut dyn FnMut(Past<'_>),
    tell: &mut dyn FnMut(u64, u64),
) -> Vec<Finding> {
    let mut found = Findings::default();
    let Some((_, sub)) = checkpoint(files, anchor, Some(agency), &mut found) else {
        return found.into_shown();
    };
    for bundle in 0..sub.size.div_ceil(WIDTH) {
        let place = (bundle, sub.size);
        for one in opened::open(files, &sub.origin, agency, place, &|_, _| true, &mut found) {
            match &one.event {
                Ok(event) => take(Past::Event(one.index, event)),
                Err(what) => {
                    let kind = EventType::try_from(i32::from(one.event_type)).unwrap_or_default();
                    take(Past::Erased(kind, one.time_ms));
                    if *what != "erased" {
                        let text = "its opening is damaged: mirror again, and verify";
                        found.push(Finding::new(Kind::Damaged, &sub.origin, text).entry(one.index));
                    }
                }
            }
        }
        tell(bundle.saturating_add(1).saturating_mul(WIDTH).min(sub.size), sub.size);
    }
    found.into_shown()
}

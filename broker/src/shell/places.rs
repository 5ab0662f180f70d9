//! Places for streams beside the sessions: so many at once for each agency, and no more.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Places for streams of one kind.
#[derive(Debug)]
pub(super) struct Places {
    /// Most of one agency at once.
    max: usize,
    /// Taken, by agency; none of them zero.
    busy: Mutex<HashMap<String, usize>>,
}

/// A stream's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    agency: &'a str,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, busy: Mutex::default() }
    }

    /// A place, if the agency has one left.
    pub(super) fn take<'a>(&'a self, agency: &'a str) -> Option<Place<'a>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = busy.get(agency).copied().unwrap_or_default();
        if streams >= self.max {
            return None;
        }
        busy.insert(agency.to_owned(), streams + 1);
        Some(Place { places: self, agency })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut busy = self.places.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let left = busy.get(self.agency).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            busy.remove(self.agency);
        } else {
            busy.insert(self.agency.to_owned(), left);
        }
    }
}

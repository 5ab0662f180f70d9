//! How far long work is: transfers of the session, and whoever is told of sealing and opening.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::core::view::{Direction, TransferView};

/// Told how many bytes are done, of how many. False when whoever asked has gone: the work is to stop.
pub(crate) type Tell<'a> = &'a dyn Fn(u64, u64) -> bool;

/// Tells nobody.
pub(crate) fn nobody(_: u64, _: u64) -> bool {
    true
}

/// The transfers that run now. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfers(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    next: u64,
    all: BTreeMap<u64, TransferView>,
}

/// One transfer; dropped, it runs no more.
#[derive(Debug)]
pub(crate) struct Gauge {
    transfers: Transfers,
    number: u64,
}

impl Transfers {
    /// Begins one of `total` bytes.
    pub(crate) fn begin(&self, direction: Direction, packet: String, total: u64) -> Gauge {
        let mut running = self.lock();
        let number = running.next;
        running.next = running.next.wrapping_add(1);
        running.all.insert(number, TransferView { direction, packet, done: 0, total });
        Gauge { transfers: self.clone(), number }
    }

    /// Those of one direction, in the order in which they began.
    pub(crate) fn of(&self, direction: Direction) -> Vec<TransferView> {
        self.all().into_iter().filter(|view| view.direction == direction).collect()
    }

    /// All, in the order in which they began.
    pub(crate) fn all(&self) -> Vec<TransferView> {
        self.lock().all.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gauge {
    /// So many bytes are done.
    pub(crate) fn set(&self, done: u64) {
        if let Some(view) = self.transfers.lock().all.get_mut(&self.number) {
            view.done = done.min(view.total);
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.transfers.lock().all.remove(&self.number);
    }
}

//! Which authenticated connections live. A new directory ends those whose key it no longer admits.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    connection::{CloseCode, close},
    error::LinkError,
    limits::Limits,
    tls::PeerDirectory,
};

/// The live connections of one endpoint.
pub(crate) struct Registry {
    directory: Arc<dyn PeerDirectory>,
    limits: Limits,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    /// Number of the next seat; numbers grow, so the first of a key is its oldest.
    next: u64,
    /// At most `connections_max`.
    taken: BTreeMap<u64, ([u8; 32], quinn::Connection)>,
}

/// A place in the registry. Everything that keeps a connection alive (its handle, each half of each stream)
/// shares it, so no connection that can still carry a byte is overlooked by [`Registry::recheck`].
pub(crate) struct Seat {
    registry: Arc<Registry>,
    number: u64,
}

impl Registry {
    pub(crate) fn new(directory: Arc<dyn PeerDirectory>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { directory, limits, seats: Mutex::default() })
    }

    /// Takes a seat for a connection that has just proved `key`.
    ///
    /// Asks the directory once more, after the seat is taken: a directory that changed between the handshake
    /// and now is seen either here or by [`Registry::recheck`].
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: [u8; 32],
        connection: &quinn::Connection,
    ) -> Result<Arc<Seat>, LinkError> {
        let Some(number) = self.take_seat(key, connection) else {
            close(connection, CloseCode::Busy, "too many connections");
            return Err(LinkError::Full { max: self.limits.connections_max });
        };
        let seat = Arc::new(Seat { registry: Arc::clone(self), number });
        if !self.directory.admits(&key) {
            close(connection, CloseCode::NotAMember, "this key is not in the directory");
            return Err(LinkError::UnknownPeer);
        }
        Ok(seat)
    }

    /// Closes every connection whose key the directory no longer admits; returns how many.
    pub(crate) fn recheck(&self) -> usize {
        // Copied out, so that the directory is never asked under the lock.
        let live: Vec<_> = self.lock().taken.values().cloned().collect();
        let gone = live.iter().filter(|(key, _)| !self.directory.admits(key));
        gone.map(|(_, connection)| {
            close(connection, CloseCode::DirectoryChanged, "this key has left the directory");
        })
        .count()
    }

    /// Number of seats taken.
    pub(crate) fn live(&self) -> usize {
        self.lock().taken.len()
    }

    fn take_seat(&self, key: [u8; 32], connection: &quinn::Connection) -> Option<u64> {
        let mut seats = self.lock();
        seats.taken.retain(|_, (_, other)| other.close_reason().is_none());
        let mine = |(_, (other, _)): &(&u64, &([u8; 32], quinn::Connection))| *other == key;
        if seats.taken.iter().filter(mine).count() >= self.limits.connections_per_key_max {
            let oldest = seats.taken.iter().find(mine).map(|(number, _)| *number);
            if let Some((_, connection)) = oldest.and_then(|number| seats.taken.remove(&number)) {
                close(
                    &connection,
                    CloseCode::Superseded,
                    "a newer connection of the same key took its place",
                );
            }
        }
        if seats.taken.len() >= self.limits.connections_max {
            return None;
        }
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, (key, connection.clone()));
        Some(number)
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        // The map is whole after every statement, so a panic elsewhere spoils nothing.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let left = self.registry.lock().taken.remove(&self.number);
        // The lock is released: dropping the last handle closes the connection.
        drop(left);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("live", &self.live()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("number", &self.number).finish_non_exhaustive()
    }
}

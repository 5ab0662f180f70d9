//! Which authenticated connections live. A new directory ends those whose key it no longer admits.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    /// Number of the next seat; numbers grow, so the first of a peer is its oldest.
    next: u64,
    /// At most `connections_max`.
    taken: BTreeMap<u64, Occupant>,
}

#[derive(Clone)]
struct Occupant {
    key: [u8; 32],
    /// Who holds the key; none when the key stands for itself.
    peer: Option<Arc<str>>,
    connection: quinn::Connection,
    /// Shared with its [`Seat`].
    expelled: Arc<AtomicBool>,
}

impl Occupant {
    /// Closes the connection, and stops its readers from handing out what had arrived before.
    fn expel(&self, code: CloseCode, text: &str) {
        self.expelled.store(true, Ordering::Release);
        close(&self.connection, code, text);
    }

    fn is_live(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn is_of_same_peer(&self, other: &Self) -> bool {
        self.key == other.key || (self.peer.is_some() && self.peer == other.peer)
    }
}

/// A place in the registry. Everything that keeps a connection alive (its handle, each half of each stream)
/// shares it, so no connection that can still carry a byte is overlooked by [`Registry::recheck`].
pub(crate) struct Seat {
    registry: Arc<Registry>,
    number: u64,
    expelled: Arc<AtomicBool>,
}

impl Seat {
    /// Whether the registry has ended the connection. QUIC would still hand out bytes that arrived before.
    pub(crate) fn is_expelled(&self) -> bool {
        self.expelled.load(Ordering::Acquire)
    }
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
        let expelled = Arc::new(AtomicBool::new(false));
        let peer = self.directory.peer(&key);
        let occupant =
            Occupant { key, peer, connection: connection.clone(), expelled: Arc::clone(&expelled) };
        let Some(number) = self.take_seat(occupant) else {
            close(connection, CloseCode::Busy, "too many connections");
            return Err(LinkError::Full { max: self.limits.connections_max });
        };
        let seat = Arc::new(Seat { registry: Arc::clone(self), number, expelled });
        if !self.directory.admits(&key) {
            close(connection, CloseCode::NotAMember, "this key is not in the directory");
            return Err(LinkError::UnknownPeer);
        }
        Ok(seat)
    }

    /// Closes every connection whose key the directory no longer admits, or gives to another peer than before;
    /// returns how many.
    pub(crate) fn recheck(&self) -> usize {
        // Copied out, so that the directory is never asked under the lock.
        let live: Vec<_> = self.lock().taken.values().cloned().collect();
        let is_gone =
            |one: &Occupant| !self.directory.admits(&one.key) || self.directory.peer(&one.key) != one.peer;
        let gone = live.iter().filter(|one| one.is_live() && is_gone(one));
        gone.map(|one| one.expel(CloseCode::DirectoryChanged, "this key has left the directory")).count()
    }

    /// Number of seats taken.
    pub(crate) fn live(&self) -> usize {
        self.lock().taken.len()
    }

    fn take_seat(&self, occupant: Occupant) -> Option<u64> {
        let mut seats = self.lock();
        seats.taken.retain(|_, other| other.is_live());
        let mine = |(_, other): &(&u64, &Occupant)| other.is_of_same_peer(&occupant);
        if seats.taken.iter().filter(mine).count() >= self.limits.connections_per_peer_max {
            let oldest = seats.taken.iter().find(mine).map(|(number, _)| *number);
            if let Some(oldest) = oldest.and_then(|number| seats.taken.remove(&number)) {
                oldest.expel(CloseCode::Superseded, "a newer connection of the same peer took its place");
            }
        }
        if seats.taken.len() >= self.limits.connections_max {
            return None;
        }
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, occupant);
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

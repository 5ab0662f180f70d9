//! What a session tells its node of changes of the directory: at most one notice a second, about the newest. Of other agencies'
//! policies it says nothing, not even that they have changed.

use std::time::Duration;

use lintas_proto::{id::Digest, schema::DirectoryNotice};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::shared::Shared;

/// Shortest time between two notices, milliseconds.
const EVERY_MS: u64 = 1_000;

/// The notices of one session.
#[derive(Debug)]
pub(super) struct Notices {
    changed: watch::Receiver<u64>,
    /// A change that the node was not told of.
    due: bool,
    /// The directory that the node knows of.
    told: Digest,
    /// Not before this.
    next: Instant,
}

impl Notices {
    /// From now on.
    pub(super) fn of(shared: &Shared) -> Self {
        let changed = shared.changed.subscribe();
        Self { changed, due: false, told: *shared.directory().hash(), next: Instant::now() }
    }

    /// Waits for the next notice. Safe to cancel.
    pub(super) async fn next(&mut self, shared: &Shared) -> DirectoryNotice {
        while !self.due {
            if self.changed.changed().await.is_err() {
                // The broker has ended, and the session with it.
                std::future::pending::<()>().await;
            }
            self.due = *shared.directory().hash() != self.told;
        }
        sleep_until(self.next).await;
        self.changed.borrow_and_update();
        (self.due, self.next) = (false, Instant::now() + Duration::from_millis(EVERY_MS));
        let directory = shared.directory();
        self.told = *directory.hash();
        DirectoryNotice {
            roster_version: directory.roster().version,
            directory_hash: bytes::Bytes::copy_from_slice(directory.hash()),
        }
    }
}

//! What a session tells its node of changes of the directory: at most one notice a second, about the newest.

use std::time::Duration;

use lintas_proto::schema::DirectoryNotice;
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
    /// Not before this.
    next: Instant,
}

impl Notices {
    /// From now on.
    pub(super) fn of(shared: &Shared) -> Self {
        Self { changed: shared.changed.subscribe(), due: false, next: Instant::now() }
    }

    /// Waits for the next notice. Safe to cancel.
    pub(super) async fn next(&mut self, shared: &Shared) -> DirectoryNotice {
        if !self.due && self.changed.changed().await.is_err() {
            // The broker has ended, and the session with it.
            std::future::pending::<()>().await;
        }
        self.due = true;
        sleep_until(self.next).await;
        self.changed.borrow_and_update();
        (self.due, self.next) = (false, Instant::now() + Duration::from_millis(EVERY_MS));
        let directory = shared.directory();
        DirectoryNotice {
            roster_version: directory.roster().version,
            directory_hash: bytes::Bytes::copy_from_slice(directory.hash()),
        }
    }
}

//! Batches of what came, under way: judged beside each other, kept one after the other in the order in which they came.
//! While one is being synced, the next ones are opened.

use std::{collections::VecDeque, future::pending, sync::Arc};

use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};

use super::{closed, ended::Ended};
use crate::shell::{
    desk::{Broken, Desk, Heard, Settled, Step},
    failure::Failure,
};

/// Most batches under way: two that are judged, and one that is being synced. What comes meanwhile gathers.
const BATCHES_MAX: usize = 3;

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Done {
    /// Deliveries whose attachments are to be fetched first.
    pub(super) fetches: Vec<Step>,
    /// What is to be said about the others.
    pub(super) settled: Result<Settled, Broken>,
}

/// The batches.
#[derive(Debug)]
pub(super) struct Line {
    desk: Arc<Desk>,
    under_way: VecDeque<JoinHandle<Option<Done>>>,
    /// Told when the last of them is kept; dropped untold when nothing may be kept any more.
    last: Option<oneshot::Receiver<()>>,
}

impl Line {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, under_way: VecDeque::new(), last: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < BATCHES_MAX
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self, heard: Vec<Heard>) {
        if heard.is_empty() {
            return;
        }
        let (kept, last) = oneshot::channel();
        let (desk, before) = (Arc::clone(&self.desk), self.last.replace(last));
        // In one go: each change of threads costs as much as a signature.
        self.under_way.push_back(spawn_blocking(move || {
            let is_fetch = |step: &Step| matches!(step, Step::Fetch { .. });
            let (fetches, steps) = desk.judge(heard).into_iter().partition(is_fetch);
            before.map_or(Ok(()), oneshot::Receiver::blocking_recv).ok()?;
            let settled = desk.settle(steps);
            if settled.as_ref().is_ok_and(|settled| settled.broken.is_none()) {
                // Nobody may be behind it.
                let _ = kept.send(());
            }
            Some(Done { fetches, settled })
        }));
    }

    /// The first batch of those under way, once it is kept. Never returns while there is none. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Done, Ended> {
        let Some(first) = self.under_way.front_mut() else { return pending().await };
        let done = first.await;
        self.under_way.pop_front();
        match done {
            Ok(Some(done)) => Ok(done),
            // The one before has ended the session.
            Ok(None) => Err(closed()),
            Err(error) => Err(Ended::Fatal(Failure::internal(error))),
        }
    }
}

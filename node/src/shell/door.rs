//! The door to the desk of a daemon: open, or locked with nobody having the keys.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    clock,
    desk::{Desk, Reply, Request},
    failure::{Code, Failure},
    progress,
};
use crate::core::vault::Unlocker;

/// What a command wants of the daemon itself.
#[derive(Debug)]
pub(crate) enum Order {
    /// To drop the keys. Since when they are dropped is told.
    Lock(oneshot::Sender<Result<u64, Failure>>),
    /// To take them up.
    Unlock(Unlocker, oneshot::Sender<Result<(), Failure>>),
}

/// What is behind the door.
#[derive(Debug)]
enum Inside {
    Desk(Arc<Desk>),
    Locked { since_ms: u64 },
}

/// The door.
#[derive(Debug)]
pub(crate) struct Door {
    inside: Mutex<Inside>,
    orders: mpsc::Sender<Order>,
    /// Rung when a command comes that counts as use.
    used: Notify,
    /// Cloned for as long as a command works.
    working: Arc<()>,
}

impl Door {
    /// With that desk behind it, or locked. Orders go to the receiver.
    pub(crate) fn new(desk: Option<Arc<Desk>>) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(1);
        let inside = desk.map_or_else(|| Inside::Locked { since_ms: clock::now_ms() }, Inside::Desk);
        (
            Arc::new(Self {
                inside: Mutex::new(inside),
                orders,
                used: Notify::new(),
                working: Arc::default(),
            }),
            receiver,
        )
    }

    /// From now on commands find that desk.
    pub(crate) fn open(&self, desk: Arc<Desk>) {
        *self.inside.lock().unwrap_or_else(PoisonError::into_inner) = Inside::Desk(desk);
    }

    /// From now on commands find nobody. Since when.
    pub(crate) fn close(&self) -> u64 {
        let since_ms = clock::now_ms();
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Inside::Desk(desk) = &*inside {
            // Sealing and opening of large attachments would hold the keys for long.
            desk.stop_long_work();
        }
        *inside = Inside::Locked { since_ms };
        since_ms
    }

    /// Waits until a command uses the desk.
    pub(crate) async fn used(&self) {
        self.used.notified().await;
    }

    /// Held while a command works: meanwhile the node is in use.
    pub(crate) fn work(&self) -> Arc<()> {
        Arc::clone(&self.working)
    }

    /// Whether a command works now.
    pub(crate) fn in_use(&self) -> bool {
        Arc::strong_count(&self.working) > 1
    }

    fn inside(&self) -> Result<Arc<Desk>, u64> {
        match &*self.inside.lock().unwrap_or_else(PoisonError::into_inner) {
            Inside::Desk(desk) => Ok(Arc::clone(desk)),
            Inside::Locked { since_ms } => Err(*since_ms),
        }
    }

    /// Answers what concerns the door; else gives the desk that answers.
    pub(crate) async fn answers(
        &self,
        request: Request,
    ) -> Result<(Arc<Desk>, Request), Result<Reply, Failure>> {
        let inside = self.inside();
        if !matches!(request, Request::Status) {
            self.used.notify_one();
        }
        match (request, inside) {
            (Request::Lock | Request::Status, Err(since_ms)) => Err(Ok(Reply::Locked { since_ms })),
            (Request::Lock, Ok(desk)) => {
                drop(desk);
                let (reply, done) = oneshot::channel();
                Err(self.order(Order::Lock(reply), done).await.map(|since_ms| Reply::Locked { since_ms }))
            }
            (Request::Unlock { .. }, Ok(desk)) => Ok((desk, Request::Status)),
            (Request::Unlock { with }, Err(_)) => Err(self.unlock(with.unlocker()).await),
            (request, Ok(desk)) => Ok((desk, request)),
            (_, Err(since_ms)) => {
                let message = format!(
                    "this node is locked since {}: nobody has its keys, and nothing is sent or received; unlock it with \
                     `lintas unlock`",
                    clock::show(since_ms)
                );
                Err(Err(Failure::new(Code::NodeLocked, message)))
            }
        }
    }

    async fn unlock(&self, with: Option<Unlocker>) -> Result<Reply, Failure> {
        let with = with.ok_or_else(|| Failure::new(Code::Locked, "a key file holds 64 hex digits"))?;
        let (reply, done) = oneshot::channel();
        self.order(Order::Unlock(with, reply), done).await?;
        let desk = self.inside().map_err(|_| Failure::internal("the node was locked again at once"))?;
        let status =
            tokio::task::spawn_blocking(move || desk.answer_telling(Request::Status, &progress::nobody))
                .await;
        status.unwrap_or_else(|error| Err(Failure::internal(error)))
    }

    async fn order<T>(
        &self,
        order: Order,
        done: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let stops = || Failure::new(Code::DaemonEnded, "the node is stopping; look at `lintas status`");
        self.orders.send(order).await.map_err(|_| stops())?;
        done.await.unwrap_or_else(|_| Err(stops()))
    }
}

//! The daemon: one process that has the data folder, keeps the session and answers commands. Locked, it has the folder
//! and answers that it is locked.

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    clock, control,
    desk::Desk,
    door::{Door, Order},
    failure::Failure,
    folder::{Folder, Lock},
    session::Session,
};
use crate::core::vault::Unlocker;

/// How often `directory.bin` is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often sealed attachments are looked through.
const TIDY: Duration = Duration::from_secs(600);
/// How often keys are looked at: which are to be made, published, destroyed.
const ROTATE: Duration = Duration::from_secs(600);
/// How often, and how many times, it is looked whether everybody has let go of the keys.
const RELEASE: Duration = Duration::from_millis(20);
const RELEASE_TRIES: usize = 1_500;
/// How long the end waits for whoever still works. What is durable is whole at any moment.
const LEAVE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, or until the store fails. Without `with` it begins locked.
pub(crate) fn run(folder: Folder, lock: Lock, with: Option<Unlocker>) -> Result<(), Failure> {
    let lock = Arc::new(lock);
    // The passphrase is gone as soon as the desk is open.
    let desk = with.map(|with| Desk::open(folder.clone(), Arc::clone(&lock), &with, true)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::internal)?;
    let ended = runtime.block_on(serve(folder, lock, desk.map(Arc::new)));
    // Whoever still works would hold up the end, and with it the keys, for as long as it likes.
    runtime.shutdown_timeout(LEAVE);
    ended
}

/// What ends the daemon.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// Held so that SIGHUP ends nobody, also while nobody waits for it.
    _hangup: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let wait = |kind| signal(kind).map_err(Failure::internal);
        Ok(Self {
            terminate: wait(SignalKind::terminate())?,
            interrupt: wait(SignalKind::interrupt())?,
            _hangup: wait(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How the time with keys ended.
enum End {
    Stop(Result<(), Failure>),
    /// Somebody waits for it, or nobody: it was left alone for long.
    Lock(Option<oneshot::Sender<Result<u64, Failure>>>),
    /// The session is to begin anew, with another transport key.
    Rekeyed,
}

async fn serve(folder: Folder, lock: Arc<Lock>, desk: Option<Arc<Desk>>) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let listener = control::listen(&folder)?;
    let (door, mut orders) = Door::new(desk.clone());
    let answering = tokio::spawn(control::serve(listener, Arc::clone(&door)));
    let mut desk = desk;
    let ended = loop {
        let Some(open) = desk.take() else {
            tracing::info!("node is locked");
            match locked(&folder, &lock, &mut orders, &mut stop).await {
                Some((unlocked, reply)) => {
                    door.open(Arc::clone(&unlocked));
                    // Whoever asked may have gone away.
                    let _ = reply.send(Ok(()));
                    desk = Some(unlocked);
                }
                None => break Ok(()),
            }
            continue;
        };
        match with_keys(&open, &door, &mut orders, &mut stop).await {
            End::Lock(reply) => {
                let since_ms = door.close();
                let released = release(open).await;
                if let Some(reply) = reply {
                    let _ = reply.send(released.clone().map(|()| since_ms));
                }
                if let Err(failure) = released {
                    break Err(failure);
                }
            }
            End::Stop(outcome) => {
                // The next one would remove it as well; commands see sooner that nobody is there.
                let _ = std::fs::remove_file(folder.socket());
                door.close();
                break outcome.and(release(open).await);
            }
            End::Rekeyed => desk = Some(open),
        }
    };
    tracing::info!("node stops");
    let _ = std::fs::remove_file(folder.socket());
    answering.abort();
    ended
}

/// Waits without keys until somebody brings them; none when the daemon is to stop.
async fn locked(
    folder: &Folder,
    lock: &Arc<Lock>,
    orders: &mut mpsc::Receiver<Order>,
    stop: &mut Stop,
) -> Option<(Arc<Desk>, oneshot::Sender<Result<(), Failure>>)> {
    loop {
        let order = tokio::select! {
            order = orders.recv() => order?,
            () = stop.asked() => return None,
        };
        match order {
            Order::Lock(reply) => {
                let _ = reply.send(Ok(clock::now_ms()));
            }
            Order::Unlock(with, reply) => {
                let (folder, lock) = (folder.clone(), Arc::clone(lock));
                let opened = spawn_blocking(move || Desk::open(folder, lock, &with, true)).await;
                match opened.unwrap_or_else(|error| Err(Failure::internal(error))) {
                    Ok(desk) => return Some((Arc::new(desk), reply)),
                    Err(failure) => {
                        tracing::warn!(why = failure.message, "the node stays locked");
                        let _ = reply.send(Err(failure));
                    }
                }
            }
        }
    }
}

async fn with_keys(
    desk: &Arc<Desk>,
    door: &Door,
    orders: &mut mpsc::Receiver<Order>,
    stop: &mut Stop,
) -> End {
    // Before anybody is told of keys that have changed meanwhile.
    tend(desk).await;
    let session = match Session::new(Arc::clone(desk)) {
        Ok(session) => session,
        Err(failure) => return End::Stop(Err(failure)),
    };
    tracing::info!(agency = desk.keys().agency, broker = %desk.settings().broker, "node runs");
    let end = tokio::select! {
        failure = session.run() => End::Stop(Err(failure)),
        failure = desk.failed() => End::Stop(Err(failure)),
        () = watch(Arc::clone(desk)) => End::Stop(Err(Failure::internal("nobody watches the directory any more"))),
        () = tidy(Arc::clone(desk)) => End::Stop(Err(Failure::internal("nobody tidies the folder any more"))),
        () = keep_tending(desk) => End::Stop(Err(Failure::internal("nobody tends the keys any more"))),
        () = unused(door, desk.settings().lock_after_minutes) => End::Lock(None),
        () = desk.rekeyed() => End::Rekeyed,
        reply = lock_order(orders) => End::Lock(reply),
        () = stop.asked() => End::Stop(Ok(())),
    };
    session.close().await;
    end
}

/// Waits for the order to lock.
async fn lock_order(orders: &mut mpsc::Receiver<Order>) -> Option<oneshot::Sender<Result<u64, Failure>>> {
    loop {
        match orders.recv().await? {
            Order::Lock(reply) => return Some(reply),
            // It was unlocked meanwhile.
            Order::Unlock(_, reply) => {
                let _ = reply.send(Ok(()));
            }
        }
    }
}

/// Waits until no command has come for so long; for ever if that is 0.
async fn unused(door: &Door, minutes: u32) {
    if minutes == 0 {
        return std::future::pending().await;
    }
    loop {
        tokio::select! {
            () = door.used() => {}
            () = sleep(Duration::from_secs(u64::from(minutes) * 60)) => {
                if door.in_use() {
                    continue;
                }
                tracing::info!(minutes, "no command came for so long");
                return;
            }
        }
    }
}

/// Closes the desk and drops everything secret with it, once everybody has let go of it. If somebody does not, the
/// daemon must end: it would not be locked.
async fn release(mut desk: Arc<Desk>) -> Result<(), Failure> {
    for _ in 0..RELEASE_TRIES {
        match Arc::try_unwrap(desk) {
            Ok(last) => {
                let closed = spawn_blocking(move || last.close()).await;
                return closed.unwrap_or_else(|error| Err(Failure::internal(error)));
            }
            Err(shared) => desk = shared,
        }
        sleep(RELEASE).await;
    }
    let closed = desk.close();
    closed.and(Err(Failure::internal("something still uses the keys after 30 seconds; the node ends")))
}

/// Makes, signs and destroys keys as time goes by, and key pages ahead of need.
async fn keep_tending(desk: &Arc<Desk>) {
    loop {
        tokio::select! {
            () = sleep(ROTATE) => {}
            () = desk.page_wanted() => {}
        }
        tend(desk).await;
    }
}

async fn tend(desk: &Arc<Desk>) {
    let tending = Arc::clone(desk);
    let done = spawn_blocking(move || {
        tending.rotate_or_tell(clock::now_ms());
        tending.tend_pages()
    });
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => desk.trouble(&format!("no key page could be made ahead: {failure}")),
        Err(error) => tracing::error!(%error, "keys could not be looked at"),
    }
}

/// Removes now and then the sealed attachments that nobody needs any more.
async fn tidy(desk: Arc<Desk>) {
    loop {
        sleep(TIDY).await;
        let tidying = Arc::clone(&desk);
        if let Err(error) = spawn_blocking(move || tidying.tidy()).await {
            tracing::error!(%error, "the folder could not be tidied");
        }
    }
}

/// Takes up a new `directory.bin` soon after it was put there, and at once on SIGHUP; then the broker is tried again
/// at once as well.
async fn watch(desk: Arc<Desk>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    loop {
        let asked = tokio::select! {
            told = hangup.recv() => told.is_some(),
            () = sleep(LOOK) => false,
        };
        let looking = Arc::clone(&desk);
        let look = move || {
            looking.renew(asked);
            looking.look_for_policy(clock::now_ms());
            // What is wrong with the store ends the session as well.
            if let Err(error) = looking.judge_doubted() {
                looking.trouble(&format!("evidence that is not believed could not be judged again: {error}"));
            }
        };
        if let Err(error) = spawn_blocking(look).await {
            tracing::error!(%error, "directory.bin, the policy and evidence could not be looked at");
        }
        if asked {
            desk.reconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::desk::Request;

    /// On a clock that the test moves.
    #[tokio::test(start_paused = true)]
    async fn commands_put_off_the_lock_and_status_does_not() {
        let (door, _orders) = Door::new(None);
        let idle = Arc::clone(&door);
        let waiting = tokio::spawn(async move { unused(&idle, 10).await });
        for (request, ends) in [(Request::Keys, false), (Request::Keys, false), (Request::Status, true)] {
            sleep(Duration::from_secs(4 * 60)).await;
            assert!(!waiting.is_finished());
            let _ = door.answers(request).await;
            sleep(Duration::from_secs(5 * 60)).await;
            assert_eq!(waiting.is_finished(), ends);
        }
        // A command that works for longer than that is use.
        let (work, idle) = (door.work(), Arc::clone(&door));
        let waiting = tokio::spawn(async move { unused(&idle, 10).await });
        sleep(Duration::from_secs(35 * 60)).await;
        assert!(!waiting.is_finished());
        drop(work);
        sleep(Duration::from_secs(10 * 60)).await;
        assert!(waiting.is_finished());
        let never = tokio::time::timeout(Duration::from_secs(1_000_000), unused(&door, 0)).await;
        assert!(never.is_err(), "0 is for ever");
    }
}

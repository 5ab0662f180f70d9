//! The daemon: one process that has the data folder, keeps the session and answers commands.

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};

use super::{control, desk::Desk, failure::Failure, session::Session};

/// How often `directory.bin` is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often sealed attachments are looked through.
const TIDY: Duration = Duration::from_secs(600);

/// Runs until SIGTERM or SIGINT, or until the store fails.
pub(crate) fn run(desk: Desk) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::internal)?;
    let desk = Arc::new(desk);
    let outcome = runtime.block_on(serve(Arc::clone(&desk)));
    // Waits for work on the disk that has begun, so that nothing is cut off that could still be kept.
    drop(runtime);
    let closed = desk.close();
    outcome.and(closed)
}

async fn serve(desk: Arc<Desk>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::internal)?;
    let listener = control::listen(desk.folder())?;
    let session = Session::new(Arc::clone(&desk))?;
    tracing::info!(agency = desk.keys().agency, broker = %desk.settings().broker, "node runs");
    let outcome = tokio::select! {
        failure = session.run() => Err(failure),
        failure = desk.failed() => Err(failure),
        () = tidy(Arc::clone(&desk)) => Err(Failure::internal("nobody tidies the folder any more")),
        () = watch(Arc::clone(&desk)) => Err(Failure::internal("nobody watches the directory any more")),
        () = control::serve(listener, Arc::clone(&desk)) => Err(Failure::internal("the control socket ended")),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("node stops");
    // The next one would remove it as well; commands see sooner that nobody is there.
    let _ = std::fs::remove_file(desk.folder().socket());
    session.close().await;
    outcome
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
        if let Err(error) = spawn_blocking(move || looking.renew(asked)).await {
            tracing::error!(%error, "directory.bin could not be looked at");
        }
        if asked {
            desk.reconnect();
        }
    }
}

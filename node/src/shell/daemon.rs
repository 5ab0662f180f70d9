//! The daemon: one process that has the data folder, keeps the session and answers commands.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{control, desk::Desk, failure::Failure, session::Session};

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

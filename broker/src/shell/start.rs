//! Starting and stopping: folder, index, journal, sequencer, listener, in this order, and back.

use std::sync::Arc;

use lintas_config::issue::{self, IssueError};
use lintas_journal::{CommitError, Committer, FileDisk, Fold, FoldError, Journal, Limits, OpenError, Record};
use lintas_link::{CloseCode, LinkError, Server, TransportKey};
use lintas_proto::{
    schema::BrokerSecrets,
    sign::{KeyRole, SigningKey},
};
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    blobs::Blobs,
    folder::{Folder, FolderError},
    index::{self, Index},
    listener::{Members, listen},
    sequencer::{Intake, Sequencer},
    shared::{Parts, Shared},
};
use crate::core::{
    ledger::Ledger,
    record::{Fact, RECORD_BYTES_MAX},
    snapshot,
};

/// Most intakes waiting for the sequencer; sessions beyond it wait.
const INTAKES_MAX: usize = 1_024;

/// Why a broker did not run, or stopped.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key cannot be used.
    #[error("broker.keys: {0}")]
    Key(#[from] IssueError),
    /// The index cannot be opened, not even anew.
    #[error("index: {0}; check the disk")]
    Index(#[from] sled::Error),
    /// The journal does not open.
    #[error("journal: {0}")]
    Open(#[from] OpenError),
    /// The journal failed.
    #[error("journal: {0}")]
    Commit(#[from] CommitError),
    /// The network cannot be used.
    #[error("network: {0}")]
    Link(#[from] LinkError),
    /// The system gives no thread or signal.
    #[error("system: {0}")]
    Io(#[from] std::io::Error),
    /// The roster does not name this broker with these keys.
    #[error(
        "the directory does not list the broker `{0}` with these keys; ask the region authority for a new directory"
    )]
    NotListed(String),
    /// The broker stopped because what is durable became uncertain.
    #[error("the broker stopped because its disk failed; start it again, it will recover what is durable")]
    Failed,
}

/// Runs a broker until SIGTERM or SIGINT, or until its disk fails. `ready` is called once it listens.
pub(crate) async fn run(folder: &Folder, ready: impl FnOnce(std::net::SocketAddr)) -> Result<(), RunError> {
    let (settings, secrets, directory) = (folder.settings()?, folder.secrets()?, folder.directory()?);
    let (transport, receipt_key) = keys(&secrets)?;
    let listed = directory.brokers().iter().any(|broker| {
        broker.name == secrets.name
            && broker.transport_key == transport.public()
            && broker.receipt_key.as_bytes() == &receipt_key.public_key()
    });
    if !listed {
        return Err(RunError::NotListed(secrets.name));
    }
    let (db, anchor) = index::open(&folder.index())?;
    let mut fold = Folding::default();
    let limits = journal_limits(settings.segment_mib);
    let (journal, report) = Journal::open(FileDisk::open(folder.journal())?, limits, anchor, &mut fold)?;
    tracing::info!(?report, "journal open");
    let durable = report.next_sequence.saturating_sub(1);
    let committer = Committer::start(journal)?;
    let parts = Parts {
        ledger: fold.0,
        directory,
        broker: secrets.name.clone(),
        receipt_key,
        blobs: Blobs::open(folder.blobs())?,
        reader: committer.handle().reader(),
        credit: usize::try_from(settings.credit).unwrap_or(1),
    };
    let shared = Arc::new(Shared::new(parts, durable));
    let (intake, intakes) = mpsc::channel(INTAKES_MAX);
    let sequencer = Sequencer {
        shared: Arc::clone(&shared),
        journal: committer.handle(),
        index: Arc::new(Index::start(db)?),
        intake: intakes,
        runtime: tokio::runtime::Handle::current(),
        last_sequence: durable,
        spent_bytes: 0,
    };
    let thread = std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || sequencer.run())?;
    let members = Arc::new(Members(Arc::clone(&shared.directory)));
    let server = Server::bind(settings.listen, &transport, members)?;
    ready(server.local_addr()?);
    let failed = serve(&server, &shared, &intake).await?;
    if failed {
        return Err(RunError::Failed);
    }
    server.close(CloseCode::ShuttingDown, "the broker is stopping");
    // A sequencer that stopped by itself has said why.
    let _ = intake.send(Intake::Stop).await;
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    committer.close()?;
    server.wait_idle().await;
    tracing::info!("broker stopped");
    Ok(())
}

/// Serves until a signal (false) or until the disk fails (true).
async fn serve(
    server: &Server,
    shared: &Arc<Shared>,
    intake: &mpsc::Sender<Intake>,
) -> Result<bool, RunError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut failed = shared.failed.subscribe();
    tokio::select! {
        () = listen(server, shared, intake) => Ok(false),
        _ = terminate.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
        _ = failed.wait_for(|failed| *failed) => Ok(true),
    }
}

fn keys(secrets: &BrokerSecrets) -> Result<(TransportKey, SigningKey), RunError> {
    let transport = TransportKey::from_seed(&*issue::seed("transport", &secrets.transport_seed)?)?;
    let receipt = issue::seed("receipt", &secrets.receipt_seed)?;
    let receipt = SigningKey::from_seed(KeyRole::Receipt, &receipt).map_err(IssueError::from)?;
    Ok((transport, receipt))
}

fn journal_limits(segment_mib: u32) -> Limits {
    let record = u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX);
    Limits {
        segment_bytes: segment_mib.saturating_mul(1 << 20).max(16 << 20),
        record_bytes_max: record,
        group_bytes_max: 4 * record,
        mailbox_bytes_max: 8 * u64::from(record),
        ..Limits::default()
    }
}

/// Recovery: the same fold as the forward path.
#[derive(Debug, Default)]
struct Folding(Ledger);

impl Fold for Folding {
    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.0 = snapshot::decode(bytes).map_err(FoldError::new)?;
        Ok(())
    }

    fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
        let fact = Fact::from_record(record).map_err(FoldError::new)?;
        self.0.apply(record.sequence, &fact).map(drop).map_err(FoldError::new)
    }
}

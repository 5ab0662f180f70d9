//! Starting and stopping: folder, index, journal, publisher, sequencer, listener, in this order, and back.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use lintas_config::{
    Directory,
    directory::Broker,
    issue::{self, IssueError},
    policy::Policies,
    settings::BrokerSettings,
};
use lintas_journal::{Anchor, Committer, Depth, FileDisk, Journal, Limits};
use lintas_link::{CloseCode, Server, TransportKey};
use lintas_proto::{
    id::hex,
    schema::BrokerSecrets,
    sign::{KeyRole, SigningKey},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    blobs::{Blobs, Room},
    clock::Clock,
    directory_streams::Desk,
    folder::Folder,
    index::{self, Index},
    intake::Intake,
    keeper::Keeper,
    leavers::Leavers,
    listener::{Members, listen},
    log::{Behind, LISTEN_MS_MAX, LogDesk, LogState, Standing, StandingError, publisher::Publisher},
    operator,
    recover::{Folding, begin_log, ended_logs},
    run_error::RunError,
    sequencer::{Logbook, Refusals, Sequencer, room},
    shared::{Parts, Shared},
};
use crate::core::{earlier::Taken, quota::Quota, record::RECORD_BYTES_MAX, rules::Rules};

/// Longest wait for threads when the disk has failed, milliseconds.
const PARTING_MS_MAX: u64 = 1_000;
/// Most intakes waiting for the sequencer; sessions beyond it wait.
const INTAKES_MAX: usize = 1_024;

/// Waits for SIGTERM or SIGINT, from now on.
pub(crate) fn signals() -> Result<impl Future<Output = ()>, RunError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Runs a broker until `stop`, or until its disk fails. `ready` is called once it listens.
pub(crate) async fn run(
    folder: &Folder,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), RunError> {
    serve(folder, stop, |address, _| ready(address)).await
}

/// As [`run`]; `ready` sees what everybody shares.
pub(super) async fn serve(
    folder: &Folder,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(SocketAddr, &Arc<Shared>),
) -> Result<(), RunError> {
    let (settings, secrets) = (folder.settings()?, folder.secrets()?);
    let _lock = folder.lock()?;
    let directory = folder.directory()?;
    let (transport, speaks) = (transport_key(&secrets)?, Voice::of(&secrets)?);
    let me = Me {
        name: secrets.name.clone(),
        transport: transport.public(),
        receipt: speaks.receipt_key.public_key(),
        log: speaks.log_key.public_key(),
    };
    me.has_its_name(&directory)?;
    // The settings cap the journal.
    let uncapped = Limits { segments_max: u32::MAX, ..Limits::default() };
    let (engine, intake) = Engine::start(folder, &settings, uncapped, directory, speaks)?;
    let keeper = Keeper::new(Arc::clone(&engine.shared), folder.clone());
    let shared = Arc::clone(&engine.shared);
    let mut failed = shared.failed.subscribe();
    let served = async {
        let mut changed = shared.changed.subscribe();
        keeper.look(true).await;
        me.is_listed(&shared.directory())?;
        LogState::find_cosigned(&shared)?;
        let begun = Standing::begin(&shared);
        match begun {
            // Others may know more.
            Err(StandingError::Behind(ref behind)) if !behind.is_witnessed() => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        let server = Server::bind(settings.listen, &transport, Arc::new(Members(Arc::clone(&shared))))?;
        let log = LogDesk::new(Arc::clone(&shared), intake.clone());
        let desk = Arc::new(Desk::new(Arc::clone(&shared), Arc::clone(&keeper), log));
        let ways = (intake.clone(), Arc::clone(&desk));
        tokio::pin!(stop);
        if begun.is_err() {
            let behind = hear_others(&server, &shared, (intake, desk), stop).await;
            return Ok((server, Err(RunError::Behind(behind))));
        }
        let asked = operator::open(settings.metrics, &shared).await?;
        ready(server.local_addr()?, &shared);
        let mut witnesses = JoinSet::new();
        witnesses.spawn(LogState::witness(Arc::clone(&shared)));
        let mut behind = shared.log.standing.behind.subscribe();
        let ended = tokio::select! {
            () = listen(&server, &shared, ways, &mut stop) => Ok(()),
            _ = failed.wait_for(|failed| *failed) => Ok(()),
            () = asked => Ok(()),
            behind = Standing::is_behind(&mut behind) => Err(RunError::Behind(behind)),
            error = keeper.watch() => error.map_err(RunError::from),
            left = follow(&server, &shared, &me, &mut changed) => left,
        };
        let ended = match ended {
            Err(RunError::Behind(_)) => {
                Err(RunError::Behind(hear_others(&server, &shared, (intake, desk), stop).await))
            }
            other => other,
        };
        Ok::<_, RunError>((server, ended))
    };
    let served = served.await;
    // A change that has begun is made whole.
    let _turn = keeper.close().await;
    if let Ok((server, _)) = &served {
        server.close(CloseCode::ShuttingDown, "the broker is stopping");
    }
    engine.stop().await?;
    let (server, ended) = served?;
    server.wait_idle().await;
    ended?;
    tracing::info!("broker stopped");
    Ok(())
}

/// A broker that must stop serves nobody, and hears for a while what others know of its log.
async fn hear_others(
    server: &Server,
    shared: &Arc<Shared>,
    ways: (mpsc::Sender<Intake>, Arc<Desk>),
    stop: impl Future<Output = ()>,
) -> Arc<Behind> {
    if !*shared.stopping.borrow() {
        let mut failed = shared.failed.subscribe();
        let heard = async {
            tokio::select! {
                () = Standing::is_settled(shared) => {}
                () = sleep(Duration::from_millis(LISTEN_MS_MAX)) => {}
                _ = failed.wait_for(|failed| *failed) => {}
                () = stop => {}
            }
        };
        listen(server, shared, ways, heard).await;
    }
    Standing::is_behind(&mut shared.log.standing.behind.subscribe()).await
}

/// After each change of the directory: ends the connections of whoever has left. Ends itself when this broker has.
async fn follow(
    server: &Server,
    shared: &Shared,
    me: &Me,
    changed: &mut watch::Receiver<u64>,
) -> Result<(), RunError> {
    while changed.changed().await.is_ok() {
        let closed = server.recheck();
        if closed > 0 {
            tracing::info!(closed, "connections closed: their keys have left the directory");
        }
        let directory = shared.directory();
        me.is_listed(&directory)?;
        if ended_logs(&directory, &me.name).is_some_and(|ended| ended > shared.ledger().audit().number()) {
            return Err(RunError::LogEnded);
        }
    }
    Ok(())
}

/// How the roster must name this broker.
struct Me {
    name: String,
    transport: [u8; 32],
    receipt: [u8; 32],
    log: [u8; 32],
}

/// In whose name the broker signs, and with what.
pub(super) struct Voice {
    pub(super) name: String,
    pub(super) receipt_key: SigningKey,
    pub(super) log_key: SigningKey,
}

impl Voice {
    pub(super) fn of(secrets: &BrokerSecrets) -> Result<Self, IssueError> {
        let receipt = issue::seed("receipt", &secrets.receipt_seed)?;
        let log = issue::seed("log", &secrets.log_seed)?;
        Ok(Self {
            name: secrets.name.clone(),
            receipt_key: SigningKey::from_seed(KeyRole::Receipt, &receipt)?,
            log_key: SigningKey::from_seed(KeyRole::Log, &log)?,
        })
    }
}

impl Me {
    fn is_listed(&self, directory: &Directory) -> Result<(), RunError> {
        if directory.brokers().iter().any(|broker| broker.name == self.name && self.has_keys_of(broker)) {
            return Ok(());
        }
        self.has_its_name(directory)?;
        Err(RunError::NotListed(self.name.clone()))
    }

    /// Refuses a name that the directory does not give to these keys, if it lists them. Before anything is looked for under it.
    fn has_its_name(&self, directory: &Directory) -> Result<(), RunError> {
        match directory.brokers().iter().find(|broker| self.has_keys_of(broker)) {
            Some(broker) if broker.name != self.name => {
                Err(RunError::OtherName { named: self.name.clone(), listed: broker.name.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn has_keys_of(&self, broker: &Broker) -> bool {
        broker.transport_key == self.transport
            && broker.receipt_key.as_bytes() == &self.receipt
            && broker.log_key.as_bytes() == &self.log
    }
}

/// Everything behind the listener.
pub(super) struct Engine {
    folder: Folder,
    pub(super) shared: Arc<Shared>,
    committer: Committer<FileDisk>,
    index: Arc<Index>,
    publisher: Publisher,
    sequencer: JoinHandle<()>,
}

impl Engine {
    /// Recovers, and starts the threads. Of `limits` the account of segments is used.
    pub(super) fn start(
        folder: &Folder,
        settings: &BrokerSettings,
        limits: Limits,
        directory: Directory,
        Voice { name: broker, receipt_key, log_key }: Voice,
    ) -> Result<(Self, mpsc::Sender<Intake>), RunError> {
        let (db, anchor) = index::open(&folder.index())?;
        let mut fold = Folding::default();
        let mut journal = open_journal(folder, journal_limits(settings, limits), anchor, &mut fold)?;
        let is_new = begin_log(&mut journal, &mut fold.ledger, &directory, &broker)?;
        let durable = journal.next_sequence().saturating_sub(1);
        let Folding { ledger, spent_bytes, spent_records, .. } = fold;
        let room = Room::new(settings.attachments_mib_max, settings.free_mib_min);
        let blobs = Blobs::open(folder.blobs(), room, |agency, blob| ledger.names_blob(agency, blob))?;
        for (agency, blob) in ledger.named_blobs().filter(|(agency, blob)| !blobs.has(agency, blob)) {
            tracing::error!(agency, blob = hex(blob), "an attachment that a packet names is not there");
        }
        let committer = Committer::start(journal)?;
        let credit = usize::try_from(settings.credit).unwrap_or(1);
        let reader = committer.handle().reader();
        let clock = Clock::begin(is_new, ledger.time_at(0), |now_ms| directory.at(now_ms).in_force());
        let (hash, roster_version) = (*directory.hash(), directory.roster().version);
        let present = Taken { hash, since_ms: clock.now_ms(), roster_version, cause: String::new() };
        let earlier = folder.earlier(present)?;
        let home = folder.clone();
        // What was in force stays so, also when the clock was set back.
        let now_ms = ledger.time_at(clock.now_ms());
        let store = folder.policies(&directory, now_ms)?;
        store.agrees_with_log(directory.roster(), |agency| ledger.audit().policy(agency).copied())?;
        let policies =
            Policies::new(directory.shared_roster(), store.live(directory.roster(), now_ms), now_ms)
                .map_err(|problem| RunError::Baseline(problem.to_string()))?;
        tracing::info!(count = policies.bundles().count(), "policies are in force");
        let rules = Rules::new(Arc::new(directory), Arc::new(policies));
        let parts = Parts {
            ledger,
            rules,
            policies: store,
            earlier,
            broker,
            receipt_key,
            log_key,
            folder: home,
            blobs,
            reader,
            credit,
            clock,
        };
        let shared = Arc::new(Shared::new(parts, durable));
        let publisher = Publisher::start(&shared, folder.audit())?;
        let (intake, intakes) = mpsc::channel(INTAKES_MAX);
        let index = Arc::new(Index::start(db)?);
        let sequencer = Sequencer {
            shared: Arc::clone(&shared),
            journal: committer.handle(),
            index: Arc::clone(&index),
            intake: intakes,
            changed: shared.changed.subscribe(),
            runtime: tokio::runtime::Handle::current(),
            last_sequence: durable,
            rounds: VecDeque::new(),
            ended: VecDeque::new(),
            tick_ms: 0,
            room: room::Room::new(spent_bytes, spent_records),
            quota: Quota::new(settings.submissions_per_minute, settings.queue_entries_max),
            refusals: Refusals::default(),
            logbook: Logbook::default(),
            is_behind: false,
            leavers: Leavers::default(),
        };
        let thread = std::thread::Builder::new().name("sequencer".to_owned());
        let sequencer = thread.spawn(move || sequencer.run())?;
        let folder = folder.clone();
        Ok((Self { folder, shared, committer, index, publisher, sequencer }, intake))
    }

    /// Waits for the sequencer, which ends with the last session, and closes the journal. When the disk has
    /// failed nothing is waited for: a thread may hang on it.
    pub(super) async fn stop(self) -> Result<(), RunError> {
        let Self { folder, shared, committer, index, publisher, sequencer } = self;
        let journal = committer.handle();
        let damage = || journal.damage().map(ToString::to_string);
        let damage = || damage().or_else(|| journal.unreadable().map(ToString::to_string));
        let failed = |why: RunError| why_it_failed(&folder, damage(), why);
        if *shared.failed.borrow() {
            let parting = tokio::task::spawn_blocking(move || drop((sequencer, publisher, committer)));
            let _ = timeout(Duration::from_millis(PARTING_MS_MAX), parting).await;
            return Err(failed(RunError::Failed));
        }
        // A sequencer that panicked has said so.
        let threads = move || {
            let _ = sequencer.join();
            publisher.stop();
        };
        let _ = tokio::task::spawn_blocking(threads).await;
        if *shared.failed.borrow() {
            return Err(failed(RunError::Failed));
        }
        let anchor = committer.close().map_err(|error| failed(error.into()))?;
        if let Some(index) = Arc::into_inner(index) {
            index.finish(anchor);
        }
        Ok(())
    }
}

/// Damage, if that was found, and not what followed from it. The next start is to know.
fn why_it_failed(folder: &Folder, damage: Option<String>, why: RunError) -> RunError {
    let Some(what) = damage else { return why };
    if let Err(error) = folder.journal_is_damaged(&what) {
        tracing::error!(%error, "the next start does not know that the journal is damaged; run `lintas-broker check` before it");
    }
    RunError::Damaged(what)
}

/// Once damage was found, nobody is let in before everything was verified.
fn open_journal(
    folder: &Folder,
    limits: Limits,
    anchor: Option<Anchor>,
    fold: &mut Folding,
) -> Result<Journal<FileDisk>, RunError> {
    let depth = if folder.journal_was_damaged() { Depth::Whole } else { Depth::Indexes };
    let disk = FileDisk::open(folder.journal())?;
    let (journal, _) = Journal::open_untended(disk, limits, anchor, fold, depth)?;
    folder.journal_is_whole()?;
    Ok(journal)
}

fn transport_key(secrets: &BrokerSecrets) -> Result<TransportKey, RunError> {
    Ok(TransportKey::from_seed(&*issue::seed("transport", &secrets.transport_seed)?)?)
}

/// A group holds what the sequencer plans at once, with the admissions, and a segment holds two groups. Of the two
/// caps of segments the lower counts.
pub(super) fn journal_limits(settings: &BrokerSettings, others: Limits) -> Limits {
    let record = u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX);
    Limits {
        segment_bytes: settings.broker_segment_mib().saturating_mul(1 << 20),
        segments_max: settings.segments_max().min(others.segments_max),
        record_bytes_max: record,
        group_bytes_max: 3 * record,
        mailbox_bytes_max: 8 * u64::from(record),
        ..others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_cap_the_journal() {
        let text = "listen = \"127.0.0.1:0\"\nsegment_mib = 32\njournal_mib_max = 300";
        let settings = BrokerSettings::parse(text).unwrap();
        let uncapped = Limits { segments_max: u32::MAX, ..Limits::default() };
        let limits = journal_limits(&settings, uncapped);
        assert_eq!((limits.segment_bytes, limits.segments_max), (32 << 20, 9));
        let lower = Limits { segments_max: 5, ..Limits::default() };
        assert_eq!(journal_limits(&settings, lower).segments_max, 5);
    }
}

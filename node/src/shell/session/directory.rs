//! The session's care for the directory: keysets are brought, newer directories fetched, one at a time.

use std::net::SocketAddr;

use bytes::Bytes;
use lintas_config::words::fingerprint_words;
use lintas_proto::schema::DirectoryGet;

use super::*;
use crate::shell::directory_link::{AskError, ask, bring};

/// First pause after a fetch that brought nothing new, milliseconds.
const PAUSE_MS_MIN: u64 = 2_000;
/// Longest such pause.
const PAUSE_MS_MAX: u64 = 60_000;
/// How often keysets are looked for without a sign.
const LOOK_MS: u64 = 3_600_000;

/// What became of the keysets that were to be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    /// There was none.
    Nothing,
    /// All are the broker's.
    All,
    /// Some are not.
    Failed,
}

impl Session {
    /// Brings keysets and fetches directories, as long as the connection lives.
    pub(super) async fn keep_current(&self, connection: &Connection) -> Result<(), Ended> {
        let (mut failures, mut wanted, mut last) = (0u32, false, None::<Instant>);
        loop {
            let brought = self.bring(connection).await?;
            if wanted || brought == Brought::All {
                if last.is_some_and(|last| last.elapsed() > Duration::from_millis(2 * PAUSE_MS_MAX)) {
                    failures = 0;
                }
                let fetched = self.fetch_directory(connection).await?;
                last = Some(Instant::now());
                // What failed is tried again; what is the same is asked for again only when somebody wants it.
                wanted = fetched.is_none();
                failures = if fetched == Some(true) { 0 } else { failures.saturating_add(1) };
                if failures > 0 {
                    sleep(Duration::from_millis(pause_ms(failures, PAUSE_MS_MAX))).await;
                }
            } else {
                let failed = brought == Brought::Failed;
                failures = failures.saturating_add(u32::from(failed));
                let patience = if failed { pause_ms(failures, PAUSE_MS_MAX) } else { LOOK_MS };
                tokio::select! {
                    () = self.desk.directory_wanted() => wanted = true,
                    // Another one may be in its place, signed by another machine with the same keys.
                    () = sleep(Duration::from_millis(patience)) => wanted = failed,
                }
            }
        }
    }

    /// Connects to whoever answers in the broker's place, to ask for a directory that names its key. Nothing else is
    /// said there: neither who this agency is, but for its TLS key, nor what it has to send.
    pub(super) async fn ask_stranger(&self, address: SocketAddr) -> Result<Connection, Ended> {
        let stranger = self.client.connect_to_anyone(address).await?;
        let key = stranger.peer_key();
        let question = self.question().await?;
        let answer = match stranger.open_stream().await {
            Ok(streams) => ask(streams, &question).await,
            Err(error) => Err(error.into()),
        };
        stranger.close(CloseCode::Done, "");
        let taken = match answer {
            Ok(bytes) => self.take(bytes).await?.map(drop),
            Err(error) => Err(error.to_string()),
        };
        if !self.desk.directory().brokers().iter().any(|broker| broker.transport_key == key) {
            let why = taken.err().map(|why| format!(" ({why})")).unwrap_or_default();
            return Err(Ended::Refused(format!(
                "the machine at {address} is not a broker of this region; its key: {}; ask the operator of the \
                 broker{why}. The outbox keeps everything",
                fingerprint_words(&key)
            )));
        }
        Ok(self.client.connect(address).await?)
    }

    async fn bring(&self, connection: &Connection) -> Result<Brought, Ended> {
        let mut brought = Brought::Nothing;
        for keyset in self.desk.keysets_to_bring() {
            let done = match connection.open_stream().await {
                Ok(streams) => bring(streams, keyset).await,
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(()) if brought == Brought::Nothing => brought = Brought::All,
                Ok(()) => {}
                Err(error) => {
                    self.told(error)?;
                    brought = Brought::Failed;
                }
            }
        }
        Ok(brought)
    }

    /// Whether the directory changed; none if it could not be fetched or was not believed.
    async fn fetch_directory(&self, connection: &Connection) -> Result<Option<bool>, Ended> {
        let question = self.question().await?;
        let answer = match connection.open_stream().await {
            Ok(streams) => ask(streams, &question).await,
            Err(error) => Err(error.into()),
        };
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(error) => {
                self.told(error)?;
                return Ok(None);
            }
        };
        let changed = match self.take(bytes).await? {
            Ok(changed) => changed,
            Err(why) => {
                self.desk.trouble(&why);
                return Ok(None);
            }
        };
        let waits = self.blocking(Desk::seal_again).await?;
        if waits.map_err(|error| Ended::from(Broken::Store(error)))? {
            self.desk.want_directory();
        }
        Ok(Some(changed))
    }

    async fn question(&self) -> Result<DirectoryGet, Ended> {
        let question = self.blocking(|desk| desk.directory().question()).await?;
        question.map_err(|error| Ended::Fatal(Failure::internal(error)))
    }

    async fn take(&self, bytes: Bytes) -> Result<Result<bool, String>, Ended> {
        let taken = self.blocking(move |desk| desk.take_bytes(&bytes)).await?;
        Ok(taken.map_err(|failure| failure.message))
    }

    /// Ends the session with the connection; anything else is told.
    fn told(&self, error: AskError) -> Result<(), Ended> {
        if error.ends_connection()
            && let AskError::Link(error) = error
        {
            return Err(error.into());
        }
        self.desk.trouble(&error.to_string());
        Ok(())
    }
}

/// How long to wait after so many failures in a row.
pub(super) fn pause_ms(failures: u32, max_ms: u64) -> u64 {
    let doubled = 1u64.checked_shl(failures.saturating_sub(1).min(32)).unwrap_or(u64::MAX);
    PAUSE_MS_MIN.saturating_mul(doubled).min(max_ms)
}

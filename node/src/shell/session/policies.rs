//! The session's care for the own policy: the broker is asked what it has, and brought what it lacks, one version after
//! another.

use std::time::Duration;

use bytes::Bytes;
use lintas_proto::schema::Reason;
use tokio::time::sleep;

use super::{Connection, Desk, Ended, Session, directory::pause_ms};
use crate::shell::{
    policies::{NotTaken, files::Version},
    policy_link::{PolicyError, ask, bring},
};

/// How often the broker is asked without a sign.
const LOOK_MS: u64 = 3_600_000;
/// Longest pause after something went wrong, milliseconds.
const PAUSE_MS_MAX: u64 = 900_000;
/// Most bytes of bundles that are fetched before they are looked at.
const FETCHED_BYTES_MAX: usize = 64 << 20;

impl Session {
    /// Keeps the broker's policy of this agency and this node's the same, as long as the connection lives.
    pub(super) async fn keep_policies(&self, connection: &Connection) -> Result<(), Ended> {
        let mut failures = 0u32;
        loop {
            let trouble = self.settle_policies(connection).await?.err();
            failures = if trouble.is_some() { failures.saturating_add(1) } else { 0 };
            self.note_trouble(trouble);
            let patience = if failures == 0 { LOOK_MS } else { pause_ms(failures, PAUSE_MS_MAX) };
            tokio::select! {
                () = self.desk.shelf().wanted() => {}
                () = sleep(Duration::from_millis(patience)) => {}
            }
        }
    }

    /// What is in the way, of everything that is to be done.
    async fn settle_policies(&self, connection: &Connection) -> Result<Result<(), Trouble>, Ended> {
        let mut offered: Vec<Bytes> = Vec::new();
        let mut known = self.desk.shelf().newest();
        let (version, hash) = loop {
            let answer = match connection.open_stream().await {
                Ok(streams) => ask(streams, known).await,
                Err(error) => Err(error.into()),
            };
            let offer = match answer {
                Ok(offer) => offer,
                Err(error) => return told(error).map(Err),
            };
            self.desk.heard_of_policies(&offer);
            let newest = offer.bundles.last().and_then(|bytes| Version::read(bytes).ok());
            let newest = newest.map_or(0, |(newest, _)| newest.version);
            if newest <= known {
                break (offer.version, offer.hash);
            }
            known = newest;
            offered.extend(offer.bundles);
            if offered.iter().map(Bytes::len).sum::<usize>() > FETCHED_BYTES_MAX {
                return Ok(Err(Trouble::plain("the broker sends more versions than can be looked at")));
            }
            if known >= offer.version {
                break (offer.version, offer.hash);
            }
        };
        let missing = self.blocking(move |desk: &Desk| {
            desk.take_policies(&offered)?;
            desk.shelf().after(version, &hash)
        });
        let missing = match missing.await? {
            Ok(missing) => missing,
            Err(not) => return Ok(Err(not.into())),
        };
        for (version, bundle) in missing {
            // Another one has taken its place: this is done anew, at once.
            if !self.desk.shelf().is_to_bring(&bundle) {
                return Ok(Ok(()));
            }
            let brought = match connection.open_stream().await {
                Ok(streams) => bring(streams, bundle).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = brought {
                return told(error).map(|trouble| Err(trouble.about(version)));
            }
            tracing::info!(version, "the broker has the release policy");
            self.desk.shelf().note_broker(|broker| broker.version = version);
        }
        Ok(Ok(()))
    }

    fn note_trouble(&self, trouble: Option<Trouble>) {
        if let Some(trouble) = &trouble {
            tracing::warn!(why = trouble.why, "trouble with the release policy");
        }
        self.desk.shelf().note_broker(|broker| {
            broker.forked = trouble.as_ref().is_some_and(|trouble| trouble.forked);
            broker.refused = trouble.as_ref().and_then(|trouble| trouble.refused);
            broker.trouble = trouble.map(|trouble| trouble.why);
        });
    }
}

/// What keeps the broker from having what this node has.
struct Trouble {
    why: String,
    forked: bool,
    /// The broker will not take that version as it is.
    refused: Option<u64>,
    /// It may take it later.
    again: bool,
}

impl Trouble {
    fn plain(why: impl Into<String>) -> Self {
        Self { why: why.into(), forked: false, refused: None, again: true }
    }

    fn about(self, version: u64) -> Self {
        let why = format!("the broker does not take version {version} of this agency's policy: {}", self.why);
        if self.again {
            return Self { why, ..self };
        }
        let why = format!(
            "{why} Mend that and publish again: the next one takes the place of version {version}, which is in force here only"
        );
        Self { why, refused: Some(version), ..self }
    }
}

impl From<NotTaken> for Trouble {
    fn from(not: NotTaken) -> Self {
        match not {
            NotTaken::Untrue(why) => Self::plain(format!("the broker's copy of this agency's policy: {why}")),
            NotTaken::Forked(why) => Self { forked: true, ..Self::plain(why) },
            NotTaken::Failed(failure) => Self::plain(failure.message),
        }
    }
}

/// Ends the session with the connection; anything else is trouble.
fn told(error: PolicyError) -> Result<Trouble, Ended> {
    if error.ends_connection()
        && let PolicyError::Link(error) = error
    {
        return Err(error.into());
    }
    let again = match &error {
        PolicyError::Refused { reason, .. } => matches!(
            reason,
            Reason::Unspecified
                | Reason::StaleDirectory
                | Reason::NotYetValid
                | Reason::Quota
                | Reason::DiskFull
                | Reason::ShuttingDown
                | Reason::Clock
        ),
        PolicyError::Link(_) | PolicyError::TooLong(_) | PolicyError::Unreadable(_) | PolicyError::Slow => {
            true
        }
    };
    Ok(Trouble { again, ..Trouble::plain(error.to_string()) })
}

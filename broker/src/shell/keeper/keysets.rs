//! Keysets: what the operator and the members bring.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use lintas_proto::{
    canonical, limits,
    schema::{Keyset, Reason, SignedKeyset},
};

use super::{Keeper, LOOK_MS, Trouble, Turn, modified};
use crate::{
    core::refuse::{reason_of_succession, sentence},
    shell::{
        clock,
        directory_files::read,
        folder::{at, sync_folder},
    },
};

/// Most files of `keysets/` taken in one look.
const KEYSETS_MAX: usize = 64;
/// Where the operator puts keysets.
const KEYSETS: &str = "keysets";

impl Keeper {
    /// Takes in a keyset that the node of `bringer` brings (canonical bytes of `SignedKeyset`). Durable and in force
    /// when the answer is [`Reason::Accepted`].
    pub(crate) async fn put(self: &Arc<Self>, bringer: &str, keyset: Bytes) -> (Reason, String) {
        let bringer = bringer.to_owned();
        let put = self.in_turn(move |keeper, turn| keeper.put_in_turn(turn, &bringer, &keyset)).await;
        put.unwrap_or_else(|| {
            (Reason::ShuttingDown, "The broker is stopping; bring the keyset again.".to_owned())
        })
    }

    /// Each file of `keysets/` is taken or refused, and gets a name that says which.
    pub(super) fn look_at_keysets(&self, at_once: bool) {
        let folder = self.folder.path(KEYSETS);
        let Ok(entries) = fs::read_dir(&folder) else { return };
        let is_new = |path: &Path| path.extension().is_some_and(|extension| extension == "bin");
        let mut paths: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_new(path)).collect();
        paths.sort();
        for path in paths.iter().take(KEYSETS_MAX) {
            let settled =
                fs::metadata(path).is_ok_and(|there| clock::shown_ms().abs_diff(modified(&there)) > LOOK_MS);
            if settled || at_once {
                self.take_keyset_file(path);
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the folder is synced after the rename")]
    fn take_keyset_file(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = match read(path, limits::KEYSET_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!(%error, "a keyset cannot be read"),
        };
        let (verdict, text) = match opened(&bytes) {
            Some((signed, keyset)) => match self.take_keyset(&signed, &keyset.agency) {
                Ok(()) => ("taken", String::new()),
                Err(trouble @ (Trouble::Disk(_) | Trouble::Held(_))) => {
                    return tracing::error!(%trouble, name, "a keyset is taken later");
                }
                Err(trouble) => ("refused", trouble.to_string()),
            },
            None => ("refused", "it is no keyset".to_owned()),
        };
        if verdict == "taken" {
            tracing::info!(name, "a keyset was taken");
        } else {
            self.shared.metrics.keysets_refused.add(1);
            tracing::error!(
                name,
                text,
                "a keyset is refused; the one in force stays. Ask the agency for another"
            );
        }
        let renamed = fs::rename(path, path.with_extension(format!("bin.{verdict}")));
        if let Err(error) = renamed.and_then(|()| path.parent().map_or(Ok(()), sync_folder)).map_err(at(path))
        {
            tracing::error!(%error, "a keyset that was dealt with cannot be renamed; take it away");
        }
    }

    fn put_in_turn(&self, turn: &mut Turn, bringer: &str, bytes: &Bytes) -> (Reason, String) {
        let now_ms = self.shared.clock.now_ms();
        let refused = |reason, text: &str| {
            self.shared.metrics.keysets_refused.add(1);
            (reason, sentence(text))
        };
        let wait = |wait_ms: u64| {
            let seconds = wait_ms.div_ceil(1_000);
            refused(
                Reason::Quota,
                &format!("Too many keysets for now; the broker takes the next one in {seconds} s."),
            )
        };
        if turn.puts.wait_ms(bringer, now_ms) > 0 {
            return wait(turn.puts.wait_ms(bringer, now_ms));
        }
        turn.puts.count(bringer, now_ms);
        let Some((signed, keyset)) = opened(bytes) else {
            return refused(Reason::Malformed, "The broker could not read the keyset.");
        };
        let (directory, agency) = (self.shared.directory(), keyset.agency.as_str());
        let revokes = is_empty(&keyset) && !directory.is_self_revoked(agency);
        if directory.member(agency).is_none() {
            let text = "The keyset is of no active member of the region; ask the region authority.";
            return refused(Reason::UnknownSender, text);
        }
        if !revokes && turn.changes.wait_ms(agency, now_ms) > 0 {
            return wait(turn.changes.wait_ms(agency, now_ms));
        }
        match self.take_keyset(&signed, agency) {
            Ok(()) => {
                if !Arc::ptr_eq(&directory, &self.shared.directory()) {
                    turn.changes.count(agency, now_ms);
                }
                (Reason::Accepted, String::new())
            }
            Err(Trouble::Refused(error)) => refused(
                reason_of_succession(&error),
                &format!("The broker does not take the keyset, the one before stays in force: {error}."),
            ),
            Err(trouble @ Trouble::Held(_)) => refused(Reason::Quota, &trouble.to_string()),
            Err(trouble @ (Trouble::Disk(_) | Trouble::NotInForce { .. })) => {
                tracing::error!(%trouble, "a keyset could not be taken");
                refused(
                    Reason::DiskFull,
                    "The broker could not store the keyset; bring it again, or tell its operator.",
                )
            }
        }
    }

    fn take_keyset(&self, signed: &SignedKeyset, agency: &str) -> Result<(), Trouble> {
        let present = self.shared.directory();
        if present.held().iter().any(|held| held.agency == agency) {
            return Err(Trouble::Held(agency.to_owned()));
        }
        let next = present.with_keyset(signed).map_err(|error| Trouble::Refused(Box::new(error)))?;
        self.take_up(next, &[], agency)
    }
}

fn opened(bytes: &Bytes) -> Option<(SignedKeyset, Keyset)> {
    let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX).ok()?;
    let keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX).ok()?;
    Some((signed, keyset))
}

fn is_empty(keyset: &Keyset) -> bool {
    keyset.transport_keys.is_empty() && keyset.packet_keys.is_empty() && keyset.encryption_keys.is_empty()
}

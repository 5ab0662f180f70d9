//! Attachments: ciphertext files by blob id, in one folder per uploading agency. The broker has no key for
//! them; it checks each against its Merkle root before the name becomes durable.
//!
//! | name | what |
//! |---|---|
//! | `HEX` | a whole attachment, by blob id |
//! | `HEX.LENGTH.part` | the first bytes of one that is to have so many |

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use lintas_proto::{
    id::{Digest, check_code, hex, unhex},
    limits,
};
use thiserror::Error;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    clock,
    folder::{make_folder, sync_folder},
    inventory::{Full, Inventory, Part},
    upload::{Place, Upload},
};

/// Most transfers of all agencies at once.
const TRANSFERS_MAX: usize = 64;
/// How long an upload waits for an earlier one of the same attachment to end.
const TURN_TIME_MAX: Duration = Duration::from_secs(5);
const MIB: u64 = 1 << 20;

/// An upload that was not kept, or not yet.
#[derive(Debug, Error)]
pub(crate) enum BlobError {
    /// The bytes are not those that the blob id names.
    #[error("The attachment's bytes are not those that its id names, and were thrown away; seal it again.")]
    Mismatch,
    /// It is larger than everything that the agency may have here.
    #[error(
        "The broker's operator lets all attachments of an agency together take {0} MiB (`attachments_mib_max` in \
         broker.toml), and this one is larger; send it in parts, or ask the operator for more."
    )]
    TooLarge(u64),
    /// The bytes ended too early.
    #[error("The upload ended before its announced length; what came is kept, upload the rest.")]
    Cut,
    /// The agency has too much here already.
    #[error(
        "The broker's operator lets all attachments of an agency together take {max} MiB (`attachments_mib_max` in \
         broker.toml), and {taken} MiB are taken; wait until earlier packets are delivered, or ask the operator for \
         more."
    )]
    Quota {
        /// MiB allowed.
        max: u64,
        /// MiB taken.
        taken: u64,
    },
    /// The agency has too many already.
    #[error(
        "The broker holds too many attachments of this agency; submit the packets that name them, or wait until they are delivered."
    )]
    Count,
    /// Another upload of it is at work.
    #[error("Another upload of this attachment is not over yet; it is tried again by itself.")]
    Busy,
    /// The disk is too full.
    #[error(
        "The broker's disk is too full for this attachment: its operator keeps {0} MiB free (`free_mib_min` in \
         broker.toml). It is tried again by itself; tell the operator if that does not help."
    )]
    NoRoom(u64),
    /// The folder cannot be written. What the system says belongs in the broker's log only.
    #[error("The broker cannot store attachments now; the upload is tried again by itself.")]
    Io(#[source] io::Error),
    /// A name may be in the cache and not on the disk, and a later sync may succeed all the same: the broker must stop.
    #[error("The broker's disk failed, and the broker stops; the upload is tried again by itself.")]
    Unsure(#[source] io::Error),
}

/// How much room attachments may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// All of one agency, MiB.
    attachments_mib_max: u64,
    /// Left free on the disk, MiB.
    free_mib_min: u64,
}

impl Room {
    /// As the settings say.
    pub(crate) fn new(attachments_mib_max: u32, free_mib_min: u32) -> Self {
        Self { attachments_mib_max: attachments_mib_max.into(), free_mib_min: free_mib_min.into() }
    }

    /// Whether so many more bytes leave enough of the disk of `folder` free.
    pub(super) fn check_free(&self, folder: &Path, more: u64) -> Result<(), BlobError> {
        let found = rustix::fs::statvfs(folder).map_err(|error| BlobError::Io(error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let enough = free.saturating_sub(more) >= self.free_mib_min.saturating_mul(MIB);
        if enough { Ok(()) } else { Err(BlobError::NoRoom(self.free_mib_min)) }
    }
}

/// The attachments of all agencies.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    room: Room,
    inventory: Inventory,
    /// What is left of [`TRANSFERS_MAX`].
    pub(crate) transfers: Arc<Semaphore>,
}

impl Blobs {
    /// Opens the folder, and takes stock. `named` says whether a packet in the queues names a blob of an agency.
    pub(crate) fn open(
        folder: PathBuf,
        room: Room,
        named: impl Fn(&str, &Digest) -> bool,
    ) -> io::Result<Self> {
        make_folder(&folder).map_err(io::Error::other)?;
        let inventory = Inventory::default();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let agency =
                path.file_name().and_then(|name| name.to_str()).filter(|name| check_code(name).is_ok());
            match agency {
                Some(agency) if path.is_dir() => take_stock(&path, agency, &inventory, &named)?,
                _ => tracing::warn!(path = %path.display(), "not the broker's; left alone"),
            }
        }
        // Whoever stopped before may not have waited for the names of agencies' folders.
        sync_folder(&folder)?;
        Ok(Self { folder, room, inventory, transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)) })
    }

    /// Whether an agency has uploaded a blob completely.
    pub(crate) fn has(&self, agency: &str, blob: &Digest) -> bool {
        self.inventory.has(agency, blob)
    }

    /// A complete blob and its length.
    pub(crate) fn read(&self, agency: &str, blob: &Digest) -> io::Result<(File, u64)> {
        let path = self.path(agency, blob).ok_or(io::ErrorKind::NotFound)?;
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Begins an upload of `length` bytes, or goes on with one that was cut; none when all of it is here. One
    /// upload of a blob at a time: a second one waits a little, for the first may be that of a dead connection.
    pub(crate) async fn upload(
        &self,
        agency: &str,
        blob: Digest,
        length: u64,
    ) -> Result<Option<Upload>, BlobError> {
        let whole = self.path(agency, &blob).ok_or(BlobError::Io(io::ErrorKind::InvalidInput.into()))?;
        let (turn, here) = loop {
            let part = self.reserve(agency, blob, length)?;
            let turn = timeout(TURN_TIME_MAX, Arc::clone(&part.turn).acquire_owned()).await;
            let turn = turn.map_err(|_| BlobError::Busy)?.map_err(|_| BlobError::Busy)?;
            if self.inventory.has(agency, &blob) {
                self.inventory.remove_part(agency, &blob);
                return Ok(None);
            }
            // The upload before this one may have thrown the part away.
            if self.inventory.knows(agency, &blob, &part) {
                break (turn, part.here);
            }
        };
        let (folder, inventory, room) = (self.folder.join(agency), self.inventory.clone(), self.room);
        let part = folder.join(format!("{}.{length}.part", hex(&blob)));
        let place = Place {
            agency: agency.to_owned(),
            blob,
            length,
            folder,
            part,
            whole,
            inventory,
            room,
            _turn: turn,
        };
        let outstanding = self.inventory.outstanding();
        let open = move || {
            let begin = || {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&place.folder)
                    .map_err(BlobError::Io)?;
                place.room.check_free(&place.folder, outstanding)
            };
            if let Err(error) = begin() {
                if here == 0 {
                    place.inventory.remove_part(&place.agency, &place.blob);
                }
                return Err(error);
            }
            Upload::open(place)
        };
        let opened = spawn_blocking(open).await;
        opened.unwrap_or_else(|error| Err(BlobError::Io(io::Error::other(error)))).map(Some)
    }

    /// The account of a part.
    fn reserve(&self, agency: &str, blob: Digest, length: u64) -> Result<Part, BlobError> {
        let mib_max = self.room.attachments_mib_max;
        let bytes_max = mib_max.saturating_mul(MIB);
        if length > bytes_max {
            return Err(BlobError::TooLarge(mib_max));
        }
        self.inventory.part(agency, blob, length, bytes_max, clock::shown_ms()).map_err(|full| match full {
            Full::Bytes(taken) => BlobError::Quota { max: mib_max, taken: taken.div_ceil(MIB) },
            Full::Count => BlobError::Count,
        })
    }

    /// A packet names the blob: it stays until that packet ends.
    pub(crate) fn name(&self, agency: &str, blob: &Digest) {
        self.inventory.name(agency, blob);
    }

    /// Removes a blob that no packet names.
    pub(crate) fn remove(&self, agency: &str, blob: &Digest) {
        self.inventory.remove(agency, blob);
        if let Some(path) = self.path(agency, blob)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, "an attachment was not removed; the next start does it");
        }
    }

    /// Removes blobs that have waited too long for a packet, and parts that have for their rest.
    pub(crate) fn sweep(&self, now_ms: u64) {
        for (agency, blob) in self.inventory.overdue(now_ms) {
            tracing::info!(agency, blob = hex(&blob), "no packet came for this attachment");
            self.remove(&agency, &blob);
        }
        for (agency, blob, length) in self.inventory.take_stale_parts(now_ms) {
            tracing::info!(agency, blob = hex(&blob), "the rest of this attachment never came");
            let path = self.folder.join(&agency).join(format!("{}.{length}.part", hex(&blob)));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "a part of an attachment was not removed; the next start does it");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Agency codes hold no character that means anything in a path; anything else has no path.
    fn path(&self, agency: &str, blob: &Digest) -> Option<PathBuf> {
        check_code(agency).ok().map(|()| self.folder.join(agency).join(hex(blob)))
    }
}

/// Takes stock of one agency's folder. Its names become durable: whoever stopped before may not have waited.
fn take_stock(
    folder: &Path,
    agency: &str,
    inventory: &Inventory,
    named: &impl Fn(&str, &Digest) -> bool,
) -> io::Result<()> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let meta = fs::metadata(&path)?;
        let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(stem) = name.strip_suffix(".part") {
            match part_of(stem).filter(|(_, length)| meta.len() <= *length) {
                Some((blob, length)) => parts.push((path, blob, Part::new(length, meta.len(), since_ms))),
                None => fs::remove_file(path)?,
            }
            continue;
        }
        let Some(blob) = digest_of(name) else {
            tracing::warn!(path = %path.display(), "not an attachment; left alone");
            continue;
        };
        let unnamed = if named(agency, &blob) { None } else { Some(since_ms) };
        inventory.keep(agency, blob, meta.len(), unnamed);
    }
    for (path, blob, part) in parts {
        if inventory.has(agency, &blob) {
            fs::remove_file(path)?;
        } else {
            inventory.add_part(agency, blob, part);
        }
    }
    sync_folder(folder)
}

/// Blob id and announced length of a part, as its name says.
fn part_of(stem: &str) -> Option<(Digest, u64)> {
    let (blob, length) = stem.split_once('.')?;
    let length = length.parse().ok().filter(|length| *length <= limits::BLOB_BYTES_MAX)?;
    Some((digest_of(blob)?, length))
}

fn digest_of(name: &str) -> Option<Digest> {
    unhex(name).ok().and_then(|bytes| Digest::try_from(bytes).ok())
}

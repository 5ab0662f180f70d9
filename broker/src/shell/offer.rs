//! What nodes are given when they ask for the directory, or for their own policies. The answer is put together from the
//! bytes of the directory in force and from files while it is sent, so that a stream takes the memory of one file, however
//! much it gives.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use lintas_config::{Directory, DirectoryError, directory::chain::STEPS_MAX};
use lintas_proto::schema::{DirectoryGet, Reason};

use super::{
    directory_files::read,
    folder::{Folder, FolderError, at},
};

/// Most bytes of earlier rosters that a newcomer is given. Its bootstrap file vouches for the newest, or one that is
/// not much older; all since the first would keep a node on a slow line from ever joining.
const NEWCOMER_BYTES_MAX: u64 = 512 * 1024;

/// A directory as it is offered.
#[derive(Debug)]
struct Offer {
    /// The directory's own; the same place in memory is the same directory.
    bytes: Bytes,
    region: String,
    version: u64,
    /// Canonical bytes of `SignedRoster`.
    roster: Bytes,
    /// Agency, SHA-256, and canonical bytes of `SignedKeyset`; ascending.
    keysets: Vec<(String, Bytes, Bytes)>,
}

/// Offers of the directory in force.
#[derive(Debug)]
pub(super) struct Offers {
    folder: Folder,
    /// Of the directory asked for last: hashing all keysets takes a while.
    last: Mutex<Option<Arc<Offer>>>,
}

/// One part of an answer.
#[derive(Debug, PartialEq)]
enum Piece {
    Bytes(Bytes),
    File { path: PathBuf, length: u64 },
}

/// The bytes of a `DirectoryUpdate` or `PolicyUpdate`.
#[derive(Debug)]
pub(super) struct Answer {
    pieces: std::vec::IntoIter<Piece>,
    /// Of all pieces, bytes.
    pub(super) length: u64,
}

impl Offers {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder, last: Mutex::new(None) }
    }

    /// What turns the directory that the question names into `directory`. Takes a while: not for a thread that serves
    /// others.
    ///
    /// # Errors
    /// Why not, and a sentence for the node.
    pub(super) fn answer(
        &self,
        directory: &Directory,
        get: &DirectoryGet,
    ) -> Result<Answer, (Reason, String)> {
        let offer = self.offer(directory).map_err(|error| {
            tracing::error!(%error, "the directory in force cannot be offered");
            (Reason::StaleDirectory, "The broker cannot give its directory; tell its operator.".to_owned())
        })?;
        let Offer { region, version, .. } = offer.as_ref();
        if get.region != *region {
            let text = format!("The node belongs to another region; this broker serves {region}.");
            return Err((Reason::WrongRegion, text));
        }
        if get.roster_version > *version {
            let text = format!(
                "The node has roster version {}, the broker {version}: tell the operator of the broker.",
                get.roster_version
            );
            return Err((Reason::StaleDirectory, text));
        }
        let mut pieces = self.steps(get.roster_version, *version).ok_or_else(|| {
            let text = format!(
                "The broker does not have every roster between version {} and {version}; get them from the region \
                 authority.",
                get.roster_version
            );
            (Reason::StaleDirectory, text)
        })?;
        if get.roster_version < *version {
            pieces.push(Piece::Bytes(offer.roster.clone()));
        }
        Ok(Answer::directory(pieces, &offer.keysets, get))
    }

    fn offer(&self, directory: &Directory) -> Result<Arc<Offer>, DirectoryError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(offer) = last.as_ref().filter(|offer| offer.bytes.as_ptr() == directory.bytes().as_ptr())
        {
            return Ok(Arc::clone(offer));
        }
        let all = directory.answer(&DirectoryGet::default(), Vec::new())?;
        let known = directory.question()?;
        let keysets = known.keysets.into_iter().zip(all.keysets);
        let offer = Arc::new(Offer {
            bytes: directory.bytes().clone(),
            region: known.region,
            version: known.roster_version,
            roster: directory.signed_roster()?,
            keysets: keysets.map(|(known, bytes)| (known.agency, known.hash, bytes)).collect(),
        });
        *last = Some(Arc::clone(&offer));
        Ok(offer)
    }

    /// The rosters between the two versions, neither included. None if one is missing. A newcomer (0) gets as many as
    /// there are in a row, up to [`NEWCOMER_BYTES_MAX`].
    fn steps(&self, after: u64, version: u64) -> Option<Vec<Piece>> {
        let (mut steps, mut bytes) = (Vec::new(), 0u64);
        for step in (after.saturating_add(1)..version).rev() {
            let path = self.folder.roster_path(step);
            let there = fs::metadata(&path).ok().filter(|_| steps.len() < STEPS_MAX);
            bytes = bytes.saturating_add(there.as_ref().map_or(0, fs::Metadata::len));
            match there {
                Some(_) if after == 0 && bytes > NEWCOMER_BYTES_MAX => break,
                Some(there) => steps.push(Piece::File { path, length: there.len() }),
                None if after == 0 => break,
                None => return None,
            }
        }
        steps.reverse();
        Some(steps)
    }
}

impl Answer {
    /// Canonical bytes of `PolicyUpdate {1: bundles}`, of files that hold one each.
    ///
    /// # Errors
    /// A file that is gone.
    pub(super) fn policies(paths: Vec<PathBuf>) -> Result<Self, FolderError> {
        let mut pieces = Vec::new();
        for path in paths {
            let length = fs::metadata(&path).map_err(at(&path))?.len();
            pieces.push(Piece::File { path, length });
        }
        Ok(Self::of(listed(1, pieces)))
    }

    /// Canonical bytes of `DirectoryUpdate {1: rosters, 2: unchanged, 3: keysets}`.
    fn directory(rosters: Vec<Piece>, keysets: &[(String, Bytes, Bytes)], get: &DirectoryGet) -> Self {
        let mut pieces = listed(1, rosters);
        let known: std::collections::HashMap<&str, &Bytes> =
            get.keysets.iter().map(|known| (known.agency.as_str(), &known.hash)).collect();
        let is_known = |agency: &str, hash: &Bytes| known.get(agency).is_some_and(|known| *known == hash);
        let (same, new): (Vec<_>, Vec<_>) =
            keysets.iter().partition(|(agency, hash, _)| is_known(agency, hash));
        let mut names = BytesMut::new();
        for (agency, ..) in same {
            names.put(head(2, agency.len() as u64));
            names.put(agency.as_bytes());
        }
        pieces.push(Piece::Bytes(names.freeze()));
        pieces.extend(listed(3, new.into_iter().map(|(_, _, bytes)| Piece::Bytes(bytes.clone())).collect()));
        Self::of(pieces)
    }

    fn of(pieces: Vec<Piece>) -> Self {
        let length = pieces.iter().map(Piece::length).sum();
        Self { pieces: pieces.into_iter(), length }
    }

    /// The next bytes, gathered to about `bytes`; none at the end. Reads files.
    ///
    /// # Errors
    /// A file that is gone, or not what it was.
    pub(super) fn next(&mut self, bytes: usize) -> Result<Option<Bytes>, FolderError> {
        let mut gathered = BytesMut::new();
        for piece in self.pieces.by_ref() {
            let part = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::File { path, length } => {
                    let bytes = read(&path, usize::try_from(length).unwrap_or(usize::MAX))?;
                    if bytes.len() as u64 != length {
                        return Err(FolderError::Changed(path));
                    }
                    bytes
                }
            };
            gathered.put(part);
            if gathered.len() >= bytes {
                break;
            }
        }
        Ok(Some(gathered.freeze()).filter(|bytes| !bytes.is_empty()))
    }
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// Each behind its tag and length.
fn listed(field: u8, pieces: Vec<Piece>) -> Vec<Piece> {
    let behind_head = |piece: Piece| [Piece::Bytes(head(field, piece.length())), piece];
    pieces.into_iter().flat_map(behind_head).collect()
}

/// Tag and length of a field of bytes, in protobuf.
fn head(field: u8, length: u64) -> Bytes {
    const LENGTH_DELIMITED: u8 = 2;
    let mut head = vec![field << 3 | LENGTH_DELIMITED];
    let mut left = length;
    loop {
        let [low, ..] = left.to_le_bytes();
        left >>= 7;
        if left == 0 {
            head.push(low & 0x7f);
            return head.into();
        }
        head.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use lintas_proto::{
        canonical,
        schema::{DirectoryUpdate, RosterUnit},
    };

    use super::*;
    use crate::testing::{NOW, TempFolder, World};

    fn whole(mut answer: Answer) -> Bytes {
        let mut bytes = BytesMut::new();
        while let Some(part) = answer.next(1_000).unwrap() {
            bytes.put(part);
        }
        assert_eq!(bytes.len() as u64, answer.length);
        bytes.freeze()
    }

    #[test]
    fn an_answer_in_pieces_is_the_same_as_one_at_once() {
        let (mut world, root) = (World::new(NOW), TempFolder::new());
        let (folder, first) = (Folder::at(root.path()), world.directory.clone());
        let mut rosters = Vec::new();
        for version in 1..=4 {
            folder.keep_directory(&world.directory, &[]).unwrap();
            rosters.push(world.directory.signed_roster().unwrap());
            if version < 4 {
                world.publish_next();
            }
        }
        let next = world.next_keyset("KH");
        world.put_keyset(next);
        let offers = Offers::new(folder.clone());
        let questions = [
            (first.question().unwrap(), &rosters[1..]),
            (world.directory.question().unwrap(), &rosters[4..]),
            (DirectoryGet { region: "mekong".to_owned(), ..DirectoryGet::default() }, &rosters[..]),
        ];
        for (get, rosters) in questions {
            let expected = world.directory.answer(&get, rosters.to_vec()).unwrap();
            let bytes = whole(offers.answer(&world.directory, &get).unwrap());
            assert_eq!(bytes, canonical::encode(&expected));
        }
        let bytes = whole(offers.answer(&world.directory, &first.question().unwrap()).unwrap());
        let update: DirectoryUpdate = canonical::decode(&bytes, 1 << 20).unwrap();
        assert_eq!((update.unchanged.len(), update.keysets.len()), (2, 1));
        assert_eq!(first.take(&update).unwrap().hash(), world.directory.hash());
        // A roster that is gone is not passed over.
        std::fs::remove_file(folder.roster_path(2)).unwrap();
        let refused = offers.answer(&world.directory, &first.question().unwrap()).unwrap_err();
        assert_eq!(refused.0, Reason::StaleDirectory);
        assert!(refused.1.contains("get them from the region authority"), "{}", refused.1);
        let newcomer = DirectoryGet { region: "mekong".to_owned(), ..DirectoryGet::default() };
        let bytes = whole(offers.answer(&world.directory, &newcomer).unwrap());
        assert_eq!(canonical::decode::<DirectoryUpdate>(&bytes, 1 << 20).unwrap().rosters, rosters[2..]);
    }

    #[test]
    fn a_newcomer_is_not_given_all_rosters_since_the_first() {
        let (mut world, root) = (World::new(NOW), TempFolder::new());
        let (folder, first) = (Folder::at(root.path()), world.directory.clone());
        // A roster of 600 units is about 60 KiB long.
        for member in &mut world.roster.members {
            let unit = member.units[0].clone();
            let more =
                |number| RosterUnit { unit: format!("Z{number:03}"), name: "z".repeat(250), ..unit.clone() };
            member.units.extend((0..200).map(more));
        }
        for _ in 0..12 {
            world.publish_next();
            folder.keep_directory(&world.directory, &[]).unwrap();
        }
        let offers = Offers::new(folder);
        let newcomer = DirectoryGet { region: "mekong".to_owned(), ..DirectoryGet::default() };
        let bytes = whole(offers.answer(&world.directory, &newcomer).unwrap());
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let update: DirectoryUpdate = canonical::decode(&bytes, 1 << 24).unwrap();
        let taken = Directory::take_first(&update, &world.bootstrap).unwrap();
        assert_eq!(taken.hash(), world.directory.hash());
        // Who follows needs all of them.
        let bytes = whole(offers.answer(&world.directory, &first.question().unwrap()).unwrap());
        let update: DirectoryUpdate = canonical::decode(&bytes, 1 << 24).unwrap();
        assert_eq!(update.rosters.len(), 12);
    }

    #[test]
    fn lengths_are_written_as_protobuf_does() {
        assert_eq!(head(1, 0), [0x0a, 0].as_slice());
        assert_eq!(head(2, 127), [0x12, 0x7f].as_slice());
        assert_eq!(head(3, 300), [0x1a, 0xac, 0x02].as_slice());
    }
}

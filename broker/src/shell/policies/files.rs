//! Policies on disk. A bundle's file is durable before `policies.mark` names it, and the mark before anybody is told that the
//! bundle counts. So at a start every file that the mark vouches for must be there, whole, and in one chain; and one version
//! more may be there, which a power cut kept from being marked. Without a mark, as with the directory, the newest is believed
//! on its signature alone; that nothing is missing then, the audit log says.
//!
//! `policies.mark` is text: for each agency a line with its code, its newest version, and the SHA-256 of that version's file;
//! last the SHA-256 of all lines before, which finds damage.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use lintas_config::{
    Directory,
    policy::{Bundle, BundleError},
};
use lintas_proto::{
    canonical,
    id::{Digest, check_code, hex, sha256, unhex},
    limits,
    schema::{PolicyBundle, SignedPolicyBundle},
};

use super::{KEPT_MAX, Kept, Store};
use crate::shell::{
    directory_files::{absent, read},
    folder::{Folder, FolderError, at, make_folder, replace},
};

const POLICIES: &str = "policies";
const MARK: &str = "policies.mark";
/// Longest mark, bytes: as many agencies as a list can name.
const MARK_BYTES_MAX: usize = (limits::LIST_ITEMS_MAX + 1) * (limits::CODE_BYTES_MAX + 90);

const MARK_MISSING: &str = "is missing, so that nothing shows whether the policies are the newest";

/// What the mark says of an agency: newest version, SHA-256 of its file.
type Mark = BTreeMap<String, (u64, Digest)>;

/// An agency, and the SHA-256 of each version of its policies.
type LookedAt = (String, Result<Vec<Digest>, FolderError>);

impl Folder {
    /// Where a version of an agency's policies stands.
    pub(super) fn policy_path(&self, agency: &str, version: u64) -> PathBuf {
        self.path(POLICIES).join(agency).join(format!("{version}.bin"))
    }

    /// Takes up the policies as they were.
    pub(crate) fn policies(&self, directory: &Directory, now_ms: u64) -> Result<Store, FolderError> {
        let (mark, is_marked) = self.policy_mark()?;
        let mut kept = BTreeMap::new();
        for agency in self.policy_owners(&mark)? {
            let files = self.policy_files(&agency, &mark, is_marked)?;
            let taken = take_up(files, mark.get(&agency), directory, now_ms)?;
            kept.extend(taken.map(|taken| (agency, taken)));
        }
        let store = Store { folder: self.clone(), kept: Mutex::new(kept) };
        store.write_mark()?;
        Ok(store)
    }

    /// Only looks: for each agency the SHA-256 of every version, ascending, or why they are not what the mark vouches for. No
    /// policy is read, and no signature.
    pub(crate) fn look_at_policies(&self) -> Result<Vec<LookedAt>, FolderError> {
        let (mark, is_marked) = self.policy_mark()?;
        let look = |agency: &str| {
            let files = self.policy_files(agency, &mark, is_marked)?;
            is_newest(&files, mark.get(agency))?;
            Ok(files.iter().map(|file| file.hash).collect())
        };
        let owners = self.policy_owners(&mark)?.into_iter();
        Ok(owners.map(|agency| (agency.clone(), look(&agency))).collect())
    }

    /// The mark, and whether there is one.
    fn policy_mark(&self) -> Result<(Mark, bool), FolderError> {
        let text = absent(read(&self.path(MARK), MARK_BYTES_MAX))?;
        let is_marked = text.is_some();
        let mark = text.map_or(Some(Mark::new()), |text| parse(&text));
        Ok((mark.ok_or(FolderError::PolicyMark("is damaged"))?, is_marked))
    }

    /// Whoever has policies, or should.
    fn policy_owners(&self, mark: &Mark) -> Result<BTreeSet<String>, FolderError> {
        let folders = self.policy_folders()?;
        Ok(folders.into_iter().chain(mark.keys().cloned()).collect())
    }

    /// Agencies that have a folder.
    fn policy_folders(&self) -> Result<Vec<String>, FolderError> {
        let names = names(&self.path(POLICIES))?;
        Ok(names.into_iter().filter(|name| check_code(name).is_ok()).collect())
    }

    /// All files of an agency, ascending: one chain up to the marked version, or one further.
    fn policy_files(&self, agency: &str, mark: &Mark, is_marked: bool) -> Result<Vec<File>, FolderError> {
        let marked = mark.get(agency).map_or(0, |(version, _)| *version);
        let version_of = |name: String| name.strip_suffix(".bin").and_then(|stem| stem.parse::<u64>().ok());
        let names = names(&self.path(POLICIES).join(agency))?;
        let mut versions: Vec<u64> =
            names.into_iter().filter_map(version_of).filter(|one| *one > 0).collect();
        versions.sort_unstable();
        let missing = |version: u64| FolderError::PolicyMissing {
            path: self.policy_path(agency, version),
            agency: agency.to_owned(),
            version,
        };
        let newest = versions.last().copied().unwrap_or(0);
        if newest < marked {
            return Err(missing(marked));
        }
        if newest > marked + 1 {
            if is_marked {
                return Err(FolderError::PolicyMark("is older than the policies"));
            }
            tracing::warn!(agency, newest, "{MARK} {MARK_MISSING}");
        }
        let mut files: Vec<File> = Vec::new();
        for version in versions {
            let path = self.policy_path(agency, version);
            let file = File::read(path, agency, version)?;
            match files.last() {
                // An old one that could not be deleted stands before those that are kept.
                Some(before) if before.version + 1 != version && newest - version + 1 >= KEPT_MAX as u64 => {
                    files = vec![file];
                }
                Some(before) if before.version + 1 != version => return Err(missing(before.version + 1)),
                Some(before) if *file.prev_hash != before.hash => {
                    return Err(file.damaged("it does not follow the version before it"));
                }
                Some(_) | None => files.push(file),
            }
        }
        match files.first() {
            Some(first) if first.version > 1 && files.len() < KEPT_MAX => Err(missing(first.version - 1)),
            Some(_) | None => Ok(files),
        }
    }
}

/// What counts of an agency's files.
fn take_up(
    mut files: Vec<File>,
    mark: Option<&(u64, Digest)>,
    directory: &Directory,
    now_ms: u64,
) -> Result<Option<Kept>, FolderError> {
    let marked = mark.map_or(0, |(version, _)| *version);
    if let Some(file) = files.last().filter(|file| file.version > marked)
        && let Err(error) = Bundle::open(&file.bytes, directory)
    {
        if file.version > marked + 1 {
            tracing::error!(path = %file.path.display(), %error, "policies that nothing vouches for");
            return Err(FolderError::PolicyMark(MARK_MISSING));
        }
        // Nobody was told that it counts.
        tracing::warn!(path = %file.path.display(), %error, "policies that were being kept are left out");
        files.pop();
    }
    let Some(file_hash) = is_newest(&files, mark)? else { return Ok(None) };
    let present = files.iter().rposition(|file| file.not_before_ms <= now_ms).unwrap_or(0);
    let live = files.iter().skip(present).map(|file| file.bundle(directory)).collect::<Result<_, _>>()?;
    Ok(Some(Kept { hashes: files.iter().map(|file| file.hash).collect::<VecDeque<_>>(), live, file_hash }))
}

/// SHA-256 of the newest one's file, which is the marked one, if that is the newest.
fn is_newest(files: &[File], mark: Option<&(u64, Digest)>) -> Result<Option<Digest>, FolderError> {
    let Some(newest) = files.last() else { return Ok(None) };
    let hash = sha256(&[&newest.bytes]);
    match mark.filter(|(version, marked)| *version == newest.version && *marked != hash) {
        Some((_, marked)) => {
            Err(newest.damaged(&format!("its SHA-256 is {}, and was {}", hex(&hash), hex(marked))))
        }
        None => Ok(Some(hash)),
    }
}

impl Store {
    /// Keeps a bundle that follows the newest one of its owner, durably.
    pub(in crate::shell) fn keep(&self, bundle: &Arc<Bundle>, now_ms: u64) -> Result<(), FolderError> {
        let (agency, bytes) = (bundle.owner(), bundle.bytes());
        let path = self.folder.policy_path(agency, bundle.version());
        let all = self.folder.path(POLICIES);
        for folder in [all.clone(), all.join(agency)] {
            if !folder.is_dir() {
                make_folder(&folder)?;
            }
        }
        replace(&path, bytes)?;
        let file_hash = sha256(&[bytes]);
        self.mark(Some((agency, (bundle.version(), file_hash))))?;
        let mut kept = self.kept();
        let new = || Kept { hashes: VecDeque::new(), live: Vec::new(), file_hash };
        let kept = kept.entry(agency.to_owned()).or_insert_with(new);
        kept.file_hash = file_hash;
        kept.hashes.push_back(*bundle.hash());
        kept.live.push(Arc::clone(bundle));
        kept.settle(now_ms);
        while kept.hashes.len() > KEPT_MAX {
            let oldest = self.folder.policy_path(agency, kept.first());
            if let Err(error) = fs::remove_file(&oldest) {
                tracing::warn!(path = %oldest.display(), %error, "an old version of policies stays on the disk");
            }
            kept.hashes.pop_front();
        }
        Ok(())
    }

    fn write_mark(&self) -> Result<(), FolderError> {
        let text = self.marks(None);
        let path = self.folder.path(MARK);
        let before = absent(read(&path, MARK_BYTES_MAX))?;
        let same = before.map_or_else(|| self.kept().is_empty(), |before| before == text);
        if same { Ok(()) } else { replace(&path, text.as_bytes()) }
    }

    /// Writes the mark, with another newest version of one agency.
    fn mark(&self, next: Option<(&str, (u64, Digest))>) -> Result<(), FolderError> {
        replace(&self.folder.path(MARK), self.marks(next).as_bytes())
    }

    fn marks(&self, next: Option<(&str, (u64, Digest))>) -> String {
        let kept = self.kept();
        let mut mark: BTreeMap<&str, (u64, Digest)> =
            kept.iter().map(|(agency, kept)| (agency.as_str(), (kept.version(), kept.file_hash))).collect();
        mark.extend(next);
        let line = |(agency, (version, hash)): (&&str, &(u64, Digest))| {
            format!("{agency} {version} {}\n", hex(hash))
        };
        let lines: String = mark.iter().map(line).collect();
        format!("{lines}{}\n", hex(&sha256(&[lines.as_bytes()])))
    }
}

/// A version as it was read.
struct File {
    path: PathBuf,
    bytes: Bytes,
    version: u64,
    hash: Digest,
    prev_hash: Bytes,
    not_before_ms: u64,
}

impl File {
    fn read(path: PathBuf, agency: &str, version: u64) -> Result<Self, FolderError> {
        let bytes = read(&path, limits::POLICY_BUNDLE_BYTES_MAX)?;
        let damaged = |what: String| FolderError::PolicyDamaged { path: path.clone(), what };
        let (signed, said) = said(&bytes).map_err(|error| damaged(error.to_string()))?;
        if said.owner != agency || said.version != version {
            return Err(damaged(format!("it holds version {} of {}", said.version, said.owner)));
        }
        let (hash, PolicyBundle { prev_hash, not_before_ms, .. }) = (sha256(&[&signed.bundle]), said);
        Ok(Self { path, bytes, version, hash, prev_hash, not_before_ms })
    }

    fn damaged(&self, what: &str) -> FolderError {
        FolderError::PolicyDamaged { path: self.path.clone(), what: what.to_owned() }
    }

    /// It was verified when it was brought. That its agency has other keys since, or has left, does not take it out of force.
    fn bundle(&self, directory: &Directory) -> Result<Arc<Bundle>, FolderError> {
        let error = match Bundle::open(&self.bytes, directory) {
            Ok(bundle) => return Ok(bundle),
            Err(error) => error,
        };
        if matches!(error, BundleError::Directory(_)) {
            tracing::info!(path = %self.path.display(), %error, "policies are taken up as they were verified when they came");
        }
        Bundle::kept(&self.bytes, &self.hash).map_err(|error| self.damaged(&error.to_string()))
    }
}

/// A bundle whose signature nobody has checked yet.
pub(super) fn said(bytes: &Bytes) -> Result<(SignedPolicyBundle, PolicyBundle), canonical::DecodeError> {
    let signed: SignedPolicyBundle = canonical::decode(bytes, limits::POLICY_BUNDLE_BYTES_MAX)?;
    let said = canonical::decode(&signed.bundle, limits::POLICY_BUNDLE_BYTES_MAX)?;
    Ok((signed, said))
}

/// Names in a folder; none if it is not there.
fn names(folder: &Path) -> Result<Vec<String>, FolderError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(folder)(error)),
    };
    let name =
        |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<io::Result<_>>().map_err(at(folder))
}

fn parse(bytes: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (lines, sum) = text.rsplit_once('\n').map_or(("", text), |(lines, sum)| (lines, sum));
    let whole = if lines.is_empty() { String::new() } else { format!("{lines}\n") };
    if sum != hex(&sha256(&[whole.as_bytes()])) {
        return None;
    }
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (agency, version, hash) = (words.next()?, words.next()?, words.next()?);
        let hash = unhex(hash).ok()?.try_into().ok()?;
        words.next().is_none().then_some((agency.to_owned(), (version.parse().ok()?, hash)))
    };
    lines.lines().map(entry).collect()
}

//! A tool that we did not write verifies our logs: golang.org/x/mod/sumdb. What it must accept, and what it must not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path, rc::Rc};

use lintas_config::{issue::fresh_seed, os_entropy};
use lintas_proto::{
    audit::{
        files::LogFile,
        merkle::{leaf_hash, root},
        note::{Checkpoint, SignedCheckpoint, WitnessKey, log_vkey, quorum, witness_name, witness_vkey},
        tile::{Tile, new_tiles, push_entry},
    },
    id::Digest,
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use lintas_tests::{
    case,
    independent::{Independent, LogKeys, files},
    process::wait,
    region::Region,
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const ORIGIN: &str = "hub.mekong/audit";
/// Bytes flipped in each tile and bundle; of a checkpoint every one is.
const FLIPS: usize = 12;

/// A log that the test writes as docs/AUDIT.md says.
struct Log {
    log: Rc<SigningKey>,
    witnesses: Vec<(Rc<SigningKey>, WitnessKey)>,
    entries: Vec<Vec<u8>>,
}

fn key(role: KeyRole) -> (SigningKey, VerifyingKey) {
    let key = SigningKey::from_seed(role, &fresh_seed(&mut os_entropy())).unwrap();
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    (key, public)
}

impl Log {
    /// A log of so many entries of different lengths, watched by four witnesses.
    fn of(size: usize) -> Self {
        let witness = |at: usize| {
            let (secret, key) = key(KeyRole::Witness);
            (Rc::new(secret), WitnessKey { name: witness_name("mekong", &format!("W{at}")), key })
        };
        let entry = |at: usize| vec![u8::try_from(at % 256).unwrap(); 1 + at % 120];
        Self {
            log: Rc::new(key(KeyRole::Log).0),
            witnesses: (0..4).map(witness).collect(),
            entries: (0..size).map(entry).collect(),
        }
    }

    fn keys(&self) -> LogKeys {
        let public = VerifyingKey::parse(&self.log.public_key()).unwrap();
        let witnesses: Vec<String> = self.witnesses.iter().map(|(_, key)| witness_vkey(key)).collect();
        LogKeys { log: log_vkey(ORIGIN, &public), quorum: quorum(witnesses.len()), witnesses }
    }

    fn leaves(&self) -> Vec<Digest> {
        self.entries.iter().map(|entry| leaf_hash(entry)).collect()
    }

    /// The checkpoint of the first `size` entries, cosigned by the first `cosigned` witnesses.
    fn checkpoint(&self, size: usize, cosigned: usize) -> SignedCheckpoint {
        let said =
            Checkpoint { origin: ORIGIN.to_owned(), size: size as u64, root: root(&self.leaves()[..size]) };
        let mut signed = SignedCheckpoint::sign(said, &self.log).unwrap();
        for (secret, witness) in &self.witnesses[..cosigned] {
            let cosignature = signed.cosign(secret, 1_900_000_000).unwrap();
            signed.add_cosignature(witness, &cosignature).unwrap();
        }
        signed
    }

    fn write(&self, folder: &Path) {
        let (leaves, size) = (self.leaves(), self.entries.len());
        let put = |file: LogFile, bytes: &[u8]| {
            let path = folder.join(file.to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        for tile in new_tiles(0, size as u64) {
            put(LogFile::Tile(tile), &tile_bytes(&leaves, tile));
        }
        for (number, chunk) in self.entries.chunks(256).enumerate() {
            let mut bundle = Vec::new();
            assert!(chunk.iter().all(|entry| push_entry(&mut bundle, entry)));
            put(LogFile::Entries(number as u64, u16::try_from(chunk.len()).unwrap()), &bundle);
        }
        let mut cosigned = Vec::new();
        for old in [1, 2, size / 2, size].into_iter().filter(|old| (1..=size).contains(old)) {
            assert!(push_entry(&mut cosigned, &self.checkpoint(old, 3).to_bytes()));
        }
        put(LogFile::Cosigned(0), &cosigned);
        put(LogFile::Checkpoint, &self.checkpoint(size, 4).to_bytes());
    }
}

/// A tile by its definition: roots of complete subtrees.
fn tile_bytes(leaves: &[Digest], tile: Tile) -> Vec<u8> {
    let length = 256usize.pow(u32::from(tile.level));
    let first = usize::try_from(tile.index).unwrap() * 256;
    let subtree = |at: usize| root(&leaves[at * length..(at + 1) * length]);
    (first..first + usize::from(tile.width)).flat_map(subtree).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
}

/// Flips bytes of every tile, bundle and checkpoint, one at a time; each must be noticed. How many there were.
fn every_flip_is_noticed(go: &Independent, folder: &Path, keys: &LogKeys) -> usize {
    let mut flipped = 0;
    let is_checked = |path: &Path| path.starts_with(folder.join("tile")) || path == folder.join("checkpoint");
    for path in files(folder).into_iter().filter(|path| is_checked(path)) {
        let length = fs::read(&path).unwrap().len();
        let step = if path.ends_with("checkpoint") { 1 } else { (length / FLIPS).max(1) };
        for at in (0..length).step_by(step) {
            flip(&path, at);
            let refused = go.verify(folder, keys);
            assert!(refused.is_err(), "byte {at} of {} is another one: {refused:?}", path.display());
            flip(&path, at);
            flipped += 1;
        }
    }
    go.verify(folder, keys).unwrap();
    flipped
}

fn verifier() -> Option<Independent> {
    Independent::find(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

#[test]
fn it_accepts_logs_of_every_shape() {
    let Some(go) = verifier() else { return };
    for size in [0, 1, 2, 3, 255, 256, 257, 511, 513] {
        let root = tempfile::tempdir().unwrap();
        let log = Log::of(size);
        log.write(root.path());
        let said = go.verify(root.path(), &log.keys()).unwrap();
        assert!(said.starts_with(&format!("{ORIGIN}: size {size}, ")) && said.ends_with(": sound"), "{said}");
    }
}

#[test]
fn it_notices_every_flipped_byte() {
    let Some(go) = verifier() else { return };
    let root = tempfile::tempdir().unwrap();
    let log = Log::of(300);
    log.write(root.path());
    assert!(every_flip_is_noticed(&go, root.path(), &log.keys()) > 300);
}

#[test]
fn it_says_what_is_wrong() {
    let Some(go) = verifier() else { return };
    let folder = |change: &dyn Fn(&Log, &Path)| {
        let root = tempfile::tempdir().unwrap();
        let log = Log::of(300);
        log.write(root.path());
        change(&log, root.path());
        go.verify(root.path(), &log.keys()).unwrap_err()
    };
    let put = |path: &Path, signed: &SignedCheckpoint| fs::write(path, signed.to_bytes()).unwrap();
    let few = folder(&|log, root| put(&root.join("checkpoint"), &log.checkpoint(300, 2)));
    assert_eq!(few, "checkpoint: 2 witnesses have cosigned it, 3 must");
    let rewritten = folder(&|_, root| {
        let mut other = Log::of(300);
        other.entries[7] = b"another event".to_vec();
        let bytes: Vec<u8> = other.entries[..256].iter().fold(Vec::new(), |mut bundle, entry| {
            push_entry(&mut bundle, entry);
            bundle
        });
        fs::write(root.join("tile/entries/000"), bytes).unwrap();
    });
    assert!(rewritten.contains("the entries do not give the root of the checkpoint"), "{rewritten}");
    // A fork: a checkpoint that was cosigned once, of a tree that this one does not begin with.
    let forked = folder(&|log, root| {
        let mut other = Log::of(300);
        (other.log, other.witnesses) = (Rc::clone(&log.log), log.witnesses.clone());
        other.entries[7] = b"another event".to_vec();
        let mut cosigned = Vec::new();
        assert!(push_entry(&mut cosigned, &other.checkpoint(200, 3).to_bytes()));
        fs::write(root.join("cosigned/000"), cosigned).unwrap();
    });
    assert!(forked.starts_with("cosigned/000: checkpoint 0: "), "{forked}");
    let gone = folder(&|_, root| fs::remove_file(root.join("tile/0/001.p/44")).unwrap());
    assert!(gone.starts_with("tile/0/001.p/44: cannot be read"), "{gone}");
    let stranger = folder(&|_, root| {
        let other = Log::of(1);
        put(&root.join("checkpoint"), &other.checkpoint(1, 4));
    });
    assert!(stranger.starts_with("checkpoint: note has no verifiable signatures"), "{stranger}");
}

/// What `lintas region inspect` tells an outsider of a region's log.
struct Told {
    root: LogKeys,
    sub_logs: Vec<(String, LogKeys)>,
}

fn told(region: &Region) -> Told {
    let file = region.authority().published().join("directory.bin");
    let found =
        region.authority().lintas(&["--json", "region", "inspect", file.to_str().unwrap()]).ok().json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let witnesses: Vec<String> = list(&found["members"])
        .iter()
        .filter_map(|member| member["witness_vkey"].as_str().map(str::to_owned))
        .collect();
    let quorum = usize::try_from(found["quorum"].as_u64().unwrap()).unwrap();
    let broker = &found["brokers"][0];
    let alone = |log: &Value| LogKeys { log: text(&log["vkey"]), quorum: 0, witnesses: vec![] };
    let sub_logs = list(&broker["sub_logs"])
        .iter()
        .map(|log| (text(&log["origin"]).rsplit('/').next().unwrap().to_owned(), alone(log)))
        .collect();
    Told { root: LogKeys { log: text(&broker["log"]["vkey"]), quorum, witnesses }, sub_logs }
}

/// Size that a checkpoint shows; 0 while there is none.
fn size(checkpoint: &Path) -> u64 {
    let note = fs::read(checkpoint).ok().and_then(|note| SignedCheckpoint::parse(&note).ok());
    note.map_or(0, |note| note.claim().size)
}

/// How many have cosigned, by the lines of a checkpoint.
fn cosigned(note: &str) -> usize {
    note.lines().filter(|line| line.contains("/witness/")).count()
}

#[test]
fn it_verifies_the_logs_of_a_region() {
    let Some(go) = verifier() else { return };
    let root = tempfile::tempdir().unwrap();
    let nodes = ["KH", "RCO", "TH", "VN"];
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &nodes);
    region.start_broker();
    nodes.iter().for_each(|node| region.start_node(node));
    let send = |to: &[&str]| {
        let change = |alert: &mut Value| (alert["from"], alert["to"]) = ("TH-ATD-RNG".into(), to.into());
        let draft = case::draft(root.path(), "draft.json", change);
        let _ = region.lintas("TH", &["--json", "send", &draft, "--wait", "30"]).ok();
    };
    (0..5).for_each(|_| send(&["KH/KH-AHT", "VN/VN-C02"]));
    (0..3).for_each(|_| send(&["RCO/RCO-DESK"]));
    let log = region.folder("broker").join("audit/1");
    // Of TH eight packets, what became of them, and a while without any.
    let whole = || size(&log.join("TH/checkpoint")) >= 8 && size(&log.join("KH/checkpoint")) >= 5;
    assert!(wait(whole), "the log is not published: {:?}", files(&log));
    let told = told(&region);
    assert_eq!((told.root.witnesses.len(), told.root.quorum), (4, 3));
    let before = size(&log.join("checkpoint"));
    // The broker publishes a checkpoint that was not cosigned in time all the same; the one looked at was.
    let is_cosigned = || fs::read_to_string(log.join("checkpoint")).is_ok_and(|note| cosigned(&note) >= 3);
    for attempt in 0.. {
        let more = wait(|| size(&log.join("checkpoint")) > before + 3 && is_cosigned());
        assert!(more && attempt < 5, "no epoch without traffic is published and cosigned");
        region.kill_broker();
        if is_cosigned() {
            break;
        }
        region.start_broker();
    }
    assert!(nodes.iter().all(|node| region.stop_node(node)));
    let said = go.verify(&log, &told.root).unwrap();
    assert!(said.starts_with("hub.mekong/audit: size ") && !said.contains(" 0 earlier"), "{said}");
    let mut events = 0;
    for (agency, keys) in &told.sub_logs {
        let folder = log.join(agency);
        if !folder.join("checkpoint").exists() {
            continue;
        }
        let said = go.verify(&folder, keys).unwrap();
        assert!(said.starts_with(&format!("hub.mekong/audit/{agency}: size ")), "{said}");
        events += size(&folder.join("checkpoint"));
    }
    assert!(events >= 8 + 5 + 5 + 3, "{events}");
    // Of another agency's key, or of the root log's, it is not.
    assert!(go.verify(&log.join("TH"), &told.root).is_err());
    let th = &told.sub_logs.iter().find(|(agency, _)| agency == "TH").unwrap().1;
    assert!(go.verify(&log.join("KH"), th).is_err());
    assert!(every_flip_is_noticed(&go, &log, &told.root) > 100);
    assert!(every_flip_is_noticed(&go, &log.join("TH"), th) > 100);
}

//! One bit of anything stored is flipped: whoever reads it refuses it or names it, or it means what it meant.
//!
//! The published log has its own test, in `audit.rs`; what a real journal seldom holds (carried records, snapshots, sealed
//! segments) and every field of it stand in `journal/tests/damage.rs` and `indexes.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use lintas_journal::{FileDisk, Fold, FoldError, Limits, OpenError, Record, check};
use lintas_tests::{
    case::{self, titled},
    dice::{self, Dice},
    independent::files,
    load,
    process::wait,
    region::Region,
    segment::{Place, RECORD, live, records},
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Kinds of records that this region must have made (docs/JOURNAL.md), of broker, sender and recipient.
const KINDS: [(&str, &[u16]); 3] =
    [("broker", &[1, 2, 3, 4, 5, 7, 8]), ("TH", &[1, 2, 5, 10, 11]), ("KH", &[4, 10, 11])];

/// Fields of each journal that are flipped, for each of `LINTAS_FLIPS`.
const FIELDS: u64 = 30;

/// What a file of a class must do when a bit of it is flipped.
enum Row {
    /// Whoever reads it refuses, with one of these words.
    Refused(&'static [&'static str]),
    /// It is named with one of these words, or everything is as before, because of that.
    Harmless(&'static [&'static str], &'static str),
}
use Row::{Harmless, Refused};

/// What a broker's folder holds beside `journal/` and `audit/`. `#` is a digit, `*` an agency or a hash.
const OF_BROKER: [(&str, Row); 14] = [
    (
        "bootstrap.toml",
        Harmless(
            &["bootstrap.toml"],
            "read for the first directory only; the mark is what is believed since",
        ),
    ),
    ("broker.keys", Refused(&["broker.keys", "does not list the broker", "audit log: "])),
    (
        "broker.roster",
        Harmless(
            &[],
            "a copy for the region authority, which reads its words aloud; the broker reads it never",
        ),
    ),
    (
        "broker.toml",
        Harmless(
            &["broker.toml", "network: "],
            "the operator's own text: a comment means nothing, and a number is what it says",
        ),
    ),
    (
        "directory.bin",
        Harmless(&["directory.bin is not taken"], "only what is newer than directory.current is taken of it"),
    ),
    ("directory.current", Refused(&["directory.current"])),
    (
        "directory.earlier",
        Harmless(
            &["directory.earlier"],
            "a packet under a directory that is not in it is sealed again; the start writes it anew",
        ),
    ),
    ("directory.mark", Refused(&["directory.mark"])),
    (
        "index/conf",
        Harmless(&["index"], "the index is built anew at any doubt, and is the only copy of nothing"),
    ),
    ("index/db", Harmless(&["index"], "as index/conf: a stamp that is lost is only older")),
    ("index/snap.################", Harmless(&["index"], "as index/conf")),
    ("policies.mark", Refused(&["policies.mark"])),
    ("policies/*/#.bin", Refused(&["policies/"])),
    (
        "rosters/######.bin",
        Harmless(&["rosters/"], "that of the roster in force is written anew; nodes verify what they get"),
    ),
];

/// What a node's folder holds beside `journal/`.
const OF_NODE: [(&str, Row); 15] = [
    (
        "attested",
        Harmless(
            &["attested"],
            "no checksum: a wrong time far from now counts for nothing, a wrong hash attests another directory",
        ),
    ),
    ("blobs/in/*", Refused(&["does not open"])),
    ("bootstrap.toml", Harmless(&["bootstrap.toml"], "read for the first directory only")),
    ("directory.current", Refused(&["directory"])),
    ("directory.mark", Refused(&["mark"])),
    (
        "identity.key",
        Harmless(&[], "sealed, and read by commands that renew keys only: `vault` refuses any flip"),
    ),
    ("join-request.bin", Harmless(&[], "a copy for the region authority, which verifies it")),
    ("node.keys", Refused(&["sealed"])),
    ("node.toml", Harmless(&["node.toml"], "the officer's own text: a number is what it says")),
    (
        "policy/######.bin",
        Harmless(
            &["policy/000001.bin"],
            "policy and delegate's signature are verified; the delegation around the key is judged by the broker alone",
        ),
    ),
    ("revocation.bin", Harmless(&[], "signed; verified by whoever is given it")),
    ("revocation.txt", Harmless(&[], "revocation.bin on paper")),
    (
        "seen/keysets/*",
        Harmless(
            &["evidence file", "keys under which"],
            "signed: no evidence is written from it, and packets stay as they are",
        ),
    ),
    ("seen/rosters/############.bin", Harmless(&["evidence file", "keys under which"], "as seen/keysets")),
    (
        "witness/hub.mekong_audit",
        Harmless(&["cannot be believed"], "the name of the key beside a signature says nothing of the tree"),
    ),
];

/// A region that has done its work and rests.
struct World {
    region: Region,
    packet: String,
    root: TempDir,
}

impl World {
    fn at_rest() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
        region.is_small();
        ["broker", "TH", "KH"].iter().for_each(|name| region.start(name));
        let photograph = case::file("vessel.jpg").display().to_string();
        let mut kept = BTreeSet::new();
        for number in 0..2 {
            let draft = titled(root.path(), &format!("alert {number}"));
            // One packet, the first, has an attachment.
            let attached = if number == 0 { &["--attach", &photograph][..] } else { &[] };
            let sent = region.lintas("TH", &[&["--json", "send", &draft][..], attached].concat()).ok().json();
            kept.insert(sent["packet_id"].as_str().unwrap().to_owned());
        }
        load::has_arrived(&region, &kept, "before");
        load::log_holds(&region, "before");
        let is_proven = |agency: &str, list: &str| {
            let said = region.lintas(agency, &["--json", list]).ok().json();
            let mut packets = said["packets"].as_array().unwrap().iter();
            packets.all(|packet| !packet.to_string().contains("\"promised\""))
        };
        let proven = wait(|| is_proven("TH", "outbox") && is_proven("KH", "inbox"));
        assert!(proven, "the nodes have no proofs of their events");
        load::ends_whole(&mut region, "before");
        // Else it takes the place of a damaged directory.current.
        fs::remove_file(region.folder("KH").join("directory.bin")).unwrap();
        Self { region, packet: kept.pop_first().unwrap(), root }
    }

    /// What an officer of `agency` gets to see, command by command.
    fn officer_sees(&self, agency: &str) -> String {
        let out = self.root.path().join("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).unwrap();
        let (folder, evidence) = (out.display().to_string(), out.join("evidence.bin").display().to_string());
        let commands: [&[&str]; 6] = [
            &["status"],
            &["inbox"],
            &["show", &self.packet],
            &["policy", "history"],
            &["evidence", &self.packet, "--out", &evidence],
            &["export", &self.packet, "--attachments", "--to", &folder],
        ];
        let mut seen = String::new();
        for (number, command) in commands.iter().enumerate() {
            let said = self.region.lintas(agency, &[&["--json"][..], *command].concat());
            seen.push_str(&format!("{number} {}\n{}\n{}\n", said.code, said.out, said.err));
        }
        let attached =
            files(&out).into_iter().filter(|path| path.extension().is_some_and(|kind| kind != "bin"));
        attached.for_each(|path| seen.push_str(&format!("{:?}\n", fs::read(path).unwrap())));
        // Others use the disk as well; the number of a certificate is judged by the broker alone.
        let counts = |line: &&str| !line.contains("disk_free_bytes") && !line.contains("\"certificate\"");
        seen.lines().filter(counts).collect::<Vec<_>>().join("\n")
    }

    /// What `check` says, and a start: whether it runs, and what it says.
    fn operator_sees(&mut self) -> (bool, String) {
        let check = self.region.check();
        let before = self.region.said("broker").len();
        let runs = self.region.tries("broker");
        if runs {
            assert!(self.region.stop("broker").success());
        }
        let said = self.region.said("broker").get(before..).unwrap_or_default().to_owned();
        let found = if check.code == 0 { String::new() } else { check.out + &check.err };
        (runs, format!("{found}{said}"))
    }
}

/// Files of a folder by their classes; empty ones hold nothing.
fn classes(folder: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut classes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in files(folder) {
        let inner = path.strip_prefix(folder).unwrap();
        let is_elsewhere = inner.starts_with("journal") || inner.starts_with("audit");
        if is_elsewhere || fs::metadata(&path).unwrap().len() == 0 {
            continue;
        }
        let names = inner.iter().map(|name| {
            let name = name.to_str().unwrap();
            let is_agency = name.len() <= 3 && name.chars().all(|letter| letter.is_ascii_uppercase());
            if is_agency || name.len() > 24 {
                return "*".to_owned();
            }
            let digits = |letter: char| if letter.is_ascii_digit() { '#' } else { letter };
            name.chars().map(digits).collect()
        });
        classes.entry(names.collect::<Vec<_>>().join("/")).or_default().push(path);
    }
    classes
}

fn flipped(whole: &[u8], at: usize, bit: u64) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

/// Flips bits of one file of each class, and has `look` say whether it was accepted, and what was said.
fn table(
    rows: &[(&str, Row)],
    folder: &Path,
    flips: u64,
    dice: &mut Dice,
    mut look: impl FnMut() -> (bool, String),
) {
    let about = format!("LINTAS_SEED={}", dice.seed());
    let known: BTreeSet<&str> = rows.iter().map(|(class, _)| *class).collect();
    for (class, paths) in classes(folder) {
        assert!(known.contains(class.as_str()), "{class}: a stored file without a row in the table");
        let (_, row) = rows.iter().find(|(known, _)| *known == class).unwrap();
        for _ in 0..flips {
            let path = dice.pick(&paths);
            let whole = fs::read(path).unwrap();
            let at = usize::try_from(dice.roll(whole.len() as u64)).unwrap();
            let bad = flipped(&whole, at, dice.roll(8));
            fs::write(path, &bad).unwrap();
            let (as_before, said) = look();
            let (words, may_pass, why) = match row {
                Refused(words) => (*words, false, "nothing"),
                Harmless(words, why) => (*words, true, *why),
            };
            let named = words.iter().any(|word| said.contains(word));
            assert!(
                (as_before && may_pass) || (!as_before && named),
                "{about}: byte {at} of {}: accepted: {as_before}, named: {named}; allowed: {why}\n{said}",
                path.display()
            );
            // What was written anew meanwhile stays so.
            if fs::read(path).is_ok_and(|now| now == bad) {
                fs::write(path, &whole).unwrap();
            }
        }
    }
}

#[test]
fn a_flipped_bit_of_any_stored_file_is_refused_or_named_or_means_nothing() {
    let flips = dice::rounds("LINTAS_FLIPS", 1);
    let mut dice = Dice::of("flips");
    let mut world = World::at_rest();
    let folder = world.region.folder("broker");
    table(&OF_BROKER, &folder, flips, &mut dice, || world.operator_sees());
    let folder = world.region.folder("KH");
    let before = world.officer_sees("KH");
    table(&OF_NODE, &folder, flips, &mut dice, || {
        let seen = world.officer_sees("KH");
        (seen == before, seen)
    });
    assert_eq!(world.officer_sees("KH"), before, "the table leaves something behind");
}

#[derive(Default)]
struct Seen(u64);

impl Fold for Seen {
    fn restore(&mut self, _: &[u8]) -> Result<(), FoldError> {
        Ok(())
    }

    fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
        self.0 = record.sequence;
        Ok(())
    }
}

/// What opening says of a journal: the last record, or what is damaged.
fn opened(journal: &Path) -> Result<u64, String> {
    let limits = Limits {
        segment_bytes: 16 << 20,
        record_bytes_max: 2 << 20,
        group_bytes_max: 5 << 20,
        ..Limits::default()
    };
    let mut seen = Seen::default();
    match check(&FileDisk::look_only(journal), &limits, None, &mut seen) {
        Ok(checked) => checked.report.cut.map_or(Ok(seen.0), |cut| Err(cut.to_string())),
        Err(OpenError::Damaged(damage)) => Err(damage.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_flipped_bit_in_any_field_of_any_kind_of_record_is_found() {
    /// Offsets of the byte tables in docs/JOURNAL.md.
    const OF_SEGMENT: [usize; 13] = [0, 8, 12, 16, 24, 32, 36, 40, 72, 80, 88, 96, 4_092];
    const OF_GROUP: [usize; 13] = [0, 8, 16, 20, 24, 28, 32, 36, 38, 40, 48, 80, 84];
    const OF_RECORD: [usize; 5] = [0, 4, 6, 8, 16];
    let flips = dice::rounds("LINTAS_FLIPS", 1);
    let mut dice = Dice::of("flips of records");
    let about = format!("LINTAS_SEED={}", dice.seed());
    let world = World::at_rest();
    for (name, kinds) in KINDS {
        let copy = world.root.path().join(format!("{name}-copy"));
        let path = live(&world.region.folder(name).join("journal"), &copy);
        let whole = fs::read(&path).unwrap();
        let last = opened(&copy).unwrap();
        let places = records(&whole);
        let made: BTreeSet<u16> = places.iter().map(|place| place.kind).collect();
        assert!(kinds.iter().all(|kind| made.contains(kind)), "{name}: of {kinds:?} it has {made:?}");
        assert!(last >= kinds.len() as u64);
        let mut sites: Vec<(usize, String)> = OF_SEGMENT.map(|at| (at, format!("segment + {at}"))).into();
        for kind in made {
            let of_kind: Vec<&Place> = places.iter().filter(|place| place.kind == kind).collect();
            for _ in 0..flips {
                let place = dice.pick(&of_kind);
                let of =
                    |what: &str, from: usize, at: usize| (from + at, format!("kind {kind}: {what} + {at}"));
                sites.extend(OF_GROUP.map(|at| of("group", place.group, at)));
                sites.extend(OF_RECORD.map(|at| of("record", place.record, at)));
                let payload = place.record + RECORD;
                let within = (0..4).map(|_| usize::try_from(dice.roll(place.bytes.max(1) as u64)).unwrap());
                sites.extend(within.filter(|at| *at < place.bytes).map(|at| of("payload", payload, at)));
            }
        }
        let mut found = 0;
        let most = usize::try_from(FIELDS * flips).unwrap();
        while sites.len() > most {
            sites.swap_remove(usize::try_from(dice.roll(sites.len() as u64)).unwrap());
        }
        for (at, what) in &sites {
            fs::write(&path, flipped(&whole, *at, dice.roll(8))).unwrap();
            let said = opened(&copy);
            assert!(said.is_err(), "{about}: {name}: {what}, byte {at}: accepted up to {said:?}");
            found += 1;
        }
        println!("{name}: {found} flips found");
        fs::write(&path, &whole).unwrap();
        assert_eq!(opened(&copy), Ok(last));
    }
}

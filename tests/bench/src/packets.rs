//! Packets that are signed and sealed before anything is measured, in a file for the load generator: each with its
//! length before it (u32, little endian).

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    thread,
};

use bytes::{Buf as _, Bytes};
use lintas_config::{Directory, issue::seed, os_entropy};
use lintas_proto::{
    canonical,
    envelope::{
        core::Core,
        seal::{Draft, Recipient, seal},
    },
    id::PacketId,
    schema::{Alert, Body, HandlingCode, Kind, Label, NodeSecrets, Offence, Onward, Purpose, Text, Tlp},
    sign::{KeyRole, SigningKey},
};
use lintas_tests::region::now_ms;

use crate::{
    bench::Bench,
    world::{World, unit},
};

/// Longest time until a packet must have been delivered, milliseconds.
const DELIVER_MS: u64 = 6 * 3_600_000;

/// What is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Number of the sender.
    pub(crate) from: usize,
    /// Numbers of the recipients.
    pub(crate) to: &'a [usize],
    pub(crate) count: usize,
    /// Length of the text of the body.
    pub(crate) text_bytes: usize,
}

/// Seals into `file`; bytes of one submission as it goes over the wire.
pub(crate) fn seal_into(bench: &Bench, world: &World, file: &Path, wanted: Wanted<'_>) -> usize {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (mut out, mut sealed) = (BufWriter::new(File::create(file).unwrap()), 0);
    let mut length = 0;
    while sealed < wanted.count {
        bench.says(format!("sealing: {sealed} of {}", wanted.count));
        let each = (wanted.count - sealed).div_ceil(threads).min(2_000);
        let parts: Vec<Vec<Bytes>> = thread::scope(|scope| {
            let work = || Sealer::new(world, wanted).seal_many(each);
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for packet in parts.into_iter().flatten().take(wanted.count - sealed) {
            length = packet.len();
            out.write_all(&u32::try_from(packet.len()).unwrap().to_le_bytes()).unwrap();
            out.write_all(&packet).unwrap();
            sealed += 1;
        }
    }
    out.into_inner().unwrap().sync_all().unwrap();
    length
}

/// Packets of a file.
pub(crate) fn read(file: &Path) -> Vec<Bytes> {
    let mut rest = Bytes::from(fs::read(file).unwrap());
    let mut packets = Vec::new();
    while rest.has_remaining() {
        let length = rest.get_u32_le() as usize;
        packets.push(rest.split_to(length));
    }
    packets
}

/// Seals packets of one sender.
struct Sealer<'a> {
    directory: &'a Directory,
    secrets: &'a NodeSecrets,
    key: SigningKey,
    wanted: Wanted<'a>,
}

impl<'a> Sealer<'a> {
    fn new(world: &'a World, wanted: Wanted<'a>) -> Self {
        let secrets = &world.secrets[wanted.from];
        let packet_seed = seed("packet", &secrets.packet_seed).unwrap();
        let key = SigningKey::from_seed(KeyRole::Packet, &packet_seed).unwrap();
        Self { directory: world.issued.directory(), secrets, key, wanted }
    }

    fn seal_many(&self, count: usize) -> Vec<Bytes> {
        (0..count).map(|_| self.seal()).collect()
    }

    fn seal(&self) -> Bytes {
        let now = now_ms();
        let core = Core {
            packet_id: PacketId::new(now, &mut os_entropy()),
            originator: unit(self.wanted.from),
            sign_key_id: [0; 32],
            region: self.secrets.region.clone(),
            roster_version: self.directory.roster().version,
            keyset_version: 1,
            directory_hash: *self.directory.hash(),
            kind: Kind::Alert,
            label: Label {
                tlp: Tlp::Amber as i32,
                handling: vec![HandlingCode::H1 as i32],
                purposes: vec![Purpose::Investigation as i32],
                offences: vec![Offence::TraffickingInPersons as i32],
                ..Label::default()
            },
            onward: Onward::None,
            created_ms: now,
            not_before_ms: now,
            deliver_by_ms: now + DELIVER_MS,
            recipient_commit: Vec::new(),
            refers_to: None,
            attachments: Vec::new(),
            reviewed: false,
        };
        let text = "x".repeat(self.wanted.text_bytes);
        let title = Text { language: "en".to_owned(), text, machine_translated: false };
        let suspected = vec![Offence::TraffickingInPersons as i32];
        let body = Body {
            format: 1,
            title: vec![title],
            alert: Some(Alert { suspected, ..Alert::default() }),
            ..Body::default()
        };
        let recipient = |number: &usize| {
            let unit = unit(*number);
            let key = self.directory.at(now).encryption_key(&unit).unwrap().clone();
            Recipient { unit, key, previous: [0; 32], named: true }
        };
        let recipients = self.wanted.to.iter().map(recipient).collect();
        let draft = Draft { core, body, recipients, visible_audience: false };
        canonical::encode(&seal(draft, &self.key, &mut os_entropy()).unwrap().submission)
    }
}

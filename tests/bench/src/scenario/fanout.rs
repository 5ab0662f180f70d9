//! One packet to 1, 10 and 100 recipients.
//!
//! The cost is the time of processors that the broker uses, in user and kernel, from the first packet until the log is
//! published: so the publisher's work counts too. What a recipient costs is what a packet to 100 costs beyond one to 1,
//! through 99.

use super::stock;
use crate::{
    bench::Bench,
    load::Source,
    packets::{self, Wanted},
    report::{Outcome, Row, Target},
    world::{World, secrets_file, unit},
};

const SENDERS: usize = stock::SENDERS;
/// Recipients of a packet, and packets for each second that a measurement may take.
const SIZES: [(usize, usize); 3] = [(1, 3_000), (10, 600), (100, 100)];
const SHARE_MAX: f64 = 0.25;

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("fanout-");
    let most = SIZES.map(|(recipients, _)| recipients).into_iter().max().unwrap_or_default();
    let mut world = World::found(bench, folder.path(), SENDERS + most, "");
    world.start();
    stock::rest(bench, &world);
    let (mut rows, mut costs) = (Vec::new(), Vec::new());
    for (recipients, each) in SIZES {
        let count = each * bench.seconds as usize;
        let (sources, bytes) = sealed(bench, &world, recipients, count);
        let before = world.cpu_seconds();
        bench.says(format!("{count} packets to {recipients} recipients"));
        let told = stock::send(bench, &world, sources, None);
        let accepted = world.cpu_seconds() - before;
        stock::rest(bench, &world);
        let cost = (world.cpu_seconds() - before) * 1e6 / count as f64;
        let note = format!("{bytes} bytes each; until the log is published");
        rows.push(Row::new(format!("fanout.{recipients}.accepts"), told.per_second(), "1/s"));
        rows.push(Row::new(format!("fanout.{recipients}.cpu"), cost, "us").note(note));
        rows.push(Row::new(format!("fanout.{recipients}.cpu.accept"), accepted * 1e6 / count as f64, "us"));
        costs.push((recipients as f64, cost));
    }
    let ([(few, low), .., (many, high)], own) = (costs[..].as_ref(), costs[0].1) else { return rows.into() };
    let share = (high - low) / (many - few);
    rows.push(
        Row::new("fanout.recipient.cpu", share, "us")
            .beside("a packet of its own", own)
            .must_be(Target::RatioAtMost(SHARE_MAX)),
    );
    world.stop();
    rows.into()
}

/// Packets from each sender to the first `recipients` of the others.
fn sealed(bench: &Bench, world: &World, recipients: usize, count: usize) -> (Vec<Source>, usize) {
    let (to, mut bytes): (Vec<usize>, usize) = ((SENDERS..SENDERS + recipients).collect(), 0);
    let sources = (0..SENDERS).map(|from| {
        let packets = world.root().join(format!("{from}.packets"));
        let count = (count + from) / SENDERS;
        bytes = packets::seal_into(
            bench,
            world,
            &packets,
            Wanted { from, to: &to, count, text_bytes: super::submit::TEXT_BYTES },
        );
        Source { secrets: secrets_file(world.root(), &unit(from).agency), packets }
    });
    (sources.collect(), bytes)
}

//! What an honest member notices while others attack: its paced accepts, beside the same without an attack in the same run,
//! and the broker's memory. And how soon members that are revoked are disconnected.

use std::{
    fs,
    ops::Range,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lintas_tests::region::now_ms;

use super::submit::{IN_FLIGHT, TEXT_BYTES, rest};
use crate::{
    attack::{Attack, Attacker, Done},
    bench::{Bench, Folder},
    load::{self, Plan, Source, Told, Wire},
    packets::{self, Wanted},
    report::{Outcome, Row, Target},
    statistics::{Durations, median},
    world::{World, secrets_file, unit},
};

/// Packets in a second of the honest member: no agency may lastingly submit more than half of it, so it is none that sends little.
const PACE: f64 = 200.0;
/// So long a minute's worth of packets lasts at that pace, seconds.
const SECONDS_MAX: u64 = 50;
const HONEST_IN_FLIGHT: usize = 256;
/// Honest latency, by what it is without an attack.
const RATIO_MAX: f64 = 3.0;
/// Most bytes by which the broker may grow while it is attacked.
const GROWN_MAX: f64 = 64e6;
/// Until the last of the revoked is disconnected, microseconds.
const REVOKED_US_MAX: f64 = 1e6;
/// Junk Initials in a second, and how many it must have been in truth: less is not the attack that is spoken of.
const JUNK: u32 = 20_000;
const JUNK_MIN: f64 = 18_000.0;
/// Handshakes of strangers in a second, at least: half of those that a broker begins.
const STRANGERS_MIN: f64 = 200.0;
/// Distinct packets of a member that floods, for each second; at most so many in all. Then they come again.
const FLOOD_PER_SECOND: usize = 12_000;
const FLOOD_MAX: usize = 100_000;
/// As many as no member can send in a second.
const FLOOD_RATE_MAX: usize = 40_000;
/// Packets of a member that repeats them.
const REPEATED: usize = 64;
/// Packets that wait for each slow reader, and the text of their bodies: more than its connection's windows take.
const DEAF_PACKETS: usize = 40;
const DEAF_TEXT_BYTES: usize = 200_000;

/// Honest senders, one for each measurement: each has its own rate.
const SENDERS: Range<usize> = 0..20;
const TAKER: usize = SENDERS.end;
const FLOODER: usize = TAKER + 1;
const REPEATER: usize = FLOODER + 1;
const FEEDER: usize = REPEATER + 1;
const SINK: usize = FEEDER + 1;
const DEAF: Range<usize> = SINK + 1..SINK + 21;
const REVOKED: Range<usize> = DEAF.end..DEAF.end + 200;

pub(super) fn run(bench: &Bench) -> Outcome {
    let mut ground = Ground::found(bench, true);
    ground.junk();
    ground.strangers();
    ground.deaf();
    ground.flood("flood", FLOODER, FLOOD_PER_SECOND);
    ground.flood("repeats", REPEATER, 0);
    ground.revoked();
    let mut rows = ground.rows();
    let mut ground = Ground::found(bench, false);
    ground.flood("unbounded", FLOODER, FLOOD_PER_SECOND);
    rows.extend(ground.rows());
    rows.into()
}

/// A region under attack.
struct Ground<'a> {
    bench: &'a Bench,
    world: World,
    folder: Folder,
    seconds: u64,
    senders: Range<usize>,
    /// Without an attack, one for each attack.
    alone: Vec<Honest>,
    attacks: Vec<Found>,
}

/// What the honest member saw.
struct Honest {
    latencies: Durations,
    /// By how much the broker was larger at most than before, bytes.
    grown: f64,
}

/// What came of an attack.
struct Found {
    name: &'static str,
    during: Honest,
    /// How much of an attack it was, and what else was found.
    rows: Vec<Row>,
}

impl<'a> Ground<'a> {
    fn found(bench: &'a Bench, bounded: bool) -> Self {
        let folder = bench.folder("attack-");
        let mut world = World::found(bench, &folder.path().join("region"), REVOKED.end, "");
        if bounded {
            world.bound_rates();
        }
        world.start();
        let seconds = bench.seconds.min(SECONDS_MAX);
        Self { bench, world, folder, seconds, senders: SENDERS, alone: vec![], attacks: vec![] }
    }

    fn junk(&mut self) {
        let source = self.alone();
        let seed = now_ms();
        let attack = Attack::Junk { broker: self.world.address(), per_second: JUNK, seed };
        let (during, done) = self.attacked("junk", source, &attack);
        let rows =
            vec![rate("junk.sent", done.count, &done).must_be(Target::AtLeast(JUNK_MIN)).note(format!(
                "datagrams of 1,200 bytes that look like Initials, {JUNK} wanted, seed {seed}"
            ))];
        self.attacks.push(Found { name: "junk", during, rows });
    }

    fn strangers(&mut self) {
        let source = self.alone();
        let attack = Attack::Strangers { broker: self.world.address() };
        let (during, done) = self.attacked("strangers", source, &attack);
        let note = format!("{} handshakes tried, the others were turned away unseen", done.count);
        let rows = vec![
            rate("strangers.tried", done.count, &done),
            rate("strangers.handshakes", done.refused, &done)
                .must_be(Target::AtLeast(STRANGERS_MIN))
                .note(note),
        ];
        self.attacks.push(Found { name: "strangers", during, rows });
    }

    fn deaf(&mut self) {
        self.feed();
        let source = self.alone();
        let origin = self.world.issued.directory().brokers()[0].root_origin();
        let attack = Attack::Deaf { broker: self.world.address(), members: self.members(DEAF), origin };
        let (during, done) = self.attacked("deaf", source, &attack);
        let note = format!(
            "sessions that take no delivery, {DEAF_PACKETS} of {DEAF_TEXT_BYTES} bytes waiting for each, and read none of the \
             8 files of the log that each asks for"
        );
        let rows = vec![Row::new("attack.deaf.sessions", done.count as f64, "sessions").note(note)];
        self.attacks.push(Found { name: "deaf", during, rows });
    }

    /// What waits for the slow readers.
    fn feed(&self) {
        let to: Vec<usize> = DEAF.collect();
        let source = self.sealed("feed", FEEDER, &to, (DEAF_PACKETS, DEAF_TEXT_BYTES));
        let plan = Plan { pace: None, seconds: 60.0, ..self.plan(source, IN_FLIGHT) };
        let told = load::run(self.bench, self.folder.path(), &plan);
        assert_eq!((told.refused, told.latencies.len()), (0, DEAF_PACKETS), "{}", told.refusal);
    }

    /// A member that submits as fast as it can: so many distinct packets for each second, or the same few again and again.
    fn flood(&mut self, name: &'static str, from: usize, distinct: usize) {
        let seconds = self.seconds as usize;
        let count = if distinct == 0 { REPEATED } else { (distinct * seconds).min(FLOOD_MAX) };
        let flood = self.sealed(name, from, &[SINK], (count, TEXT_BYTES));
        let source = self.alone();
        let times = (FLOOD_RATE_MAX * seconds).div_ceil(count);
        let wire = Wire::Lintas { broker: self.world.address(), times };
        let plan = Plan { wire, pace: None, ..self.plan(flood, IN_FLIGHT) };
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (during, told) = thread::scope(|scope| {
            let flooding = scope.spawn(|| load::run(self.bench, &folder, &plan));
            (self.honest(name, source), flooding.join().unwrap())
        });
        let accepted = told.latencies.len() as f64 / told.seconds;
        let note = format!("{IN_FLIGHT} in flight, {} refused", told.refused);
        let rows = vec![
            Row::new(
                format!("attack.{name}.submitted"),
                accepted + told.refused as f64 / told.seconds,
                "1/s",
            ),
            Row::new(format!("attack.{name}.answered"), accepted, "1/s").note(note),
        ];
        self.attacks.push(Found { name, during, rows });
    }

    fn revoked(&mut self) {
        let source = self.alone();
        let attack = Attack::Held { broker: self.world.address(), members: self.members(REVOKED) };
        let held = Attacker::start(self.bench, &self.folder.path().join("revoked"), &attack);
        let before = Duration::from_secs_f64(self.seconds as f64 / 3.0);
        let (told, grown, asked) = thread::scope(|scope| {
            let revoking = scope.spawn(|| {
                thread::sleep(before);
                self.world.issued.revoke(&self.world.folder(), REVOKED);
                let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                self.world.broker().hang_up();
                asked.as_nanos() as u64
            });
            let (told, grown) = self.paced("revoked", source);
            (told, grown, revoking.join().unwrap())
        });
        let done = held.end();
        assert_eq!(done.ended_unix_ns.len(), REVOKED.len(), "some are still connected");
        let took = |at: &u64| at.saturating_sub(asked);
        let last = done.ended_unix_ns.iter().map(took).max().unwrap();
        let rows = vec![
            Row::new("attack.revoked.last", last as f64 / 1_000.0, "us")
                .must_be(Target::AtMost(REVOKED_US_MAX))
                .note(format!(
                    "{} live sessions, from SIGHUP until the last of them has learnt that it is over; latencies are those \
                     of the second after it",
                    REVOKED.len()
                )),
        ];
        let during = Honest { latencies: second_after(&told, asked), grown };
        self.attacks.push(Found { name: "revoked", during, rows });
    }

    /// An honest round without an attack; what the next one sends.
    fn alone(&mut self) -> Source {
        let [first, second] = [(); 2].map(|()| self.next_source());
        let alone = self.honest("nobody", first);
        self.alone.push(alone);
        second
    }

    fn next_source(&mut self) -> Source {
        let from = self.senders.next().unwrap();
        let count = PACE as usize * self.seconds as usize;
        self.sealed("honest", from, &[TAKER], (count, TEXT_BYTES))
    }

    fn sealed(&self, name: &str, from: usize, to: &[usize], (count, text_bytes): (usize, usize)) -> Source {
        let packets = self.world.root().join(format!("{name}.{from}.packets"));
        packets::seal_into(self.bench, &self.world, &packets, Wanted { from, to, count, text_bytes });
        Source { secrets: secrets_file(self.world.root(), &unit(from).agency), packets }
    }

    fn members(&self, numbers: Range<usize>) -> Vec<PathBuf> {
        numbers.map(|number| secrets_file(self.world.root(), &unit(number).agency)).collect()
    }

    fn plan(&self, source: Source, in_flight: usize) -> Plan {
        Plan {
            wire: Wire::Lintas { broker: self.world.address(), times: 1 },
            sources: vec![source],
            in_flight,
            pace: Some(PACE),
            seconds: self.seconds as f64,
        }
    }

    /// An honest round beside an attack.
    fn attacked(&self, name: &str, source: Source, attack: &Attack) -> (Honest, Done) {
        let attacker = Attacker::start(self.bench, &self.folder.path().join(name), attack);
        let during = self.honest(name, source);
        (during, attacker.end())
    }

    fn honest(&self, beside: &str, source: Source) -> Honest {
        let (told, grown) = self.paced(beside, source);
        Honest { latencies: told.durations(), grown }
    }

    /// Everything that is sent must be accepted.
    fn paced(&self, beside: &str, source: Source) -> (Told, f64) {
        let broker = self.world.broker();
        if beside == "nobody" {
            rest(&broker.id().to_string());
        }
        self.bench.says(format!("{PACE} in a second beside {beside}"));
        // From now on the most memory counts anew.
        fs::write(format!("/proc/{}/clear_refs", broker.id()), "5").unwrap();
        let before = broker.resident_bytes();
        let plan = self.plan(source, HONEST_IN_FLIGHT);
        let told = load::run(self.bench, self.folder.path(), &plan);
        let all = PACE as usize * self.seconds as usize;
        assert_eq!((told.refused, told.latencies.len()), (0, all), "{beside}: {}", told.refusal);
        (told, (broker.peak_kib() * 1_024).saturating_sub(before) as f64)
    }

    fn rows(self) -> Vec<Row> {
        let Self { mut world, alone, attacks, .. } = self;
        world.stop();
        let of = |what: fn(&Honest) -> f64| median(alone.iter().map(what).collect());
        let (p50, p99) = (of(|alone| alone.latencies.p50_us()), of(|alone| alone.latencies.p99_us()));
        let grown = of(|alone| alone.grown);
        let mut rows = Vec::new();
        for Found { name, during, rows: found } in attacks {
            let row = |what, value, unit| Row::new(format!("attack.{name}.{what}"), value, unit);
            rows.extend([
                row("p50", during.latencies.p50_us(), "us").beside("without", p50),
                row("p99", during.latencies.p99_us(), "us")
                    .beside("without", p99)
                    .must_be(Target::RatioAtMost(RATIO_MAX)),
                row("memory", during.grown, "bytes")
                    .beside("without", grown)
                    .must_be(Target::AtMost(GROWN_MAX)),
            ]);
            rows.extend(found);
        }
        rows
    }
}

fn rate(name: &str, count: u64, done: &Done) -> Row {
    Row::new(format!("attack.{name}"), count as f64 / done.seconds, "1/s")
}

/// Latencies of what was due in the second after a moment.
fn second_after(told: &Told, moment_unix_ns: u64) -> Durations {
    let due = |number: usize| told.began_unix_ns + (number as f64 * 1e9 / PACE) as u64;
    let is_in = |number: &usize| (moment_unix_ns..moment_unix_ns + 1_000_000_000).contains(&due(*number));
    let latencies = told.latencies.iter().enumerate().filter(|(number, _)| is_in(number));
    Durations::new(latencies.map(|(_, latency)| *latency).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_after_a_moment_is_of_what_was_due_in_it() {
        let began_unix_ns = 7_000_000_000;
        // Each took as many nanoseconds as its number says.
        let told = Told { began_unix_ns, latencies: (0..1_000).collect(), ..Told::default() };
        let second = second_after(&told, began_unix_ns + 1_000_000_000);
        assert_eq!((second.len(), second.percentile_us(0.0), second.percentile_us(1.0)), (200, 0.2, 0.399));
        assert_eq!(second_after(&told, began_unix_ns + 4_999_000_000).len(), 0);
    }
}

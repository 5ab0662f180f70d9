//! Which handshakes are worth starting. A handshake costs the broker a key exchange and a signature check
//! before it knows anything about the peer, so their number and their rate have limits, in all and for each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::limits::Limits;

/// Counts handshakes in progress, and those begun of late.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Handshakes in progress, in all.
    busy: usize,
    starts: Bucket,
    /// By [`share`]; at most `shares_max`.
    shares: HashMap<IpAddr, Share>,
}

/// What one address has taken.
#[derive(Debug, Default)]
struct Share {
    /// Handshakes in progress.
    busy: usize,
    starts: Bucket,
}

impl Share {
    fn is_at_rest(&self, now: Instant) -> bool {
        self.busy == 0 && self.starts.owed(now).is_zero()
    }
}

/// A token bucket, kept as the moment at which it is full again (the virtual scheduling algorithm of ITU-T I.371).
#[derive(Debug, Default, Clone, Copy)]
struct Bucket(Option<Instant>);

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), burst }
    }
}

impl Bucket {
    /// Time until it is full.
    fn owed(self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |full| full.saturating_duration_since(now))
    }

    /// Whether one more token can be taken while at most `burst` are owed.
    fn has(self, rate: Rate, burst: u32, now: Instant) -> bool {
        self.owed(now).saturating_add(rate.interval) <= rate.interval.saturating_mul(burst)
    }

    fn take(&mut self, rate: Rate, now: Instant) {
        self.0 = now.checked_add(self.owed(now).saturating_add(rate.interval));
    }
}

/// What to do with an attempt.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Start the handshake; the ticket gives the slot back when dropped.
    Start(Ticket),
    /// Send a retry: the address must first show that it receives what is sent to it (RFC 9000 section 8.1.2).
    Retry,
    /// Refuse.
    Refuse,
}

/// One slot, held from the first packet to the end of the handshake.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    share: IpAddr,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default() })
    }

    /// Decides about an attempt from `address`, which is `validated` when it has answered a retry; `open` is
    /// the number of connections in any state.
    pub(crate) fn decide(
        self: &Arc<Self>,
        address: IpAddr,
        validated: bool,
        open: usize,
        now: Instant,
    ) -> Decision {
        let limits = &self.limits;
        let all = Rate::new(limits.starts_per_second_max, limits.starts_burst);
        let each = Rate::new(limits.starts_per_address_per_second_max, limits.starts_per_address_burst);
        let share = share(address);
        let mut counts = self.lock();
        if counts.busy >= limits.handshakes_max || open >= limits.open_max {
            return Decision::Refuse;
        }
        let (busy, starts) =
            counts.shares.get(&share).map_or((0, Bucket::default()), |share| (share.busy, share.starts));
        // What is not proved to come from its address gets no more than the first half of either bucket.
        let unproved_fits =
            counts.starts.has(all, all.burst / 2, now) && starts.has(each, each.burst / 2, now);
        if !validated && (counts.busy >= limits.retry_above_handshakes || !unproved_fits) {
            return Decision::Retry;
        }
        let fits = counts.starts.has(all, all.burst, now) && starts.has(each, each.burst, now);
        if !fits || busy >= limits.handshakes_per_address_max || !counts.has_room(share, limits, now) {
            return Decision::Refuse;
        }
        counts.busy += 1;
        counts.starts.take(all, now);
        let taken = counts.shares.entry(share).or_default();
        taken.busy += 1;
        taken.starts.take(each, now);
        Decision::Start(Ticket { gate: Arc::clone(self), share })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole after every statement, so a panic elsewhere spoils nothing.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Whether this address can be remembered. Forgets those at rest, when there are many: what is swept is never
    /// swept twice, so it costs each start next to nothing.
    fn has_room(&mut self, share: IpAddr, limits: &Limits, now: Instant) -> bool {
        if self.shares.len() >= limits.shares_max && !self.shares.contains_key(&share) {
            self.shares.retain(|_, share| !share.is_at_rest(now));
        }
        self.shares.len() < limits.shares_max || self.shares.contains_key(&share)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        counts.busy = counts.busy.saturating_sub(1);
        if let Some(share) = counts.shares.get_mut(&self.share) {
            share.busy = share.busy.saturating_sub(1);
        }
    }
}

/// What counts as one address: whoever holds one address of a /64 holds all of them.
fn share(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(decision: Decision) -> Ticket {
        match decision {
            Decision::Start(ticket) => ticket,
            other @ (Decision::Retry | Decision::Refuse) => panic!("{other:?}"),
        }
    }

    #[test]
    fn forged_addresses_cannot_use_up_a_members_share() {
        let (limits, now) = (Limits::default(), Instant::now());
        let (gate, member) = (Gate::new(limits), IpAddr::from([192, 0, 2, 1]));
        let forged: Vec<_> =
            (0..limits.retry_above_handshakes).map(|_| started(gate.decide(member, false, 0, now))).collect();
        assert!(matches!(gate.decide(member, false, 0, now), Decision::Retry));
        // The member answers the retry.
        drop((started(gate.decide(member, true, 0, now)), forged));
        // Also when the forged handshakes come one after another.
        let forged = (0..1_000).filter(|_| matches!(gate.decide(member, false, 0, now), Decision::Start(_)));
        assert!(forged.count() < 128, "no more than the first half");
        for _ in 0..limits.starts_per_address_burst / 2 - 1 {
            drop(started(gate.decide(member, true, 0, now)));
        }
    }

    #[test]
    fn forged_addresses_cannot_use_up_the_whole() {
        let (limits, now) = (Limits::default(), Instant::now());
        let gate = Gate::new(limits);
        let forged = (0..10_000u32)
            .filter(|n| {
                matches!(gate.decide(IpAddr::from(n.to_be_bytes()), false, 0, now), Decision::Start(_))
            })
            .count();
        assert_eq!(forged, 512);
        drop(started(gate.decide([192, 0, 2, 1].into(), true, 0, now)));
    }

    #[test]
    fn one_address_has_its_rate_and_others_theirs() {
        let (limits, start) = (Limits::default(), Instant::now());
        let (gate, hostile) = (Gate::new(limits), IpAddr::from([192, 0, 2, 66]));
        // A hundred thousand attempts in ten seconds, each address proved.
        let begun = (0..100_000u32)
            .filter(|n| {
                let now = start + Duration::from_micros(100) * *n;
                matches!(gate.decide(hostile, true, 0, now), Decision::Start(_))
            })
            .count();
        assert!((750..=760).contains(&begun), "{begun} of a burst of 256 and ten seconds at 50");
        let now = start + Duration::from_secs(10);
        for low in 0..250 {
            drop(started(gate.decide([10, 0, 0, low].into(), true, 0, now)));
        }
    }

    #[test]
    fn all_addresses_together_have_a_rate() {
        let (limits, start) = (Limits::default(), Instant::now());
        let gate = Gate::new(limits);
        let mut most = 0;
        let begun = (0..200_000u32)
            .filter(|n| {
                let now = start + Duration::from_micros(50) * *n;
                let begun =
                    matches!(gate.decide(IpAddr::from(n.to_be_bytes()), true, 0, now), Decision::Start(_));
                most = most.max(gate.lock().shares.len());
                begun
            })
            .count();
        assert!((5_000..=5_030).contains(&begun), "{begun} of a burst of 1,024 and ten seconds at 400");
        assert!(most <= limits.shares_max, "{most} remembered");
    }

    #[test]
    fn addresses_at_rest_are_forgotten_and_others_never() {
        let limits = Limits { shares_max: 3, ..Limits::default() };
        let (gate, start) = (Gate::new(limits), Instant::now());
        let host = |low: u8| IpAddr::from([10, 0, 0, low]);
        let held = [1, 2, 3].map(|low| started(gate.decide(host(low), true, 0, start)));
        let later = start + Duration::from_secs(60);
        assert!(matches!(gate.decide(host(4), true, 0, later), Decision::Refuse), "three are still busy");
        drop(held);
        assert!(matches!(gate.decide(host(4), true, 0, start), Decision::Refuse), "none has rested");
        drop(started(gate.decide(host(4), true, 0, later)));
        assert_eq!(gate.lock().shares.len(), 1);
    }

    #[test]
    fn a_thousand_nodes_behind_one_address_are_back_within_a_minute() {
        let (limits, start) = (Limits::default(), Instant::now());
        let (gate, address) = (Gate::new(limits), IpAddr::from([192, 0, 2, 1]));
        let mut dice = 1u64;
        // Each tries at once and again after a pause that doubles from 200 ms to 30 s, spread over its upper half,
        // as nodes do. A handshake takes 40 ms.
        let mut due: std::collections::BTreeMap<(u64, u32), u32> = (0..1_000).map(|n| ((0, n), 0)).collect();
        let mut running = std::collections::VecDeque::new();
        let mut last_ms = 0;
        while let Some(((at_ms, node), failures)) = due.pop_first() {
            let now = start + Duration::from_millis(at_ms);
            while running.front().is_some_and(|(until_ms, _)| *until_ms <= at_ms) {
                running.pop_front();
            }
            let first = gate.decide(address, false, 0, now);
            let decision =
                if matches!(first, Decision::Retry) { gate.decide(address, true, 0, now) } else { first };
            if let Decision::Start(ticket) = decision {
                running.push_back((at_ms + 40, ticket));
                last_ms = at_ms;
            } else {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let half = (200u64 << failures.min(20)).min(30_000) / 2;
                due.insert((at_ms + half + (dice >> 33) % half, node), failures + 1);
            }
        }
        assert!((10_000..60_000).contains(&last_ms), "the last is in after {last_ms} ms");
    }

    #[test]
    fn one_host_cannot_take_all_slots() {
        let (limits, now) = (Limits::default(), Instant::now());
        let gate = Gate::new(limits);
        let host = |low: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, low]);
        let taken: Vec<_> = (0..limits.handshakes_per_address_max)
            .map(|low| started(gate.decide(host(u16::try_from(low).unwrap()), true, 0, now)))
            .collect();
        assert!(matches!(gate.decide(host(9_999), true, 0, now), Decision::Refuse));
        let neighbour = IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]);
        drop(started(gate.decide(neighbour, true, 0, now)));
        drop(taken);
        drop(started(gate.decide(host(9_999), true, 0, now)));
    }

    #[test]
    fn the_total_and_the_lingering_are_bounded() {
        let (limits, now) = (Limits { handshakes_max: 3, ..Limits::default() }, Instant::now());
        let gate = Gate::new(limits);
        let taken = [1, 2, 3].map(|low| started(gate.decide([10, 0, 0, low].into(), true, 0, now)));
        assert!(matches!(gate.decide([10, 0, 0, 4].into(), true, 0, now), Decision::Refuse));
        drop(taken);
        assert!(matches!(gate.decide([10, 0, 0, 4].into(), true, limits.open_max, now), Decision::Refuse));
        drop(started(gate.decide([10, 0, 0, 4].into(), true, limits.open_max - 1, now)));
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let IpAddr::V4(inner) = v4 else { panic!("{v4}") };
        assert_eq!(share(IpAddr::V6(inner.to_ipv6_mapped())), v4);
    }
}

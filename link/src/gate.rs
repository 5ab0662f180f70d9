//! Which handshakes are worth starting. A handshake costs the broker a key exchange and a signature check
//! before it knows anything about the peer, so their number has a limit, in all and for each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::limits::Limits;

/// Counts handshakes in progress.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    /// Handshakes in progress by [`share`]; at most `handshakes_max` entries, none of them zero.
    busy: Mutex<HashMap<IpAddr, usize>>,
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
        Arc::new(Self { limits, busy: Mutex::default() })
    }

    /// Decides about an attempt from `address`, which is `validated` when it has answered a retry; `open` is
    /// the number of connections in any state.
    pub(crate) fn decide(self: &Arc<Self>, address: IpAddr, validated: bool, open: usize) -> Decision {
        let share = share(address);
        let mut busy = self.lock();
        let total: usize = busy.values().sum();
        let own = busy.get(&share).copied().unwrap_or_default();
        if total >= self.limits.handshakes_max || open >= self.limits.open_max {
            return Decision::Refuse;
        }
        if !validated && total >= self.limits.retry_above_handshakes {
            return Decision::Retry;
        }
        if own >= self.limits.handshakes_per_address_max {
            return Decision::Refuse;
        }
        busy.insert(share, own + 1);
        Decision::Start(Ticket { gate: Arc::clone(self), share })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Counts are whole after every statement, so a panic elsewhere spoils nothing.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut busy = self.gate.lock();
        let left = busy.get(&self.share).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            busy.remove(&self.share);
        } else {
            busy.insert(self.share, left);
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
        let limits = Limits::default();
        let (gate, member) = (Gate::new(limits), IpAddr::from([192, 0, 2, 1]));
        let forged: Vec<_> =
            (0..limits.retry_above_handshakes).map(|_| started(gate.decide(member, false, 0))).collect();
        assert!(matches!(gate.decide(member, false, 0), Decision::Retry));
        // The member answers the retry.
        let proved = started(gate.decide(member, true, 0));
        drop((forged, proved));
        assert!(gate.lock().is_empty(), "nothing is kept of an address at rest");
    }

    #[test]
    fn one_host_cannot_take_all_slots() {
        let limits = Limits::default();
        let gate = Gate::new(limits);
        let host = |low: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, low]);
        let taken: Vec<_> = (0..limits.handshakes_per_address_max)
            .map(|low| started(gate.decide(host(u16::try_from(low).unwrap()), true, 0)))
            .collect();
        assert!(matches!(gate.decide(host(9_999), true, 0), Decision::Refuse));
        let neighbour = IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]);
        drop(started(gate.decide(neighbour, true, 0)));
        drop(taken);
        drop(started(gate.decide(host(9_999), true, 0)));
    }

    #[test]
    fn the_total_and_the_lingering_are_bounded() {
        let limits = Limits { handshakes_max: 3, ..Limits::default() };
        let gate = Gate::new(limits);
        let taken = [1, 2, 3].map(|low| started(gate.decide([10, 0, 0, low].into(), true, 0)));
        assert!(matches!(gate.decide([10, 0, 0, 4].into(), true, 0), Decision::Refuse));
        drop(taken);
        assert!(matches!(gate.decide([10, 0, 0, 4].into(), true, limits.open_max), Decision::Refuse));
        drop(started(gate.decide([10, 0, 0, 4].into(), true, limits.open_max - 1)));
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let IpAddr::V4(inner) = v4 else { panic!("{v4}") };
        assert_eq!(share(IpAddr::V6(inner.to_ipv6_mapped())), v4);
    }
}

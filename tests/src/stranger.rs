//! A stranger: sound keys, known to nobody.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use lintas_config::{issue::fresh_seed, os_entropy};
use lintas_link::{Client, Limits, LinkError, PeerDirectory, TransportKey, greet};
use lintas_proto::schema::Hello;

use crate::shaper::Dice;

/// What became of the attempt.
#[derive(Debug)]
pub struct Attempt {
    /// Whether the broker refused the key.
    pub refused: bool,
    /// What the stranger is told.
    pub words: String,
}

/// Trusts whoever answers: a stranger has no directory.
#[derive(Debug)]
struct Anybody;

impl PeerDirectory for Anybody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        true
    }
}

/// Connects to a broker with a key that no directory holds, and says hello.
#[must_use]
pub fn try_to_connect(address: SocketAddr) -> Attempt {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(hello(address)) {
        Ok(()) => Attempt { refused: false, words: "the broker answered the hello".to_owned() },
        Err(error) => Attempt { refused: matches!(error, LinkError::NotAdmitted), words: error.to_string() },
    }
}

async fn hello(address: SocketAddr) -> Result<(), LinkError> {
    knock(&stranger(Ipv4Addr::LOCALHOST)?, address).await
}

fn stranger(from: Ipv4Addr) -> Result<Client, LinkError> {
    let key = TransportKey::from_seed(&fresh_seed(&mut os_entropy()))?;
    // Its own side does not end one attempt for the next.
    let limits = Limits { connections_per_peer_max: 1_000, ..Limits::default() };
    Client::bind_with(SocketAddr::from((from, 0)), &key, Arc::new(Anybody), limits)
}

async fn knock(client: &Client, address: SocketAddr) -> Result<(), LinkError> {
    let connection = client.connect(address).await?;
    let hello = Hello { protocol: 1, agency: "TH".to_owned(), ..Hello::default() };
    greet(&connection, &hello).await.map(drop)
}

/// Connects `count` times, up to 50 at once, and says hello each time. How many were refused for their key, and how
/// many were turned away unseen or left without an answer; nobody is served.
#[must_use]
pub fn storm(address: SocketAddr, count: usize) -> (usize, usize) {
    storm_from(&[Ipv4Addr::LOCALHOST], address, count, || true)
}

/// As [`storm`], from each of these addresses of this machine in turn, and only as long as `goes_on`; those that are
/// under way then are not counted.
#[must_use]
pub fn storm_from(
    from: &[Ipv4Addr],
    address: SocketAddr,
    count: usize,
    goes_on: impl Fn() -> bool,
) -> (usize, usize) {
    const AT_ONCE: usize = 50;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let clients: Vec<_> = from.iter().map(|from| Arc::new(stranger(*from).unwrap())).collect();
        let (mut refused, mut unseen, mut begun) = (0, 0, 0);
        let mut tries = tokio::task::JoinSet::new();
        while goes_on() && (begun < count || !tries.is_empty()) {
            while begun < count && tries.len() < AT_ONCE {
                let client = Arc::clone(&clients[begun % clients.len()]);
                begun += 1;
                tries.spawn(async move { knock(&client, address).await });
            }
            match tries.join_next().await.unwrap().unwrap() {
                Err(LinkError::NotAdmitted) => refused += 1,
                Err(LinkError::Busy | LinkError::HandshakeTimeout { .. }) => unseen += 1,
                other => panic!("{other:?}"),
            }
        }
        (refused, unseen)
    })
}

/// The first datagrams of `count` connections that never go on: what a client sends to somebody who never answers.
#[must_use]
pub fn first_flights(count: usize) -> Vec<Vec<u8>> {
    const AT_ONCE: usize = 20;
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    hole.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let address = hole.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(async { Arc::new(stranger(Ipv4Addr::LOCALHOST).unwrap()) });
    let (mut flights, mut buffer) = (Vec::new(), vec![0; 2_048]);
    while flights.len() < count {
        for _ in 0..AT_ONCE {
            let client = Arc::clone(&client);
            runtime.spawn(async move { client.connect(address).await });
        }
        sleep(Duration::from_millis(20));
        while let Ok((length, _)) = hole.recv_from(&mut buffer) {
            flights.push(buffer[..length].to_vec());
        }
    }
    flights.truncate(count);
    flights
}

/// `count` datagrams that look like the first of a connection, as far as anybody sees without opening them: a long header of
/// QUIC version 1, an Initial, a connection id of its own, the least length. The rest is noise.
#[must_use]
pub fn junk_initials(count: usize, seed: u64) -> Vec<Vec<u8>> {
    const BYTES: usize = 1_200;
    let mut dice = Dice::of(seed);
    let mut noise = move |bytes: usize| -> Vec<u8> {
        (0..bytes.div_ceil(8)).flat_map(|_| dice.roll(u64::MAX).to_be_bytes()).take(bytes).collect()
    };
    let mut junk = || {
        let mut datagram = vec![0xc3, 0, 0, 0, 1, 8];
        datagram.extend(noise(8));
        // No id of its own, no token; the length of what follows in two bytes.
        datagram.extend([0, 0]);
        let rest = u16::try_from(BYTES - datagram.len() - 2).unwrap();
        datagram.extend((0x4000 | rest).to_be_bytes());
        datagram.extend(noise(rest.into()));
        datagram
    };
    (0..count).map(|_| junk()).collect()
}

/// Throws junk Initials at `address` as long as `goes_on`, so many in a second if the machine lets it: how many. Each is of a
/// connection of its own. What was missed is made up for no longer than a hundredth of a second.
#[must_use]
pub fn throw_junk(address: SocketAddr, per_second: u32, seed: u64, goes_on: impl Fn() -> bool) -> u64 {
    const MADE: usize = 1_000;
    const ID: std::ops::Range<usize> = 6..14;
    let mut junk = junk_initials(MADE, seed);
    let sockets: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let made_up_max = u64::from(per_second / 100);
    let (began, mut thrown, mut missed) = (Instant::now(), 0_u64, 0);
    while goes_on() {
        let due = began.elapsed().as_micros() * u128::from(per_second) / 1_000_000;
        let due = u64::try_from(due).unwrap() - missed;
        missed += due.saturating_sub(thrown + made_up_max);
        let until = due.min(thrown + made_up_max);
        while thrown < until {
            let at = usize::try_from(thrown).unwrap();
            let datagram = &mut junk[at % MADE];
            datagram[ID].copy_from_slice(&thrown.to_be_bytes());
            // A full buffer of the broker's drops it, as a network would.
            let _ = sockets[at % sockets.len()].send_to(datagram, address);
            thrown += 1;
        }
        sleep(Duration::from_millis(1));
    }
    thrown
}

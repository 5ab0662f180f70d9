//! A bad network between nodes and a broker, on loopback, in this process.
//!
//! Nodes connect to the shaper's address; it passes on what they send, and what the broker answers, as the weather of each
//! way wants it: late, lost, twice, out of order, too long, or not at all. Each node has an address of its own towards the
//! broker, as behind a NAT; that can be changed under way. The chances follow from a seed, the times are those of the
//! machine. `line` decides, this file does.

mod dice;
mod line;

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

pub use self::{
    dice::Dice,
    line::{Counts, HEADERS_BYTES, HELD_MS_MAX, Line, QUEUE_BYTES_MAX, QUEUE_MAX, Weather},
};

/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// How long a thread waits before it looks whether it is to end, milliseconds.
const TURN_MS: u64 = 20;
/// Most nodes, and commands of theirs that connect by themselves, of one shaper.
const PATHS_MAX: usize = 256;
/// Most bytes that are written down; a test that needs more is a test gone wrong.
const RECORDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many datagrams are sent again at once, then a rest of a millisecond.
const AGAIN_AT_ONCE: usize = 16;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the broker.
    Up,
    /// To a node.
    Down,
}

/// From where recorded datagrams are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The address that they had.
    Same,
    /// Another one.
    Other,
}

/// A relay that listens on loopback and forwards to a broker.
#[derive(Debug)]
pub struct Shaper {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// Where nodes connect to.
    front: UdpSocket,
    broker: SocketAddr,
    state: Mutex<State>,
    bell: Condvar,
    stop: AtomicBool,
}

#[derive(Debug)]
struct State {
    up: Line<SocketAddr>,
    down: Line<SocketAddr>,
    /// By the node's own address.
    paths: HashMap<SocketAddr, Arc<UdpSocket>>,
    /// The node that was heard last.
    newest: Option<SocketAddr>,
    /// Threads that listen to the broker.
    listeners: Vec<JoinHandle<()>>,
    /// How often addresses were changed.
    moved: u8,
    recorded: Option<Vec<(Way, Vec<u8>)>>,
    recorded_bytes: usize,
}

impl Shaper {
    /// Starts a fair relay to `broker`; its chances follow from `seed`.
    #[must_use]
    pub fn to(broker: SocketAddr, seed: u64) -> Self {
        Self::start(broker, seed, None)
    }

    /// As [`to`](Self::to); it writes down every datagram that comes in.
    #[must_use]
    pub fn that_records(broker: SocketAddr, seed: u64) -> Self {
        Self::start(broker, seed, Some(Vec::new()))
    }

    fn start(broker: SocketAddr, seed: u64, recorded: Option<Vec<(Way, Vec<u8>)>>) -> Self {
        let front = bound("127.0.0.1");
        let mut seeds = Dice::of(seed);
        let mut line = || Line::new(Weather::default(), seeds.roll(u64::MAX));
        let state = State {
            up: line(),
            down: line(),
            paths: HashMap::new(),
            newest: None,
            listeners: Vec::new(),
            moved: 0,
            recorded,
            recorded_bytes: 0,
        };
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            front,
            broker,
            state: Mutex::new(state),
            bell: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let (listens, sends) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || listen_to_nodes(&listens)),
            std::thread::spawn(move || send(&sends)),
        ];
        Self { shared, threads }
    }

    /// Where nodes connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.front.local_addr().unwrap()
    }

    /// Changes the weather both ways.
    pub fn set(&self, weather: Weather) {
        self.set_way(Way::Up, weather);
        self.set_way(Way::Down, weather);
    }

    /// Changes the weather one way.
    pub fn set_way(&self, way: Way, weather: Weather) {
        self.shared.state().line(way).set(weather);
    }

    /// What became of what went one way.
    #[must_use]
    pub fn counts(&self, way: Way) -> Counts {
        self.shared.state().line(way).counts()
    }

    /// From now on the broker sees each node under another address; what it sends to the old ones is lost, as by a NAT
    /// that has forgotten them. By turns the port changes alone and with the host.
    pub fn change_addresses(&self) {
        let mut state = self.shared.state();
        state.moved = state.moved.checked_add(1).unwrap();
        let host = format!("127.0.0.{}", 1 + state.moved / 2);
        let nodes: Vec<SocketAddr> = state.paths.keys().copied().collect();
        nodes.into_iter().for_each(|node| drop(open_path(&self.shared, &mut state, node, &host)));
    }

    /// What has come in one way, in its order.
    #[must_use]
    pub fn recorded(&self, way: Way) -> Vec<Vec<u8>> {
        let state = self.shared.state();
        let all = state.recorded.as_ref().unwrap().iter();
        all.filter(|(went, _)| *went == way).map(|(_, datagram)| datagram.clone()).collect()
    }

    /// Sends datagrams to the broker, or to the node that was heard last, past the weather.
    pub fn send_again(&self, way: Way, datagrams: &[Vec<u8>], from: From) {
        let (node, back) = {
            let state = self.shared.state();
            let node = state.newest.unwrap();
            (node, Arc::clone(&state.paths[&node]))
        };
        let other = bound("127.0.0.1");
        let to = if way == Way::Up { self.shared.broker } else { node };
        let socket = match (from, way) {
            (From::Other, _) => &other,
            (From::Same, Way::Up) => &*back,
            (From::Same, Way::Down) => &self.shared.front,
        };
        for some in datagrams.chunks(AGAIN_AT_ONCE) {
            some.iter()
                .for_each(|datagram| assert_eq!(socket.send_to(datagram, to).unwrap(), datagram.len()));
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.bell.notify_all();
        let listeners = std::mem::take(&mut self.shared.state().listeners);
        for thread in self.threads.drain(..).chain(listeners) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a thread of the shaper panicked");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl State {
    fn line(&mut self, way: Way) -> &mut Line<SocketAddr> {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    fn take(&mut self, way: Way, now_us: u64, datagram: &[u8], node: SocketAddr) {
        if let Some(recorded) = &mut self.recorded {
            self.recorded_bytes += datagram.len();
            assert!(self.recorded_bytes < RECORDED_BYTES_MAX, "the shaper has written down too much");
            recorded.push((way, datagram.to_vec()));
        }
        self.line(way).take(now_us, datagram, &node);
    }
}

fn bound(host: &str) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(TURN_MS))).unwrap();
    socket
}

/// Gives a node a new address towards the broker.
fn open_path(shared: &Arc<Shared>, state: &mut State, node: SocketAddr, host: &str) -> Arc<UdpSocket> {
    let back = Arc::new(bound(host));
    state.paths.insert(node, Arc::clone(&back));
    assert!(state.paths.len() <= PATHS_MAX, "too many nodes for one shaper");
    let (of_thread, listens) = (Arc::clone(shared), Arc::clone(&back));
    state.listeners.retain(|thread| !thread.is_finished());
    state.listeners.push(std::thread::spawn(move || listen_to_broker(&of_thread, &listens, node)));
    back
}

fn listen_to_nodes(shared: &Arc<Shared>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !shared.stops() {
        let Some((length, node)) = received(shared.front.recv_from(&mut buffer)) else { continue };
        let mut state = shared.state();
        if !state.paths.contains_key(&node) {
            open_path(shared, &mut state, node, "127.0.0.1");
        }
        state.newest = Some(node);
        state.take(Way::Up, shared.now_us(), &buffer[..length], node);
        shared.bell.notify_one();
    }
}

/// Until the node gets another address.
fn listen_to_broker(shared: &Shared, back: &Arc<UdpSocket>, node: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !shared.stops() {
        let heard = received(back.recv_from(&mut buffer)).filter(|(_, from)| *from == shared.broker);
        let mut state = shared.state();
        if !state.paths.get(&node).is_some_and(|present| Arc::ptr_eq(present, back)) {
            return;
        }
        if let Some((length, _)) = heard {
            state.take(Way::Down, shared.now_us(), &buffer[..length], node);
            shared.bell.notify_one();
        }
    }
}

fn send(shared: &Shared) {
    let mut state = shared.state();
    while !shared.stops() {
        let now_us = shared.now_us();
        let mut due = Vec::new();
        while let Some((datagram, node)) = state.up.give(now_us) {
            due.push((Some(Arc::clone(&state.paths[&node])), datagram, shared.broker));
        }
        while let Some((datagram, node)) = state.down.give(now_us) {
            due.push((None, datagram, node));
        }
        if due.is_empty() {
            let next_us = [state.up.next_us(), state.down.next_us()].into_iter().flatten().min();
            let wait_us = next_us.map_or(TURN_MS * 1_000, |next_us| next_us.saturating_sub(now_us));
            state = shared.bell.wait_timeout(state, Duration::from_micros(wait_us)).unwrap().0;
            continue;
        }
        drop(state);
        for (back, datagram, to) in due {
            // What the kernel does not take is lost, as on any network.
            let _ = back.as_deref().unwrap_or(&shared.front).send_to(&datagram, to);
        }
        state = shared.state();
    }
}

/// None when nothing is there for the moment.
fn received(result: std::io::Result<(usize, SocketAddr)>) -> Option<(usize, SocketAddr)> {
    match result {
        Ok(received) => Some(received),
        Err(error) => {
            let passing = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionRefused];
            assert!(passing.contains(&error.kind()), "{error}");
            None
        }
    }
}

#[cfg(test)]
mod tests;

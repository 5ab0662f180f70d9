//! A tap on the wire: a UDP relay between nodes and broker that writes down, or only counts, every byte that passes.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Most bytes that a tap writes down; a test that needs more is a test gone wrong.
const CAPTURE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// How long a socket is listened to before the others have their turn, milliseconds.
const TURN_MS: u64 = 1;

/// A relay that listens on loopback and forwards to a broker.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    passed: Arc<Passed>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What has passed.
#[derive(Debug, Default)]
struct Passed {
    /// None when bytes are only counted.
    captured: Option<Mutex<Vec<u8>>>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Passed {
    fn take(&self, bytes: &[u8], direction: &AtomicU64) {
        direction.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(captured) = &self.captured {
            let mut captured = captured.lock().unwrap();
            assert!(captured.len() < CAPTURE_BYTES_MAX, "the tap is full");
            captured.extend_from_slice(bytes);
        }
    }
}

impl Tap {
    /// Starts a relay to `broker` that writes everything down.
    #[must_use]
    pub fn to(broker: SocketAddr) -> Self {
        Self::start(broker, Passed { captured: Some(Mutex::default()), ..Passed::default() })
    }

    /// Starts a relay to `broker` that only counts.
    #[must_use]
    pub fn counting(broker: SocketAddr) -> Self {
        Self::start(broker, Passed::default())
    }

    fn start(broker: SocketAddr, passed: Passed) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let (passed, stop) = (Arc::new(passed), Arc::new(AtomicBool::new(false)));
        let (of_thread, until) = (Arc::clone(&passed), Arc::clone(&stop));
        let thread = std::thread::spawn(move || relay(&front, broker, &of_thread, &until));
        Self { address, passed, stop, thread: Some(thread) }
    }

    /// Where nodes connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that has passed, in both directions.
    #[must_use]
    pub fn captured(&self) -> Vec<u8> {
        self.passed.captured.as_ref().map(|captured| captured.lock().unwrap().clone()).unwrap_or_default()
    }

    /// Bytes of datagrams that have passed to the broker and from it.
    #[must_use]
    pub fn counted(&self) -> (u64, u64) {
        (self.passed.up.load(Ordering::Relaxed), self.passed.down.load(Ordering::Relaxed))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn relay(front: &UdpSocket, broker: SocketAddr, passed: &Passed, stop: &AtomicBool) {
    let turn = Some(Duration::from_millis(TURN_MS));
    front.set_read_timeout(turn).unwrap();
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        while let Some((length, node)) = received(front.recv_from(&mut buffer)) {
            let back = backs.entry(node).or_insert_with(|| {
                let back = UdpSocket::bind("127.0.0.1:0").unwrap();
                back.connect(broker).unwrap();
                back.set_read_timeout(turn).unwrap();
                back
            });
            passed.take(&buffer[..length], &passed.up);
            let _ = back.send(&buffer[..length]);
        }
        for (node, back) in &backs {
            while let Some((length, _)) = received(back.recv(&mut buffer).map(|length| (length, broker))) {
                passed.take(&buffer[..length], &passed.down);
                let _ = front.send_to(&buffer[..length], node);
            }
        }
    }
}

/// None when nothing is there, or the other side is away for the moment.
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

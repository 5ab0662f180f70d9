//! A tap on the wire: a UDP relay between nodes and broker that writes down every byte that passes.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
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
    captured: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// Starts a relay to `broker`.
    #[must_use]
    pub fn to(broker: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let (captured, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (of_thread, until) = (Arc::clone(&captured), Arc::clone(&stop));
        let thread = std::thread::spawn(move || relay(&front, broker, &of_thread, &until));
        Self { address, captured, stop, thread: Some(thread) }
    }

    /// Where nodes connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that has passed, in both directions.
    #[must_use]
    pub fn captured(&self) -> Vec<u8> {
        self.captured.lock().unwrap().clone()
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

fn relay(front: &UdpSocket, broker: SocketAddr, captured: &Mutex<Vec<u8>>, stop: &AtomicBool) {
    let turn = Some(Duration::from_millis(TURN_MS));
    front.set_read_timeout(turn).unwrap();
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let keep = |bytes: &[u8]| {
        let mut captured = captured.lock().unwrap();
        assert!(captured.len() < CAPTURE_BYTES_MAX, "the tap is full");
        captured.extend_from_slice(bytes);
    };
    while !stop.load(Ordering::Relaxed) {
        while let Some((length, node)) = received(front.recv_from(&mut buffer)) {
            let back = backs.entry(node).or_insert_with(|| {
                let back = UdpSocket::bind("127.0.0.1:0").unwrap();
                back.connect(broker).unwrap();
                back.set_read_timeout(turn).unwrap();
                back
            });
            keep(&buffer[..length]);
            let _ = back.send(&buffer[..length]);
        }
        for (node, back) in &backs {
            while let Some((length, _)) = received(back.recv(&mut buffer).map(|length| (length, broker))) {
                keep(&buffer[..length]);
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

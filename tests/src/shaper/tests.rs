//! The shaper between real sockets.

use super::*;

/// One that answers everything with the same bytes, and tells who asked.
struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start() -> Self {
        let socket = bound("127.0.0.1");
        let (address, seen, stop) = (socket.local_addr().unwrap(), Arc::default(), Arc::default());
        let (of_thread, until): (Arc<Mutex<Vec<SocketAddr>>>, Arc<AtomicBool>) =
            (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            while !until.load(Ordering::Relaxed) {
                let Some((length, from)) = received(socket.recv_from(&mut buffer)) else { continue };
                of_thread.lock().unwrap().push(from);
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    fn seen(&self) -> Vec<SocketAddr> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Asks and waits for the answer; none if none comes within a second.
fn ask(node: &UdpSocket, shaper: &Shaper, word: &[u8]) -> Option<Vec<u8>> {
    node.send_to(word, shaper.address()).unwrap();
    let mut buffer = [0; 2_048];
    (0..50).find_map(|_| received(node.recv_from(&mut buffer))).map(|(length, _)| buffer[..length].to_vec())
}

#[test]
fn what_is_asked_is_answered_as_late_as_both_ways_say() {
    let echo = Echo::start();
    let (shaper, node) = (Shaper::to(echo.address, 1), bound("127.0.0.1"));
    assert_eq!(ask(&node, &shaper, b"hello").as_deref(), Some(&b"hello"[..]));
    shaper.set(Weather { delay_ms: 50, ..Weather::default() });
    let begun = Instant::now();
    assert_eq!(ask(&node, &shaper, b"again").as_deref(), Some(&b"again"[..]));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!((shaper.counts(Way::Up).given, shaper.counts(Way::Down).given), (2, 2));
}

#[test]
fn a_cut_is_a_cut_one_way_or_both() {
    let echo = Echo::start();
    let (shaper, node) = (Shaper::to(echo.address, 1), bound("127.0.0.1"));
    shaper.set_way(Way::Down, Weather { cut: true, ..Weather::default() });
    assert_eq!(ask(&node, &shaper, b"lost on its way back"), None);
    assert_eq!((echo.seen().len(), shaper.counts(Way::Down).cut), (1, 1));
    shaper.set(Weather { cut: true, ..Weather::default() });
    assert_eq!(ask(&node, &shaper, b"lost on its way there"), None);
    assert_eq!((echo.seen().len(), shaper.counts(Way::Up).cut), (1, 1));
    shaper.set(Weather::default());
    assert!(ask(&node, &shaper, b"there again").is_some());
}

#[test]
fn the_broker_sees_another_address_and_answers_to_the_old_one_are_lost() {
    let echo = Echo::start();
    let (shaper, node) = (Shaper::to(echo.address, 1), bound("127.0.0.1"));
    for _ in 0..3 {
        assert!(ask(&node, &shaper, b"where am I").is_some());
        shaper.change_addresses();
    }
    let seen = echo.seen();
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0].ip() != seen[2].ip(), "{seen:?}");
    // Nobody listens any more where the node was before.
    let is_free = |_| {
        sleep(Duration::from_millis(TURN_MS));
        UdpSocket::bind(seen[0]).is_ok()
    };
    assert!((0..50).any(is_free));
    assert!(ask(&node, &shaper, b"and now").is_some());
}

#[test]
fn what_was_recorded_is_sent_again_from_there_and_from_elsewhere() {
    let echo = Echo::start();
    let (shaper, node) = (Shaper::that_records(echo.address, 1), bound("127.0.0.1"));
    assert!(ask(&node, &shaper, b"one").is_some() && ask(&node, &shaper, b"two").is_some());
    let up = shaper.recorded(Way::Up);
    assert_eq!((&up[..], shaper.recorded(Way::Down).len()), (&[b"one".to_vec(), b"two".to_vec()][..], 2));
    shaper.send_again(Way::Up, &up, From::Same);
    shaper.send_again(Way::Up, &up, From::Other);
    assert!((0..100).any(|_| {
        sleep(Duration::from_millis(10));
        echo.seen().len() == 6
    }));
    let seen = echo.seen();
    assert!(seen[2] == seen[0] && seen[3] == seen[0] && seen[4] != seen[0], "{seen:?}");
}

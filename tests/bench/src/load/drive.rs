//! Sends, and matches answers to what was sent: both are in order on each connection.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep_until};

use super::{Plan, Told, Wire, lintas};
use crate::packets;

/// Most packets handed over at once.
const BATCH_MAX: usize = 64;

/// One way to send packets.
pub(super) trait Sending: Send + 'static {
    fn send(&mut self, packets: Vec<Bytes>) -> impl Future<Output = ()> + Send;
}

/// And to hear what became of them.
pub(super) trait Answers: Send + 'static {
    /// The next answers in order: nothing for an accepted packet, or why it was not.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// What one connection has seen.
#[derive(Debug, Default)]
struct Seen {
    latencies: Vec<u64>,
    refused: u64,
    refusal: String,
    last: Option<Instant>,
}

/// Since when each of the unanswered counts.
type Pending = Arc<Mutex<VecDeque<Instant>>>;

/// Everything that the plan says.
pub(super) async fn all(plan: &Plan) -> Told {
    let mut running = JoinSet::new();
    match &plan.wire {
        Wire::Lintas { broker } => {
            let mut ready = Vec::new();
            for source in &plan.sources {
                let packets = packets::read(&source.packets);
                ready.push((lintas::connect(*broker, &source.secrets).await, packets));
            }
            let (start, began_unix_ns) = soon();
            for (at, ((sending, answers), packets)) in ready.into_iter().enumerate() {
                running.spawn(connection(plan.clone(), at, start, packets, sending, answers));
            }
            told((start, began_unix_ns), running).await
        }
    }
}

/// A moment soon, by both clocks.
fn soon() -> (Instant, u64) {
    let wait = Duration::from_millis(100);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + wait;
    (Instant::now() + wait, unix.as_nanos() as u64)
}

async fn told((start, began_unix_ns): (Instant, u64), mut running: JoinSet<Seen>) -> Told {
    let (mut told, mut last) =
        (Told { began_unix_ns, seconds: 0.0, latencies: vec![], refused: 0, refusal: String::new() }, start);
    while let Some(seen) = running.join_next().await {
        let seen = seen.unwrap();
        told.latencies.extend(seen.latencies);
        told.refused += seen.refused;
        if told.refusal.is_empty() {
            told.refusal = seen.refusal;
        }
        last = last.max(seen.last.unwrap_or(start));
    }
    told.seconds = (last - start).as_secs_f64();
    told
}

async fn connection<S: Sending, A: Answers>(
    plan: Plan,
    at: usize,
    start: Instant,
    packets: Vec<Bytes>,
    mut sending: S,
    mut answers: A,
) -> Seen {
    let room = Arc::new(Semaphore::new(plan.in_flight));
    let (pending, sent) = (Pending::default(), Arc::new(Mutex::new(None)));
    let hearing = {
        let (room, pending, sent) = (Arc::clone(&room), Arc::clone(&pending), Arc::clone(&sent));
        tokio::spawn(async move {
            let (mut seen, mut heard) = (Seen::default(), 0_usize);
            while sent.lock().unwrap().is_none_or(|sent| heard < sent) {
                let refusal = answers.next().await;
                let (now, since) = (Instant::now(), pending.lock().unwrap().pop_front().unwrap());
                room.add_permits(1);
                heard += 1;
                seen.last = Some(now);
                match refusal {
                    None => seen.latencies.push((now - since).as_nanos() as u64),
                    Some(refusal) => {
                        seen.refused += 1;
                        seen.refusal = refusal;
                    }
                }
            }
            seen
        })
    };
    sleep_until(start.into()).await;
    let end = start + Duration::from_secs_f64(plan.seconds);
    // A hand-over is counted before it is heard: the one that follows is what may end the hearing.
    let total = match plan.pace {
        None => closed(&mut sending, packets, &room, &pending, end, &sent).await,
        Some(pace) => {
            let each = Duration::from_secs_f64(plan.sources.len() as f64 / pace);
            let first = start + each.mul_f64(at as f64 / plan.sources.len() as f64);
            paced(&mut sending, packets, (first, each), &room, &pending, end, &sent).await
        }
    };
    assert!(total > 0, "nothing was sent");
    hearing.await.unwrap()
}

/// As many unanswered as there is room for.
async fn closed<S: Sending>(
    sending: &mut S,
    packets: Vec<Bytes>,
    room: &Semaphore,
    pending: &Pending,
    end: Instant,
    sent: &Mutex<Option<usize>>,
) -> usize {
    let (total, mut rest, mut count) = (packets.len(), packets.into_iter(), 0);
    while count < total {
        let first = room.acquire().await.unwrap();
        first.forget();
        let more = room.available_permits().min(BATCH_MAX - 1).min(total - count - 1);
        if more > 0 {
            room.acquire_many(more as u32).await.unwrap().forget();
        }
        let now = Instant::now();
        let batch: Vec<Bytes> = rest.by_ref().take(1 + more).collect();
        count += batch.len();
        pending.lock().unwrap().extend(std::iter::repeat_n(now, batch.len()));
        if count == total || now >= end {
            *sent.lock().unwrap() = Some(count);
            sending.send(batch).await;
            break;
        }
        sending.send(batch).await;
    }
    count
}

/// Each at its moment: the first, and how far they are apart.
async fn paced<S: Sending>(
    sending: &mut S,
    packets: Vec<Bytes>,
    (first, each): (Instant, Duration),
    room: &Semaphore,
    pending: &Pending,
    end: Instant,
    sent: &Mutex<Option<usize>>,
) -> usize {
    let due = |number: usize| first + each.mul_f64(number as f64);
    let within = (0..packets.len()).take_while(|number| due(*number) < end).count().max(1);
    let (mut rest, mut count) = (packets.into_iter().take(within), 0);
    while count < within {
        sleep_until(due(count).into()).await;
        // What is due by now goes together.
        let now = Instant::now();
        let ready = (count..within).take_while(|number| due(*number) <= now).count().max(1);
        room.acquire_many(ready as u32).await.unwrap().forget();
        pending.lock().unwrap().extend((count..count + ready).map(due));
        count += ready;
        if count == within {
            *sent.lock().unwrap() = Some(count);
        }
        sending.send(rest.by_ref().take(ready).collect()).await;
    }
    count
}

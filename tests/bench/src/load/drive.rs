//! Sends, and matches answers to what was sent: both are in order on each connection.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep_until};

use super::{
    Plan, Told, Wire, bare, lintas,
    pacer::{Pacer, Turns},
};
use crate::{packets, statistics::cpu_seconds};

/// Most packets handed over at once.
const BATCH_MAX: usize = 64;
/// Until the first packet, so that everything is ready.
const LEAD: Duration = Duration::from_millis(100);

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

/// One connection and what it sends.
type Ready<S, A> = ((S, A), Vec<Bytes>);

/// Everything that the plan says.
pub(super) async fn all(plan: &Plan) -> Told {
    match &plan.wire {
        Wire::Lintas { broker, times } => {
            let mut ready = Vec::new();
            for source in &plan.sources {
                let packets = vec![packets::read(&source.packets); *times].concat();
                ready.push((lintas::connect(*broker, &source.secrets).await, packets));
            }
            send(plan, ready).await
        }
        Wire::Bare { server, times } => {
            let mut ready = Vec::new();
            for source in &plan.sources {
                let messages = bare::messages(&source.packets, *times);
                let secrets = Some(source.secrets.as_path()).filter(|path| !path.as_os_str().is_empty());
                ready.push((bare::connect(*server, secrets).await, messages));
            }
            send(plan, ready).await
        }
        Wire::Bulk { server, bytes } => bare::bulk(*server, *bytes).await,
    }
}

/// Sends on all connections at once.
async fn send<S: Sending, A: Answers>(plan: &Plan, ready: Vec<Ready<S, A>>) -> Told {
    let (cpu_before, start) = (cpu_seconds("self"), Instant::now() + LEAD);
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + LEAD;
    let mut pacer = plan.pace.map(|pace| Pacer::new(start, pace, ready.len(), plan.seconds));
    let mut running = JoinSet::new();
    for ((sending, answers), packets) in ready {
        let turns = pacer.as_mut().map(|pacer| pacer.turns(packets.len()));
        running.spawn(connection(plan.clone(), start, turns, packets, sending, answers));
    }
    if let Some(pacer) = pacer {
        pacer.start();
    }
    let told = told(start, running).await;
    Told { began_unix_ns: began.as_nanos() as u64, cpu_seconds: cpu_seconds("self") - cpu_before, ..told }
}

async fn told(start: Instant, mut running: JoinSet<Seen>) -> Told {
    let (mut told, mut last) = (Told::default(), start);
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
    start: Instant,
    turns: Option<Turns>,
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
    let total = match turns {
        None => closed(&mut sending, packets, &room, &pending, end, &sent).await,
        Some(turns) => paced(&mut sending, packets, turns, &room, &pending, &sent).await,
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

/// Each at its moment. Whatever is due by now goes together; each counts from when it was due.
async fn paced<S: Sending>(
    sending: &mut S,
    packets: Vec<Bytes>,
    turns: Turns,
    room: &Semaphore,
    pending: &Pending,
    sent: &Mutex<Option<usize>>,
) -> usize {
    let (mut rest, mut count) = (packets.into_iter(), 0);
    while count < turns.count {
        turns.come.acquire().await.unwrap().forget();
        room.acquire().await.unwrap().forget();
        let also = turns.come.available_permits().min(room.available_permits()).min(BATCH_MAX - 1);
        if also > 0 {
            turns.come.acquire_many(also as u32).await.unwrap().forget();
            room.acquire_many(also as u32).await.unwrap().forget();
        }
        let batch: Vec<Bytes> = rest.by_ref().take(1 + also).collect();
        pending.lock().unwrap().extend((count..count + batch.len()).map(|number| turns.due(number)));
        count += batch.len();
        if count == turns.count {
            *sent.lock().unwrap() = Some(count);
        }
        sending.send(batch).await;
    }
    count
}

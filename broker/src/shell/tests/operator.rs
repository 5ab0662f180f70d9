use lintas_journal::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    shell::{
        operator::ill,
        start::{Engine, Voice},
    },
    testing::{DAY, unit},
};

/// A port that is free now.
pub(super) fn free() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = soon(TcpStream::connect(address)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

pub(super) async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

/// Waits until the page has the line.
pub(super) async fn shows(address: SocketAddr, line: &str) -> String {
    let line = format!("lintas_broker_{line}\n");
    for _ in 0..100 {
        let page = get(address, "/metrics").await;
        if page.contains(&line) {
            return page;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no {line}: {}", get(address, "/metrics").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_and_nobody_is_named() {
    let (world, folder) = quiet_scene();
    let address = free();
    set(folder.path(), &format!("metrics = \"{address}\"\nsubmissions_per_minute = 1"));
    let broker = Broker::start(folder.path()).await;
    assert!(get(address, "/health").await.starts_with("HTTP/1.1 200 OK"));
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let sealed = world.packet("TH", std::slice::from_ref(&to));
    th.receipt(&sealed).await;
    th.receipt(&sealed).await;
    th.submit(&world.packet("TH", std::slice::from_ref(&to))).await;
    th.refusal().await;
    for line in [
        "submissions_accepted_total 1",
        "duplicates_total 1",
        "submissions_refused_total{reason=\"quota\"} 1",
        "submissions_refused_total{reason=\"policy\"} 0",
        "sessions 1",
        "queue_entries 1",
        // The members, their policies, the packet and its admission.
        "journal_last_sequence 4",
        "journal_durable_sequence 4",
        "group_records_bucket{le=\"1\"} 2",
        "group_records_bucket{le=\"2\"} 3",
        "clock_behind_milliseconds 0",
    ] {
        shows(address, line).await;
    }
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.delivery().await;
    kh.acknowledge(&world, &sealed, &to, 1).await;
    th.evidence().await;
    th.take(1).await;
    for line in ["deliveries_total 1", "acknowledgements_total 1", "evidence_taken_total 1", "sessions 2"] {
        shows(address, line).await;
    }
    drop(kh);
    let page = shows(address, "queue_entries 0").await;
    assert!(page.contains("text/plain; version=0.0.4"));
    for name in ["TH", "KH", "hub", "mekong"] {
        assert!(!page.contains(name), "{name}: {page}");
    }
    let body = page.split("\r\n\r\n").nth(1).unwrap();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.split('{').next().unwrap().trim_end_matches("_bucket");
        let name = name.trim_end_matches("_sum").trim_end_matches("_count");
        assert!(value.parse::<u64>().is_ok() && body.contains(&format!("# TYPE {name} ")), "{line}");
    }
    broker.stop().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "closed with the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_out_of_force_is_bad_health_and_the_port_serves_nothing_else() {
    let (world, folder) = (World::new(clock::shown_ms() - 201 * DAY), TempFolder::new());
    world.write(folder.path());
    let address = free();
    set(folder.path(), &format!("metrics = \"{address}\""));
    let broker = Broker::start(folder.path()).await;
    let answer = get(address, "/health").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the roster is not valid now"), "{answer}");
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
    let post = ask(address, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    // Whoever says nothing holds up nobody for long.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut nothing = Vec::new();
    let _ = soon(silent.read_to_end(&mut nothing)).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_is_wrong() {
    let (world, folder) = scene();
    let at = Folder::at(folder.path());
    let (settings, directory) = (at.settings().unwrap(), at.directory().unwrap());
    let speaks = Voice::of(&world.broker).unwrap();
    let (engine, intake) = Engine::start(&at, &settings, Limits::default(), directory, speaks).unwrap();
    let shared = Arc::clone(&engine.shared);
    let now_ms = clock::shown_ms();
    soon(async {
        while shared.metrics.last_round_ms() == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(ill(&shared, now_ms), None);
    assert!(ill(&shared, now_ms + 60_000).unwrap().contains("has not moved"), "no round for so long");
    drop(intake);
    soon(engine.stop()).await.unwrap();
    shared.stopping.send_replace(true);
    assert!(ill(&shared, now_ms).unwrap().contains("is stopping"));
    shared.fail(&"a test");
    assert!(ill(&shared, now_ms).unwrap().contains("has failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_stops_the_start() {
    let (_, folder) = scene();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    set(folder.path(), &format!("metrics = \"{}\"", taken.local_addr().unwrap()));
    let refused = run(&Folder::at(folder.path()), std::future::pending(), |_| panic!("listens")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("change `metrics` in broker.toml"), "{refused}");
}

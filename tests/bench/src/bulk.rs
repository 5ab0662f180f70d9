//! What the machine can do with a large file: one stream between two processes, SHA-256 at both ends at once, write and
//! fdatasync.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    thread,
    time::Instant,
};

use bytes::Bytes;
use lintas_link::{Client, PeerDirectory, Server, TransportKey, limits::RAW_PIECES_MAX};
use lintas_proto::frame::FrameType;
use ring::digest::{Context, SHA256};

use crate::bench::Bench;

/// First argument of the process that receives.
const ROLE: &str = "__bulk";
/// Bytes handed over at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Ends, each of which has a core of its own.
const ENDS: usize = 2;

#[derive(Debug)]
struct Anybody;

impl PeerDirectory for Anybody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        true
    }
}

fn key(seed: u8) -> TransportKey {
    TransportKey::from_seed(&[seed; 32]).unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(ENDS).enable_all().build().unwrap()
}

/// Bytes in a second over one stream of the link, to a process that throws them away.
pub(crate) fn stream_per_second(bench: &Bench, bytes: u64) -> f64 {
    let mut child =
        Command::new(&bench.program).arg(ROLE).stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address: SocketAddr = said.trim().parse().unwrap();
    let seconds = runtime().block_on(async {
        let client = Client::bind(loopback(), &key(1), Arc::new(Anybody)).unwrap();
        let connection = client.connect(address).await.unwrap();
        let (mut writer, _reader) = connection.open_stream().await.unwrap();
        // The peer sees a stream with its first byte.
        writer.send(FrameType::BlobStatus, Bytes::new()).await.unwrap();
        let (began, mut left) = (Instant::now(), bytes);
        let piece = Bytes::from(vec![7; PIECE_BYTES]);
        while left > 0 {
            let count = left.min(PIECE_BYTES as u64);
            writer.write_raw(piece.slice(..count as usize)).await.unwrap();
            left -= count;
        }
        writer.finish().await.unwrap();
        began.elapsed().as_secs_f64()
    });
    // It ends when its input does.
    drop(child.stdin.take());
    child.wait().unwrap();
    bytes as f64 / seconds
}

/// Plays the process that receives, if the arguments say so.
pub(crate) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? != ROLE {
        return None;
    }
    runtime().block_on(async {
        let server = Server::bind(loopback(), &key(2), Arc::new(Anybody)).unwrap();
        println!("{}", server.local_addr().unwrap());
        let connection = server.accept().await.unwrap().complete().await.unwrap();
        let (_writer, mut reader) = connection.accept_stream().await.unwrap();
        reader.next().await.unwrap();
        let mut pieces = vec![Bytes::new(); RAW_PIECES_MAX];
        while reader.read_raw_pieces(&mut pieces).await.unwrap().is_some() {
            pieces.fill(Bytes::new());
        }
        connection.closed().await;
    });
    Some(ExitCode::SUCCESS)
}

/// Bytes in a second that each of two ends hashes, on a core each; the slower one's.
pub(crate) fn sha256_per_second(bytes: u64) -> f64 {
    let hash = || {
        let (began, mut context, piece) = (Instant::now(), Context::new(&SHA256), vec![7; PIECE_BYTES]);
        let pieces = bytes.div_ceil(PIECE_BYTES as u64);
        (0..pieces).for_each(|_| context.update(&piece));
        assert_ne!(context.finish().as_ref(), [0; 32]);
        (pieces * PIECE_BYTES as u64) as f64 / began.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let ends: Vec<_> = (0..ENDS).map(|_| scope.spawn(hash)).collect();
        ends.into_iter().map(|end| end.join().unwrap()).fold(f64::INFINITY, f64::min)
    })
}

/// Bytes in a second that become a new file, until all of it is durable.
pub(crate) fn disk_per_second(folder: &Path, bytes: u64) -> f64 {
    let path = folder.join("disk.probe");
    let (mut file, piece) = (File::create(&path).unwrap(), vec![7; PIECE_BYTES]);
    let began = Instant::now();
    let pieces = bytes.div_ceil(PIECE_BYTES as u64);
    (0..pieces).for_each(|_| file.write_all(&piece).unwrap());
    file.sync_data().unwrap();
    let rate = (pieces * PIECE_BYTES as u64) as f64 / began.elapsed().as_secs_f64();
    fs::remove_file(path).unwrap();
    rate
}

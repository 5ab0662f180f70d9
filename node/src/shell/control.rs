//! The control socket: one JSON line asks, one JSON line answers; before it, lines may tell how far the work is. Only
//! this user's processes are heard. What asks may hold a passphrase: it is wiped where this program can.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};

use zeroize::Zeroizing;

use super::{
    desk::{Desk, Reply, Request},
    door::Door,
    failure::{Code, Failure},
    folder::Folder,
};
use crate::core::draft::DRAFT_BYTES_MAX;

/// Longest question, bytes: a draft, escaped as JSON, and what goes with it.
const REQUEST_BYTES_MAX: u64 = 3 * DRAFT_BYTES_MAX as u64;
/// Longest answer, bytes.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes read at once.
const PIECE_BYTES: usize = 8 * 1024;
/// Most questions at once.
const QUESTIONS_MAX: usize = 16;
/// How long a question may take to arrive.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take to be read.
const REPLY_TIME_MAX: Duration = Duration::from_secs(30);

/// How often a daemon tells how far it is, at most: once in so many bytes.
const TELL_EVERY_BYTES: u64 = 4 * 1024 * 1024;

type Answer = Result<Reply, Failure>;

/// One line of a daemon's: progress as often as it likes, then the answer.
#[derive(Serialize, Deserialize)]
enum Line {
    /// So many bytes of so many.
    Progress {
        done: u64,
        total: u64,
    },
    Ok(Reply),
    Err(Failure),
}

/// Told how many bytes are done, of how many.
pub(crate) type Watcher<'a> = &'a mut dyn FnMut(u64, u64);

/// Opens the socket. The caller holds the lock of the folder, so a socket that is there is a dead process's.
pub(crate) fn listen(folder: &Folder) -> Result<UnixListener, Failure> {
    let path = folder.socket();
    let failed = |error: io::Error| Failure::file("open the control socket", &path, &error);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    // Nobody else could enter the folder meanwhile.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: UnixListener, door: Arc<Door>) {
    let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, door).await {
                        tracing::debug!(%error, "a command went away");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, door: Arc<Door>) -> io::Result<()> {
    if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("another user's process asked"));
    }
    let (mut reader, mut writer) = stream.split();
    let line = timeout(REQUEST_TIME_MAX, line((&mut reader).take(REQUEST_BYTES_MAX))).await??;
    let answer: Answer = match serde_json::from_slice::<Request>(&line) {
        Err(_) => Err(Failure::new(
            Code::Usage,
            "the daemon does not understand this question; \
                                   is it of another version, or the question too long?",
        )),
        Ok(request) => match door.answers(request).await {
            Ok((desk, request)) => {
                let _working = door.work();
                work(request, desk, &mut reader, &mut writer).await
            }
            Err(answer) => answer,
        },
    };
    drop(line);
    let line = match answer {
        Ok(reply) => Line::Ok(reply),
        Err(failure) => Line::Err(failure),
    };
    say(&mut writer, &line).await?;
    writer.shutdown().await
}

/// Does what was asked, and tells how far it is. Work that can be stopped is, when whoever asked has gone.
async fn work(
    request: Request,
    desk: Arc<Desk>,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Answer {
    let (tell, mut told) = mpsc::channel(1);
    let gone = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&gone);
    // Also when the daemon ends: its end waits for work that has begun.
    let _stop = StopWhenDropped(Arc::clone(&gone));
    let mut working = spawn_blocking(move || {
        let last = std::cell::Cell::new(0u64);
        let answer = desk.answer_telling(request, &|done, total| {
            if done == total || done.saturating_sub(last.get()) >= TELL_EVERY_BYTES || done < last.get() {
                last.set(done);
                // Whoever is slow to read misses some.
                let _ = tell.try_send((done, total));
            }
            !stop.load(Ordering::Relaxed) && !desk.is_leaving()
        });
        answer.map_err(|failure| match desk.is_leaving() {
            true => Failure::new(
                Code::NodeLocked,
                format_args!("the node was locked, or ended, before this was done: {failure}"),
            ),
            false => failure,
        })
    });
    let (mut listening, mut byte) = (true, [0]);
    loop {
        tokio::select! {
            done = &mut working => return done.unwrap_or_else(|error| Err(Failure::internal(error))),
            Some((done, total)) = told.recv() => {
                if say(writer, &Line::Progress { done, total }).await.is_err() {
                    gone.store(true, Ordering::Relaxed);
                }
            }
            read = reader.read(&mut byte), if listening => {
                if !matches!(read, Ok(count) if count > 0) {
                    listening = false;
                    gone.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Stops what may be stopped.
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is asked, up to the end of its line.
async fn line(mut reader: impl AsyncRead + Unpin) -> io::Result<Zeroizing<Vec<u8>>> {
    // A question with a secret fits into one piece, so that no copy of it is left behind when the line grows.
    let mut piece = Zeroizing::new([0; PIECE_BYTES]);
    let mut line = Zeroizing::new(Vec::with_capacity(PIECE_BYTES));
    loop {
        let count = reader.read(piece.as_mut()).await?;
        let read = piece.get(..count).unwrap_or_default();
        line.extend_from_slice(read);
        if count == 0 || read.contains(&b'\n') {
            return Ok(line);
        }
    }
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
    bytes.push(b'\n');
    timeout(REPLY_TIME_MAX, writer.write_all(&bytes)).await?
}

/// Asks a daemon; none when no daemon is there.
pub(crate) fn ask(folder: &Folder, request: &Request) -> Option<Answer> {
    ask_watching(folder, request, &mut |_, _| {})
}

/// As [`ask`], and watches how far the daemon is.
pub(crate) fn ask_watching(folder: &Folder, request: &Request, watch: Watcher<'_>) -> Option<Answer> {
    let stream = std::os::unix::net::UnixStream::connect(folder.socket()).ok()?;
    Some(exchange(stream, request, watch).unwrap_or_else(|error| {
        let message = format!(
            "the daemon ended before it answered ({error}): look at `lintas outbox` before you send again"
        );
        Err(Failure::new(Code::DaemonEnded, message))
    }))
}

fn exchange(
    mut stream: std::os::unix::net::UnixStream,
    request: &Request,
    watch: Watcher<'_>,
) -> io::Result<Answer> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PIECE_BYTES));
    serde_json::to_writer(&mut *bytes, request)?;
    if bytes.len() as u64 >= REQUEST_BYTES_MAX {
        return Ok(Err(Failure::new(Code::Draft, "the draft is too long")));
    }
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    let mut lines = BufReader::new(stream.take(REPLY_BYTES_MAX));
    let mut line = String::new();
    loop {
        line.clear();
        lines.read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            Line::Progress { done, total } => watch(done, total),
            Line::Ok(reply) => return Ok(Ok(reply)),
            Line::Err(failure) => return Ok(Err(failure)),
        }
    }
}

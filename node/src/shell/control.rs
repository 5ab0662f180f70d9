//! The control socket: one JSON line asks, one JSON line answers. Only this user's processes are heard. What asks may
//! hold a passphrase: it is wiped where this program can.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::spawn_blocking,
    time::timeout,
};

use zeroize::Zeroizing;

use super::{
    desk::{Reply, Request},
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

type Answer = Result<Reply, Failure>;

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
    let (reader, mut writer) = stream.split();
    let line = timeout(REQUEST_TIME_MAX, line(reader.take(REQUEST_BYTES_MAX))).await??;
    let answer: Answer = match serde_json::from_slice::<Request>(&line) {
        Err(_) => Err(Failure::new(
            Code::Usage,
            "the daemon does not understand this question; \
                                   is it of another version, or the question too long?",
        )),
        Ok(request) => match door.answers(request).await {
            Ok((desk, request)) => spawn_blocking(move || desk.answer(request))
                .await
                .unwrap_or_else(|error| Err(Failure::internal(error))),
            Err(answer) => answer,
        },
    };
    drop(line);
    let mut bytes = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    bytes.push(b'\n');
    timeout(REPLY_TIME_MAX, writer.write_all(&bytes)).await??;
    writer.shutdown().await
}

/// What is asked, up to the end of its line.
async fn line(mut reader: impl tokio::io::AsyncRead + Unpin) -> io::Result<Zeroizing<Vec<u8>>> {
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

/// Asks a daemon; none when no daemon is there.
pub(crate) fn ask(folder: &Folder, request: &Request) -> Option<Answer> {
    let stream = std::os::unix::net::UnixStream::connect(folder.socket()).ok()?;
    Some(exchange(stream, request).unwrap_or_else(|error| {
        let message = format!(
            "the daemon ended before it answered ({error}): look at `lintas outbox` before you send again"
        );
        Err(Failure::new(Code::DaemonEnded, message))
    }))
}

fn exchange(mut stream: std::os::unix::net::UnixStream, request: &Request) -> io::Result<Answer> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PIECE_BYTES));
    serde_json::to_writer(&mut *bytes, request)?;
    if bytes.len() as u64 >= REQUEST_BYTES_MAX {
        return Ok(Err(Failure::new(Code::Draft, "the draft is too long")));
    }
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    let mut line = String::new();
    BufReader::new(stream.take(REPLY_BYTES_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

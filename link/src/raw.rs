//! Raw bytes on their way to a disk.
//!
//! They come a datagram at a time. Each is copied at once, since it keeps the whole buffer of the socket that it came in,
//! and few large buffers go round between the network and one thread that hashes and writes: a thread that was woken for
//! each datagram would do nothing else.

use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    error::LinkError,
    framed::FrameReader,
    limits::{RAW_GROUP_BYTES, RAW_GROUPS_MAX},
};

/// Why a raw transfer did not come to its end. What had come by then is written.
#[derive(Debug)]
pub enum TakeError<E> {
    /// The stream or the connection.
    Link(LinkError),
    /// The peer ended the stream before all of it was there.
    Cut,
    /// What it was written to.
    Write(E),
    /// The thread that wrote it ended.
    Lost,
}

/// Takes the next `bytes` raw bytes of a stream and has them written to `sink` in their order, beside the network, never
/// more than that. `seen` is told how many came, as they come. The sink comes back when all is written.
///
/// Whoever drops this future ends the transfer: what had been handed over is written, then the sink is dropped.
///
/// # Errors
/// [`TakeError`]; an error of the sink comes before one of the network.
pub async fn take_raw<S, E>(
    reader: &mut FrameReader,
    bytes: u64,
    sink: S,
    write: impl FnMut(&mut S, &[u8]) -> Result<(), E> + Send + 'static,
    seen: impl FnMut(u64) + Send,
) -> Result<S, TakeError<E>>
where
    S: Send + 'static,
    E: Send + 'static,
{
    let (full, arrived) = mpsc::channel(RAW_GROUPS_MAX);
    let (empty, free) = mpsc::channel(RAW_GROUPS_MAX);
    let written = spawn_blocking(move || drain(arrived, &empty, sink, write));
    let came = fill(reader, bytes, (full, free), seen).await;
    let sink = written.await.map_err(|_| TakeError::Lost)?.map_err(TakeError::Write)?;
    match came {
        Ok(true) => Ok(sink),
        Ok(false) => Err(TakeError::Cut),
        Err(error) => Err(TakeError::Link(error)),
    }
}

/// Fills buffers until all has come; false when the peer has ended the stream before.
async fn fill(
    reader: &mut FrameReader,
    mut missing: u64,
    (full, mut free): (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>),
    mut seen: impl FnMut(u64),
) -> Result<bool, LinkError> {
    let mut made = 0;
    while missing > 0 {
        let mut group = match free.try_recv() {
            Ok(group) => group,
            Err(_) if made < RAW_GROUPS_MAX => {
                made += 1;
                Vec::with_capacity(RAW_GROUP_BYTES)
            }
            Err(_) => match free.recv().await {
                Some(group) => group,
                // Writing has failed, and says why.
                None => return Ok(true),
            },
        };
        let filled = reader.fill_raw(&mut group, missing).await;
        let count = group.len() as u64;
        missing = missing.saturating_sub(count);
        seen(count);
        if count > 0 && full.send(group).await.is_err() {
            return Ok(true);
        }
        if !filled? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes what comes until nothing more does.
fn drain<S, E>(
    mut arrived: mpsc::Receiver<Vec<u8>>,
    empty: &mpsc::Sender<Vec<u8>>,
    mut sink: S,
    mut write: impl FnMut(&mut S, &[u8]) -> Result<(), E>,
) -> Result<S, E> {
    while let Some(mut group) = arrived.blocking_recv() {
        write(&mut sink, &group)?;
        group.clear();
        // There is room for all that there are.
        let _ = empty.try_send(group);
    }
    Ok(sink)
}

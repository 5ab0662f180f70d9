//! The first exchange of a session: the node says hello, the broker answers.
//!
//! The contents of both messages are the callers' business; here is only that they come, in time, and what
//! it means when they do not.

use std::time::Duration;

use bytes::Bytes;
use lintas_proto::{
    frame::{FrameType, HEADER_BYTES},
    schema::{Hello, HelloAck, Reason},
};
use tokio::time::timeout;

use crate::{
    connection::{CloseCode, Connection},
    error::{LinkError, printable},
    framed::{FrameReader, FrameWriter, decode},
};

/// Node: opens the session stream, says hello and waits for the answer. Closes the connection on failure.
///
/// Not safe to cancel: a dropped greeting leaves the session without a stream; close the connection then.
///
/// # Errors
/// [`LinkError::NotAdmitted`] when the broker does not know this node's key (with TLS 1.3 the client is
/// connected before the server has looked at its key); [`LinkError::Refused`] with the broker's reason;
/// [`LinkError::HelloTimeout`]; why the stream or the connection ended.
pub async fn greet(
    connection: &Connection,
    hello: &Hello,
) -> Result<(HelloAck, FrameWriter, FrameReader), LinkError> {
    in_time(connection, async {
        let (mut writer, mut reader) = connection.open_stream().await?;
        writer.send_message(FrameType::Hello, hello).await?;
        let ack: HelloAck = reader.next_message(FrameType::HelloAck).await?;
        match Reason::try_from(ack.reason) {
            Ok(Reason::Accepted) => Ok((ack, writer, reader)),
            Ok(Reason::Unspecified) | Err(_) => Err(LinkError::UnknownReason(ack.reason)),
            Ok(reason) => Err(LinkError::Refused { reason, text: printable(&ack.text) }),
        }
    })
    .await
}

/// What a node begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum First {
    /// A session.
    Hello(Box<Hello>),
    /// A single question, its payload not yet decoded.
    Other(FrameType, Bytes),
}

/// Broker: waits for the first stream and its first frame: a hello, or one of `others`. Closes the connection on
/// failure. A hello is to be followed by [`answer`] or [`refuse`].
///
/// # Errors
/// [`LinkError::HelloTimeout`]; [`LinkError::UnexpectedFrame`] for any other frame, by its header;
/// [`LinkError::Frame`]; [`LinkError::Decode`] for a hello that is none; why the stream or the connection ended.
pub async fn receive_first(
    connection: &Connection,
    others: &[FrameType],
) -> Result<(First, FrameWriter, FrameReader), LinkError> {
    in_time(connection, async {
        let (writer, mut reader) = connection.accept_stream().await?;
        let kinds: Vec<_> = others.iter().copied().chain([FrameType::Hello]).collect();
        let frame = reader.next_of(&kinds).await?;
        let (kind, payload) = frame.ok_or(LinkError::Truncated { missing: HEADER_BYTES })?;
        let first = if kind == FrameType::Hello {
            First::Hello(Box::new(decode(kind, &payload)?))
        } else {
            First::Other(kind, payload)
        };
        Ok((first, writer, reader))
    })
    .await
}

/// Broker: as [`receive_first`], where only a hello belongs.
///
/// # Errors
/// As [`receive_first`].
pub async fn receive_hello(connection: &Connection) -> Result<(Hello, FrameWriter, FrameReader), LinkError> {
    match receive_first(connection, &[]).await? {
        (First::Hello(hello), writer, reader) => Ok((*hello, writer, reader)),
        (First::Other(have, _), ..) => Err(LinkError::UnexpectedFrame { have }),
    }
}

/// Broker: answers the hello; the session is open.
///
/// # Errors
/// As [`FrameWriter::send`].
pub async fn answer(writer: &mut FrameWriter, ack: &HelloAck) -> Result<(), LinkError> {
    writer.send_message(FrameType::HelloAck, ack).await
}

/// Broker: answers the hello with a refusal, waits until it has arrived, and closes the connection.
///
/// # Errors
/// As [`FrameWriter::finish`]; the connection is closed all the same.
pub async fn refuse(
    connection: &Connection,
    mut writer: FrameWriter,
    ack: &HelloAck,
) -> Result<(), LinkError> {
    let told = in_time(connection, async {
        answer(&mut writer, ack).await?;
        writer.finish().await
    })
    .await;
    connection.close(CloseCode::Refused, "");
    told
}

/// Runs one exchange of the hello within its limit; a failed one ends the connection.
async fn in_time<T>(
    connection: &Connection,
    exchange: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let ms_max = connection.limits().hello_ms_max;
    let result = timeout(Duration::from_millis(ms_max), exchange).await;
    let result = result.unwrap_or(Err(LinkError::HelloTimeout { ms_max }));
    result.inspect_err(|error| connection.fail(error))
}

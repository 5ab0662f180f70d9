//! The first directory: from a file, or from whoever answers at the broker's address. The bootstrap file vouches for
//! it, not who brings it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use lintas_config::{Bootstrap, Directory};
use lintas_link::{Client, CloseCode, LinkError, PeerDirectory, TransportKey};
use lintas_proto::{canonical, limits};

use super::{
    directory_link::{AskError, ask},
    failure::{Code, Failure},
    files,
};
use crate::core::keys::Keys;

/// Before the first directory nobody is known.
#[derive(Debug)]
struct Nobody;

impl PeerDirectory for Nobody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        false
    }
}

/// What to say to an agency that is in no directory yet.
pub(crate) fn not_admitted(agency: &str) -> String {
    format!(
        "the region authority has not admitted {agency} yet, or its broker does not have the new directory: give the \
         authority join-request.bin, and run this again when it says so (after `init --replace`: when keyset.bin is \
         published). Nothing was changed"
    )
}

/// The directory of a file.
pub(crate) fn read(path: &Path, bootstrap: &Bootstrap) -> Result<Directory, Failure> {
    let bytes = files::read(path, limits::DIRECTORY_BYTES_MAX as u64)
        .map_err(|error| Failure::file("read", path, &error))?;
    Directory::open(&bytes.into(), bootstrap).map_err(|error| {
        let path = path.display();
        let message = format!("`{path}` is not believed: {error}; get it again from the region authority");
        Failure::new(Code::NotSetUp, message)
    })
}

/// The directory that the broker has.
pub(crate) fn fetch(broker: SocketAddr, keys: &Keys, bootstrap: &Bootstrap) -> Result<Directory, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bytes = runtime.map_err(Failure::internal)?.block_on(receive(broker, keys, bootstrap))?;
    let offered = |error: &dyn std::fmt::Display| {
        let message = format!(
            "the machine at {broker} offered a directory that is not believed: {error}; ask the region authority for \
             the address of its broker, or for directory.bin (--directory)"
        );
        Failure::new(Code::NotSetUp, message)
    };
    let update = canonical::decode(&bytes, limits::DIRECTORY_BYTES_MAX).map_err(|error| offered(&error))?;
    Directory::take_first(&update, bootstrap).map_err(|error| offered(&error))
}

async fn receive(broker: SocketAddr, keys: &Keys, bootstrap: &Bootstrap) -> Result<Bytes, Failure> {
    let key = TransportKey::from_seed(&keys.transport_seed).map_err(Failure::internal)?;
    let any: IpAddr = match broker {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = Client::bind((any, 0).into(), &key, Arc::new(Nobody)).map_err(Failure::internal)?;
    let question = Directory::first_question(bootstrap);
    let answer = async {
        let peer = client.connect_to_anyone(broker).await?;
        let answer = ask(peer.open_stream().await?, &question).await;
        peer.close(CloseCode::Done, "");
        answer
    };
    let answer = answer.await;
    client.close(CloseCode::Done, "");
    client.wait_idle().await;
    answer.map_err(|error| {
        if matches!(error, AskError::Link(LinkError::NotAdmitted)) {
            return Failure::new(Code::NotSetUp, not_admitted(&keys.agency));
        }
        let message = format!(
            "no directory came from the broker at {broker}: {error}. Check `broker` in node.toml and the network, or take \
             the file of the region authority with --directory"
        );
        Failure::new(Code::NotSetUp, message)
    })
}

//! A stranger: sound keys, known to nobody.

use std::{net::SocketAddr, sync::Arc};

use lintas_config::{issue::fresh_seed, os_entropy};
use lintas_link::{Client, LinkError, PeerDirectory, TransportKey, greet};
use lintas_proto::schema::Hello;

/// What became of the attempt.
#[derive(Debug)]
pub struct Attempt {
    /// Whether the broker refused the key.
    pub refused: bool,
    /// What the stranger is told.
    pub words: String,
}

/// Trusts whoever answers: a stranger has no directory.
#[derive(Debug)]
struct Anybody;

impl PeerDirectory for Anybody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        true
    }
}

/// Connects to a broker with a key that no directory holds, and says hello.
#[must_use]
pub fn try_to_connect(address: SocketAddr) -> Attempt {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(hello(address)) {
        Ok(()) => Attempt { refused: false, words: "the broker answered the hello".to_owned() },
        Err(error) => Attempt { refused: matches!(error, LinkError::NotAdmitted), words: error.to_string() },
    }
}

async fn hello(address: SocketAddr) -> Result<(), LinkError> {
    let key = TransportKey::from_seed(&fresh_seed(&mut os_entropy()))?;
    let client = Client::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &key, Arc::new(Anybody))?;
    let connection = client.connect(address).await?;
    let hello = Hello { protocol: 1, agency: "TH".to_owned(), ..Hello::default() };
    greet(&connection, &hello).await.map(drop)
}

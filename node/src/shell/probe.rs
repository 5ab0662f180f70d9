//! One try to reach the broker, for a node that does not run: connect, hello, good-bye.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use lintas_config::Directory;
use lintas_link::{Client, CloseCode, LinkError, PeerDirectory, TransportKey, greet};

use super::{clock, desk::Desk};
use crate::core::{text::one_line, view::LinkView};

/// Brokers of one directory.
#[derive(Debug)]
struct Known(Arc<Directory>);

impl PeerDirectory for Known {
    fn admits(&self, transport_key: &[u8; 32]) -> bool {
        self.0.brokers().iter().any(|broker| broker.transport_key == *transport_key)
    }
}

/// Tries once; takes 20 seconds at most. Not from within a runtime.
pub(crate) fn try_broker(desk: &Desk) -> LinkView {
    let since_ms = clock::now_ms();
    let failed = |trouble: String| LinkView { trouble: one_line(&trouble), since_ms, ..LinkView::default() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error.to_string()),
    };
    runtime.block_on(hello(desk)).unwrap_or_else(|error| failed(error.to_string()))
}

async fn hello(desk: &Desk) -> Result<LinkView, LinkError> {
    let key = TransportKey::from_seed(&desk.keys().transport_seed)?;
    let address = desk.settings().broker;
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = Client::bind((any, 0).into(), &key, Arc::new(Known(desk.directory())))?;
    let connection = client.connect(address).await?;
    let (ack, ..) = greet(&connection, &desk.hello()).await?;
    connection.close(CloseCode::Done, "");
    client.wait_idle().await;
    let mut view = LinkView { connected: true, since_ms: clock::now_ms(), ..LinkView::default() };
    view.heard(&ack, clock::now_ms());
    Ok(view)
}

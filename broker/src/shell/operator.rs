//! Metrics, health and the versions of release policies for the operator: HTTP/1.1 on a loopback port, GET only. The settings allow no other
//! address, so whoever asks has an account on this machine.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    clock::{self, NEITHER_HOLDS, SET_RIGHT},
    log::{Standing, UNWITNESSED_MS_MAX},
    metrics,
    run_error::RunError,
    shared::Shared,
};

/// Most connections at once; more wait in the system's backlog.
const CONNECTIONS_MAX: usize = 16;
/// Longest life of a connection, milliseconds.
const CONNECTION_MS_MAX: u64 = 10_000;
/// Longest wait for the head of a request, milliseconds.
const HEAD_MS_MAX: u64 = 2_000;
/// Most bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Rest after the system gave no connection, milliseconds.
const REST_MS: u64 = 100;
/// The sequencer begins a round each second. After so long without one it hangs, milliseconds.
const ROUND_MS_MAX: u64 = 30_000;

/// Binds the port, if there is to be one. What it returns answers until it is dropped, and never ends.
pub(super) async fn open(
    address: Option<SocketAddr>,
    shared: &Arc<Shared>,
) -> Result<impl Future<Output = ()> + use<>, RunError> {
    let listener = match address {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|error| RunError::Metrics(address, error))?)
        }
        None => None,
    };
    let shared = Arc::clone(shared);
    Ok(async move {
        if let Some(listener) = listener {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "metrics and health over HTTP");
            }
            serve(listener, shared).await;
        }
        std::future::pending().await
    })
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/health", get(health))
        .route("/policies", get(policies))
        .with_state(shared);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    let _place = place;
                    let most = Duration::from_millis(CONNECTION_MS_MAX);
                    // Whoever is cut off asks again.
                    let _ = timeout(most, connection(stream, router)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection for metrics");
                sleep(Duration::from_millis(REST_MS)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::page(&shared))
}

/// Whose policies are in force, and which are to come.
async fn policies(State(shared): State<Arc<Shared>>) -> String {
    shared.policies.page(clock::shown_ms())
}

async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match ill(&shared, clock::shown_ms()) {
        None => {
            let detail = shared.refused_directory().map(|why| format!("{why}.\n"));
            (StatusCode::OK, format!("ok\n{}", detail.unwrap_or_default()))
        }
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Why the broker does not do its work, if so.
pub(super) fn ill(shared: &Shared, now_ms: u64) -> Option<&'static str> {
    if *shared.failed.borrow() {
        return Some("the journal or the sequencer has failed; the broker is stopping");
    }
    if *shared.stopping.borrow() {
        return Some("the broker is stopping");
    }
    if Standing::must_stop(shared) {
        return Some(
            "the broker runs on a restored backup, serves nobody, and stops; its log says what to do",
        );
    }
    if shared.clock.agreed_ms().is_none() {
        let holds = shared.directory().at(now_ms).in_force();
        return Some(if holds { SET_RIGHT } else { NEITHER_HOLDS });
    }
    let round_ms = shared.metrics.last_round_ms();
    if round_ms > 0 && now_ms.saturating_sub(round_ms) > ROUND_MS_MAX {
        return Some("the sequencer has not moved for 30 s; look at the disk");
    }
    if !shared.directory().at(now_ms).in_force() {
        return Some("the roster is not valid now; get a new directory from the region authority");
    }
    if shared.metrics.is_log_full() {
        return Some(
            "the disk is full and the audit log is not published; packets go on while the journal has room; make room \
             now",
        );
    }
    if shared.log.unwitnessed_ms(now_ms).is_some_and(|ms| ms > UNWITNESSED_MS_MAX) {
        return Some(
            "no quorum of witnesses has cosigned the audit log for 60 s; packets go on; look which witnesses are not \
             connected",
        );
    }
    None
}

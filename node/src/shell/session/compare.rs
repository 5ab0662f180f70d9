//! The session's care for the log: checkpoints that others have shown us are compared with ours, by tiles of the log.

use std::collections::BTreeMap;

use lintas_proto::audit::{
    files::LogFile,
    tile::{Hashes, Tile, WIDTH, hash_in},
};

use super::*;
use crate::shell::log_link::{LogError, Piece, get};

/// Between two rounds, milliseconds.
const ROUND_MS: u64 = if cfg!(test) { 100 } else { 30_000 };

/// Tiles that were fetched, by level and number. Nothing of them is verified.
#[derive(Debug, Default)]
pub(super) struct Tiles(BTreeMap<(u8, u64), Bytes>);

impl Hashes for Tiles {
    type Error = ();

    fn hash(&self, level: u8, index: u64) -> Result<lintas_proto::id::Digest, ()> {
        let tile = self.0.get(&(level, index / WIDTH)).ok_or(())?;
        hash_in(tile, index).ok_or(())
    }
}

impl Session {
    /// Compares what waits for it, as long as the connection lives.
    pub(super) async fn compare(&self, connection: &Connection) -> Result<(), Ended> {
        loop {
            let open = self.blocking(Desk::to_compare).await?;
            let mut left = false;
            for one in open {
                let tiles = match self.tiles(connection, &one.pair).await {
                    Err(error) if error.ends_connection() => return Err(Ended::Link(error.to_string())),
                    fetched => fetched.map_err(|error| error.to_string()),
                };
                left |= !self.blocking(move |desk| desk.compare_with(&one, tiles)).await?;
            }
            let pause = Duration::from_millis(ROUND_MS);
            if left {
                sleep(pause).await;
            } else {
                self.desk.something_to_compare().await;
                // What comes within a moment is compared together.
                sleep(pause.min(Duration::from_secs(1))).await;
            }
        }
    }

    async fn tiles(
        &self,
        connection: &Connection,
        pair: &crate::core::log::standing::Pair,
    ) -> Result<Tiles, LogError> {
        let origin = &pair.large().origin;
        let mut tiles = Tiles::default();
        for tile in pair.tiles() {
            let bytes = match fetch(connection, origin, tile).await {
                // The partial tile goes when the full one is there.
                Err(LogError::Missing(_)) if !tile.is_full() => {
                    let width = u16::try_from(WIDTH).unwrap_or(tile.width);
                    fetch(connection, origin, Tile { width, ..tile }).await
                }
                fetched => fetched,
            }?;
            tiles.0.insert((tile.level, tile.index), bytes.bytes);
        }
        Ok(tiles)
    }
}

async fn fetch(connection: &Connection, origin: &str, tile: Tile) -> Result<Piece, LogError> {
    get(connection, origin, LogFile::Tile(tile), 0, u64::from(tile.width) * 32).await
}

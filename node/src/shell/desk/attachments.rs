//! Attachments in the data folder: what is missing, what may go, how much room they have.

use std::collections::BTreeSet;

use lintas_proto::{
    id::{Digest, hex},
    schema::AttachmentRef,
};

use super::Desk;
use crate::shell::{
    blobs::{self, Room},
    clock,
    failure::Failure,
    files,
    progress::Transfers,
};

impl Desk {
    /// The transfers that run now.
    pub(crate) fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// How much room attachments have.
    pub(crate) fn room(&self) -> Room {
        Room::of(&self.settings)
    }

    /// The broker has all attachments of the packet.
    pub(crate) fn uploaded(&self, digest: Digest) {
        self.pipeline().uploaded(digest);
        self.bell.notify_one();
    }

    /// Those of a received packet that are not here. What is here is durable, with its name.
    pub(super) fn missing(&self, attachments: &[AttachmentRef]) -> Vec<AttachmentRef> {
        let path = |blob: &AttachmentRef| self.folder.blob_in(&hex(&blob.blob_id));
        let mut missing: Vec<_> = attachments.iter().filter(|blob| !path(blob).exists()).cloned().collect();
        // A transfer that ends just now may not have synced the name yet.
        if !attachments.is_empty()
            && missing.is_empty()
            && files::sync_folder(&self.folder.path("blobs/in")).is_err()
        {
            missing = attachments.to_vec();
        }
        missing
    }

    /// Removes the sealed files of packets of which nothing more will become: they were kept to be uploaded again. Time alone
    /// says so only while the clock is agreed.
    pub(crate) fn tidy(&self) {
        let now_ms = self.agreed_ms().unwrap_or_default();
        let over: Vec<AttachmentRef> = {
            let state = self.store.state();
            let settled = state.outgoing().filter(|(at, packet)| state.is_settled(*at, packet, now_ms));
            settled.flat_map(|(_, packet)| packet.attachments.clone()).collect()
        };
        self.remove_sealed(&over);
    }

    /// As [`tidy`](Self::tidy), but of these packets of ours alone.
    pub(super) fn tidy_these(&self, digests: &[Digest]) {
        let now_ms = self.agreed_ms().unwrap_or_default();
        let over: Vec<AttachmentRef> = {
            let state = self.store.state();
            let own = digests.iter().filter_map(|digest| state.own(digest));
            let settled = own.filter(|(at, packet)| state.is_settled(*at, packet, now_ms));
            settled.flat_map(|(_, packet)| packet.attachments.clone()).collect()
        };
        self.remove_sealed(&over);
    }

    fn remove_sealed(&self, over: &[AttachmentRef]) {
        for blob in over {
            let path = self.folder.blob_out(&hex(&blob.blob_id));
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::debug!(
                    blob = hex(&blob.blob_id),
                    "a sealed attachment that nobody needs any more was removed"
                ),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, "a sealed attachment was not removed"),
            }
        }
    }

    /// Removes what interrupted processes left, and counts what belongs to no packet.
    pub(super) fn sweep(&self) -> Result<usize, Failure> {
        let mut unnamed = 0;
        let (out, received): (BTreeSet<String>, BTreeSet<String>) = {
            let (state, id) = (self.store.state(), |blob: &AttachmentRef| hex(&blob.blob_id));
            (
                state.outgoing().flat_map(|(_, packet)| packet.attachments.iter().map(id)).collect(),
                state.incoming().flat_map(|(_, packet)| packet.attachments.iter().map(id)).collect(),
            )
        };
        // What arrives goes on after a restart, and may wait for its packet; what is sealed does not.
        for (name, named, waits) in [("blobs/out", out, false), ("blobs/in", received, true)] {
            let path = self.folder.path(name);
            let swept = blobs::sweep(&path, &named, waits.then(clock::now_ms));
            unnamed += swept.map_err(|error| Failure::file("tidy", &path, &error))?;
        }
        Ok(unnamed)
    }
}

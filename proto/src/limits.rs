//! Every limit of the formats, with its unit and its reason. Peers refuse what goes beyond.

/// Longest header, bytes. The most recipients (68 bytes each) and the most attachments (76 bytes each) fit.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Longest core, bytes; the rest of a header is digests.
pub const CORE_BYTES_MAX: usize = HEADER_BYTES_MAX;
/// Longest padded body plaintext, bytes. Larger things are attachments.
pub const BODY_PLAIN_BYTES_MAX: usize = 1024 * 1024;
/// Longest body ciphertext, bytes: plaintext, 65 tags of 16 bytes and the 56-byte head.
pub const BODY_BYTES_MAX: usize = BODY_PLAIN_BYTES_MAX + 65 * 16 + 56;
/// Shortest padded body plaintext, bytes: below it, length would tell kinds apart.
pub const BODY_PLAIN_BYTES_MIN: usize = 512;
/// Longest attachment ciphertext, bytes: room for 4 GiB of plaintext, padded and with its tags.
pub const BLOB_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Longest file that a node attaches, bytes: 4 GiB. Padded and with its tags it stays below [`BLOB_BYTES_MAX`].
pub const ATTACHMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most recipients of one packet.
pub const RECIPIENTS_MAX: usize = 500;
/// Most attachments of one packet.
pub const ATTACHMENTS_MAX: usize = 64;
/// Longest evidence, bytes.
pub const EVIDENCE_BYTES_MAX: usize = 1024;
/// Longest evidence with its proof, bytes: a path of 16 hashes and a signature.
pub const SIGNED_EVIDENCE_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + 768;
/// Longest receipt with its proof, bytes: 1 + 500 events of at most 760 bytes.
pub const RECEIPT_BYTES_MAX: usize = 384 * 1024;
/// Longest audit event, bytes.
pub const EVENT_BYTES_MAX: usize = 2 * 1024;
/// Longest frame payload, bytes: a submission with all its parts at their limits.
pub const FRAME_BYTES_MAX: usize =
    BODY_BYTES_MAX + 2 * HEADER_BYTES_MAX + RECIPIENTS_MAX * 1_400 + RECEIPT_BYTES_MAX;
/// Longest hello or answer to it, bytes.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Longest roster, bytes: 5,000 members with ten units each.
pub const ROSTER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest keyset, bytes.
pub const KEYSET_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest directory file, bytes.
pub const DIRECTORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest question for a directory, bytes: what the node has of as many agencies as a list can name, 72 bytes each.
pub const DIRECTORY_GET_BYTES_MAX: usize = 640 * 1024;
/// Longest keyset on its way to the broker, bytes.
pub const KEYSET_PUT_BYTES_MAX: usize = KEYSET_BYTES_MAX + 16;
/// Longest text of the policies of one owner, and of their cases, bytes each.
pub const POLICY_TEXT_BYTES_MAX: usize = 256 * 1024;
/// Longest text of the regional baseline, bytes: it travels with every roster.
pub const BASELINE_BYTES_MAX: usize = 64 * 1024;
/// Longest signed policy bundle, bytes.
pub const POLICY_BUNDLE_BYTES_MAX: usize = 2 * POLICY_TEXT_BYTES_MAX + 4 * 1024;
/// Longest policy bundle on its way to the broker, bytes.
pub const POLICY_PUT_BYTES_MAX: usize = POLICY_BUNDLE_BYTES_MAX + 16;
/// Most policies that one event names.
pub const POLICY_IDS_MAX: usize = 2;
/// Most items in any list of any message.
pub const LIST_ITEMS_MAX: usize = 8_192;
/// Deepest nesting of messages.
pub const NESTING_MAX: usize = 6;
/// Longest agency or unit code, bytes.
pub const CODE_BYTES_MAX: usize = 32;
/// Longest region or broker name, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest one-sentence text in evidence and refusals, bytes.
pub const SENTENCE_BYTES_MAX: usize = 384;
/// Most statements signed as one group.
pub const GROUP_STATEMENTS_MAX: usize = 4_096;
/// Longest time between creation and `deliver_by`, milliseconds: 90 days.
pub const DELIVER_WITHIN_MS_MAX: u64 = 90 * 24 * 60 * 60 * 1_000;
/// How far two honest clocks may differ, milliseconds: 5 minutes.
pub const CLOCK_SKEW_MS_MAX: u64 = 5 * 60 * 1_000;
/// Length of an encryption epoch, milliseconds: 7 days.
pub const EPOCH_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Longest root checkpoint carried in a body or a hello, bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 4 * 1024;
/// By when a receipt's events stand in a published tree, milliseconds after the receipt: 2 minutes.
pub const INCLUDED_WITHIN_MS: u64 = 2 * 60 * 1_000;
/// Most witnesses of a region: that many cosignatures fit into a checkpoint.
pub const WITNESSES_MAX: usize = 16;
/// Longest erasure order with its signature, bytes.
pub const ERASURE_BYTES_MAX: usize = 64 * 1024;
/// Most entries that one order erases.
pub const ERASURE_INDICES_MAX: usize = 4_096;
/// By when a quorum has cosigned an epoch, milliseconds after its end: 1 minute. Later, its time is not attested.
pub const COSIGNED_WITHIN_MS: u64 = 60 * 1_000;
/// How old the last cosigned root entry with the present directory may be before nothing is sealed any more,
/// milliseconds: 24 hours.
pub const ATTESTED_WITHIN_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest file of a log, bytes; longer ones are read in pieces.
pub const LOG_PIECE_BYTES_MAX: u64 = 16 * 1024 * 1024;

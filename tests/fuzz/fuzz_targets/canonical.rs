//! The canonical gate, for every message of the schema: one message, one encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{draws::Draws, messages};

fuzz_target!(|data: &[u8]| messages::any(&mut Draws::new(data)));

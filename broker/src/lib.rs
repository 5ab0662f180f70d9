//! The regional broker: admits, commits, queues, delivers; reads no payload.

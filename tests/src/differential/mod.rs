//! The same commands, sent to a server under test and to a reference, must get the same replies.
//!
//! [`generate`] makes commands from a seed, [`reply`] sends one and keeps of the answer what two servers can
//! agree on, [`pair`] does that to both sides and compares, and [`known`] lists the differences that are meant.

pub mod command;
pub mod generate;
pub mod known;
pub mod pair;
pub mod reply;

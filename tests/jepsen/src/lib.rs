//! A cluster of real processes under attack, and the judgement of what its clients saw.
//!
//! A run leaves a [`history`]: what every client asked, when, and what it was told, what every watcher saw, and which
//! faults were in force. [`check`] judges a history and nothing else, so that a recorded one can be judged again, and
//! so that each checker can be shown to catch what it is for by a history written by hand. [`report`] tells a person.
//!
//! Nothing here links the server: its public interface is what is attacked, and what is believed.

pub mod check;
pub mod history;
pub mod report;

//! What can go wrong while reading or opening.

use thiserror::Error;

use crate::Refusal;
use crate::engine::EngineError;

/// Why a read gave nothing.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The request cannot be served: the client is told so.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine failed, or a record is damaged: fatal to the member.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a store could not be opened. Nothing has been written.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Written by a later version of the program.
    #[error(
        "the data is in format {found}, and this version reads formats up to {known}: use a newer version"
    )]
    NewerFormat {
        /// The format on disk.
        found: u32,
        /// The newest that this version reads.
        known: u32,
    },
    /// The store's own state is not there, or cannot have been written by any version.
    #[error("the store's state is damaged: {what}")]
    Damaged {
        /// Which part.
        what: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

//! What can go wrong with the store, told apart by what the caller can do about it.

use crate::status::ApiError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The revision is no longer kept.
    #[error("the revision was compacted")]
    Compacted,
    /// The revision lies in the future.
    #[error("the revision is not reached yet")]
    Future,
    /// The object is larger than the store takes.
    #[error("the object is too large for the store: {0}")]
    TooLarge(String),
    /// Whether it was done is not known.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store cannot be reached, or has no leader.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// Whether the call certainly never left this process: no connection could be made.
    pub(super) fn was_not_sent(&self) -> bool {
        matches!(self, StoreError::Unavailable(why) if why.contains("tcp connect error"))
    }

    /// What the failure of a write comes to. Where the connection broke, the write may have been carried out, and a
    /// client that is told to come again would write twice.
    pub(super) fn of_a_write(self) -> StoreError {
        match self {
            StoreError::Unavailable(_) if !self.was_not_sent() => StoreError::Timeout,
            error => error,
        }
    }
}

impl From<etcd_client::Error> for StoreError {
    fn from(error: etcd_client::Error) -> StoreError {
        let etcd_client::Error::GRpcStatus(status) = &error else {
            return StoreError::Unavailable(error.to_string());
        };
        let message = status.message().to_owned();
        // Clients of etcd tell its errors apart by their text, which is a part of the protocol.
        if message.contains("required revision has been compacted") {
            StoreError::Compacted
        } else if message.contains("required revision is a future revision") {
            StoreError::Future
        } else if message.contains("request is too large") || message.contains("larger than max") {
            StoreError::TooLarge(message)
        } else if message.contains("request timed out") || message.contains("Timeout expired") {
            StoreError::Timeout
        } else {
            // The codes are gRPC's: cancelled, unknown, deadline exceeded, unavailable.
            match status.code() as i32 {
                4 => StoreError::Timeout,
                14 => StoreError::Unavailable(message),
                1 | 2 if message.contains("transport error") => StoreError::Unavailable(message),
                _ => StoreError::Other(message),
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Compacted => {
                ApiError::expired("The resourceVersion for the provided watch is too old.")
            }
            StoreError::TooLarge(_) => ApiError::too_large(crate::serve::BODY_BYTES_MAX),
            StoreError::Timeout => {
                ApiError::timeout("Timeout: request did not complete within the allotted time")
            }
            StoreError::Unavailable(why) => ApiError::unavailable(why),
            StoreError::Future | StoreError::Other(_) => ApiError::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: StoreError) -> (u16, Option<u64>) {
        let answer = ApiError::from(error);
        (answer.code(), answer.retry_after_s())
    }

    #[test]
    fn only_who_certainly_wrote_nothing_is_told_to_write_again() {
        let lost = || StoreError::Unavailable("transport error: broken pipe".to_owned());
        let unsent = || StoreError::Unavailable("tcp connect error: refused".to_owned());
        assert_eq!(answer(lost().of_a_write()), (504, None));
        assert_eq!(answer(unsent().of_a_write()), (503, Some(1)));
        assert_eq!(answer(lost()), (503, Some(1)));
    }
}

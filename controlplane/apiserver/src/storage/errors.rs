//! What can go wrong with the store, told apart by what the caller can do about it.

use crate::status::ApiError;

// gRPC's codes.
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
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
    /// The lease is not there, or no longer.
    #[error("the store does not know the lease")]
    LeaseNotFound,
    /// Whether it was done is not known.
    #[error("the store did not answer in time")]
    Timeout,
    /// No connection could be made, so that nothing was sent.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or the store has no leader.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// What the failure of a write comes to. Where the connection broke, the write may have been carried out, and a
    /// client that is told to come again would write twice.
    pub(super) fn of_a_write(self) -> StoreError {
        match self {
            StoreError::Unavailable(_) => StoreError::Timeout,
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
        if could_not_connect(status) {
            return StoreError::Unreachable(message);
        }
        // Clients of etcd tell its errors apart by their text, which is a part of the protocol.
        if message.contains("required revision has been compacted") {
            StoreError::Compacted
        } else if message.contains("required revision is a future revision") {
            StoreError::Future
        } else if message.contains("request is too large") || message.contains("larger than max") {
            StoreError::TooLarge(message)
        } else if message.contains("requested lease not found") {
            StoreError::LeaseNotFound
        } else if message.contains("request timed out") || message.contains("Timeout expired") {
            StoreError::Timeout
        } else {
            // The codes are gRPC's. That of what the client's own side makes of a broken connection varies, and the text
            // says so: that it was told to go away before it had sent the call, or while it waited for the answer.
            let is_broken = [
                "transport error",
                "operation was canceled",
                "h2 protocol error",
            ]
            .iter()
            .any(|text| message.contains(text));
            match status.code() as i32 {
                DEADLINE_EXCEEDED => StoreError::Timeout,
                UNAVAILABLE => StoreError::Unavailable(message),
                CANCELLED | UNKNOWN | INTERNAL if is_broken => StoreError::Unavailable(message),
                _ => StoreError::Other(message),
            }
        }
    }
}

/// Whether a call failed while its connection was being made.
fn could_not_connect(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
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
            StoreError::Unreachable(why) | StoreError::Unavailable(why) => {
                ApiError::unavailable(why)
            }
            StoreError::Future | StoreError::LeaseNotFound | StoreError::Other(_) => {
                ApiError::internal(error)
            }
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
        let lost = || StoreError::Unavailable("broken pipe".to_owned());
        let unsent = || StoreError::Unreachable("refused".to_owned());
        assert_eq!(answer(lost().of_a_write()), (504, None));
        assert_eq!(answer(unsent().of_a_write()), (503, Some(1)));
        assert_eq!(answer(lost()), (503, Some(1)));
    }

    #[test]
    fn a_connection_that_broke_is_told_apart_from_an_answer() {
        let of = |code: i32, message: &str| {
            let status = tonic::Status::new(tonic::Code::from_i32(code), message);
            StoreError::from(etcd_client::Error::GRpcStatus(status))
        };
        for (code, message) in [
            (UNAVAILABLE, "etcdserver: no leader"),
            (UNKNOWN, "transport error"),
            (CANCELLED, "operation was canceled"),
            (INTERNAL, "h2 protocol error: http2 error"),
        ] {
            let error = of(code, message);
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        }
        assert!(matches!(
            of(INTERNAL, "etcdserver: corrupt"),
            StoreError::Other(_)
        ));
        assert!(matches!(of(DEADLINE_EXCEEDED, "late"), StoreError::Timeout));
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_told_apart_by_its_cause() {
        let nowhere = etcd_client::Client::connect(["http://127.0.0.1:1"], None);
        let error = match nowhere.await {
            Ok(mut client) => client.get("a", None).await.map(drop),
            Err(error) => Err(error),
        };
        let error = StoreError::from(error.unwrap_err());
        assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    }
}

//! Waiting for a condition, never for an amount of time.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything that should happen soon may take. Generous, since the machine may be busy: a test that
/// needs this long has failed already.
pub const SOON: Duration = Duration::from_secs(30);

/// A look that takes longer is given up: a server may have lost the request. Longer than any server's own timeout.
const LOOK: Duration = Duration::from_secs(10);

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks until `look` succeeds, and gives what it found. Panics after [`SOON`] with `what` was awaited and the
/// reason why the last look found nothing.
pub async fn until<T, E: Display>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(SOON, what, look).await
}

/// The same for what is known to take longer.
pub async fn within<T, E: Display>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    let mut why_not = String::new();
    while Instant::now() < deadline {
        match tokio::time::timeout(LOOK, look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(reason)) => why_not = reason.to_string(),
            Err(_) => why_not = format!("the look did not return within {LOOK:?}"),
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    panic!("waited {limit:?} for {what}: {why_not}");
}

/// What `future` gives. Panics after [`SOON`] with `what` was awaited.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .unwrap_or_else(|_| panic!("waited {SOON:?} for {what}"))
}

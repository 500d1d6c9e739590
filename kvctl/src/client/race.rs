//! Several endpoints, one answer.

use super::endpoint::Endpoint;
use super::trouble::Trouble;
use crate::error::Failed;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::time::Duration;
use tokio::time::sleep;

/// Tries the endpoints in order: the next one is started when one fails and `may_move_on`, or when
/// none has answered for `stagger`; the first success wins. The failures are left in `failed`.
pub(super) async fn race<T, F>(
    endpoints: &[Endpoint],
    stagger: Duration,
    failed: &mut Vec<Failed>,
    may_move_on: fn(&Trouble) -> bool,
    attempt: F,
) -> Result<T, ()>
where
    F: AsyncFn(Endpoint) -> Result<T, Trouble>,
{
    let start = async |endpoint: &Endpoint| (endpoint.clone(), attempt(endpoint.clone()).await);
    let mut waiting = endpoints.iter();
    let mut running = FuturesUnordered::new();
    running.extend(waiting.next().map(&start));
    loop {
        tokio::select! {
            finished = running.next() => match finished {
                Some((_, Ok(answer))) => return Ok(answer),
                Some((endpoint, Err(trouble))) => {
                    let stop = !may_move_on(&trouble);
                    failed.push((endpoint, trouble));
                    if stop {
                        return Err(());
                    }
                    running.extend(waiting.next().map(&start));
                }
                None => return Err(()),
            },
            () = sleep(stagger), if waiting.len() > 0 => running.extend(waiting.next().map(&start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::time::Instant;
    use tonic::Status;

    fn endpoints(names: &[&str]) -> Vec<Endpoint> {
        names
            .iter()
            .map(|name| Endpoint::parse(name).unwrap())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_endpoint_is_tried_when_one_fails() {
        let tried = RefCell::new(Vec::new());
        let mut failed = Vec::new();
        let answer = race(
            &endpoints(&["a:1", "b:2", "c:3"]),
            Duration::from_secs(9),
            &mut failed,
            |_| true,
            async |endpoint| {
                tried.borrow_mut().push(endpoint.to_string());
                if endpoint.to_string() == "b:2" {
                    Ok("answer")
                } else {
                    Err(Trouble::NeverSent("refused".into()))
                }
            },
        )
        .await;
        assert_eq!(answer, Ok("answer"));
        assert_eq!(*tried.borrow(), ["a:1", "b:2"]);
        assert_eq!(failed.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_endpoint_does_not_keep_the_others_waiting() {
        let mut failed = Vec::new();
        let began = Instant::now();
        let answer = race(
            &endpoints(&["a:1", "b:2"]),
            Duration::from_secs(2),
            &mut failed,
            |_| true,
            async |endpoint| {
                if endpoint.to_string() == "a:1" {
                    std::future::pending::<()>().await;
                }
                Ok(endpoint.to_string())
            },
        )
        .await;
        assert_eq!(answer.as_deref(), Ok("b:2"));
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_endpoint_is_not_given_up_for_a_failing_one() {
        let mut failed = Vec::new();
        let answer = race(
            &endpoints(&["slow:1", "down:2"]),
            Duration::from_secs(1),
            &mut failed,
            |_| true,
            async |endpoint| {
                if endpoint.to_string() == "down:2" {
                    return Err(Trouble::NeverSent("refused".into()));
                }
                sleep(Duration::from_secs(3)).await;
                Ok(endpoint.to_string())
            },
        )
        .await;
        assert_eq!(answer.as_deref(), Ok("slow:1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_ends_the_search() {
        let tried = RefCell::new(0);
        let mut failed = Vec::new();
        let answer: Result<(), ()> = race(
            &endpoints(&["a:1", "b:2"]),
            Duration::from_secs(1),
            &mut failed,
            Trouble::read_may_move_on,
            async |_| {
                *tried.borrow_mut() += 1;
                Err(Trouble::Answer(Box::new(Status::invalid_argument(
                    "etcdserver: key is not provided",
                ))))
            },
        )
        .await;
        assert_eq!(answer, Err(()));
        assert_eq!(*tried.borrow(), 1);
        assert!(matches!(failed[..], [(_, Trouble::Answer(_))]));
    }
}

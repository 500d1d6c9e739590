//! Many leases, each with a key, that run out at the same time, while puts go on.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::arrivals::{self, Load};
use super::keepalive::grant;
use super::keys::{VALUE_BYTES, Values};
use super::load::{Told, requests};
use super::operation::Ask;
use super::phases::{AFTER, Phases};
use super::run::{Running, until};
use crate::measure::{Meter, Outcome};
use crate::system::member::connect;

/// Puts a second beside, over so many keys.
pub const PUTS: f64 = 500.0;
pub const PUT_KEYS: u64 = 10_000;
const PREFIX: &str = "/leased/";
const PREFIX_END: &str = "/leased0";
/// All must be gone by then, or the run fails.
const GONE_MAX: Duration = Duration::from_secs(600);
/// Puts are observed this long before the leases' time.
const BEFORE: Duration = Duration::from_secs(5);

/// How many leases, and how long it may take to grant them and to put their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub leases: u64,
    pub loading_max: Duration,
}

/// Measures how long after their time the last key is gone, and what puts notice.
pub async fn measure(
    running: &Running<'_>,
    expiry: Expiry,
    told: &Told,
) -> anyhow::Result<Outcome> {
    let endpoints = &running.cluster.endpoints;
    let time = Instant::now() + expiry.loading_max + BEFORE;
    let ttl = move || {
        time.saturating_duration_since(Instant::now())
            .as_secs_f64()
            .ceil() as i64
    };
    grant(endpoints, expiry.leases, Rc::new(ttl), told).await?;
    let write = |numbers: std::ops::Range<u64>, _: &mut _| {
        Ask::Put(PutRequest {
            key: format!("{PREFIX}{}", numbers.start).into(),
            value: "x".into(),
            lease: numbers.start as i64,
            ..PutRequest::default()
        })
    };
    requests(endpoints, 1..expiry.leases + 1, 1, Rc::new(write), told).await?;
    if Instant::now() + BEFORE > time {
        bail!(
            "{} leases could not be laid down within {:?}",
            expiry.leases,
            expiry.loading_max
        );
    }

    let values = Rc::new(Values::new(VALUE_BYTES));
    let meter = Rc::new(Meter::new());
    let puts = arrivals::begin(endpoints, Load::new(PUTS, PUT_KEYS), &values, &meter).await?;
    let first = endpoints.first().context("a cluster has members")?;
    let mut gone = Gone::watch(first).await?;
    let pids = running.cluster.pids();
    until(puts, async {
        for until in [time - BEFORE, time] {
            if let Ok(early) = timeout_at(until, gone.next()).await {
                early?;
                bail!("a key was gone before its lease's time");
            }
            meter.turn_on();
        }
        let mut phases = Phases::begin(&meter, &pids)?;
        // A lease's time is a whole number of seconds from when it was granted: up to one more than wanted.
        let last = time + Duration::from_secs(1);
        let all = async {
            while gone.keys < expiry.leases {
                gone.next().await?;
            }
            anyhow::Ok(Instant::now())
        };
        let Ok(ended) = timeout_at(last + GONE_MAX, all).await else {
            bail!("{GONE_MAX:?} after their time, not all keys are gone");
        };
        let late = ended?.saturating_duration_since(last);
        phases.happened();
        sleep(AFTER).await;
        let mut outcome = Outcome::new();
        outcome.set("gone_s", late.as_secs_f64());
        phases.end(&pids, &mut outcome)?;
        Ok(outcome)
    })
    .await
}

/// Counts the keys that are gone, as a watcher sees it: to ask for their number would be work for the servers.
struct Gone {
    keys: u64,
    watch: Streaming<WatchResponse>,
    // Closed, it would end the stream.
    _requests: mpsc::Sender<WatchRequest>,
}

impl Gone {
    async fn watch(url: &str) -> anyhow::Result<Gone> {
        let create = WatchCreateRequest {
            key: PREFIX.into(),
            range_end: PREFIX_END.into(),
            filters: vec![FilterType::Noput.into()],
            ..WatchCreateRequest::default()
        };
        let (requests, stream) = mpsc::channel(1);
        requests
            .send(WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            })
            .await?;
        let mut client =
            WatchClient::new(connect(url).await?).max_decoding_message_size(usize::MAX);
        let mut watch = client
            .watch(ReceiverStream::new(stream))
            .await?
            .into_inner();
        let created = watch.message().await?.context("the watch ended")?;
        anyhow::ensure!(created.created, "no watch was made");
        Ok(Gone {
            keys: 0,
            watch,
            _requests: requests,
        })
    }

    /// Waits until more of them are gone.
    async fn next(&mut self) -> anyhow::Result<()> {
        let more = self.watch.message().await?.context("the watch ended")?;
        anyhow::ensure!(
            !more.canceled,
            "the watch was canceled: {}",
            more.cancel_reason
        );
        self.keys += more.events.len() as u64;
        Ok(())
    }
}

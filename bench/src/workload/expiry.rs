//! Many leases, each with a key, that run out at the same time, while puts go on.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::Channel;

use super::arrivals;
use super::keepalive::grant;
use super::keys::Values;
use super::load::{Told, requests};
use super::operation::Ask;
use super::run::{Running, until};
use crate::measure::{Meter, Outcome};
use crate::system::member::connect;

/// Puts a second beside, over so many keys.
const PUTS: f64 = 500.0;
const PUT_KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 256;
const PREFIX: &str = "/leased/";
const PREFIX_END: &str = "/leased0";
const LOOK: Duration = Duration::from_millis(50);
/// All must be gone by then, or the run fails.
const GONE_MAX: Duration = Duration::from_secs(240);
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
    let puts = arrivals::begin(endpoints, PUTS, PUT_KEYS, &values, &meter).await?;
    let mut kv = KvClient::new(connect(endpoints.first().context("a cluster has members")?).await?);
    until(puts, async {
        sleep_until(time - BEFORE).await;
        meter.turn_on();
        sleep_until(time - LOOK).await;
        if count(&mut kv).await? != expiry.leases {
            meter.failed("a key was gone before its lease's time");
        }
        sleep_until(time).await;
        let before = meter.quantile_ms(0.99);
        meter.clear();
        // A lease's time is a whole number of seconds from when it was granted: up to one more than wanted.
        let last = time + Duration::from_secs(1);
        loop {
            let asked = Instant::now();
            let left = count(&mut kv).await?;
            if left == 0 {
                let mut outcome = Outcome::new();
                outcome.set(
                    "gone_s",
                    asked.saturating_duration_since(last).as_secs_f64(),
                );
                outcome.set("p99_before_ms", before);
                let during = meter.quantile_ms(0.99);
                outcome.set("p99_during_ms", during);
                outcome.set("p99_growth", during / before);
                (outcome.failures, outcome.first_failure) = meter.failures();
                return Ok(outcome);
            }
            if asked > last + GONE_MAX {
                bail!("{left} keys are left {GONE_MAX:?} after their time");
            }
            sleep(LOOK).await;
        }
    })
    .await
}

/// How many keys with leases there are.
async fn count(kv: &mut KvClient<Channel>) -> anyhow::Result<u64> {
    let count = RangeRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        count_only: true,
        ..RangeRequest::default()
    };
    Ok(kv.range(count).await?.into_inner().count as u64)
}

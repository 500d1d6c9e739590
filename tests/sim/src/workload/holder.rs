//! A lease holder: is granted a lease, hangs keys on it, keeps it alive for a while, and then revokes it or lets it
//! run out.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::client::any_key;
use super::{Site, pause};
use crate::operation::{Ask, Told};
use crate::runtime::now;

/// Holds one lease after the other until the site closes.
pub async fn run(site: Site, client: usize, mut rng: StdRng) {
    let mut number = 0;
    while !site.closing() {
        pause(&mut rng, 20, 1_000).await;
        number += 1;
        hold(&site, client, number, &mut rng).await;
    }
}

async fn hold(site: &Site, client: usize, number: i64, rng: &mut StdRng) {
    // Never used again, so that each has one life.
    let lease = client as i64 * 1_000_000 + number;
    let ttl_s = rng.random_range(1..=4);
    // Some stay with one member, as a client does that has a connection, and renew often: also with a leader that is
    // deposed and does not know it.
    let home = rng.random_ratio(1, 2).then(|| site.leader()).flatten();
    let home = home.map(|life| life.member.id().0);
    let renew_after_ms = match home {
        Some(_) => 50..350,
        None => 100..ttl_s as u64 * 600,
    };
    let someone = |rng: &mut StdRng| {
        let at_home = home.and_then(|id| site.member(id));
        at_home.or_else(|| site.any(rng))
    };
    let Some(life) = someone(rng) else { return };
    site.ask(client, &life, Ask::Grant { lease, ttl_s }).await;
    // Without an answer, it may be there all the same.
    for number in 0..rng.random_range(1..4) {
        let Some(life) = someone(rng) else { continue };
        let key = if rng.random_ratio(1, 3) {
            any_key(rng)
        } else {
            format!("keyheld{client}{number}")
        };
        let value = format!("{lease}-{number}");
        site.ask(client, &life, Ask::Put { key, value, lease })
            .await;
    }
    let until = now() + Duration::from_millis(rng.random_range(0..6_000));
    while now() < until && !site.closing() {
        pause(rng, renew_after_ms.start, renew_after_ms.end).await;
        let Some(life) = someone(rng) else { continue };
        if let Told::Renewed { ttl_s: 0 } = site.ask(client, &life, Ask::Renew { lease }).await {
            return;
        }
    }
    if rng.random_ratio(1, 2)
        && let Some(life) = site.any(rng)
    {
        site.ask(client, &life, Ask::Revoke { lease }).await;
        // What was revoked stays so.
        if let Some(life) = site.any(rng) {
            site.ask(client, &life, Ask::Renew { lease }).await;
        }
    }
}

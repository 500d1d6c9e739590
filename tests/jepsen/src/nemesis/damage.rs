//! Damage to the raft log of a member that was killed.
//!
//! A *torn* tail is what a crash may leave of what was not synced: the member has to cut it off and go on. A flipped bit in
//! what had been synced is *corruption*: the member has to refuse to start, and to name the place.

use std::io;
use std::time::Duration;

use keelson_jepsen::history::MemberIndex;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Undo;
use super::acts::all_up;
use super::membership;
use super::segment::Segment;
use crate::run::{Arena, Excuse, InForce};

/// The most that is written behind the last record.
const GARBAGE_BYTES_MAX: usize = 8 << 10;
/// A member that finds its log corrupt says so at once.
const REFUSAL_TIME: Duration = Duration::from_secs(30);

/// Kills a member and tears the tail of its log.
pub(super) fn tear(arena: &mut Arena, name: &str, random: &mut StdRng) -> Option<(InForce, Undo)> {
    let victim = *arena.up().choose(random)?;
    arena.kill(victim);
    let torn = match Segment::last(&arena.log_dir(victim)) {
        Ok(Some(segment)) => tear_segment(&segment, random),
        Ok(None) => Ok("nothing to tear".to_owned()),
        Err(error) => Err(error),
    };
    let detail = torn.unwrap_or_else(|error| format!("could not be torn: {error}"));
    let record = arena.world.fault_begins(name, vec![victim], detail);
    let undo = Undo {
        start: vec![victim],
        ..Undo::default()
    };
    Some((record, undo))
}

fn tear_segment(segment: &Segment, random: &mut StdRng) -> io::Result<String> {
    let unsynced = segment.end - segment.synced;
    // Where there is room for it, garbage may also be old bytes of this very file, at the wrong place.
    let room = (segment.length - segment.end).min(GARBAGE_BYTES_MAX as u64) as usize;
    match random.random_range(0..4) {
        0 if unsynced > 0 => {
            let from = random.random_range(segment.synced..segment.end);
            let zeros = vec![0; (segment.end - from) as usize];
            segment.overwrite(from, &zeros)?;
            Ok(format!(
                "{}: cut at {from} of {}",
                segment.name(),
                segment.end
            ))
        }
        1 if unsynced > 0 => {
            let at = random.random_range(segment.synced..segment.end);
            let byte = segment.bytes(at, at + 1)?[0] ^ (1 << random.random_range(0..8));
            segment.overwrite(at, &[byte])?;
            Ok(format!(
                "{}: a bit flipped at {at} of {}",
                segment.name(),
                segment.end
            ))
        }
        2 if room > 0 => {
            let length = random.random_range(1..=room).min(segment.end as usize);
            let from = random.random_range(0..=segment.end - length as u64);
            let stale = segment.bytes(from, from + length as u64)?;
            segment.overwrite(segment.end, &stale)?;
            Ok(format!(
                "{}: {length} stale bytes at {}",
                segment.name(),
                segment.end
            ))
        }
        _ if room > 0 => {
            let mut garbage = vec![0; random.random_range(1..=room)];
            random.fill(garbage.as_mut_slice());
            segment.overwrite(segment.end, &garbage)?;
            let length = garbage.len();
            Ok(format!(
                "{}: {length} random bytes at {}",
                segment.name(),
                segment.end
            ))
        }
        _ => Ok("no room for garbage".to_owned()),
    }
}

/// Kills a member, flips a bit in what it had synced, sees that it refuses to start, and replaces it. Only when nobody
/// else is missing: the member's disk is lost, and that is one of the minority that may be.
pub(super) async fn corrupt(arena: &mut Arena, name: &str, random: &mut StdRng) {
    if !all_up(arena) || !membership::can_miss_one(arena) {
        return;
    }
    let Some(victim) = arena.up().choose(random).copied() else {
        return;
    };
    arena.kill(victim);
    let flipped = match Segment::last(&arena.log_dir(victim)) {
        Ok(Some(segment)) => {
            let at = random.random_range(0..segment.synced);
            let bit = 1 << random.random_range(0..8);
            let flipped = segment
                .bytes(at, at + 1)
                .and_then(|byte| segment.overwrite(at, &[byte[0] ^ bit]));
            flipped.map(|()| Some((segment, at)))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let Ok(Some((segment, at))) = flipped else {
        arena.start(victim);
        return;
    };
    let detail = format!("{}: a bit flipped at {at}", segment.name());
    let record = arena.world.fault_begins(name, vec![victim], detail);
    see_refusal(arena, victim, &segment.name(), at).await;
    membership::replace_dead(arena, victim).await;
    arena.world.fault_ends(record);
}

async fn see_refusal(arena: &mut Arena, victim: MemberIndex, segment: &str, at: u64) {
    let said_before = arena.log(victim).len();
    arena.start(victim);
    arena.excuse(victim, Excuse::Broken);
    let ended = arena.ended_within(victim, REFUSAL_TIME).await;
    let what = match ended {
        None => format!("it runs on, though {segment} is corrupt at byte {at}"),
        Some(true) => format!("it ended as if all were well, though {segment} is corrupt at {at}"),
        Some(false) => {
            let log = arena.log(victim);
            let said = log.get(said_before..).unwrap_or_default();
            if said.contains(&format!("{segment} is corrupt at byte ")) {
                return;
            }
            format!("it did not name the place when {segment} was corrupt at byte {at}")
        }
    };
    arena.kill(victim);
    arena.find(format!("m{}: {what}", victim.0));
}

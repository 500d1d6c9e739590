//! Members that come and go.

use std::time::Duration;

use keelson_jepsen::history::{MemberChange, MemberIndex};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::Instant;

use super::acts::all_up;
use crate::run::Arena;

/// A change of the membership has so long; the cluster may have to find a leader first.
const CHANGE_TIME: Duration = Duration::from_secs(10);
/// A new member has so long to answer.
const JOIN_TIME: Duration = Duration::from_secs(15);
/// Above what the cluster began with.
const MORE_MAX: usize = 2;
const LOOK: Duration = Duration::from_millis(100);

/// Whether a majority is left when one member is lost.
pub(super) fn can_miss_one(arena: &Arena) -> bool {
    arena.members().len() >= 3
}

/// A voter joins.
pub(super) async fn add(arena: &mut Arena, name: &str) {
    if arena.members().len() >= arena.founders() + MORE_MAX {
        return;
    }
    let record = arena.world.fault_begins(name, Vec::new(), String::new());
    if let Ok(new) = arena.add(false, CHANGE_TIME).await {
        arena.answers_within(new, JOIN_TIME).await;
    }
    arena.world.fault_ends(record);
}

/// A learner joins, and is promoted.
pub(super) async fn add_learner(arena: &mut Arena, name: &str) {
    if arena.members().len() >= arena.founders() + MORE_MAX {
        return;
    }
    let record = arena.world.fault_begins(name, Vec::new(), String::new());
    if let Ok(new) = arena.add(true, CHANGE_TIME).await {
        promote(arena, new).await;
    }
    arena.world.fault_ends(record);
}

/// Promotes it when it is ready. A learner that is not is removed, since a cluster has only one.
async fn promote(arena: &mut Arena, new: MemberIndex) {
    let deadline = Instant::now() + JOIN_TIME;
    while Instant::now() < deadline {
        arena.look_after();
        match arena.listed_as(new, CHANGE_TIME).await {
            Ok(Some(info)) if info.learner => {
                // "Not in sync" is what is said until it is.
                let _ = arena
                    .change(MemberChange::Promote { id: info.id }, LOOK)
                    .await;
            }
            Ok(Some(_)) => {
                arena.answers_within(new, JOIN_TIME).await;
                return;
            }
            Ok(None) | Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
    let _ = arena.remove(new, CHANGE_TIME).await;
}

/// A member is removed, the leader as well as any other.
pub(super) async fn remove(arena: &mut Arena, name: &str, random: &mut StdRng) {
    if arena.members().len() <= arena.founders() || !all_up(arena) {
        return;
    }
    let Some(victim) = arena.up().choose(random).copied() else {
        return;
    };
    let record = arena.world.fault_begins(name, vec![victim], String::new());
    // What came of it is found out when the faults are over.
    let _ = arena.remove(victim, CHANGE_TIME).await;
    arena.world.fault_ends(record);
}

/// A member dies, and a new one takes its place.
pub(super) async fn replace(arena: &mut Arena, name: &str, random: &mut StdRng) {
    if !can_miss_one(arena) || !all_up(arena) {
        return;
    }
    let Some(victim) = arena.up().choose(random).copied() else {
        return;
    };
    let record = arena.world.fault_begins(name, vec![victim], String::new());
    arena.kill(victim);
    replace_dead(arena, victim).await;
    arena.world.fault_ends(record);
}

/// Removes a member whose process has ended for good, and adds a new one.
pub(super) async fn replace_dead(arena: &mut Arena, dead: MemberIndex) {
    if arena.remove(dead, CHANGE_TIME).await.is_err() {
        // It may have been removed all the same, or not: its data must not be used again either way.
        arena.abandon(dead);
        return;
    }
    if let Ok(new) = arena.add(false, CHANGE_TIME).await {
        arena.answers_within(new, JOIN_TIME).await;
    }
}

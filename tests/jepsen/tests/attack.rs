//! A bounded part of what `make jepsen` does, with every test run: fresh seeds, on the program that ships.

use std::process::Command;

use keelson_tests::turn::Turn;

const SECONDS: &str = "12";

/// Runs clients of `workload` while `nemesis` is at work, and panics with all that was said if they were lied to.
async fn attack(workload: &str, nemesis: &str) {
    // Elections mean little beside another test's clusters.
    let _turn = Turn::take().await;
    let mut jepsen = Command::new(env!("CARGO_BIN_EXE_jepsen"));
    jepsen.args([
        "--workload",
        workload,
        "--nemesis",
        nemesis,
        "--seconds",
        SECONDS,
    ]);
    let done = jepsen.output().expect("jepsen can be run");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    // The seed, and the verdict with what it is about.
    for line in said
        .lines()
        .filter(|line| line.contains("--seed") || line.contains("VALID"))
    {
        println!("{line}");
    }
}

#[tokio::test]
async fn values_are_strictly_serializable_while_members_die_hang_and_are_cut_off() {
    attack("register,append,bank,set", "kill,pause,partition").await;
}

#[tokio::test]
async fn watches_leases_and_lists_hold_while_logs_are_torn_and_leaders_move() {
    let nemesis = "log-torn,compaction,snapshot-backup,transfer,links,kill-leader";
    attack("watch,lease,kubernetes", nemesis).await;
}

#[tokio::test]
async fn clients_go_on_while_members_come_and_go() {
    attack("membership,set", "restart,log-corrupt").await;
}

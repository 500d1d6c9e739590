//! `jepsen`: attacks a cluster of real processes, and judges whether its clients were told the truth.

mod client;
mod date;
mod long;
mod nemesis;
mod run;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use keelson_jepsen::history::{History, Run, Workload};
use keelson_jepsen::{check, report};
use keelson_tests::child::interrupted;

use nemesis::Nemesis;
use run::{Plan, Target};

/// Attack a cluster of real processes, and judge whether its clients were told the truth.
///
/// Starts the members on this machine, has clients work through the public API, kills, stops, cuts off and fills up members by a
/// schedule that the seed makes, heals everything, waits until the cluster has recovered, and judges the history. Exits
/// with 0 only if the history is valid.
#[derive(Parser)]
#[command(name = "jepsen", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// List the workloads and nemeses.
    List,
    /// Judge the history of an earlier run again.
    Check {
        /// Its directory, as --out named it.
        dir: PathBuf,
    },
    Long(long::LongArgs),
}

#[derive(Args)]
struct RunArgs {
    /// What clients do: names separated by commas, or `all`. They run at the same time, on keys of their own
    #[arg(long, value_name = "NAMES", default_value = "all")]
    workload: String,
    /// What is done to the cluster: names or groups (`kill`, `partition`) separated by commas, `all`, or `none`. The workload
    /// `membership` brings the nemeses of the group `member` with it
    #[arg(long, value_name = "NAMES", default_value = "all")]
    nemesis: String,
    /// For how long clients work and faults happen; starting, recovering and judging come on top of it
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Everything random comes from it; by default from the clock. It is printed, to repeat a run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Members in the beginning
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    members: u32,
    /// What is attacked: `kvd`, `kvd-faulty` (which `make faulty` builds), `etcd` (3.5.1, which `make peers` brings), or the
    /// path of a program that takes etcd's flags
    #[arg(long, value_name = "TARGET", default_value = "kvd")]
    target: String,
    /// A new directory for the history, the members' logs and the report. Without it, one is kept only if the run fails
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Clients of each workload
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
    /// Operations a second, of all clients together
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::List) => {
            list();
            Ok(true)
        }
        Some(Command::Check { dir }) => check_again(dir),
        Some(Command::Long(args)) => long::campaign(args, interrupted()).await,
        None => tokio::select! {
            done = attack(&cli.run) => done,
            () = interrupted() => Err(anyhow!("interrupted; the members were killed")),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jepsen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    println!("Workloads (--workload):");
    for (_, name, says) in workload::ALL {
        println!("  {name:<18} {says}");
    }
    println!("\nNemeses (--nemesis), of which the part before the hyphen names the group:");
    for nemesis in nemesis::ALL {
        let needs = match nemesis.needs {
            nemesis::Needs::Nothing => "",
            nemesis::Needs::Kvd => " [kvd only]",
            nemesis::Needs::Failpoints => " [only with failpoints]",
        };
        println!("  {:<18} {}{needs}", nemesis.name, nemesis.says);
    }
}

/// Runs, judges and tells; whether the history is valid.
async fn attack(args: &RunArgs) -> anyhow::Result<bool> {
    let workloads = workload::named(&args.workload)?;
    let target = Target::find(&args.target)?;
    let (nemeses, left_out) = nemeses(&args.nemesis, &workloads, &target)?;
    let seed = args.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    });
    let run = Run {
        seed,
        workloads: workloads
            .iter()
            .map(|w| workload::name(*w).to_owned())
            .collect(),
        nemeses: nemeses.iter().map(|n| n.name.to_owned()).collect(),
        members: args.members,
        seconds: args.seconds,
        target: target.name.clone(),
        command: command(args, seed),
        began: date::now(),
    };
    let dir = Directory::create(args.out.as_deref())?;
    println!("{}", run.command);
    for (nemesis, why) in left_out {
        println!("left out: {}, since {why}", nemesis.name);
    }
    let plan = Plan {
        run,
        target,
        workloads,
        nemeses,
        members: args.members,
        time: Duration::from_secs(args.seconds),
        clients: args.clients as usize,
        rate: args.rate,
    };
    let history = run::run(plan, dir.path()).await;
    let history =
        history.with_context(|| format!("what there is lies in {}", dir.path().display()))?;
    let verdict = tell(&history, dir.path())?;
    dir.close(verdict)
}

/// Judges the history of a run that has ended.
fn check_again(dir: &Path) -> anyhow::Result<bool> {
    // The error tells its cause itself.
    let history = History::load(&dir.join("history.jsonl")).map_err(|error| anyhow!("{error}"))?;
    tell(&history, dir)
}

/// Judges a history, and says so: in words here, and as a page in `dir`. Whether it is valid.
fn tell(history: &History, dir: &Path) -> anyhow::Result<bool> {
    let verdict = check::judge(history);
    let page = dir.join("report.html");
    std::fs::write(&page, report::page(history, &verdict))
        .with_context(|| format!("cannot write {}", page.display()))?;
    report::Judgement::of(history, &verdict)
        .write(dir)
        .with_context(|| format!("cannot write the verdict to {}", dir.display()))?;
    print!("\n{}", report::words(history, &verdict));
    Ok(verdict.is_valid())
}

/// The nemeses that were asked for, and those of them that the target cannot have.
type Chosen = (Vec<Nemesis>, Vec<(Nemesis, &'static str)>);

fn nemeses(names: &str, workloads: &[Workload], target: &Target) -> anyhow::Result<Chosen> {
    let mut wanted = match names {
        "none" => Vec::new(),
        names => nemesis::named(names)?,
    };
    if workloads.contains(&Workload::Membership) {
        wanted.extend(nemesis::named("member")?);
    }
    let mut chosen: Chosen = Default::default();
    for nemesis in nemesis::ALL {
        if wanted.contains(&nemesis) {
            match nemesis.needs.missing(target) {
                None => chosen.0.push(nemesis),
                Some(why) => chosen.1.push((nemesis, why)),
            }
        }
    }
    Ok(chosen)
}

/// The command that repeats the run.
fn command(args: &RunArgs, seed: u64) -> String {
    // The target inherits it.
    let bug = match std::env::var("KEELSON_BUG") {
        Ok(bug) if !bug.is_empty() => format!("KEELSON_BUG={bug} "),
        _ => String::new(),
    };
    format!(
        "{bug}jepsen --workload {} --nemesis {} --seconds {} --seed {seed} --members {} --target {} \
         --clients {} --rate {}",
        args.workload,
        args.nemesis,
        args.seconds,
        args.members,
        args.target,
        args.clients,
        args.rate
    )
}

/// Where a run leaves its files.
struct Directory {
    path: PathBuf,
    /// Whether it is kept whatever comes of the run.
    wanted: bool,
}

impl Directory {
    fn create(out: Option<&Path>) -> anyhow::Result<Directory> {
        let path = match out {
            Some(out) => {
                std::fs::create_dir_all(out)
                    .with_context(|| format!("--out: cannot create {}", out.display()))?;
                if std::fs::read_dir(out)?.next().is_some() {
                    bail!(
                        "--out {}: the directory is not empty; name a new one",
                        out.display()
                    );
                }
                std::path::absolute(out)?
            }
            None => tempfile::Builder::new().prefix("jepsen-").tempdir()?.keep(),
        };
        Ok(Directory {
            path,
            wanted: out.is_some(),
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps what is worth keeping; gives back whether the run was valid.
    fn close(self, valid: bool) -> anyhow::Result<bool> {
        if valid {
            // Their logs are kept, with the history, if anything is.
            for member in std::fs::read_dir(self.path.join("members"))?.flatten() {
                let _ = std::fs::remove_dir_all(member.path().join("data"));
            }
        }
        if valid && !self.wanted {
            std::fs::remove_dir_all(&self.path)
                .with_context(|| format!("cannot remove {}", self.path.display()))?;
        } else {
            println!("history, logs and report: {}", self.path.display());
        }
        Ok(valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_group_brings_all_its_nemeses_and_membership_those_of_members() {
        let target = Target {
            name: "etcd".to_owned(),
            program: PathBuf::new(),
            kvd: false,
            failpoints: false,
            answers_progress: false,
            flags: Vec::new(),
            environment: Vec::new(),
        };
        let names = |names: &str, workloads: &[Workload]| {
            let (chosen, left_out) = nemeses(names, workloads, &target).expect("they exist");
            let name = |nemesis: &Nemesis| nemesis.name;
            let left_out = left_out.iter().map(|(nemesis, _)| nemesis.name);
            (
                chosen.iter().map(name).collect::<Vec<_>>(),
                left_out.collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            names("kill,pause-one,log-torn", &[]),
            (
                vec![
                    "kill-one",
                    "kill-leader",
                    "kill-minority",
                    "kill-all",
                    "pause-one"
                ],
                vec!["log-torn"]
            )
        );
        let (chosen, _) = names("none", &[Workload::Membership]);
        assert_eq!(
            chosen,
            [
                "member-add",
                "member-learner",
                "member-remove",
                "member-replace"
            ]
        );
        assert!(nemeses("kil", &[], &target).is_err());
        assert!(nemeses("", &[], &target).is_err());
    }
}

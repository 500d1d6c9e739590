//! A whole cluster, as `keelson up` runs it, and the real kubectl on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::peers::{self, Server};
use crate::ports;
use crate::tool::{self, Said};
use crate::turn::Turn;
use crate::wait;

/// The letters and digits that Kubernetes makes names of.
const NAME_LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
/// How many lines of each log a failing test shows.
const TAIL_LINES: usize = 15;

/// A store of three members and a control plane. Dropping it stops it, in order; in a failing test it shows first how
/// the logs end.
#[derive(Debug)]
pub struct Whole {
    launcher: Child,
    dir: TempDir,
    client_port: u16,
}

impl Whole {
    /// Starts it, with these flags beside those that give it a place of its own, and waits until it is ready.
    pub async fn start(turn: &Turn, flags: &[&str]) -> Whole {
        Whole::start_on(turn, Server::under_test(), flags).await
    }

    /// The same on members of `server`.
    pub async fn start_on(_turn: &Turn, server: Server, flags: &[&str]) -> Whole {
        let dir = TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made");
        let said = fs::File::create(dir.path().join("up.log")).expect("a file can be made");
        let client_port = consecutive_ports(6);
        let [api_port] = ports::free();
        let mut command = Command::new(peers::program("keelson"));
        command
            .args(["up", "--members", "3"])
            .args(["--client-port", &client_port.to_string()])
            .args(["--api-port", &api_port.to_string()])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--kvd")
            .arg(server.program())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a handle can be copied"))
            .stderr(said);
        let launcher = command.spawn().expect("keelson starts");
        let mut whole = Whole {
            launcher,
            dir,
            client_port,
        };
        wait::until("a whole cluster", async || whole.is_ready()).await;
        whole
    }

    fn is_ready(&mut self) -> Result<(), String> {
        let said = fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default();
        match self.launcher.try_wait() {
            Ok(None) if said.contains("ready; ") => Ok(()),
            Ok(Some(status)) => panic!("keelson up has ended with {status}:\n{said}"),
            _ => Err(said),
        }
    }

    /// What it says about itself and where its data is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the first member's clients find it.
    pub fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/kubeconfig")
    }

    /// The kubectl of that release, as the administrator.
    pub fn kubectl(&self, release: &str) -> Kubectl {
        Kubectl {
            program: peers::peer(&format!("kubectl-{release}/kubectl")),
            kubeconfig: self.kubeconfig(),
            dir: self.dir.path().to_owned(),
        }
    }

    /// Stops it as its user would, and gives how that went.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.launcher.id())
            .ok()
            .and_then(Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.launcher.try_wait()) {
            kill_process(pid, Signal::TERM).expect("a child can be signalled");
        }
        self.launcher.wait().expect("a child can be waited for")
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let data = self.dir.path().join("data");
            let logs = fs::read_dir(data).into_iter().flatten().flatten();
            let logs = logs
                .map(|entry| entry.path())
                .chain([self.dir.path().join("up.log")]);
            for log in logs.filter(|path| path.extension().is_some_and(|ext| ext == "log")) {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
                eprintln!("== {}\n{}", log.display(), tail.join("\n"));
            }
        }
        self.stop();
    }
}

/// The first of so many free ports in a row.
fn consecutive_ports(count: u16) -> u16 {
    for _ in 0..1_000 {
        let [first] = ports::free();
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("a machine that runs tests has free ports")
}

/// A kubectl of some version.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    dir: PathBuf,
}

impl Kubectl {
    /// A command of these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.dir.join("cache"))
            .args(words)
            .env("TZ", "UTC")
            .current_dir(&self.dir);
        command
    }

    /// How a command ends whose words have no spaces in them.
    pub async fn run(&self, line: &str) -> Said {
        tool::run(self.command(&line.split(' ').collect::<Vec<_>>())).await
    }

    /// What a command prints that must succeed, masked.
    pub async fn says(&self, line: &str) -> String {
        self.says_of(&line.split(' ').collect::<Vec<_>>()).await
    }

    /// The same of words that may have spaces in them.
    pub async fn says_of(&self, words: &[&str]) -> String {
        masked(&tool::stdout(self.command(words)).await)
    }

    /// What a command complains of that must fail, as it is.
    pub async fn refuses(&self, line: &str) -> String {
        let said = self.run(line).await;
        assert!(
            !said.success,
            "kubectl {line} was not refused: {}",
            said.stdout
        );
        said.stderr
    }
}

/// What is printed, with a single space between words, and with a word in capitals for what is another in each run:
/// AGE, TIME, HASH (of a pod template), XXXXX (chance), POD-IP, SERVICE-IP, NODE.
pub fn masked(printed: &str) -> String {
    let line = |line: &str| {
        let words = line.split_whitespace().map(masked_word);
        words.collect::<Vec<_>>().join(" ")
    };
    printed.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn masked_word(word: &str) -> String {
    let parts: Vec<String> = word.split(',').map(masked_part).collect();
    parts.join(",")
}

fn masked_part(part: &str) -> String {
    if is_age(part) {
        return "AGE".to_owned();
    }
    for (prefix, mask) in [
        ("10.244.", "POD-IP"),
        ("10.9", "SERVICE-IP"),
        ("10.10", "SERVICE-IP"),
        ("10.11", "SERVICE-IP"),
    ] {
        if let Some(rest) = part.strip_prefix(prefix)
            && rest.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            return format!("{mask}{}", end.map_or("", |end| &rest[end..]));
        }
    }
    if part
        .strip_prefix("node-")
        .is_some_and(|number| number.parse::<u8>().is_ok())
    {
        return "NODE".to_owned();
    }
    masked_names(part)
}

/// `1s`, `2m3s`, `4d`
fn is_age(word: &str) -> bool {
    let mut digits = 0;
    let mut units = 0;
    for c in word.chars() {
        match c {
            '0'..='9' => digits += 1,
            's' | 'm' | 'h' | 'd' if digits > 0 => {
                digits = 0;
                units += 1;
            }
            _ => return false,
        }
    }
    units > 0 && digits == 0
}

/// Masks what follows a deployment's name, or the name of the label of its hash.
fn masked_names(word: &str) -> String {
    let is_random = |text: &str| text.chars().all(|c| NAME_LETTERS.contains(c));
    let mut masked: Vec<String> = Vec::new();
    let mut begun = false;
    for part in word.split_inclusive(['-', '=', '"', '/', ':', ')', ']', '\'']) {
        let text = part.trim_end_matches(['-', '=', '"', '/', ':', ')', ']', '\'']);
        let end = &part[text.len()..];
        let name = match text.len() {
            5 if begun && is_random(text) => "XXXXX",
            6..=10 if begun && is_random(text) => "HASH",
            _ => {
                begun = matches!(text, "deployment" | "hash");
                text
            }
        };
        masked.push(format!("{name}{end}"));
    }
    masked.concat()
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn what_is_another_in_each_run_is_masked() {
        for (printed, shown) in [
            ("a   1/1  Running   0  12s", "a 1/1 Running 0 AGE"),
            (
                "nginx-deployment-6b7f675859-x5zw2  2m3s",
                "nginx-deployment-HASH-XXXXX AGE",
            ),
            (
                "app=nginx,pod-template-hash=6b7f675859",
                "app=nginx,pod-template-hash=HASH",
            ),
            (
                "10.244.1.2:80,10.244.2.12:80 + 7 more...",
                "POD-IP:80,POD-IP:80 + 7 more...",
            ),
            (
                "svc 10.96.0.1 10.101.7.9/12 node-1",
                "svc SERVICE-IP SERVICE-IP/12 NODE",
            ),
            (
                "deployment.apps/nginx-deployment scaled",
                "deployment.apps/nginx-deployment scaled",
            ),
            (
                "https nginx:1.14.2 80/TCP 3s4",
                "https nginx:1.14.2 80/TCP 3s4",
            ),
        ] {
            assert_eq!(masked(printed), shown);
        }
    }
}

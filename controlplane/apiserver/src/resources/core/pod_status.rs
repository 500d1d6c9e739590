//! A pod's row: one word for the state of many containers, as kubectl's users know it.

use serde_json::Value;

use crate::clock;
use crate::resources::text;
use crate::value;

pub fn row(pod: &Value, now: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match &summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, clock::age(Some(last), now))
        }
        _ => summary.restarts.to_string(),
    };
    let or_none = |path: &[&str]| Value::from(text::or_none(value::str_at(pod, path).to_owned()));
    let pod_ip = match value::str_at(pod, &["status", "podIP"]) {
        "" => value::list_at(pod, &["status", "podIPs"])
            .first()
            .map_or("", |ip| value::str_at(ip, &["ip"])),
        ip => ip,
    };
    vec![
        text::name(pod),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.reason.into(),
        restarts.into(),
        text::age(pod, now),
        text::or_none(pod_ip.to_owned()).into(),
        or_none(&["spec", "nodeName"]),
        or_none(&["status", "nominatedNodeName"]),
        gates(pod).into(),
    ]
}

struct Summary {
    ready: usize,
    containers: usize,
    restarts: i64,
    last_restart: Option<String>,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let mut summary = Summary {
            ready: 0,
            containers: value::list_at(pod, &["spec", "containers"]).len(),
            restarts: 0,
            last_restart: None,
            reason: first_given(&[
                value::str_at(pod, &["status", "reason"]),
                value::str_at(pod, &["status", "phase"]),
            ]),
        };
        for condition in value::list_at(pod, &["status", "conditions"]) {
            if value::str_at(condition, &["type"]) == "PodScheduled"
                && value::str_at(condition, &["reason"]) == "SchedulingGated"
            {
                summary.reason = "SchedulingGated".to_owned();
            }
        }
        let initializing = summary.look_at_init(pod);
        if !initializing || is_true(pod, "Initialized") {
            summary.look_at_containers(pod);
        }
        if value::is_deleting(pod) {
            summary.reason = match value::str_at(pod, &["status", "reason"]) {
                "NodeLost" => "Unknown".to_owned(),
                _ if is_over(value::str_at(pod, &["status", "phase"])) => summary.reason,
                _ => "Terminating".to_owned(),
            };
        }
        summary
    }

    /// Whether a container that has to run first is not through yet.
    fn look_at_init(&mut self, pod: &Value) -> bool {
        let specs = value::list_at(pod, &["spec", "initContainers"]);
        let always = |name: &str| {
            specs.iter().any(|spec| {
                value::str_at(spec, &["name"]) == name
                    && value::str_at(spec, &["restartPolicy"]) == "Always"
            })
        };
        self.containers += specs
            .iter()
            .filter(|spec| value::str_at(spec, &["restartPolicy"]) == "Always")
            .count();
        for (at, status) in value::list_at(pod, &["status", "initContainerStatuses"])
            .iter()
            .enumerate()
        {
            self.count_restarts(status);
            let sidecar = always(value::str_at(status, &["name"]));
            if value::int_at(status, &["state", "terminated", "exitCode"]) == Some(0) {
                continue;
            }
            if sidecar && value::bool_at(status, &["started"]) {
                self.ready += usize::from(value::bool_at(status, &["ready"]));
                continue;
            }
            self.reason = match value::at(status, &["state", "terminated"]) {
                Value::Null => match value::str_at(status, &["state", "waiting", "reason"]) {
                    "" | "PodInitializing" => format!("Init:{at}/{}", specs.len()),
                    reason => format!("Init:{reason}"),
                },
                terminated => format!("Init:{}", termination(terminated)),
            };
            return true;
        }
        false
    }

    fn look_at_containers(&mut self, pod: &Value) {
        let mut is_running = false;
        for status in value::list_at(pod, &["status", "containerStatuses"])
            .iter()
            .rev()
        {
            self.count_restarts(status);
            let waiting = value::str_at(status, &["state", "waiting", "reason"]);
            let terminated = value::at(status, &["state", "terminated"]);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if !terminated.is_null() {
                self.reason = termination(terminated);
            } else if value::bool_at(status, &["ready"])
                && !value::at(status, &["state", "running"]).is_null()
            {
                is_running = true;
                self.ready += 1;
            }
        }
        // One that has ended does not make a pod completed while another runs.
        if self.reason == "Completed" && is_running {
            self.reason = match is_true(pod, "Ready") {
                true => "Running",
                false => "NotReady",
            }
            .to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += value::int_at(status, &["restartCount"]).unwrap_or(0);
        let ended = value::str_at(status, &["lastState", "terminated", "finishedAt"]);
        if !ended.is_empty() && self.last_restart.as_deref() < Some(ended) {
            self.last_restart = Some(ended.to_owned());
        }
    }
}

fn first_given(texts: &[&str]) -> String {
    let given = texts.iter().find(|text| !text.is_empty());
    given.map_or(String::new(), |text| (*text).to_owned())
}

fn is_over(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

fn is_true(pod: &Value, condition: &str) -> bool {
    value::list_at(pod, &["status", "conditions"])
        .iter()
        .any(|one| {
            value::str_at(one, &["type"]) == condition && value::str_at(one, &["status"]) == "True"
        })
}

fn termination(terminated: &Value) -> String {
    let number = |field: &str| value::int_at(terminated, &[field]).unwrap_or(0);
    match (value::str_at(terminated, &["reason"]), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn gates(pod: &Value) -> String {
    let gates = value::list_at(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| is_true(pod, value::str_at(gate, &["conditionType"])))
        .count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(pod: Value) -> [String; 3] {
        let row = row(&pod, 1_000);
        [1, 2, 3].map(|at| row[at].as_str().unwrap().to_owned())
    }

    fn pod(status: Value) -> Value {
        json!({"spec": {"containers": [{}, {}]}, "status": status})
    }

    #[test]
    fn a_running_pod_counts_what_is_ready() {
        let status = json!({"phase": "Running", "containerStatuses": [
            {"ready": true, "state": {"running": {}}}, {"ready": false, "state": {"running": {}}}]});
        assert_eq!(shown(pod(status)), ["1/2", "Running", "0"]);
    }

    #[test]
    fn the_reason_of_a_waiting_or_ended_container_is_shown() {
        let waiting = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        assert_eq!(shown(pod(waiting))[1], "ImagePullBackOff");
        let ended = json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]});
        assert_eq!(shown(pod(ended))[1], "ExitCode:3");
    }

    #[test]
    fn restarts_tell_when_the_last_one_was() {
        let status = json!({"phase": "Running", "containerStatuses": [{"restartCount": 3, "ready": true,
            "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "1970-01-01T00:16:00Z"}}}]});
        assert_eq!(shown(pod(status))[2], "3 (40s ago)");
    }

    #[test]
    fn a_deleted_pod_is_terminating_unless_it_is_over() {
        let mut running = pod(json!({"phase": "Running"}));
        running["metadata"] = json!({"deletionTimestamp": "1970-01-01T00:00:00Z"});
        assert_eq!(shown(running.clone())[1], "Terminating");
        running["status"] = json!({"phase": "Succeeded"});
        assert_eq!(shown(running)[1], "Succeeded");
    }

    #[test]
    fn init_containers_are_counted_until_they_are_through() {
        let mut one = pod(json!({"phase": "Pending", "initContainerStatuses": [
            {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}}]}));
        one["spec"]["initContainers"] = json!([{"name": "a"}, {"name": "b"}]);
        assert_eq!(shown(one)[1], "Init:1/2");
    }
}

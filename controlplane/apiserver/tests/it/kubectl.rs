//! The real kubectl, and what it prints.

use std::process::{Command, Output};

use crate::support::{RunningStore, Server, StoreKind, on_each_store, program_in_peers};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: nginx
        image: nginx:1.26
        ports: [{containerPort: 80}]
";

/// kubectl with the administrator's kubeconfig.
struct Kubectl<'a>(&'a Server);

impl Kubectl<'_> {
    async fn output(&self, line: &str) -> Output {
        let mut command = Command::new(program_in_peers("kubectl-1.37/kubectl"));
        command
            .arg(format!(
                "--kubeconfig={}",
                self.0.pki().join("admin.kubeconfig").display()
            ))
            .arg(format!(
                "--cache-dir={}",
                self.0.dir().join("cache").display()
            ))
            .args(line.split(' '));
        // The server runs on these threads too.
        tokio::task::spawn_blocking(move || command.output().expect("kubectl starts"))
            .await
            .expect("kubectl ends")
    }

    /// What it prints, which must be all that it has to say.
    async fn says(&self, line: &str) -> String {
        let output = self.output(line).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "kubectl {line}: {out}{err}");
        out
    }

    /// What it complains of.
    async fn refuses(&self, line: &str) -> String {
        let output = self.output(line).await;
        assert!(
            !output.status.success(),
            "kubectl {line}: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }

    /// The words of the lines that it prints.
    async fn words(&self, line: &str) -> Vec<Vec<String>> {
        let said = self.says(line).await;
        said.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(server: &Server, name: &str, content: &str) -> String {
    let path = server.dir().join(name);
    std::fs::write(&path, content).expect("a file can be written");
    path.display().to_string()
}

on_each_store!(
    a_deployment_is_applied_changed_and_deleted,
    async |running| {
        let server = Server::start(running).await;
        let kubectl = Kubectl(&server);
        let path = file(&server, "web.yaml", DEPLOYMENT);
        assert_eq!(
            kubectl.says("create namespace development").await,
            "namespace/development created\n"
        );
        assert_eq!(
            kubectl.says(&format!("apply -f {path}")).await,
            "deployment.apps/web created\n"
        );
        assert_eq!(
            kubectl.says(&format!("apply -f {path}")).await,
            "deployment.apps/web unchanged\n"
        );
        let rows = kubectl.words("get deploy -o wide").await;
        assert_eq!(
            rows[0],
            [
                "NAME",
                "READY",
                "UP-TO-DATE",
                "AVAILABLE",
                "AGE",
                "CONTAINERS",
                "IMAGES",
                "SELECTOR"
            ]
        );
        assert_eq!(rows[1][..4], ["web", "0/3", "0", "0"]);
        assert_eq!(rows[1][5..], ["nginx", "nginx:1.26", "app=web"]);
        assert_eq!(
            kubectl.says("scale deployment/web --replicas=10").await,
            "deployment.apps/web scaled\n"
        );
        assert_eq!(
            kubectl
                .says("set image deployment/web nginx=nginx:1.27")
                .await,
            "deployment.apps/web image updated\n"
        );
        assert_eq!(
        kubectl.says("get deploy web -o jsonpath={.spec.replicas},{.metadata.generation},{.spec.template.spec.containers[0].image}").await,
        "10,3,nginx:1.27"
    );
        assert_eq!(
            kubectl.says("label deploy web tier=front").await,
            "deployment.apps/web labeled\n"
        );
        assert_eq!(
            kubectl.says("annotate deploy web note=x").await,
            "deployment.apps/web annotated\n"
        );
        assert_eq!(
            kubectl.says("expose deployment web --port=80").await,
            "service/web exposed\n"
        );
        let described = kubectl.says("describe deployment web").await;
        assert!(
            described.contains("Replicas:               10 desired"),
            "{described}"
        );
        assert_eq!(
            kubectl.says("delete deployment web").await,
            "deployment.apps \"web\" deleted from default namespace\n"
        );
        assert_eq!(
            kubectl.refuses("get deployment web").await,
            "Error from server (NotFound): deployments.apps \"web\" not found\n"
        );
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn things_are_made_by_their_names() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let kubectl = Kubectl(&server);
    for (line, said) in [
        (
            "create configmap c --from-literal=a=b",
            "configmap/c created",
        ),
        (
            "create secret generic s --from-literal=a=b",
            "secret/s created",
        ),
        (
            "create serviceaccount builder",
            "serviceaccount/builder created",
        ),
        (
            "create deployment d --image=nginx --replicas=2",
            "deployment.apps/d created",
        ),
        (
            "create service clusterip x --tcp=80:8080",
            "service/x created",
        ),
        ("run p --image=nginx", "pod/p created"),
    ] {
        assert_eq!(kubectl.says(line).await, format!("{said}\n"));
    }
    assert_eq!(
        kubectl.words("get secret s").await[1][..3],
        ["s", "Opaque", "1"]
    );
    assert_eq!(
        kubectl.words("get pod p -o wide").await[1][..4],
        ["p", "0/1", "Pending", "0"]
    );
    let shown = kubectl.says("get all -o name").await;
    for name in ["pod/p", "service/x", "deployment.apps/d"] {
        assert!(shown.contains(name), "{shown}");
    }
    assert_eq!(
        kubectl.says("delete pod p --force").await,
        "pod \"p\" force deleted from default namespace\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_in_the_words_that_users_know() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let kubectl = Kubectl(&server);
    let unknown = file(
        &server,
        "unknown.yaml",
        &DEPLOYMENT.replace("replicas:", "replica:"),
    );
    let said = kubectl.refuses(&format!("create -f {unknown}")).await;
    assert!(
        said.contains("strict decoding error: unknown field \"spec.replica\""),
        "{said}"
    );
    let typed = file(
        &server,
        "typed.yaml",
        &DEPLOYMENT.replace("replicas: 3", "replicas: three"),
    );
    let said = kubectl.refuses(&format!("create -f {typed}")).await;
    assert!(said.contains("Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go"), "{said}");
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n";
    let job = file(&server, "job.yaml", job);
    let said = kubectl.refuses(&format!("create -f {job}")).await;
    assert!(
        said.contains("no matches for kind \"Job\" in version \"batch/v1\""),
        "{said}"
    );
    assert_eq!(
        kubectl.refuses("create configmap c -n nowhere").await,
        "error: failed to create configmap: namespaces \"nowhere\" not found\n"
    );
    assert_eq!(
        kubectl.refuses("delete namespace default").await,
        "Error from server (Forbidden): namespaces \"default\" is forbidden: this namespace may not be deleted\n"
    );
    assert_eq!(kubectl.refuses("auth can-i list pods --as=jane").await, "");
    assert_eq!(kubectl.says("auth can-i list pods").await, "yes\n");
    assert_eq!(
        kubectl.refuses("get gizmos").await,
        "error: the server doesn't have a resource type \"gizmos\"\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_yet_is_told_plainly() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let kubectl = Kubectl(&server);
    kubectl.says("run p --image=nginx").await;
    let runs = serde_json::json!({"status": {"phase": "Running"}});
    let status = "/api/v1/namespaces/default/pods/p/status";
    let admin = server.client(Some("admin"));
    admin.patch(status, "merge", &runs).await.ok();
    kubectl.says("create configmap c --from-literal=a=b").await;
    let hollow = "nodes are hollow, and run nothing";
    for (line, said) in [
        ("exec p -- ls", hollow),
        ("attach p", hollow),
        ("port-forward p 0:80", hollow),
        (
            "create token default",
            "service account \"default\" cannot be given a token",
        ),
        (
            "debug p --image=busybox",
            "ephemeral containers are disabled for this cluster",
        ),
        (
            "create quota q --hard=pods=1",
            "the server could not find the requested resource",
        ),
        (
            "patch configmap c --type=json -p=[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"c\"}]",
            "Warning: testing value /data/a failed: test failed\n\
             The request is invalid: the server rejected our request due to an error in our request\n",
        ),
        (
            "patch configmap c -p={\"data\":{\"a\":1}}",
            "The request is invalid: patch: Invalid value: \"map[data:map[a:1]]\": ",
        ),
    ] {
        let refused = kubectl.refuses(line).await;
        assert!(refused.contains(said), "{line}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_described() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let kubectl = Kubectl(&server);
    assert!(
        kubectl
            .says("version")
            .await
            .contains("Server Version: v1.37.0")
    );
    let resources = kubectl.says("api-resources").await;
    for kind in ["Pod", "Deployment", "EndpointSlice", "Lease"] {
        assert!(resources.contains(kind), "{resources}");
    }
    assert!(kubectl.says("api-versions").await.contains("apps/v1\n"));
    assert!(
        kubectl
            .says("explain deployment.spec.replicas")
            .await
            .contains("FIELD: replicas <integer>")
    );
    let path = file(&server, "web.yaml", DEPLOYMENT);
    kubectl.says(&format!("apply -f {path}")).await;
    let rows = kubectl.words("get namespaces").await;
    assert_eq!(rows[0], ["NAME", "STATUS", "AGE"]);
    assert_eq!(rows[1][..2], ["default", "Active"]);
}

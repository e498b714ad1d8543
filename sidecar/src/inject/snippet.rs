//! The hand-edit snippet, the example before and after, the policy and the Terraform module: made from the code
//! that `inject` runs, and committed under `infra/`.

use super::edit::apply;
use super::record::LABEL;
use super::task::File;
use super::tree::Node;
use super::{CONTAINER, IMAGE, Logs, Options, Outcome, inject};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The sidecar's container, to be added to `containerDefinitions` by hand
    Container,
    /// A task definition before the joining
    Before,
    /// The same after it
    After,
    /// What the task role must allow where the sidecar delivers the log lines
    Policy,
    /// The Terraform module, main.tf
    Terraform,
}

/// Where each part is committed.
pub const PLACES: [(Part, &str); 5] = [
    (Part::Container, "infra/task-definition/sidecar.container.json"),
    (Part::Before, "infra/task-definition/example.before.json"),
    (Part::After, "infra/task-definition/example.after.json"),
    (Part::Policy, "infra/task-definition/task-role.policy.json"),
    (Part::Terraform, "infra/terraform/modules/sidecar/main.tf"),
];

const BEFORE: &str = include_str!("example.json");

/// One part as it is committed.
pub fn part(part: Part) -> String {
    match part {
        Part::Before => BEFORE.to_owned(),
        Part::After => joined(Logs::Keep).text,
        Part::Container => sidecar(&joined(Logs::Keep).text) + "\n",
        Part::Policy => joined(Logs::Firelens).policy.expect("the lines go to CloudWatch") + "\n",
        Part::Terraform => super::terraform::module(),
    }
}

fn joined(logs: Logs) -> Outcome {
    let options = Options {
        service: Some("order".to_owned()),
        environment: Some("prod".to_owned()),
        image: Some(IMAGE.to_owned()),
        logs: Some(logs),
        ..Options::default()
    };
    inject(BEFORE, &options).expect("the example can be joined")
}

/// The sidecar's container as `inject` wrote it, without the label that only `inject` needs.
pub(super) fn sidecar(joined: &str) -> String {
    let file = open(joined);
    let task = file.task().expect("what inject writes is a task");
    let labels = task.container(CONTAINER).and_then(|c| c.get("dockerLabels")).expect("inject writes labels");
    let index = labels.entries().into_iter().flatten().position(|entry| entry.key.text() == Some(LABEL));
    let edit = file.source.remove_entry(labels, index.expect("inject writes its label"));
    let bare = apply(joined, vec![edit]);
    let file = open(&bare);
    let task = file.task().expect("an edit leaves a task");
    outdented(&file, task.container(CONTAINER).expect("only a label is gone").node)
}

/// A field of the app's container as `inject` wrote it.
pub(super) fn app_field(joined: &str, field: &str) -> String {
    let file = open(joined);
    let task = file.task().expect("what inject writes is a task");
    outdented(&file, task.containers[0].get(field).expect("inject writes the field"))
}

fn open(text: &str) -> File<'_> {
    File::open(text, &Options::default()).expect("what inject writes can be read")
}

fn outdented(file: &File<'_>, node: &Node) -> String {
    let text = file.source.text;
    let line = &text[file.source.line_start(node.start)..];
    let margin = line.len() - line.trim_start_matches(' ').len();
    text[node.start..node.end].replace(&format!("\n{}", " ".repeat(margin)), "\n")
}

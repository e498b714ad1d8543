//! `sidecar inject`: adds the sidecar to a task definition, or takes it out again.
//!
//! In: RegisterTaskDefinition's JSON, what describe-task-definition prints, or a CloudFormation template in JSON
//! or YAML. Out: the same text with edits at the places that change; every other byte stays, comments and short
//! tags included. Twice is once, and `remove` gives back the bytes that were there: what an edit cannot put back
//! by itself (values that it replaced) is kept in a label of the sidecar's container.

mod command;
mod container;
mod edit;
mod policy;
mod record;
mod size;
pub mod snippet;
mod task;
mod terraform;
mod tree;
mod value;

use serde::{Deserialize, Serialize};

pub use self::command::{Arguments, run};
use self::container::Joined;
use self::edit::{Edit, apply};
use self::record::Record;
use self::size::Size;
use self::task::{Container, File, Task, editable};
use self::tree::Node;
use self::value::{Key, Value};

/// What the sidecar's container is called.
pub const CONTAINER: &str = "sidecar";
/// Where no image is named.
pub const IMAGE: &str = concat!("picket/sidecar:", env!("CARGO_PKG_VERSION"));

/// Something that is wrong with the file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// In bytes.
    pub at: usize,
    pub message: String,
}

impl Fault {
    fn at(at: usize, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into() }
    }

    fn json(text: &str, error: &serde_json::Error) -> Fault {
        let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Fault { at: (line + error.column().saturating_sub(1)).min(text.len()), message }
    }

    /// Line and column of the place, from 1.
    pub fn position(&self, text: &str) -> (usize, usize) {
        let mut at = self.at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// RegisterTaskDefinition's input, or what describe-task-definition prints
    EcsJson,
    /// A CloudFormation template, JSON or YAML
    Cfn,
}

/// Who takes the app's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Logs {
    /// Whoever takes them now
    Keep,
    /// The sidecar, by FireLens; log drivers `awslogs` become `awsfirelens`
    Firelens,
}

/// What may be said about the joining; what is not said the second time is as it was the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    #[serde(skip)]
    pub format: Option<Format>,
    #[serde(skip)]
    pub resource: Option<String>,
    #[serde(skip)]
    pub image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub essential: Option<bool>,
}

/// The text after it, and what is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub text: String,
    /// What was done beyond adding the container, and what deserves a look.
    pub notes: Vec<String>,
    /// The least that the task role must allow, as JSON; None where it is nothing.
    pub policy: Option<String>,
}

/// Adds the sidecar; where it is already, brings it up to date.
///
/// # Errors
/// The text is no task definition for Fargate, or cannot be edited where it would have to be.
pub fn inject(text: &str, options: &Options) -> Result<Outcome, Fault> {
    let file = File::open(text, options)?;
    let Some(found) = Found::look(&file)? else { return join(text, options, Vec::new()) };
    let options = found.record.options.under(options, found.image);
    let bare = apply(text, removal(&file, &found.record)?);
    join(&bare, &options, found.additions)
}

/// Takes out what [`inject`] added and puts back what it replaced.
///
/// # Errors
/// See [`inject`]; a container called `sidecar` that was added by hand.
pub fn remove(text: &str, options: &Options) -> Result<String, Fault> {
    let file = File::open(text, options)?;
    let Some(found) = Found::look(&file)? else { return Ok(text.to_owned()) };
    let bare = apply(text, removal(&file, &found.record)?);
    File::open(&bare, options).and_then(|file| file.task().map(drop)).map_err(|fault| {
        Fault::at(
            0,
            format!("the file cannot be put back as it was, it has been edited since ({fault}): take it out by hand"),
        )
    })?;
    Ok(bare)
}

/// A sidecar that is in the task already.
struct Found {
    record: Record,
    image: Option<String>,
    /// Variables and secrets that somebody gave the sidecar by hand: each with its list.
    additions: Vec<(&'static str, Value)>,
}

impl Found {
    fn look(file: &File<'_>) -> Result<Option<Found>, Fault> {
        let task = file.task()?;
        let Some(container) = task.container(CONTAINER) else { return Ok(None) };
        let Some(label) = container.label(record::LABEL) else {
            let message = "a container called `sidecar` is here already, and not by `sidecar inject`: rename it, or take it out by hand";
            return Err(Fault::at(container.node.start, message));
        };
        let record = Record::parse(label).ok_or_else(|| {
            let message = format!(
                "the label `{}` of the sidecar's container is damaged: take the sidecar out by hand",
                record::LABEL
            );
            Fault::at(container.node.start, message)
        })?;
        let image = container.text("image").map(str::to_owned);
        Ok(Some(Found { additions: container::additions(container, &file.source), image, record }))
    }
}

fn join(text: &str, options: &Options, additions: Vec<(&'static str, Value)>) -> Result<Outcome, Fault> {
    let file = File::open(text, options)?;
    let (task, style) = (file.task()?, file.source.style);
    task.refuse_ec2(style)?;
    let joined = Joined::find(&task, &file.source, options)?;
    let mut record = Record { options: options.clone(), ..Record::default() };
    let mut notes = joined.notes.clone();
    let mut edits = Vec::new();
    resize(&task, &file, &mut record, &mut notes, &mut edits)?;
    for container in task.containers.iter().filter(|container| !container.is_router()) {
        let additions = joined.additions_to(container);
        edit_container(&file, container, additions, &mut record, &mut edits)?;
    }
    let policy = joined.policy(&additions);
    let sidecar = joined.container(&record, additions);
    edits.push(file.source.append_elements(task.list, &[sidecar]));
    if file.is_description {
        notes.push(
            "this is what describe-task-definition prints: register-task-definition wants the `taskDefinition` alone, without \
             taskDefinitionArn, revision, status, requiresAttributes, compatibilities, registeredAt and registeredBy"
                .to_owned(),
        );
    }
    let after = apply(text, edits);
    verify(text, &after, options)?;
    Ok(Outcome { text: after, notes, policy })
}

/// Reads back what was written: better no file than one that is broken or cannot be undone.
fn verify(before: &str, after: &str, options: &Options) -> Result<(), Fault> {
    let unusual = |why: String| {
        Fault::at(
            0,
            format!("the file is written in a way that cannot be edited safely ({why}): use the hand-edit snippet"),
        )
    };
    let file = File::open(after, options).map_err(|fault| {
        let (line, column) = fault.position(after);
        unusual(format!("the result would not be read at its line {line}, column {column}: {fault}"))
    })?;
    let found = Found::look(&file)?.ok_or_else(|| unusual("the sidecar is not found in the result".to_owned()))?;
    let again = apply(after, removal(&file, &found.record)?);
    match again == before {
        true => Ok(()),
        false => Err(unusual("the edits could not be taken back".to_owned())),
    }
}

/// ECS refuses a task whose containers reserve more than it has.
fn resize(
    task: &Task<'_>,
    file: &File<'_>,
    record: &mut Record,
    notes: &mut Vec<String>,
    edits: &mut Vec<Edit>,
) -> Result<(), Fault> {
    let style = file.source.style;
    let node = |field: &str| task.map.get(&style.field(field));
    let (cpu, memory) = (node("cpu"), node("memory"));
    let sum = |field: &str, or: &str| -> u64 {
        let of = |c: &Container<'_>| c.text(field).or_else(|| c.text(or)).and_then(|text| text.parse::<u64>().ok());
        task.containers.iter().filter_map(of).sum()
    };
    let wanted = Size {
        cpu: sum("cpu", "cpu") + container::CPU,
        memory: sum("memoryReservation", "memory") + container::MEMORY_RESERVATION,
    };
    let size = match (cpu.and_then(Node::text), memory.and_then(Node::text)) {
        (Some(cpu), Some(memory)) => size::parse_cpu(cpu).zip(size::parse_memory(memory)),
        _ => None,
    };
    let Some((units, mib)) = size else {
        notes.push(format!(
            "the task's size is not written out here: see that it holds {} CPU units and {} MiB, which the containers \
             now reserve",
            wanted.cpu, wanted.memory
        ));
        return Ok(());
    };
    let (cpu, memory) = (cpu.expect("its text was read"), memory.expect("its text was read"));
    let now = Size { cpu: units, memory: mib };
    if !now.is_valid() {
        return Err(Fault::at(cpu.start, format!("{units} CPU units with {mib} MiB is no size that Fargate has")));
    }
    if wanted.cpu <= now.cpu && wanted.memory <= now.memory {
        return Ok(());
    }
    let wanted = Size { cpu: wanted.cpu.max(now.cpu), memory: wanted.memory.max(now.memory) };
    let next = wanted.next_valid().ok_or_else(|| {
        let message = format!(
            "with the sidecar the containers reserve {} CPU units and {} MiB, more than Fargate's largest task has",
            wanted.cpu, wanted.memory
        );
        Fault::at(cpu.start, message)
    })?;
    notes.push(format!(
        "the task's size goes from {}/{} to {}/{} (CPU units/MiB), the next that Fargate has: the containers reserve \
         {} and {} with the sidecar; to keep the size, let the app reserve {} CPU units and {} MiB less",
        now.cpu,
        now.memory,
        next.cpu,
        next.memory,
        wanted.cpu,
        wanted.memory,
        wanted.cpu.saturating_sub(now.cpu),
        wanted.memory.saturating_sub(now.memory),
    ));
    for (field, node, before, after) in [("cpu", cpu, now.cpu, next.cpu), ("memory", memory, now.memory, next.memory)] {
        if before == after {
            continue;
        }
        editable(node, "the task's size")?;
        let written = &file.source.text[node.start..node.end];
        let is_quoted = written.starts_with(['"', '\'']);
        let value = if is_quoted { Value::Text(after.to_string()) } else { Value::Number(after) };
        record.task.insert(field.to_owned(), written.to_owned());
        edits.push(file.source.replace(node, &value));
    }
    Ok(())
}

/// What one of the task's own containers gets: elements of lists, and fields in the place of others.
#[derive(Debug, Default)]
struct Additions {
    elements: Vec<(&'static str, Vec<Value>)>,
    fields: Vec<(&'static str, Value)>,
}

fn edit_container(
    file: &File<'_>,
    container: &Container<'_>,
    additions: Additions,
    record: &mut Record,
    edits: &mut Vec<Edit>,
) -> Result<(), Fault> {
    let (source, style) = (&file.source, file.source.style);
    let mut kept = record::Kept::default();
    let mut new: Vec<(Key, Value)> = Vec::new();
    for (field, value) in additions.fields {
        match container.get(field) {
            Some(node) => {
                editable(node, &format!("`{}`", style.field(field)))?;
                kept.was.insert(field.to_owned(), source.text[node.start..node.end].to_owned());
                edits.push(source.replace(node, &value));
            }
            None => {
                kept.new.push(field.to_owned());
                new.push((Key::Field(field), value));
            }
        }
    }
    for (field, elements) in additions.elements {
        kept.note_elements(field, &elements);
        match container.get(field) {
            None => {
                kept.new.push(field.to_owned());
                new.push((Key::Field(field), Value::List(elements)));
            }
            Some(node) => {
                let what = format!("`{}`", style.field(field));
                editable(node, &what)?;
                match node.elements() {
                    Some([]) => {
                        kept.was.insert(field.to_owned(), source.text[node.start..node.end].to_owned());
                        edits.push(source.replace(node, &Value::List(elements)));
                    }
                    Some(_) => edits.push(source.append_elements(node, &elements)),
                    None => {
                        let message =
                            format!("{what} must be a list that stands here itself, not one that is made elsewhere");
                        return Err(Fault::at(node.start, message));
                    }
                }
            }
        }
    }
    if !new.is_empty() {
        edits.push(source.append_entries(container.node, &new));
    }
    if !kept.is_empty() {
        record.containers.insert(container.name.clone(), kept);
    }
    Ok(())
}

/// The edits that take everything back.
fn removal(file: &File<'_>, record: &Record) -> Result<Vec<Edit>, Fault> {
    let (task, source) = (file.task()?, &file.source);
    let style = source.style;
    let mut edits = Vec::new();
    let put_back = |node: &Node, text: &str| Edit { range: node.start..node.end, text: text.to_owned() };
    for (field, text) in &record.task {
        edits.extend(task.map.get(&style.field(field)).map(|node| put_back(node, text)));
    }
    for (name, kept) in &record.containers {
        let Some(container) = task.container(name) else { continue };
        for (field, text) in &kept.was {
            edits.extend(container.get(field).map(|node| put_back(node, text)));
        }
        for (field, key, values) in kept.elements() {
            let ours: Vec<usize> =
                values.iter().filter_map(|value| container.element_value(field, key, value)).collect();
            let all = container.get(field).and_then(Node::elements).map_or(0, <[Node]>::len);
            let is_put_back = kept.was.contains_key(field) && ours.len() == all;
            let goes_whole = kept.new.iter().any(|new| new == field) && ours.len() == all;
            if is_put_back {
                continue;
            }
            edits.retain(|edit| container.get(field).is_none_or(|node| edit.range != (node.start..node.end)));
            match container.get(field) {
                Some(_) if goes_whole => edits.extend(entry(container, field, source)),
                Some(list) => edits.extend(ours.iter().map(|index| source.remove_element(list, *index))),
                None => {}
            }
        }
        let others = kept.new.iter().filter(|field| kept.elements().all(|(list, ..)| list != field.as_str()));
        edits.extend(others.filter_map(|field| entry(container, field, source)));
    }
    let index = task.containers.iter().position(|container| container.name == CONTAINER);
    edits.extend(index.map(|index| source.remove_element(task.list, index)));
    Ok(edits)
}

fn entry(container: &Container<'_>, field: &str, source: &edit::Source<'_>) -> Option<Edit> {
    let key = source.style.field(field);
    let index = container.node.entries()?.iter().position(|entry| entry.key.text() == Some(&key))?;
    Some(source.remove_entry(container.node, index))
}

impl Options {
    /// What is said now, over what was said before.
    fn under(&self, now: &Options, image: Option<String>) -> Options {
        let before = self.clone();
        let now = now.clone();
        Options {
            format: now.format,
            resource: now.resource,
            image: now.image.or(image),
            service: now.service.or(before.service),
            environment: now.environment.or(before.environment),
            app: now.app.or(before.app),
            app_port: now.app_port.or(before.app_port),
            metrics_path: now.metrics_path.or(before.metrics_path),
            health_path: now.health_path.or(before.health_path),
            logs: now.logs.or(before.logs),
            log_group: now.log_group.or(before.log_group),
            essential: now.essential.or(before.essential),
        }
    }
}

#[cfg(test)]
mod tests;

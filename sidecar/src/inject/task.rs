//! Where in a file the task definition is, what its containers are, and what of it Fargate does not have.

use super::edit::Source;
use super::tree::{self, Kind, Node};
use super::value::{Style, Value, copied};
use super::{Fault, Format, Options};

/// A file that holds a task definition.
pub(super) struct File<'a> {
    pub(super) source: Source<'a>,
    root: Node,
    /// As `describe-task-definition` prints it.
    pub(super) is_description: bool,
    path: Vec<String>,
}

/// The task definition in the file.
pub(super) struct Task<'f> {
    pub(super) map: &'f Node,
    pub(super) list: &'f Node,
    pub(super) containers: Vec<Container<'f>>,
}

#[derive(Clone, Debug)]
pub(super) struct Container<'f> {
    pub(super) node: &'f Node,
    /// As it stands there, where it is not a plain name.
    pub(super) name: String,
    style: Style,
}

impl<'a> File<'a> {
    pub(super) fn open(text: &'a str, options: &Options) -> Result<File<'a>, Fault> {
        let looks_like_json = text.trim_start().starts_with('{');
        let json = looks_like_json.then(|| serde_json::from_str::<serde::de::IgnoredAny>(text));
        let root = match (tree::parse(text), &json) {
            (Ok(root), _) => root,
            (Err(_), Some(Err(error))) => return Err(Fault::json(text, error)),
            (Err(fault), _) => return Err(fault),
        };
        let has = |key: &str| root.entry(key).is_some();
        let format = match options.format {
            Some(format) => format,
            None if has("Resources") => Format::Cfn,
            None if has("containerDefinitions") || has("taskDefinition") => Format::EcsJson,
            None => {
                let message = "this is no task definition: there is neither `containerDefinitions` (ECS) nor \
                               `Resources` (CloudFormation) at the top";
                return Err(Fault::at(root.start, message));
            }
        };
        let source = Source::new(text, json.is_some_and(|json| json.is_ok()), format == Format::Cfn);
        let is_description = format == Format::EcsJson && has("taskDefinition");
        let path = match format {
            Format::Cfn => vec!["Resources".to_owned(), resource(&root, options)?, "Properties".to_owned()],
            Format::EcsJson if is_description => vec!["taskDefinition".to_owned()],
            Format::EcsJson => Vec::new(),
        };
        Ok(File { source, root, is_description, path })
    }

    pub(super) fn task(&self) -> Result<Task<'_>, Fault> {
        let style = self.source.style;
        let mut map = &self.root;
        for key in &self.path {
            map = map.get(key).ok_or_else(|| Fault::at(map.start, format!("`{key}` is missing here")))?;
        }
        let key = style.field("containerDefinitions");
        let list = map.get(&key).ok_or_else(|| Fault::at(map.start, format!("`{key}` is missing here")))?;
        let elements = list.elements().ok_or_else(|| {
            Fault::at(
                list.start,
                format!("`{key}` must be a list that stands here itself, not one that is made elsewhere"),
            )
        })?;
        editable(list, &key)?;
        editable(map, "the task definition")?;
        if elements.is_empty() {
            return Err(Fault::at(list.start, format!("`{key}` has no container: there is nothing to join")));
        }
        let mut containers = Vec::new();
        for node in elements {
            if node.entries().is_none() {
                let message =
                    "this container is not written out here (an alias, or an intrinsic function): write it out";
                return Err(Fault::at(node.start, message));
            }
            editable(node, "this container")?;
            let name = node.get(&style.field("name"));
            let name = name.ok_or_else(|| Fault::at(node.start, "this container has no name"))?;
            let name = match name.text() {
                Some(name) => name.to_owned(),
                None => style.inline(&copied(name, self.source.text, style)),
            };
            containers.push(Container { node, name, style });
        }
        Ok(Task { map, list, containers })
    }
}

/// What has an anchor is used in other places too.
pub(super) fn editable(node: &Node, what: &str) -> Result<(), Fault> {
    if !node.shared {
        return Ok(());
    }
    let message = format!("{what} has an anchor: what is added here would appear wherever it is used; write it out");
    Err(Fault::at(node.start, message))
}

/// The name of the template's task definition.
fn resource(root: &Node, options: &Options) -> Result<String, Fault> {
    const TYPE: &str = "AWS::ECS::TaskDefinition";
    let resources = root.get("Resources").ok_or_else(|| Fault::at(root.start, "the template has no `Resources`"))?;
    let entries = resources.entries().unwrap_or_default();
    let is_task = |node: &Node| node.get("Type").and_then(Node::text) == Some(TYPE);
    let names: Vec<&str> = entries.iter().filter(|e| is_task(&e.value)).filter_map(|e| e.key.text()).collect();
    match (&options.resource, &names[..]) {
        (Some(wanted), names) if names.contains(&wanted.as_str()) => Ok(wanted.clone()),
        (Some(wanted), _) => {
            let message = format!("no {TYPE} is called {wanted:?}; there are: {}", names.join(", "));
            Err(Fault::at(resources.start, message))
        }
        (None, [one]) => Ok((*one).to_owned()),
        (None, []) => Err(Fault::at(resources.start, format!("the template has no {TYPE}"))),
        (None, names) => {
            let message = format!("which of these? name it by --resource: {}", names.join(", "));
            Err(Fault::at(resources.start, message))
        }
    }
}

impl<'f> Container<'f> {
    pub(super) fn get(&self, field: &str) -> Option<&'f Node> {
        self.node.get(&self.style.field(field))
    }

    pub(super) fn text(&self, field: &str) -> Option<&'f str> {
        self.get(field).and_then(Node::text)
    }

    pub(super) fn is_essential(&self) -> bool {
        self.text("essential") != Some("false")
    }

    pub(super) fn is_router(&self) -> bool {
        self.get("firelensConfiguration").is_some()
    }

    pub(super) fn log_driver(&self) -> Option<&'f str> {
        self.get("logConfiguration")?.get(&self.style.field("logDriver"))?.text()
    }

    pub(super) fn log_option(&self, name: &str) -> Option<&'f Node> {
        self.get("logConfiguration")?.get(&self.style.field("options"))?.get(name)
    }

    /// The port of the first mapping.
    pub(super) fn port(&self) -> Option<&'f Node> {
        self.get("portMappings")?.elements()?.first()?.get(&self.style.field("containerPort"))
    }

    /// Whether the container sets the variable itself, plainly or from a secret.
    pub(super) fn variable(&self, name: &str) -> Option<&'f Node> {
        ["environment", "secrets"].iter().find_map(|list| {
            let elements = self.get(list)?.elements()?;
            elements.iter().find(|e| e.get(&self.style.field("name")).and_then(Node::text) == Some(name))
        })
    }

    pub(super) fn label(&self, name: &str) -> Option<&'f str> {
        self.get("dockerLabels")?.get(name)?.text()
    }

    pub(super) fn element_value(&self, list: &str, key: &str, value: &str) -> Option<usize> {
        let elements = self.get(list)?.elements()?;
        elements.iter().position(|e| e.get(&self.style.field(key)).and_then(Node::text) == Some(value))
    }
}

impl Task<'_> {
    /// What only EC2 has.
    pub(super) fn refuse_ec2(&self, style: Style) -> Result<(), Fault> {
        let is_set = |node: &Node| match &node.kind {
            Kind::Seq(elements) => !elements.is_empty(),
            Kind::Map(entries) => !entries.is_empty(),
            Kind::Scalar { value, .. } => !["", "false", "null"].contains(&value.as_str()),
            Kind::Alias => true,
        };
        let refuse = |node: &Node, what: &str| -> Result<(), Fault> {
            Err(Fault::at(node.start, format!("{what}, which Fargate does not have: the sidecar is for Fargate tasks")))
        };
        if let Some(mode) = self.map.get(&style.field("networkMode"))
            && let Some(text) = mode.text()
            && text != "awsvpc"
        {
            return refuse(mode, &format!("the network mode is `{text}`"));
        }
        if let Some(types) = self.map.get(&style.field("requiresCompatibilities"))
            && let Some(elements) = types.elements()
            && !elements.is_empty()
            && elements.iter().all(|e| e.text().is_some_and(|text| text != "FARGATE"))
        {
            return refuse(types, "the task is not for FARGATE but for another launch type");
        }
        if let Some(node) = self.map.get(&style.field("placementConstraints")).filter(|node| is_set(node)) {
            return refuse(node, "the task has placement constraints");
        }
        for container in &self.containers {
            for field in ["links", "privileged", "dockerSecurityOptions", "extraHosts", "hostname", "disableNetworking"]
            {
                if let Some(node) = container.get(field).filter(|node| is_set(node)) {
                    return refuse(node, &format!("container `{}` has `{}`", container.name, style.field(field)));
                }
            }
            for requirement in container.get("resourceRequirements").and_then(Node::elements).unwrap_or_default() {
                if requirement.get(&style.field("type")).and_then(Node::text) == Some("GPU") {
                    return refuse(requirement, &format!("container `{}` wants a GPU", container.name));
                }
            }
        }
        Ok(())
    }

    pub(super) fn container(&self, name: &str) -> Option<&Container<'_>> {
        self.containers.iter().find(|container| container.name == name)
    }
}

/// A port that may be a parameter, in an address.
pub(super) fn address(port: &Node, path: &str, style: Style) -> Option<Value> {
    if let Some(port) = port.text() {
        port.parse::<u16>().ok()?;
        return Some(Value::Text(format!("http://127.0.0.1:{port}{path}")));
    }
    let parameter = match (&port.tag, &port.kind) {
        (Some(tag), Kind::Scalar { value, .. }) if tag == "!Ref" => value.clone(),
        (None, Kind::Map(_)) => port.get("Ref")?.text()?.to_owned(),
        _ => return None,
    };
    let text = format!("http://127.0.0.1:${{{parameter}}}{path}");
    Some(match style.json {
        true => Value::Map(vec![(super::value::Key::Chosen("Fn::Sub".to_owned()), Value::Text(text))]),
        false => Value::Written(format!("!Sub '{text}'")),
    })
}
